"""One bound and what was seen in, one check out: pass, fail or undecided, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from eval.decision import Check, Kind, Outcome, Subject
from eval.policy import BudgetRule, EqualRule, PrivacyRule, Rule, name_of, release_name
from eval.shares import items_to_settle
from eval.stats import Difference
from eval.task import Estimate, Family


@dataclass(frozen=True)
class Asked:
    """One bound of the policy, before anyone looks whether it holds."""

    kind: Kind
    family: Subject
    metric: str
    rule: str
    name: str
    bound: float = math.nan
    overridable: bool = False
    compared_with: str = ""

    def unseen(self, reason: str) -> Check:
        """Return the failed check of what could not be looked at."""
        return self.plain(math.nan, reason, holds=False, is_sound=False)

    def plain(self, value: float, reason: str, *, holds: bool, is_sound: bool = True) -> Check:
        """Return the check of a figure without an interval, or of none."""
        seen = Difference(value, value, value, 0)
        return self._check(seen, "PASS" if holds else "FAIL", reason, is_sound=is_sound)

    def judged(
        self,
        seen: Estimate | Difference,
        unusable: str | None,
        verdict: str,
        *,
        end: float,
        limit: float,
        holds: bool,
        is_near: bool,
    ) -> Check:
        """Return the check of a figure by its interval.

        Args:
            seen: the figure.
            unusable: why it cannot be judged, if it cannot.
            verdict: what was found, in words.
            end: the pessimistic end of its interval.
            limit: what that is held against.
            holds: whether the end is on the good side of the limit.
            is_near: whether the value is.
        """
        if unusable is not None:
            return self._check(seen, "FAIL", unusable, is_sound=False)
        if holds or not is_near:
            return self._check(seen, "PASS" if holds else "FAIL", verdict, is_sound=True)
        items = items_to_settle(seen.value, end, limit, seen.n)
        settled = (
            "; the figure lies on the bound, so no number of items would settle it"
            if items is None
            else f"; about {_rounded(items)} more items would settle it, 4 times in 5, if the true "
            "figure is the one measured"
        )
        return self._check(seen, "UNDECIDED", verdict + settled, is_sound=True, items=items)

    def _check(
        self,
        seen: Estimate | Difference,
        outcome: Outcome,
        reason: str,
        *,
        is_sound: bool,
        items: int | None = None,
    ) -> Check:
        return Check(
            family=self.family,
            metric=self.metric,
            rule=self.rule,
            bound=self.bound if is_sound or seen.n else math.nan,
            value=seen.value,
            low=seen.low,
            high=seen.high,
            n=seen.n,
            outcome=outcome,
            reason=reason,
            kind=self.kind,
            name=self.name,
            overridable=self.overridable and is_sound,
            items_needed=items,
            compared_with=self.compared_with,
        )


_KINDS: Mapping[str, Kind] = {
    "at_least": "absolute",
    "at_most": "absolute",
    "not_worse_than_base_by": "noninferior",
    "better_than_base_by": "superior",
    "not_worse_than_release_by": "noninferior",
    "better_than_release_by": "superior",
}
_WORDS: Mapping[Kind, str] = {
    "noninferior": "not worse than {} by more than",
    "superior": "better than {} by more than",
}


def asked_by(family: Family, rule: Rule, key: str, bound: float) -> Asked:
    """Return one bound of a rule on a figure, by its key in the recipe."""
    kind = _KINDS[key]
    other = f"the release {release_name(rule.release or '')}" if "release" in key else "the base"
    words = _WORDS[kind].format(other) if kind in _WORDS else key.replace("_", " ")
    return Asked(
        kind,
        family,
        rule.metric,
        f"{rule.metric} {words} {_show(bound)}",
        name_of(family, rule, key),
        bound,
        rule.overridable,
        compared_with=other if kind in _WORDS else "",
    )


def check_bound(asked: Asked, seen: Estimate, min_items: int, *, is_floor: bool) -> Check:
    """Hold the pessimistic end of a figure's interval against a floor or a ceiling."""
    bound, unusable = asked.bound, _unusable(seen, min_items)
    if unusable is None and seen.higher_is_better is (not is_floor):
        better, key = ("lower", "at_least") if is_floor else ("higher", "at_most")
        unusable = f"{better} is better for {asked.metric}, so {key} would let the worse pass"
    end = seen.low if is_floor else seen.high
    holds = end >= bound if is_floor else end <= bound
    shown, limit = _apart(end, bound)
    verdict = (
        f"the {'lower' if is_floor else 'upper'} end of the 95% interval, {shown}, is "
        f"{'not ' * holds}{'below' if is_floor else 'above'} {limit}; the estimate itself is "
        f"{_show(seen.value)} on {seen.n} items"
    )
    is_near = seen.value >= bound if is_floor else seen.value <= bound
    return asked.judged(seen, unusable, verdict, end=end, limit=bound, holds=holds, is_near=is_near)


