"""The gate's decision as a page shows it: one row a check, each with its bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eval.decision import BY_OVERRIDE, Check, Outcome, Override
from eval.report.bars import Bar, bound_bar
from eval.report.page import Candidate
from eval.report.text import epsilon, interval, number

Word = Literal["passed", "passed by override", "undecided", "refused", "not asked"]

_WORDS: dict[str, Word] = {
    "PASS": "passed",
    BY_OVERRIDE: "passed by override",
    "UNDECIDED": "undecided",
    "FAIL": "refused",
}


@dataclass(frozen=True)
class CheckRow:
    """One check, ready to be shown."""

    family: str
    rule: str
    measured: str
    """What was held against the bound, such as ``0.712``."""

    interval: str
    """Its interval, such as ``[0.661, 0.759]``; empty where it has none."""

    compared_with: str
    """Whose figure was taken off, as ``the base``; empty where what was measured is none."""

    n: int
    bar: Bar | None
    outcome: Outcome
    is_overridden: bool
    items_needed: int | None
    reason: str

    @property
    def passed(self) -> bool:
        """Whether the check holds."""
        return self.outcome == "PASS"


@dataclass(frozen=True)
class Verdict:
    """What the gate said of one candidate."""

    word: Word
    candidate: str
    index: int
    num_passed: int
    num_undecided: int
    rows: tuple[CheckRow, ...]
    overrides: tuple[Override, ...] = ()
    """Those that the pass rests on: shown before anything else."""

    approval: str = ""


def verdict(candidate: Candidate, index: int) -> Verdict:
    """Lay out one candidate's decision."""
    decision = candidate.decision
    if decision is None:
        return Verdict("not asked", candidate.name, index, 0, 0, ())
    rows = tuple(_row(check, candidate, decision.overrides) for check in decision.checks)
    return Verdict(
        _WORDS[decision.outcome],
        candidate.name,
        index,
        sum(row.passed for row in rows),
        sum(row.outcome == "UNDECIDED" for row in rows),
        rows,
        decision.overrides,
        candidate.approval,
    )


def _row(check: Check, candidate: Candidate, overrides: Sequence[Override]) -> CheckRow:
    compared_with = check.compared_with or ("the base" if _is_of_old(check) else "")
    if check.family == "privacy":
        measured, ends = epsilon(check.value), ""
    elif check.family in ("evidence", "digest"):
        measured, ends = "as asked" if check.passed else "not as asked", ""
    elif check.family == "budget" and math.isfinite(check.value):
        measured, ends = number(check.value), ""
    elif math.isnan(check.value) and check.n == 0:
        measured, ends = "not measured", ""
    else:
        measured, ends = interval(check.value, check.low, check.high, signed=bool(compared_with))
    return CheckRow(
        family=check.family,
        rule=check.rule,
        measured=measured,
        interval=ends,
        compared_with=compared_with,
        n=check.n,
        bar=_bar(check, candidate, is_difference=bool(compared_with)),
        outcome=check.outcome,
        is_overridden=any(override.stands_for(check) for override in overrides),
        items_needed=check.items_needed,
        reason=check.reason,
    )


def _is_of_old(check: Check) -> bool:
    """Return whether a check of the first form, which told no kind, is of a difference."""
    return not check.name and " not worse than the base " in check.rule


def _bar(check: Check, candidate: Candidate, *, is_difference: bool) -> Bar | None:
    """Draw the interval against the bound; None where the rule's direction is not known."""
    words = check.rule.removeprefix(check.metric).strip()
    if is_difference:
        higher_is_better = _higher_is_better(check, candidate)
        if higher_is_better is None:
            return None
        is_floor = higher_is_better
        bound = check.bound if check.kind == "superior" else -check.bound
        bound = bound if higher_is_better else -bound
    elif words.startswith(("at least", "at most")):
        bound, is_floor = check.bound, words.startswith("at least")
    else:
        return None
    has_zero = is_difference or check.kind == "budget"
    return bound_bar(check.value, check.low, check.high, bound, is_floor=is_floor, zero=has_zero)


def _higher_is_better(check: Check, candidate: Candidate) -> bool | None:
    found = {
        estimate.higher_is_better
        for task, result in candidate.report.tasks.items()
        for metric, estimate in result.metrics.items()
        if result.family == check.family and check.metric in (metric, f"{task}/{metric}")
    }
    return found.pop() if len(found) == 1 else None
