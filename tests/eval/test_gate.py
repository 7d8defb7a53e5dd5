from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from eval.gate import Check, Decision, GatePolicy, PrivacyRule, Rule, decide
from eval.stats import Difference
from eval.task import Estimate, Family, Report, Target, TaskResult

light = settings(max_examples=50, deadline=None)
unit = st.floats(0, 1)

NAN = Estimate(math.nan, math.nan, math.nan, n=100)


def report(family: Family = "accuracy", **metrics: Estimate) -> Report:
    return reports(TaskResult(family, 1, "sha256:0", 100, metrics))


def reports(*results: TaskResult) -> Report:
    tasks = {f"task{i}": result for i, result in enumerate(results)}
    return Report(Target("adapter", "sha256:0"), tasks)


def f1(low: float, *, n: int = 100) -> Estimate:
    return Estimate(low, low, 1.0, n)


def refused(policy: GatePolicy, seen: Report, **differences: Difference) -> str:
    decision = decide(policy, seen, differences, epsilon=None, is_private=False)
    assert not decision.passed
    return " | ".join(check.reason for check in decision.checks if not check.passed)


def passes(policy: GatePolicy, seen: Report, **differences: Difference) -> bool:
    return decide(policy, seen, differences, epsilon=None, is_private=False).passed


FLOOR = GatePolicy(accuracy=Rule(metric="f1", at_least=0.5))
CEILING = GatePolicy(bias=Rule(metric="bias", at_most=0.2))
MARGIN = GatePolicy(accuracy=Rule(metric="f1", not_worse_than_base_by=0.02))


def test_the_reason_is_a_sentence_a_person_understands() -> None:
    reason = refused(FLOOR, report(f1=Estimate(0.52, 0.43, 0.61, n=60)))
    assert reason == (
        "the lower end of the 95% interval, 0.43, is below 0.5; "
        "the estimate itself is 0.52 on 60 items; about 2,500 more items would settle it, "
        "4 times in 5, if the true figure is the one measured"
    )


def test_a_check_says_what_was_asked_and_seen() -> None:
    decision = decide(FLOOR, report(f1=f1(0.7)), {}, epsilon=None, is_private=False)
    assert decision.passed
    (check,) = decision.checks
    assert (check.family, check.metric, check.rule) == ("accuracy", "f1", "f1 at least 0.5")
    assert (check.bound, check.value, check.low, check.high, check.n) == (0.5, 0.7, 0.7, 1.0, 100)
    assert "not below 0.5" in check.reason


@pytest.mark.parametrize(("low", "passed"), [(0.5, True), (math.nextafter(0.5, 0), False)])
def test_the_floor_itself_passes(low: float, passed: bool) -> None:
    assert passes(FLOOR, report(f1=f1(low))) is passed


@pytest.mark.parametrize(("high", "passed"), [(0.2, True), (math.nextafter(0.2, 1), False)])
def test_the_ceiling_itself_passes(high: float, passed: bool) -> None:
    seen = Estimate(0.1, 0.0, high, 100, higher_is_better=False)
    assert passes(CEILING, report("bias", bias=seen)) is passed


def test_the_value_alone_never_decides() -> None:
    assert "0.499" in refused(FLOOR, report(f1=Estimate(0.99, 0.499, 1.0, n=100)))
    seen = Estimate(0.0, 0.0, 0.201, 100, higher_is_better=False)
    assert "0.201" in refused(CEILING, report("bias", bias=seen))


def test_numbers_that_differ_are_never_printed_alike() -> None:
    assert "0.49999999, is below 0.5;" in refused(FLOOR, report(f1=f1(0.49999999)))


@pytest.mark.parametrize(("low", "passed"), [(-0.02, True), (-0.0201, False), (0.1, True)])
def test_the_margin_to_the_base_is_kept_by_the_pessimistic_end(low: float, passed: bool) -> None:
    difference = Difference(max(low, 0.0), low, 0.3, n=100)
    assert passes(MARGIN, report(f1=f1(0.1)), f1=difference) is passed


def test_a_margin_refusal_says_how_much_worse() -> None:
    reason = refused(MARGIN, report(f1=f1(0.1)), f1=Difference(-0.03, -0.05, 0.03, n=60))
    assert reason == (
        "the pessimistic end of the 95% interval of the difference to the base, -0.05, is worse "
        "than the -0.02 that is allowed; the difference itself is -0.03 on 60 items"
    )


@pytest.mark.parametrize(("high", "passed"), [(0.02, True), (0.03, False), (-0.1, True)])
def test_where_lower_is_better_the_margin_is_to_the_other_side(high: float, passed: bool) -> None:
    policy = GatePolicy(bias=Rule(metric="bias", not_worse_than_base_by=0.02))
    seen = report("bias", bias=Estimate(0.3, 0.2, 0.4, 100, higher_is_better=False))
    difference = Difference(min(high, 0.0), -0.5, high, 100, higher_is_better=False)
    assert passes(policy, seen, bias=difference) is passed


