from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from eval.gate import (
    Check,
    Decision,
    Facts,
    GatePolicy,
    Override,
    PrivacyRule,
    Rule,
    decide,
)
from eval.policy import BudgetRule, EqualRule, name_of
from eval.shares import adjusted_wald, clopper_pearson, items_to_settle
from eval.stats import Difference, mean_of, paired_difference
from eval.task import Estimate, Family, Metric, Report, Sample, Target, TaskResult

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


def refused(policy: GatePolicy, seen: Report, **differences: Difference | str) -> str:
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


def test_a_margin_without_a_difference_says_what_to_do() -> None:
    said = "the difference to the base was not measured on the same items; evaluate the base"
    assert refused(MARGIN, report(f1=f1(0.9))) == said
    why = refused(MARGIN, report(f1=f1(0.9)), f1="other items")
    assert why == "the difference to the base was not measured on the same items: other items"


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
    assert "the report has no accuracy task" in refused(FLOOR, reports())


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


def decided(
    policy: GatePolicy, seen: Report, facts: Facts | None = None, **differences: Difference
) -> Decision:
    return decide(policy, seen, differences, epsilon=None, is_private=False, facts=facts or Facts())


@pytest.mark.parametrize(
    ("value", "low", "outcome"),
    [(0.6, 0.5, "PASS"), (0.6, 0.49, "UNDECIDED"), (0.5, 0.4, "UNDECIDED"), (0.49, 0.4, "FAIL")],
)
def test_a_check_is_undecided_where_the_value_is_good_and_the_pessimistic_end_is_not(
    value: float, low: float, outcome: str
) -> None:
    decision = decided(FLOOR, report(f1=Estimate(value, low, 1.0, n=100)))
    assert (decision.outcome, decision.passed) == (outcome, outcome == "PASS")
    mirrored = Estimate(1 - value, 0.0, 1 - low, 100, higher_is_better=False)
    ceiling = GatePolicy(bias=Rule(metric="bias", at_most=0.5))
    assert decided(ceiling, report("bias", bias=mirrored)).outcome == outcome


@pytest.mark.parametrize(
    ("value", "low", "outcome"),
    [(0.1, 0.01, "PASS"), (0.1, 0.0, "UNDECIDED"), (0.0, -0.1, "FAIL"), (-0.1, -0.2, "FAIL")],
)
def test_better_means_beyond_the_margin_and_not_at_it(
    value: float, low: float, outcome: str
) -> None:
    policy = GatePolicy(accuracy=Rule(metric="f1", better_than_base_by=0.0))
    assert decided(policy, report(f1=f1(0.5)), f1=Difference(value, low, 0.3, 100)).outcome == (
        outcome
    )
    seen = report(f1=Estimate(0.5, 0.4, 0.6, 100, higher_is_better=False))
    mirrored = Difference(-value, -0.3, -low, 100, higher_is_better=False)
    assert decided(policy, seen, f1=mirrored).outcome == outcome


def test_a_failed_check_outweighs_an_undecided_one() -> None:
    policy = GatePolicy(accuracy=(Rule(metric="f1", at_least=0.5), Rule(metric="em", at_least=0.5)))
    seen = report(f1=Estimate(0.6, 0.4, 0.7, 100), em=Estimate(0.4, 0.3, 0.5, 100))
    decision = decided(policy, seen)
    assert [check.outcome for check in decision.checks] == ["UNDECIDED", "FAIL"]
    assert decision.outcome == "FAIL"


def test_what_cannot_be_judged_is_a_failure_and_never_undecided() -> None:
    few = report(f1=Estimate(0.6, 0.4, 0.7, n=19))
    for seen in (few, report(f1=NAN), report(em=f1(0.9))):
        (check,) = decided(FLOOR, seen).checks
        assert (check.outcome, check.items_needed, check.overridable) == ("FAIL", None, False)


RELEASE = GatePolicy(
    accuracy=Rule(metric="f1", release="../old/march", not_worse_than_release_by=0.02)
)


def test_an_earlier_release_takes_the_base_s_place_and_is_named_without_its_path() -> None:
    good, bad = Difference(0.0, -0.02, 0.1, 100), Difference(-0.1, -0.2, 0.0, 100)
    for difference, outcome in ((good, "PASS"), (bad, "FAIL")):
        facts = Facts(releases={"../old/march": {"task0/f1": difference}})
        decision = decided(RELEASE, report(f1=f1(0.5)), facts, f1=good)
        (check,) = decision.checks
        assert (check.outcome, check.compared_with) == (outcome, "the release march")
        assert check.name == "accuracy/f1/not_worse_than_release_by/march"
        assert "old" not in json.dumps(decision.to_json())


