"""The release gate: one report and one policy in, one decision with its reasons out.

The gate fails closed. A metric that the policy names and the report lacks is a failed check,
never a skipped one; so is NaN, so is a metric measured on too few items, and so is a policy that
asks for nothing. Each check compares the pessimistic end of the confidence interval, not the
value, so that a small test set cannot pass by luck.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from eval.stats import Difference
from eval.task import Estimate, Family, Report


class _Asked(
    BaseModel,
    frozen=True,
    strict=True,
    extra="forbid",
    allow_inf_nan=False,
    use_attribute_docstrings=True,
):
    """What a policy is made of: unknown keys, NaN and numbers in quotes are refused."""


class Rule(_Asked):
    """What one metric must satisfy, at the pessimistic end of its interval."""

    metric: str
    """The metric's name, or ``task/metric`` where several tasks of the family have one."""

    at_least: float | None = None
    """The lower end of the interval must reach this; for metrics where higher is better."""

    at_most: float | None = None
    """The upper end of the interval must not exceed this; for metrics where lower is better."""

    not_worse_than_base_by: float | None = Field(None, ge=0)
    """Margin that even the pessimistic end of the paired difference to the base must keep."""

    min_items: int = Field(20, ge=1)
    """Fewer items than this behind a figure are a refusal."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Rule:
        if self.at_least is None and self.at_most is None and self.not_worse_than_base_by is None:
            raise ValueError(
                f"the rule on {self.metric!r} asks for nothing; set at_least, at_most or "
                "not_worse_than_base_by"
            )
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(
                f"no {self.metric!r} is at least {self.at_least} and at most {self.at_most}"
            )
        return self


class PrivacyRule(_Asked):
    """How much privacy the run may have spent."""

    epsilon_at_most: float = Field(gt=0)
    """Largest epsilon, at the run's own delta. A run that is not private has none and fails."""


class GatePolicy(_Asked):
    """What must hold before a model may leave. A family that is not named is not asked about."""

    accuracy: Rule | None = None
    """On any task of the accuracy family."""

    bias: Rule | None = None
    """On any task of the bias family."""

    hallucination: Rule | None = None
    """On any task of the hallucination family."""

    privacy: PrivacyRule | None = None
    """On the run's privacy ledger."""


@dataclass(frozen=True)
class Check:
    """One bound, what was seen, and whether it holds."""

    family: Family | Literal["privacy", "policy"]
    metric: str
    rule: str
    """The rule in words, such as ``f1 at least 0.5``."""

    bound: float
    """What the pessimistic end is compared with; NaN where nothing was compared."""

    value: float
    low: float
    high: float
    n: int
    passed: bool
    reason: str
    """A sentence for a person, whether the check passed or not."""


@dataclass(frozen=True)
class Decision:
    """All checks of one policy on one model."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True if there are checks and every one holds."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the decision as plain JSON values; what is not a finite number is null."""
        return {
            "passed": self.passed,
            "checks": [
                {
                    key: None if isinstance(v, float) and not math.isfinite(v) else v
                    for key, v in asdict(check).items()
                }
                for check in self.checks
            ],
        }