def test_a_margin_on_a_descriptive_figure_is_refused() -> None:
    seen = report(f1=Estimate(0.5, 0.4, 0.6, 100, higher_is_better=None))
    assert "descriptive" in refused(MARGIN, seen, f1=Difference(0.1, 0.1, 0.2, n=100))


def test_a_margin_of_nothing_still_allows_nothing() -> None:
    policy = GatePolicy(accuracy=Rule(metric="f1", not_worse_than_base_by=0.0))
    assert passes(policy, report(f1=f1(0.1)), f1=Difference(0.0, 0.0, 0.1, n=100))
    reason = refused(policy, report(f1=f1(0.1)), f1=Difference(0.0, -1e-9, 0.1, n=100))
    assert "-1e-09, is worse than the 0 that is allowed" in reason


def test_a_floor_for_what_should_be_low_is_refused() -> None:
    seen = report(f1=Estimate(0.9, 0.9, 0.9, 100, higher_is_better=False))
    assert "lower is better" in refused(FLOOR, seen)
    assert "higher is better" in refused(CEILING, report("bias", bias=f1(0.0)))
    high = GatePolicy(accuracy=Rule(metric="f1", at_most=1.0))
    assert "higher is better" in refused(high, report(f1=f1(0.9)))


def test_a_descriptive_figure_may_be_kept_within_bounds() -> None:
    policy = GatePolicy(bias=Rule(metric="share", at_least=0.4, at_most=0.6))
    seen = Estimate(0.5, 0.41, 0.59, 100, higher_is_better=None)
    assert passes(policy, report("bias", share=seen))
    assert "upper end" in refused(policy, report("bias", share=replace(seen, high=0.7)))
    assert "lower end" in refused(policy, report("bias", share=replace(seen, low=0.3)))


def test_every_bound_is_a_check_of_its_own() -> None:
    policy = GatePolicy(accuracy=Rule(metric="f1", at_least=0.5, not_worse_than_base_by=0.1))
    differences = {"f1": Difference(-0.2, -0.3, 0.0, n=100)}
    decision = decide(policy, report(f1=f1(0.6)), differences, epsilon=None, is_private=False)
    assert [(check.rule, check.passed) for check in decision.checks] == [
        ("f1 at least 0.5", True),
        ("f1 not worse than the base by more than 0.1", False),
    ]
    assert not decision.passed


def test_a_missing_metric_is_refused_with_the_nearest_names() -> None:
    assert "did you mean token_f1" in refused(FLOOR, report(token_f1=f1(1.0), loss=f1(1.0)))
    assert "no accuracy task" in refused(FLOOR, report("bias", f1=f1(1.0)))
    assert "no accuracy task" in refused(FLOOR, reports())


def test_a_metric_of_another_family_does_not_count() -> None:
    elsewhere = TaskResult("bias", 1, "", 100, {"f1": f1(1.0)})
    assert refused(FLOOR, reports(elsewhere))


def test_a_metric_of_two_tasks_must_be_named_with_its_task() -> None:
    both = reports(
        TaskResult("accuracy", 1, "", 100, {"f1": f1(0.9)}),
        TaskResult("accuracy", 1, "", 100, {"f1": f1(0.1)}),
    )
    assert "write one of task0/f1, task1/f1" in refused(FLOOR, both)
    one = GatePolicy(accuracy=Rule(metric="task0/f1", at_least=0.5))
    other = GatePolicy(accuracy=Rule(metric="task1/f1", at_least=0.5))
    assert passes(one, both)
    assert refused(other, both)


def test_a_task_may_have_a_slash_in_its_name() -> None:
    result = TaskResult("accuracy", 1, "", 100, {"f1": f1(0.9)})
    seen = Report(Target("base", "sha256:0"), {"squad/v2": result})
    assert passes(FLOOR, seen)
    assert passes(GatePolicy(accuracy=Rule(metric="squad/v2/f1", at_least=0.5)), seen)


def test_a_bare_difference_counts_only_where_one_task_has_the_metric() -> None:
    better = Difference(0.1, 0.1, 0.2, n=100)
    both = reports(
        TaskResult("accuracy", 1, "", 100, {"f1": f1(0.9)}),
        TaskResult("bias", 1, "", 100, {"f1": f1(0.1)}),
    )
    assert "not measured" in refused(MARGIN, both, f1=better)
    assert passes(MARGIN, both, **{"task0/f1": better})
    assert "not measured" in refused(MARGIN, both, **{"task1/f1": better})


def test_a_missing_difference_is_refused() -> None:
    assert "difference to the base was not measured" in refused(MARGIN, report(f1=f1(1.0)))