def check_difference(
    asked: Asked, seen: Estimate, difference: Difference | str | None, min_items: int
) -> Check:
    """Hold the pessimistic end of a paired difference against a margin.

    Args:
        asked: the bound; its kind says whether the margin must be kept or exceeded.
        seen: the figure itself, which says which way is better.
        difference: candidate minus the other on the same items, or why there is none.
        min_items: fewer behind either are a refusal.
    """
    other = asked.compared_with
    if not isinstance(difference, Difference):
        reason = f"the difference to {other} was not measured on the same items"
        if difference:
            reason += f": {difference}"
        elif other == "the base":
            reason += "; evaluate the base"
        return asked.unseen(reason)
    unusable = _unusable(seen, min_items) or _unusable(difference, min_items)
    if unusable is None and seen.higher_is_better is None:
        unusable = f"{asked.metric} is descriptive: neither more nor less of it is worse"
    sign = -1.0 if seen.higher_is_better is False else 1.0
    end = difference.high if sign < 0 else difference.low
    if asked.kind == "superior":
        limit = sign * asked.bound
        holds, is_near = (sign * x > asked.bound for x in (end, difference.value))
        words = f"{'' if holds else 'not '}better than", "that is asked for"
    else:
        limit = 0.0 - sign * asked.bound
        holds, is_near = (sign * x >= -asked.bound for x in (end, difference.value))
        words = f"{'no ' * holds}worse than", "that is allowed"
    worst, shown = _apart(end, limit)
    verdict = (
        f"the pessimistic end of the 95% interval of the difference to {other}, {worst}, is "
        f"{words[0]} the {shown} {words[1]}; the difference itself is {_show(difference.value)} on "
        f"{difference.n} items"
    )
    return asked.judged(
        difference, unusable, verdict, end=end, limit=limit, holds=holds, is_near=is_near
    )


def check_privacy(
    rule: PrivacyRule, epsilon: float | None, is_private: bool, *, is_refuted: bool = False
) -> Check:
    """Hold what the run spent against the largest epsilon; a refuted claim holds nothing."""
    bound = rule.epsilon_at_most
    spent = math.nan if epsilon is None else float(epsilon)
    text = f"epsilon at most {_show(bound)}"
    asked = Asked("budget", "privacy", "epsilon", text, "privacy/epsilon_at_most", bound)
    shown, limit = _apart(spent, bound)
    refusal = None
    if not is_private:
        spent = math.inf
        refusal = "the run was not trained privately, so its epsilon is infinite"
    elif epsilon is None or math.isnan(spent):
        refusal = "the run is private, but what it spent is unknown; its ledger is missing"
    elif is_refuted:
        refusal = f"the run claims epsilon {shown}, and its audit by canaries refuted that"
    elif not 0 <= spent <= bound:
        refusal = f"the run spent epsilon {shown}, which is not between 0 and {limit}"
    reason = refusal or f"the run spent epsilon {shown}, not above {limit}"
    return asked.plain(spent, reason, holds=refusal is None)


def check_budget(
    rule: BudgetRule, size_bytes: int | None, seconds_per_item: float | None
) -> list[Check]:
    """Hold size and time against the budget; what was not recorded fails."""
    size = math.nan if size_bytes is None else size_bytes / 1e9
    seconds = math.nan if seconds_per_item is None else seconds_per_item
    checks = []
    for key, metric, unit, seen, bound in (
        ("size_gb_at_most", "size", "GB", size, rule.size_gb_at_most),
        ("seconds_per_item_at_most", "time", "s an item", seconds, rule.seconds_per_item_at_most),
    ):
        if bound is None:
            continue
        text = f"{metric} at most {_show(bound)} {unit}"
        asked = Asked("budget", "budget", metric, text, f"budget/{key}", bound, rule.overridable)
        if not 0 < seen < math.inf:  # nothing weighs nothing, and 0 s is how no time is written
            again = "; delete its folder in eval, and evaluate it in one go"
            why = again if metric == "time" else ""
            checks.append(asked.unseen(f"its {metric} was not recorded{why}"))
            continue
        shown, limit = _apart(seen, bound)
        holds = seen <= bound
        reason = f"it is {shown} {unit}, {'not ' * holds}above {limit} {unit}"
        checks.append(asked.plain(seen, reason, holds=holds))
    return checks


def check_evidence(name: str, wrong: str) -> Check:
    """Return the check of one piece of evidence, given what is wrong with it, if anything."""
    asked = Asked("required", "evidence", name, f"evidence {name}", f"evidence/{name}")
    return asked.plain(math.nan, wrong or "it is there", holds=not wrong)


def check_digests(rule: EqualRule, digests: Mapping[str, str]) -> list[Check]:
    """Hold each digest that the policy states against the one that was found."""
    checks = []
    for name, wanted in rule.wanted().items():
        text = f"{name} is {wanted[:19]}..."
        asked = Asked("equal", "digest", name, text, f"equal/{name}")
        seen = digests.get(name)
        if seen is None:
            checks.append(asked.unseen("nothing of this name was found"))
            continue
        reason = "it is" if seen == wanted else f"it is {seen}, and {wanted} is asked for"
        checks.append(asked.plain(math.nan, reason, holds=seen == wanted))
    return checks


def _unusable(seen: Estimate | Difference, min_items: int) -> str | None:
    """Say why a figure cannot be judged at all; None if it can."""
    if not all(map(math.isfinite, (seen.value, seen.low, seen.high))):
        return f"it is undefined on the {seen.n} items that were asked"
    if not seen.low <= seen.value <= seen.high:
        return f"{_show(seen.value)} lies outside its interval; the report is damaged"
    if not seen.n >= min_items:
        return f"it was measured on {seen.n} items, and at least {min_items} are asked for"
    return None


def _show(number: float) -> str:
    return f"{number:.3g}"


def _rounded(items: int) -> str:
    """Write a count that is only about right: two digits, rounded up."""
    step = 10 ** max(0, len(str(items)) - 2)
    return f"{math.ceil(items / step) * step:,}"


def _apart(number: float, bound: float) -> tuple[str, str]:
    """Write both with as many digits as it takes to see that they differ."""
    for digits in range(3, 18):
        texts = f"{number:.{digits}g}", f"{bound:.{digits}g}"
        if texts[0] != texts[1] or number == bound:
            break
    return texts