def test_an_earlier_release_that_was_not_compared_fails_with_the_reason() -> None:
    (check,) = decided(RELEASE, report(f1=f1(1.0)), f1=Difference(0.5, 0.5, 0.6, 100)).checks
    assert check.outcome == "FAIL"
    facts = Facts(releases={"../old/march": {"task0/f1": "it was asked on other data"}})
    (check,) = decided(RELEASE, report(f1=f1(1.0)), facts).checks
    assert "same items: it was asked on other data" in check.reason


@pytest.mark.parametrize(
    ("size", "seconds", "outcomes"),
    [
        (300_000_000, 0.5, ["PASS", "PASS"]),
        (300_000_001, 0.501, ["FAIL", "FAIL"]),
        (None, 0.0, ["FAIL", "FAIL"]),
        (0, math.nan, ["FAIL", "FAIL"]),
        (1, -1.0, ["PASS", "FAIL"]),
        (1, None, ["PASS", "FAIL"]),
    ],
)
def test_a_budget_holds_size_and_time_and_fails_where_none_was_recorded(
    size: int | None, seconds: float | None, outcomes: list[str]
) -> None:
    budget = BudgetRule(size_gb_at_most=0.3, seconds_per_item_at_most=0.5)
    facts = Facts(size_bytes=size, seconds_per_item=seconds)
    decision = decided(GatePolicy(budget=budget), report(f1=f1(0.5)), facts)
    assert [check.outcome for check in decision.checks] == outcomes


def test_a_budget_of_one_thing_asks_nothing_of_the_other_and_time_must_have_been_measured() -> None:
    seen = report(f1=f1(0.5))
    for rule, name in (
        (BudgetRule(size_gb_at_most=1.0), "budget/size_gb_at_most"),
        (BudgetRule(seconds_per_item_at_most=1.0), "budget/seconds_per_item_at_most"),
    ):
        facts = Facts(size_bytes=1, seconds_per_item=0.5)
        (check,) = decided(GatePolicy(budget=rule), seen, facts).checks
        assert (check.name, check.passed) == (name, True)
    # the report's own seconds leave out what an earlier process or a cache had answered
    quick = replace(seen, num_seconds=1e-9)
    (check,) = decided(
        GatePolicy(budget=BudgetRule(seconds_per_item_at_most=1.0)), quick, Facts()
    ).checks
    assert (check.passed, "in one go" in check.reason) == (False, True)


def test_evidence_that_nobody_found_fails_and_of_a_merge_is_asked_once_there_is_one() -> None:
    policy = GatePolicy(evidence=("privacy_self_test", "merge_proof", "merged/x.json:a"))
    (check,) = decided(policy, report(f1=f1(0.5)), Facts()).checks
    assert (check.name, check.passed) == ("evidence/privacy_self_test", False)
    merged = Report(Target("merged", "sha256:0"), {})
    found = {"privacy_self_test": "", "merge_proof": "the proof is of another", "x": ""}
    checks = decided(policy, merged, Facts(evidence=found)).checks
    assert [check.passed for check in checks] == [True, False, False]
    assert checks[1].reason == "the proof is of another"


def test_a_digest_must_be_exactly_the_one_that_is_asked_for() -> None:
    a, b = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    policy = GatePolicy(equal=EqualRule(base=a, tasks={"qa": b}))
    same = {"base": a, "tasks.qa": b}
    assert decided(policy, reports(), Facts(digests=same)).passed
    for wrong in ({"base": a}, {"base": a, "tasks.qa": a}, {"base": a[:-1], "tasks.qa": b}, {}):
        assert not decided(policy, reports(), Facts(digests=wrong)).passed
    reasons = [
        check.reason for check in decided(policy, reports(), Facts(digests={"base": b})).checks
    ]
    assert reasons == [f"it is {b}, and {a} is asked for", "nothing of this name was found"]