def test_too_few_items_are_refused() -> None:
    assert "19 items, and at least 20" in refused(FLOOR, report(f1=f1(0.9, n=19)))
    assert passes(FLOOR, report(f1=f1(0.9, n=20)))
    few = Difference(0.1, 0.1, 0.1, n=19)
    assert "19 items" in refused(MARGIN, report(f1=f1(0.9)), f1=few)
    assert "19 items" in refused(MARGIN, report(f1=f1(0.9, n=19)), f1=replace(few, n=20))
    seen = Estimate(0.0, 0.0, 0.1, 19, higher_is_better=False)
    assert "19 items" in refused(CEILING, report("bias", bias=seen))


@pytest.mark.parametrize("end", ["value", "low", "high"])
def test_nan_never_passes(end: str) -> None:
    broken = Estimate(0.9, 0.9, 0.9, 100, higher_is_better=None)
    object.__setattr__(broken, end, math.nan)  # the class itself would refuse some of these
    assert "undefined" in refused(FLOOR, report(f1=broken))
    assert "undefined" in refused(CEILING, report("bias", bias=broken))
    difference = replace(Difference(0.5, 0.5, 0.5, n=100), **{end: math.nan})
    assert "undefined" in refused(MARGIN, report(f1=f1(0.9)), f1=difference)


def test_an_infinite_figure_never_passes() -> None:
    assert "undefined" in refused(FLOOR, report(f1=Estimate(math.inf, math.inf, math.inf, 100)))


@pytest.mark.parametrize(("value", "low", "high"), [(0.5, 0.9, 1.0), (0.9, 0.6, 0.7)])
def test_a_damaged_figure_never_passes(value: float, low: float, high: float) -> None:
    difference = Difference(value, low, high, n=100)
    assert "damaged" in refused(MARGIN, report(f1=f1(0.9)), f1=difference)


def test_a_policy_without_rules_is_refused() -> None:
    assert "nothing was asked" in refused(GatePolicy(), report(f1=f1(1.0)))
    assert not Decision(()).passed


PRIVATE = GatePolicy(privacy=PrivacyRule(epsilon_at_most=8))


@pytest.mark.parametrize(
    ("epsilon", "passed"),
    [(8.0, True), (0.0, True), (8.000001, False), (-1.0, False), (math.inf, False)],
)
def test_a_private_run_may_spend_up_to_its_bound(epsilon: float, passed: bool) -> None:
    decision = decide(PRIVATE, reports(), {}, epsilon=epsilon, is_private=True)
    assert decision.passed is passed


@pytest.mark.parametrize("epsilon", [None, math.nan])
def test_an_unknown_epsilon_is_refused(epsilon: float | None) -> None:
    decision = decide(PRIVATE, reports(), {}, epsilon=epsilon, is_private=True)
    assert "unknown" in decision.checks[0].reason
    assert not decision.passed


@pytest.mark.parametrize("epsilon", [None, 0.1])
def test_a_plain_run_never_meets_a_bound_on_epsilon(epsilon: float | None) -> None:
    decision = decide(PRIVATE, reports(), {}, epsilon=epsilon, is_private=False)
    assert "infinite" in decision.checks[0].reason
    assert not decision.passed


def test_all_families_are_checked_in_the_policy_s_order() -> None:
    policy = GatePolicy(
        accuracy=Rule(metric="f1", at_least=0.5),
        bias=Rule(metric="bias", at_most=0.2),
        hallucination=Rule(metric="made_up", at_most=0.3),
        privacy=PrivacyRule(epsilon_at_most=8),
    )
    low = Estimate(0.1, 0.0, 0.15, 100, higher_is_better=False)
    seen = reports(
        TaskResult("accuracy", 1, "", 100, {"f1": f1(0.9)}),
        TaskResult("bias", 1, "", 100, {"bias": low}),
        TaskResult("hallucination", 1, "", 100, {"made_up": low}),
    )
    decision = decide(policy, seen, {}, epsilon=3.0, is_private=True)
    families = [check.family for check in decision.checks]
    assert families == ["accuracy", "bias", "hallucination", "privacy"]
    assert decision.passed
    worse: dict[str, Callable[[], Decision]] = {
        "no epsilon": lambda: decide(policy, seen, {}, epsilon=None, is_private=True),
        "no report": lambda: decide(policy, reports(), {}, epsilon=3.0, is_private=True),
    }
    assert not any(make().passed for make in worse.values())


def test_a_decision_is_json_without_nan() -> None:
    decision = decide(FLOOR, reports(), {}, epsilon=None, is_private=False)
    values = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    assert values["passed"] is False
    assert values["checks"][0]["low"] is None
    assert set(values["checks"][0]) == {*Check.__dataclass_fields__, "passed"}


