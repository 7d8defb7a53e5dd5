"""Whether a decision follows from its policy and from the figures that it was made on.

A decision is a file. That its outcome follows from its checks says nothing of whether the checks
follow from anything: a FAIL that was rewritten to PASS, a check that was left out and one that was
invented are found by deciding again. What a report holds is taken from the report. A difference to
another model, a size and a time are not in it; of these the decision's own figures are taken, and
only the verdict on them is made anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from eval.decision import Check, Decision
from eval.gate import Facts, decide, figures_of, places_of
from eval.policy import FAMILIES, GatePolicy, name_of
from eval.stats import Difference
from eval.task import Report

_WORDS = ("reason", "items_needed")
"""Of a check: what another version of the gate may say otherwise."""


def departures(
    decision: Decision,
    policy: GatePolicy,
    report: Report,
    *,
    is_private: bool,
    is_refuted: bool,
    digests: Mapping[str, str],
) -> list[str]:
    """Return in what a decision does not follow from its policy and figures; empty if it does.

    Args:
        decision: as it was written.
        policy: that it was made by.
        report: of the candidate.
        is_private: whether the run was private.
        is_refuted: whether an audit has refuted its epsilon.
        digests: by the names of `EqualRule.wanted`, as they are now.
    """
    said = {check.name: check for check in decision.checks}
    spent = said.get("privacy/epsilon_at_most")
    again = decide(
        policy,
        report,
        {place: found for _, place, found in _differences(policy, report, said, of_release=False)},
        epsilon=None if spent is None else spent.value,
        is_private=is_private,
        facts=_facts(policy, report, said, digests, is_refuted=is_refuted),
    )
    wanted = {check.name: check for check in again.checks}
    problems = [f"it lacks the check {name} of its policy" for name in wanted if name not in said]
    problems += [
        f"its policy has no {name}, which it checks" for name in said if name not in wanted
    ]
    if len(said) != len(decision.checks):
        problems.append("a check stands in it twice")
    problems += [
        f"{name}: it says {_shown(said[name])}, and its policy and figures make {_shown(check)}"
        for name, check in wanted.items()
        if name in said and _values(said[name]) != _values(check)
    ]
    return problems


def _facts(
    policy: GatePolicy,
    report: Report,
    said: Mapping[str, Check],
    digests: Mapping[str, str],
    *,
    is_refuted: bool,
) -> Facts:
    size, seconds = (
        _figure(said.get(f"budget/{key}"))
        for key in ("size_gb_at_most", "seconds_per_item_at_most")
    )
    releases: dict[str, dict[str, Difference | str]] = {}
    for release, place, found in _differences(policy, report, said, of_release=True):
        releases.setdefault(release, {})[place] = found
    evidence = policy.evidence_of(report.target.kind)
    named = {name: said.get(f"evidence/{name}") for name in evidence}
    return Facts(
        size_bytes=None if size is None else round(size * 1e9),
        seconds_per_item=seconds,
        releases=releases,
        evidence={
            name: "" if check.passed else check.reason for name, check in named.items() if check
        },
        is_refuted=is_refuted,
        digests=digests,
    )


def _differences(
    policy: GatePolicy, report: Report, said: Mapping[str, Check], *, of_release: bool
) -> Iterator[tuple[str, str, Difference | str]]:
    """Yield the differences that were decided on: whose release, which figure, and what it was."""
    for family in FAMILIES:
        for rule in policy.rules(family):
            places = ["/".join(place) for place in places_of(rule, figures_of(family, report))]
            for key, _ in rule.bounds():
                check = said.get(name_of(family, rule, key))
                is_asked = key.endswith("_by") and ("release" in key) is of_release
                if check is None or not is_asked or len(places) != 1:
                    continue
                found = Difference(check.value, check.low, check.high, check.n)
                yield rule.release or "", places[0], found if check.n else check.reason


def _figure(check: Check | None) -> float | None:
    return None if check is None or math.isnan(check.value) else check.value


def _values(check: Check) -> dict[str, Any]:
    return {key: value for key, value in check.to_json().items() if key not in _WORDS}


def _shown(check: Check) -> str:
    return (
        f"{check.outcome} ({check.value:.4g}, {check.low:.4g} to {check.high:.4g} on {check.n} "
        f"items, bound {check.bound:.4g})"
    )
