"""The gate's decision as a page shows it: one row a check, each with its bar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from eval.gate import Check
from eval.report.bars import Bar, bound_bar
from eval.report.page import Candidate
from eval.report.text import epsilon, interval

Word = Literal["passed", "refused", "not asked"]


@dataclass(frozen=True)
class CheckRow:
    """One check, ready to be shown."""

    family: str
    rule: str
    measured: str
    """What was held against the bound, such as ``0.712``."""

    interval: str
    """Its interval, such as ``[0.661, 0.759]``; empty where it has none."""

    is_difference: bool
    """Whether what was measured is a difference to the base."""

    n: int
    bar: Bar | None
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What the gate said of one candidate."""

    word: Word
    candidate: str
    index: int
    num_passed: int
    rows: tuple[CheckRow, ...]


def verdict(candidate: Candidate, index: int) -> Verdict:
    """Lay out one candidate's decision."""
    if candidate.decision is None:
        return Verdict("not asked", candidate.name, index, 0, ())
    rows = tuple(_row(check, candidate) for check in candidate.decision.checks)
    return Verdict(
        "passed" if candidate.decision.passed else "refused",
        candidate.name,
        index,
        sum(row.passed for row in rows),
        rows,
    )


def _row(check: Check, candidate: Candidate) -> CheckRow:
    words = check.rule.removeprefix(check.metric).strip()
    is_difference = words.startswith("not worse")
    if check.family == "privacy":
        measured, ends = epsilon(check.value), ""
    elif math.isnan(check.value) and check.n == 0:
        measured, ends = "not measured", ""
    else:
        measured, ends = interval(check.value, check.low, check.high, signed=is_difference)
    return CheckRow(
        family=check.family,
        rule=check.rule,
        measured=measured,
        interval=ends,
        is_difference=is_difference,
        n=check.n,
        bar=_bar(check, candidate, words, is_difference),
        passed=check.passed,
        reason=check.reason,
    )


def _bar(check: Check, candidate: Candidate, words: str, is_difference: bool) -> Bar | None:
    """Draw the interval against the bound; None where the rule's direction is not known."""
    if is_difference:
        higher_is_better = _higher_is_better(check, candidate)
        if higher_is_better is None:
            return None
        bound = -check.bound if higher_is_better else check.bound
        is_floor = higher_is_better
    elif words.startswith("at least") or words.startswith("at most"):
        bound, is_floor = check.bound, words.startswith("at least")
    elif check.family == "privacy":
        bound, is_floor = check.bound, False
    else:
        return None
    has_zero = is_difference or check.family == "privacy"
    return bound_bar(check.value, check.low, check.high, bound, is_floor=is_floor, zero=has_zero)


def _higher_is_better(check: Check, candidate: Candidate) -> bool | None:
    found = {
        estimate.higher_is_better
        for task, result in candidate.report.tasks.items()
        for metric, estimate in result.metrics.items()
        if result.family == check.family and check.metric in (metric, f"{task}/{metric}")
    }
    return found.pop() if len(found) == 1 else None