@pytest.mark.parametrize(
    "values",
    [
        {"metric": "f1"},
        {"metric": "f1", "at_least": 0.5, "at_most": 0.4},
        {"metric": "f1", "not_worse_than_base_by": -0.1},
        {"metric": "f1", "at_least": math.nan},
        {"metric": "f1", "at_least": "0.5"},
        {"metric": "f1", "at_least": 0.5, "min_items": 0},
        {"metric": "f1", "atleast": 0.5},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate(values)


def test_a_rule_may_ask_for_one_exact_value() -> None:
    assert Rule(metric="share", at_least=0.5, at_most=0.5).at_least == 0.5


@pytest.mark.parametrize("epsilon", [0, -1, math.inf, "8"])
def test_a_privacy_bound_is_positive_and_finite(epsilon: object) -> None:
    with pytest.raises(ValidationError):
        PrivacyRule.model_validate({"epsilon_at_most": epsilon})


def test_a_policy_cannot_be_loosened_after_the_fact() -> None:
    rule = Rule(metric="f1", at_least=0.5)
    with pytest.raises(ValidationError):
        rule.at_least = 0.0  # type: ignore[misc]


@light
@given(low=unit, drop=unit, floor=unit)
def test_a_worse_score_never_turns_a_refusal_into_a_pass(
    low: float, drop: float, floor: float
) -> None:
    policy = GatePolicy(accuracy=Rule(metric="f1", at_least=floor))
    better, worse = report(f1=f1(low)), report(f1=f1(low - drop))
    assert passes(policy, better) or not passes(policy, worse)


@light
@given(high=unit, rise=unit, ceiling=unit)
def test_more_bias_never_turns_a_refusal_into_a_pass(
    high: float, rise: float, ceiling: float
) -> None:
    policy = GatePolicy(bias=Rule(metric="bias", at_most=ceiling))
    better = report("bias", bias=Estimate(high, 0.0, high, 100, False))
    worse = report("bias", bias=Estimate(high + rise, 0.0, high + rise, 100, False))
    assert passes(policy, better) or not passes(policy, worse)


@light
@given(low=st.floats(-1, 1), drop=unit, margin=unit, higher_is_better=st.booleans())
def test_a_worse_difference_never_turns_a_refusal_into_a_pass(
    low: float, drop: float, margin: float, higher_is_better: bool
) -> None:
    sign = 1 if higher_is_better else -1
    policy = GatePolicy(accuracy=Rule(metric="f1", not_worse_than_base_by=margin))
    seen = report(f1=Estimate(0.5, 0.5, 0.5, 100, higher_is_better))
    ends = sorted((sign * low, sign * 2.0))
    better = Difference(sign * low, ends[0], ends[1], 100, higher_is_better)
    ends = sorted((sign * (low - drop), sign * 2.0))
    worse = Difference(sign * (low - drop), ends[0], ends[1], 100, higher_is_better)
    assert passes(policy, seen, f1=better) or not passes(policy, seen, f1=worse)
    assert passes(policy, seen, f1=better) == (low >= -margin)


estimates = st.tuples(unit, unit, unit, st.integers(1, 60)).map(
    lambda t: Estimate(sorted(t[:3])[1], min(t[:3]), max(t[:3]), t[3])
)


@light
@given(
    seen=st.dictionaries(st.sampled_from(["f1", "em", "acc"]), estimates | st.just(NAN)), bound=unit
)
def test_removing_a_metric_never_opens_the_gate(seen: dict[str, Estimate], bound: float) -> None:
    policy = GatePolicy(accuracy=Rule(metric="f1", at_least=bound))
    whole = passes(policy, report(**seen))
    for gone in seen:
        rest = {name: estimate for name, estimate in seen.items() if name != gone}
        assert whole or not passes(policy, report(**rest))
    assert not passes(policy, report(**{k: v for k, v in seen.items() if k != "f1"}))


@light
@given(seen=estimates, bound=unit)
def test_only_a_sound_figure_above_the_floor_passes(seen: Estimate, bound: float) -> None:
    policy = GatePolicy(accuracy=Rule(metric="f1", at_least=bound))
    assert passes(policy, report(f1=seen)) == (seen.low >= bound and seen.n >= 20)


@light
@given(epsilon=st.floats(0, 20), more=st.floats(0, 20))
def test_spending_more_never_opens_the_gate(epsilon: float, more: float) -> None:
    less = decide(PRIVATE, reports(), {}, epsilon=epsilon, is_private=True)
    greater = decide(PRIVATE, reports(), {}, epsilon=epsilon + more, is_private=True)
    assert less.passed or not greater.passed


@light
@given(seen=estimates)
def test_another_rule_never_opens_the_gate(seen: Estimate) -> None:
    stricter = FLOOR.model_copy(update={"privacy": PrivacyRule(epsilon_at_most=8)})
    assert passes(FLOOR, report(f1=seen)) or not passes(stricter, report(f1=seen))
