"""The release gate: one report and one policy in, one decision with its reasons out.

The gate fails closed. A metric that the policy names and the report lacks is a failed check,
never a skipped one; so is NaN, so is a metric measured on too few items, and so is a policy that
asks for nothing. Each check compares the pessimistic end of the confidence interval, not the
value, so that a small test set cannot pass by luck. Where the value is on the good side of the
bound and the pessimistic end is not, the check is undecided, which opens nothing either: it says
how many more items would settle it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from eval.checks import (
    Asked,
    asked_by,
    check_bound,
    check_budget,
    check_difference,
    check_digests,
    check_evidence,
    check_privacy,
)
from eval.decision import Check, Decision, Override
from eval.policy import FAMILIES, GatePolicy, PrivacyRule, Rule
from eval.stats import Difference
from eval.task import Estimate, Family, Report

__all__ = [
    "Check",
    "Decision",
    "Facts",
    "GatePolicy",
    "Override",
    "PrivacyRule",
    "Rule",
    "decide",
]

Compared = Mapping[str, Difference | str]
"""Candidate minus another model on the same items, by ``task/metric``; or why there is none."""


@dataclass(frozen=True)
class Facts:
    """What a policy may ask about beside the report. What is not told here fails its check."""

    size_bytes: int | None = None
    """Of what would leave."""

    seconds_per_item: float | None = None
    """Of an evaluation that was measured in one go."""

    releases: Mapping[str, Compared] = field(default_factory=dict)
    """By `Rule.release`: the candidate minus that earlier release."""

    evidence: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with each piece of evidence, by its name in the policy; empty if nothing is."""

    is_refuted: bool = False
    """Whether an audit has refuted the epsilon that the run claims."""

    digests: Mapping[str, str] = field(default_factory=dict)
    """By the names of `EqualRule.wanted`."""


def decide(
    policy: GatePolicy,
    report: Report,
    differences: Compared,
    *,
    epsilon: float | None,
    is_private: bool,
    facts: Facts = Facts(),
    overrides: Sequence[Override] = (),
) -> Decision:
    """Decide whether a model may leave; see the module for what fails closed.

    Args:
        policy: what is asked.
        report: what was measured on the candidate.
        differences: candidate minus base on the same items, by ``task/metric``; a bare metric
            name is understood too, where only one task of the report has that metric.
        epsilon: what the run has spent, from its ledger; None if nobody knows.
        is_private: whether the run was trained with differential privacy at all. If not, its
            epsilon is infinite, whatever ``epsilon`` says.
        facts: what else was found.
        overrides: those that are in force for this candidate and this policy. One that names no
            overridable check that was missed is left out of the decision.

    Returns:
        One check for every bound in the policy, in the policy's order.
    """
    checks: list[Check] = []
    for family in FAMILIES:
        for rule in policy.rules(family):
            checks += _check_rule(family, rule, report, differences, facts)
    if policy.privacy is not None:
        checks.append(
            check_privacy(policy.privacy, epsilon, is_private, is_refuted=facts.is_refuted)
        )
    if policy.budget is not None:
        checks += check_budget(policy.budget, facts.size_bytes, facts.seconds_per_item)
    for name in policy.evidence_of(report.target.kind):
        checks.append(check_evidence(name, facts.evidence.get(name, "nobody looked for it")))
    if policy.equal is not None:
        checks += check_digests(policy.equal, facts.digests)
    if not checks:
        nothing = Asked("policy", "policy", "", "any rule", "policy")
        reason = "the policy has no rule, so nothing was asked; name at least one in the gate block"
        checks.append(nothing.unseen(reason))
    used = tuple(o for o in overrides if any(o.stands_for(check) for check in checks))
    return Decision(tuple(checks), used)


def _check_rule(
    family: Family, rule: Rule, report: Report, differences: Compared, facts: Facts
) -> list[Check]:
    found = figures_of(family, report)
    matches = places_of(rule, found)
    if len(matches) != 1:
        reason = _why_not_one(family, rule, matches or list(found), is_several=bool(matches))
        return [asked_by(family, rule, key, bound).unseen(reason) for key, bound in rule.bounds()]
    seen = found[matches[0]]
    checks = []
    for key, bound in rule.bounds():
        asked = asked_by(family, rule, key, bound)
        if asked.kind == "absolute":
            checks.append(check_bound(asked, seen, rule.min_items, is_floor=key == "at_least"))
        else:
            others = facts.releases.get(rule.release or "", {}) if "release" in key else differences
            difference = _difference(matches[0], report, others)
            checks.append(check_difference(asked, seen, difference, rule.min_items))
    return checks


def figures_of(family: Family, report: Report) -> dict[tuple[str, str], Estimate]:
    """Return what a report holds of a family, by task and metric."""
    return {
        (task, metric): estimate
        for task, result in report.tasks.items()
        if result.family == family
        for metric, estimate in result.metrics.items()
    }


def places_of(rule: Rule, figures: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return which figures a rule names; it is about one, or it is missed."""
    return [place for place in figures if rule.metric in (place[1], "/".join(place))]


def _difference(
    place: tuple[str, str], report: Report, differences: Compared
) -> Difference | str | None:
    if (full := "/".join(place)) in differences:
        return differences[full]
    metric = place[1]
    is_unique = sum(metric in result.metrics for result in report.tasks.values()) == 1
    return differences.get(metric) if is_unique else None


def _why_not_one(
    family: Family, rule: Rule, places: Sequence[tuple[str, str]], *, is_several: bool
) -> str:
    if is_several:
        return f"several tasks have it; write one of {', '.join(map('/'.join, places))}"
    if not places:
        return f"no {family} task measured it; the report has no {family} task"
    names = sorted({metric for _, metric in places})
    near = difflib.get_close_matches(rule.metric, names, n=3, cutoff=0.4) or names
    return f"no {family} task measured it; did you mean {', '.join(near)}?"