def decide(
    policy: GatePolicy,
    report: Report,
    differences: Mapping[str, Difference],
    *,
    epsilon: float | None,
    is_private: bool,
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

    Returns:
        One check for every bound in the policy, in the policy's order.
    """
    checks: list[Check] = []
    families: tuple[Family, ...] = ("accuracy", "bias", "hallucination")
    for family in families:
        rule: Rule | None = getattr(policy, family)
        if rule is not None:
            checks += _check_rule(family, rule, report, differences)
    if policy.privacy is not None:
        checks.append(_check_privacy(policy.privacy, epsilon, is_private))
    if not checks:
        reason = "the policy has no rule, so nothing was asked; name at least one in the gate block"
        nan = math.nan
        checks.append(Check("policy", "", "any rule", nan, nan, nan, nan, 0, False, reason))
    return Decision(tuple(checks))


def _check_rule(
    family: Family, rule: Rule, report: Report, differences: Mapping[str, Difference]
) -> list[Check]:
    found = {
        (task, metric): estimate
        for task, result in report.tasks.items()
        if result.family == family
        for metric, estimate in result.metrics.items()
    }
    matches = [place for place in found if rule.metric in (place[1], "/".join(place))]
    if len(matches) != 1:
        reason = _why_not_one(family, rule, matches or list(found), is_several=bool(matches))
        return [_unseen(family, rule.metric, "; ".join(_bounds(rule)), reason)]
    seen = found[matches[0]]
    checks = []
    if rule.at_least is not None:
        checks.append(_check_floor(family, rule, seen, rule.at_least))
    if rule.at_most is not None:
        checks.append(_check_ceiling(family, rule, seen, rule.at_most))
    if rule.not_worse_than_base_by is not None:
        difference = _difference(matches[0], report, differences)
        checks.append(_check_margin(family, rule, seen, difference, rule.not_worse_than_base_by))
    return checks


def _check_floor(family: Family, rule: Rule, seen: Estimate, bound: float) -> Check:
    refusal = _unusable(seen, rule.min_items)
    if refusal is None and seen.higher_is_better is False:
        refusal = f"lower is better for {rule.metric}, so at_least would let the worse pass"
    low, limit = _apart(seen.low, bound)
    verdict = f"the lower end of the 95% interval, {low}, is {{}} {limit}; {_itself(seen)}"
    if not seen.low >= bound:
        refusal = refusal or verdict.format("below")
    text = _bounds(rule)[0]
    return _checked(family, rule, text, bound, seen, refusal, verdict.format("not below"))


def _check_ceiling(family: Family, rule: Rule, seen: Estimate, bound: float) -> Check:
    refusal = _unusable(seen, rule.min_items)
    if refusal is None and seen.higher_is_better is True:
        refusal = f"higher is better for {rule.metric}, so at_most would let the worse pass"
    high, limit = _apart(seen.high, bound)
    verdict = f"the upper end of the 95% interval, {high}, is {{}} {limit}; {_itself(seen)}"
    if not seen.high <= bound:
        refusal = refusal or verdict.format("above")
    text = _bounds(rule)[0 if rule.at_least is None else 1]
    return _checked(family, rule, text, bound, seen, refusal, verdict.format("not above"))


def _check_margin(
    family: Family, rule: Rule, seen: Estimate, difference: Difference | None, margin: float
) -> Check:
    text = _bounds(rule)[-1]
    if difference is None:
        reason = "the difference to the base was not measured on the same items; evaluate the base"
        return _unseen(family, rule.metric, text, reason)
    refusal = _unusable(seen, rule.min_items) or _unusable(difference, rule.min_items)
    if refusal is None and seen.higher_is_better is None:
        refusal = f"{rule.metric} is descriptive: neither more nor less of it is worse"
    lower_is_better = seen.higher_is_better is False
    end = difference.high if lower_is_better else difference.low
    loss = end if lower_is_better else -end
    worst, allowed = _apart(end, margin if lower_is_better else 0.0 - margin)
    verdict = (
        f"the pessimistic end of the 95% interval of the difference to the base, {worst}, is {{}} "
        f"the {allowed} that is allowed; the difference itself is {_show(difference.value)} on "
        f"{difference.n} items"
    )
    if not loss <= margin:
        refusal = refusal or verdict.format("worse than")
    return _checked(
        family, rule, text, margin, difference, refusal, verdict.format("no worse than")
    )


def _check_privacy(rule: PrivacyRule, epsilon: float | None, is_private: bool) -> Check:
    bound = rule.epsilon_at_most
    spent = math.nan if epsilon is None else float(epsilon)
    text = f"epsilon at most {_show(bound)}"
    shown, limit = _apart(spent, bound)
    refusal = None
    if not is_private:
        spent = math.inf
        refusal = "the run was not trained privately, so its epsilon is infinite"
    elif epsilon is None or math.isnan(spent):
        refusal = "the run is private, but what it spent is unknown; its ledger is missing"
    elif not 0 <= spent <= bound:
        refusal = f"the run spent epsilon {shown}, which is not between 0 and {limit}"
    reason = refusal or f"the run spent epsilon {shown}, not above {limit}"
    return Check("privacy", "epsilon", text, bound, spent, spent, spent, 0, refusal is None, reason)


def _difference(
    place: tuple[str, str], report: Report, differences: Mapping[str, Difference]
) -> Difference | None:
    if (full := "/".join(place)) in differences:
        return differences[full]
    metric = place[1]
    is_unique = sum(metric in result.metrics for result in report.tasks.values()) == 1
    return differences.get(metric) if is_unique else None


def _bounds(rule: Rule) -> list[str]:
    """Return the rule's bounds in words, in the order in which they are checked."""
    return [
        f"{rule.metric} {words} {_show(bound)}"
        for words, bound in (
            ("at least", rule.at_least),
            ("at most", rule.at_most),
            ("not worse than the base by more than", rule.not_worse_than_base_by),
        )
        if bound is not None
    ]


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


def _unusable(seen: Estimate | Difference, min_items: int) -> str | None:
    """Say why a figure cannot be judged at all; None if it can."""
    if not all(map(math.isfinite, (seen.value, seen.low, seen.high))):
        return f"it is undefined on the {seen.n} items that were asked"
    if not seen.low <= seen.value <= seen.high:
        return f"{_show(seen.value)} lies outside its interval; the report is damaged"
    if not seen.n >= min_items:
        return f"it was measured on {seen.n} items, and at least {min_items} are asked for"
    return None


def _unseen(family: Family, metric: str, rule: str, reason: str) -> Check:
    nan = math.nan
    return Check(family, metric, rule, nan, nan, nan, nan, 0, False, reason)


def _checked(
    family: Family,
    rule: Rule,
    text: str,
    bound: float,
    seen: Estimate | Difference,
    refusal: str | None,
    verdict: str,
) -> Check:
    return Check(
        family=family,
        metric=rule.metric,
        rule=text,
        bound=bound,
        value=seen.value,
        low=seen.low,
        high=seen.high,
        n=seen.n,
        passed=refusal is None,
        reason=refusal or verdict,
    )


def _itself(seen: Estimate) -> str:
    return f"the estimate itself is {_show(seen.value)} on {seen.n} items"


def _show(number: float) -> str:
    return f"{number:.3g}"


def _apart(number: float, bound: float) -> tuple[str, str]:
    """Write both with as many digits as it takes to see that they differ."""
    for digits in range(3, 18):
        texts = f"{number:.{digits}g}", f"{bound:.{digits}g}"
        if texts[0] != texts[1] or number == bound:
            break
    return texts