@pytest.mark.parametrize(
    "values",
    [
        {"accuracy": {"metric": "f1", "not_worse_than_release_by": 0.1}},
        {"accuracy": {"metric": "f1", "at_least": 0.1, "release": "march"}},
        {"accuracy": {"metric": "f1", "better_than_base_by": -0.1}},
        {"accuracy": [{"metric": "f1", "at_least": 0.1}, {"metric": "f1", "at_least": 0.2}]},
        {"privacy": {"epsilon_at_most": 8, "overridable": True}},
        {"equal": {"base": "sha256:" + "a" * 64, "overridable": True}},
        {"equal": {"base": "sha256:abc"}},
        {"budget": {}},
        {"evidence": ["merge_prof"]},
        {"evidence": ["../other/record.json"]},
        {"evidence": ["/etc/x.json"]},
        {"approval": {"keys": []}},
        {"approval": {"keys": ["a.pub"], "at_least": 2}},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GatePolicy.model_validate(values)


def override_of(check: Check) -> Override:
    return Override(check.name, "A. Lovelace", "agreed with the owner", "QA-12", "2999-01-01")


def test_an_override_opens_the_rule_that_allows_it_and_shows_first() -> None:
    policy = GatePolicy(accuracy=Rule(metric="f1", at_least=0.5, overridable=True))
    seen = report(f1=Estimate(0.4, 0.3, 0.5, n=100))
    (check,) = decided(policy, seen).checks
    decision = decide(
        policy, seen, {}, epsilon=None, is_private=False, overrides=[override_of(check)]
    )
    assert (decision.outcome, decision.passed) == ("PASS BY OVERRIDE", True)
    assert [check.outcome for check in decision.checks] == ["FAIL"], "what was measured stays"
    values = decision.to_json()
    assert next(iter(values)) == "overrides"
    assert Decision.from_json(json.loads(json.dumps(values))) == decision


rules = st.builds(
    Rule,
    metric=st.sampled_from(["f1", "gone"]),
    at_least=st.floats(0, 1),
    not_worse_than_base_by=st.none() | st.floats(0, 1),
    min_items=st.sampled_from([1, 50]),
    overridable=st.booleans(),
)


@light
@given(rule=rules, value=unit, is_private=st.booleans(), has_proof=st.booleans())
def test_an_override_never_opens_what_is_not_overridable(
    rule: Rule, value: float, is_private: bool, has_proof: bool
) -> None:
    policy = GatePolicy(
        accuracy=rule,
        privacy=PrivacyRule(epsilon_at_most=1),
        evidence=("privacy_self_test",),
        equal=EqualRule(base="sha256:" + "a" * 64),
    )
    digests = {"base": "sha256:" + ("a" if has_proof else "b") * 64}
    facts = Facts(evidence={"privacy_self_test": "" if has_proof else "gone"}, digests=digests)
    seen = report(f1=Estimate(value, value / 2, 1.0, n=40))

    def made(overrides: list[Override]) -> Decision:
        return decide(
            policy, seen, {}, epsilon=0.5, is_private=is_private, facts=facts, overrides=overrides
        )

    checks = made([]).checks
    decision = made([override_of(check) for check in checks])
    closed = [check for check in checks if not check.passed and not check.overridable]
    assert decision.passed == (not closed)
    assert all(check.family == "accuracy" for check in checks if check.overridable)
    assert rule.overridable or not any(check.overridable for check in checks)


def test_an_override_written_into_the_file_of_an_integrity_rule_opens_nothing() -> None:
    policy = GatePolicy(evidence=("privacy_self_test",))
    decision = decided(policy, report(f1=f1(0.5)))
    values = decision.to_json()
    values["checks"][0]["overridable"] = True
    values["overrides"] = [vars(override_of(decision.checks[0]))]
    assert Decision.from_json(values).outcome == "FAIL"


def test_a_decision_of_the_first_form_can_be_read() -> None:
    old = {"family": "accuracy", "metric": "f1", "rule": "f1 at least 0.5", "bound": 0.5}
    old |= {"value": None, "low": None, "high": None, "n": 0, "reason": "undefined"}
    for passed, outcome in ((True, "PASS"), (False, "FAIL")):
        decision = Decision.from_json({"passed": passed, "checks": [old | {"passed": passed}]})
        assert decision.outcome == outcome
        assert math.isnan(decision.checks[0].low)
        assert not decision.checks[0].overridable  # what never said so is not


CORRECT = Metric("f1", mean_of("correct"), higher_is_better=True)


def answers(right: list[float]) -> list[Sample]:
    return [Sample(str(i), "", "", {"correct": one}) for i, one in enumerate(right)]


@pytest.mark.parametrize(
    ("margin", "outcome"),
    [(0.05, "PASS"), (0.0126, "PASS"), (0.01, "UNDECIDED"), (0.0, "UNDECIDED")],
)
def test_no_item_that_differs_is_held_at_the_rule_of_three_and_not_at_nothing(
    margin: float, outcome: str
) -> None:
    """0 of 240 discordant pairs (notes, section 7): the bound is 1.25 points, and not 0."""
    same = answers([1.0] * 100 + [0.0] * 140)
    difference = paired_difference(CORRECT, same, same)
    assert (difference.value, round(difference.low, 4)) == (0.0, -0.0124)
    policy = GatePolicy(accuracy=Rule(metric="f1", not_worse_than_base_by=margin))
    (check,) = decided(policy, report(f1=f1(0.4)), f1=difference).checks
    assert check.outcome == outcome
    if margin == 0.01:  # 1 - 0.05^(1/299) = 0.00997
        assert check.items_needed == 299 - 240
    if margin == 0.0:
        assert check.items_needed is None
        assert "no number of items" in check.reason


def test_the_items_said_to_settle_it_do_so_four_times_in_five() -> None:
    """A share of 0.62 against a floor of 0.55, seen on 100 items; drawn anew on n + more items."""
    low, _ = clopper_pearson(62, 100)
    seen = Estimate(0.62, low, 1.0, n=100)
    policy = GatePolicy(accuracy=Rule(metric="f1", at_least=0.55))
    (check,) = decided(policy, report(f1=seen)).checks
    assert check.outcome == "UNDECIDED"
    assert check.items_needed is not None
    n = 100 + check.items_needed
    rng = np.random.default_rng(0)
    passed = [clopper_pearson(k, n)[0] >= 0.55 for k in rng.binomial(n, 0.62, size=2000).tolist()]
    assert 0.75 < np.mean(passed) < 0.87  # 0.8 is meant; the spread of 2,000 draws is 0.009
    fewer = [
        clopper_pearson(k, n // 2)[0] >= 0.55
        for k in rng.binomial(n // 2, 0.62, size=2000).tolist()
    ]
    assert np.mean(fewer) < 0.65, "half of them would not do"


def test_the_items_said_to_settle_a_difference_do_so_four_times_in_five() -> None:
    """A true loss of 1 point where 10 % of items differ, and a margin of 4 points."""
    lost, won = ([0.0] * 22 + [1.0] * 378), ([1.0] * 22 + [0.0] * 18 + [1.0] * 360)
    seen = paired_difference(CORRECT, answers(lost), answers(won))
    assert seen.value == pytest.approx(-0.01)
    policy = GatePolicy(accuracy=Rule(metric="f1", not_worse_than_base_by=0.04))
    (check,) = decided(policy, report(f1=f1(0.4)), f1=seen).checks
    assert check.outcome == "UNDECIDED"
    assert check.items_needed is not None
    n = 400 + check.items_needed
    counts = np.random.default_rng(1).multinomial(n, [0.045, 0.055, 0.9], size=2000).tolist()
    found = [adjusted_wald(won, lost, n, 0.05)[0] >= -0.04 for won, lost, _ in counts]
    assert 0.75 < np.mean(found) < 0.87  # the spread of 2,000 draws is 0.009


@light
@given(value=st.floats(0.51, 1), below=st.floats(0.001, 0.5), n=st.integers(20, 5000), room=unit)
def test_more_items_are_needed_for_a_wider_interval_and_for_less_room(
    value: float, below: float, n: int, room: float
) -> None:
    few = items_to_settle(value, 0.5 - below, 0.5, n)
    wider = items_to_settle(value, 0.5 - below - 0.1, 0.5, n)
    nearer = items_to_settle(value, 0.5 - below, 0.5 + room * (value - 0.5) * 0.9, n)
    assert few is not None
    assert wider is not None
    assert nearer is not None
    assert 1 <= few <= wider
    assert few <= nearer


three_ends = st.tuples(unit, unit, unit).map(sorted)


@light
@given(ends=three_ends, drop=unit, bound=unit, higher_is_better=st.booleans(), margin=unit)
def test_a_worse_figure_never_gets_a_better_outcome(
    ends: list[float], drop: float, bound: float, higher_is_better: bool, margin: float
) -> None:
    """FAIL < UNDECIDED < PASS, for every kind of rule on a figure."""
    rank = {"FAIL": 0, "UNDECIDED": 1, "PASS": 2}
    sign = -1 if higher_is_better else 1
    key = "at_least" if higher_is_better else "at_most"
    bounds = {key: bound, "not_worse_than_base_by": margin, "better_than_base_by": margin}
    policy = GatePolicy(accuracy=Rule.model_validate({"metric": "f1", **bounds}))

    def outcomes(shift: float) -> list[int]:
        low, value, high = (end + sign * shift for end in ends)
        seen = report(f1=Estimate(value, low, high, 100, higher_is_better))
        difference = Difference(value - 0.5, low - 0.5, high - 0.5, 100, higher_is_better)
        return [rank[c.outcome] for c in decided(policy, seen, f1=difference).checks]

    assert all(b <= a for a, b in zip(outcomes(0.0), outcomes(drop), strict=True))


def test_a_bound_is_named_after_its_place_in_the_recipe() -> None:
    rule = Rule(metric="qa/f1", at_least=0.5, better_than_base_by=0.1)
    assert [name_of("accuracy", rule, key) for key, _ in rule.bounds()] == [
        "accuracy/qa/f1/at_least",
        "accuracy/qa/f1/better_than_base_by",
    ]
