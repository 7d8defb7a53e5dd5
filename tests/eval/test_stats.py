from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from eval.errors import EvaluationError
from eval.resampling import DistanceFrom, exchange_test
from eval.stats import (
    Difference,
    clopper_pearson,
    estimate,
    holm,
    mcnemar_exact,
    mean_of,
    paired_difference,
    smallest_detectable_difference,
)
from eval.task import Metric, Sample

light = settings(max_examples=25, deadline=None)
scores = st.lists(st.floats(-5, 5), min_size=1, max_size=12)


def samples_of(values: Sequence[float], clusters: Sequence[str] | None = None) -> list[Sample]:
    return [
        Sample(
            id=str(i),
            prediction="",
            target="",
            scores={"score": value},
            cluster=clusters[i] if clusters else None,
        )
        for i, value in enumerate(values)
    ]


def slow_mean(samples: Sequence[Sample]) -> float:
    return float(np.mean([s.scores["score"] for s in samples]))


MEAN = Metric("mean", mean_of("score"), higher_is_better=True)
SLOW_MEAN = Metric("slow mean", slow_mean, higher_is_better=True)


def test_a_share_has_the_exact_interval() -> None:
    seen = estimate(MEAN, samples_of([1.0] * 13 + [0.0] * 7))
    wanted = binomtest(13, 20).proportion_ci(0.95, method="exact")
    assert seen.value == 0.65
    assert (seen.low, seen.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert seen.n == 20


@pytest.mark.parametrize("k", [0, 1, 39, 40])
def test_clopper_pearson_agrees_with_scipy(k: int) -> None:
    wanted = binomtest(k, 40).proportion_ci(0.9, method="exact")
    assert clopper_pearson(k, 40, 0.9) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_no_event_in_forty_items_does_not_mean_never() -> None:
    seen = estimate(MEAN, samples_of([0.0] * 40))
    assert (seen.value, seen.low) == (0.0, 0.0)
    assert seen.high == pytest.approx(0.0881, abs=1e-4)  # 1 - 0.025 ** (1 / 40)


@light
@given(value=st.sampled_from([0.0, 0.25, 1.0, -0.5, 3.5]), n=st.integers(1, 60))
def test_equal_scores_never_give_a_zero_wide_interval(value: float, n: int) -> None:
    for metric in (MEAN, SLOW_MEAN):
        seen = estimate(metric, samples_of([value] * n), num_resamples=20)
        assert seen.low <= seen.value <= seen.high
        assert seen.high - seen.low > 0.02


@pytest.mark.parametrize(
    ("value", "ends"),
    [
        (0.0, (0, 1)),
        (0.25, (0, 1)),
        (1.0, (0, 1)),
        (-0.5, (-1, 1)),
        (-1.0, (-1, 1)),
        (3.0, (0, 6)),
        (-3.0, (-6, 0)),
    ],
)
def test_equal_scores_are_widened_towards_the_ends_of_the_range(
    value: float, ends: tuple[float, float]
) -> None:
    share = 1 - 0.025 ** (1 / 40)
    seen = estimate(SLOW_MEAN, samples_of([value] * 40), num_resamples=1)
    wanted = (value - share * (value - ends[0]), value + share * (ends[1] - value))
    assert (seen.low, seen.high) == pytest.approx(wanted)


def test_equal_clusters_are_widened_by_the_number_of_clusters() -> None:
    clusters = [c for c in "abcd" for _ in range(25)]
    seen = estimate(MEAN, samples_of([1.0] * 100, clusters))
    assert seen.low == pytest.approx(0.025 ** (1 / 4))  # four clusters, not a hundred items


@light
@given(values=scores, seed=st.integers(0, 9))
def test_the_interval_contains_the_value_and_is_reproducible(
    values: list[float], seed: int
) -> None:
    samples = samples_of(values)
    seen = estimate(MEAN, samples, seed=seed, num_resamples=40)
    assert seen.low <= seen.value <= seen.high
    assert seen == estimate(MEAN, samples, seed=seed, num_resamples=40)


def test_the_fast_road_of_a_mean_draws_the_same_bootstrap_as_the_slow_one() -> None:
    values = np.random.default_rng(0).normal(size=50).tolist()
    clusters = [str(i % 13) for i in range(50)]
    fast = estimate(MEAN, samples_of(values, clusters), num_resamples=200)
    slow = estimate(SLOW_MEAN, samples_of(values, clusters), num_resamples=200)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high))


def test_the_bootstrap_agrees_with_the_normal_interval_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(size=400)
    seen = estimate(MEAN, samples_of(values.tolist()), num_resamples=2000)
    half = 1.96 * values.std() / 20
    assert seen.value == pytest.approx(values.mean())
    # 2.5 % quantile of 2,000 draws: its own error is about 6 % of the half width
    assert (seen.value - seen.low, seen.high - seen.value) == pytest.approx((half, half), rel=0.15)


def test_clusters_widen_the_interval() -> None:
    values = [float(i % 2) for i in range(20) for _ in range(10)]  # 20 documents, all or nothing
    clusters = [str(i) for i in range(20) for _ in range(10)]
    apart = estimate(MEAN, samples_of(values))
    together = estimate(MEAN, samples_of(values, clusters))
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_one_event_more_never_lowers_the_upper_end() -> None:
    clusters = [str(i // 2) for i in range(80)]
    highs = [
        estimate(MEAN, samples_of([1.0] * k + [0.0] * (80 - k), clusters)).high for k in range(6)
    ]
    assert highs == sorted(highs)


def test_a_sample_without_a_cluster_is_its_own() -> None:
    mixed = [
        Sample(str(i), "", "", {"score": 0.0}, cluster="a" if i < 10 else None) for i in range(20)
    ]
    assert estimate(MEAN, mixed).high == pytest.approx(1 - 0.025 ** (1 / 11))


def test_a_mean_among_some_counts_only_them() -> None:
    samples = [Sample(str(i), "", "", {"right": 1.0, "answerable": i % 2}) for i in range(20)]
    metric = Metric("right", mean_of("right", among="answerable"), higher_is_better=True)
    seen = estimate(metric, samples)
    assert (seen.value, seen.n) == (1.0, 10)
    assert seen.low == pytest.approx(clopper_pearson(10, 10)[0])


def test_a_mean_among_none_is_undefined() -> None:
    samples = [Sample("1", "", "", {"right": 1.0, "answerable": 0.0})]
    metric = Metric("right", mean_of("right", among="answerable"), higher_is_better=True)
    assert math.isnan(estimate(metric, samples).value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_undefined_score_makes_the_estimate_undefined(value: float) -> None:
    seen = estimate(MEAN, samples_of([1.0, value, 0.0]))
    assert all(map(math.isnan, (seen.value, seen.low, seen.high)))
    assert seen.n == 3


def first_ones(samples: Sequence[Sample]) -> float:
    """Is undefined without sample 0, which a resample lacks with probability 1/e."""
    if not any(s.id == "0" for s in samples):
        raise EvaluationError("no sample 0")
    return float(len(samples))


def test_too_many_undefined_resamples_make_the_estimate_undefined() -> None:
    seen = estimate(Metric("m", first_ones, None), samples_of([0.0] * 30), num_resamples=200)
    assert math.isnan(seen.value)


def test_a_few_undefined_resamples_are_left_out() -> None:
    def spread(samples: Sequence[Sample]) -> float:  # undefined on 3 % of the resamples
        values = [s.scores["score"] for s in samples]
        return math.nan if len(set(values)) == 1 else float(np.mean(values))

    seen = estimate(Metric("m", spread, True), samples_of([0.0, 1.0, 0.0, 1.0, 0.5]))
    assert 0 < seen.low < seen.value < seen.high < 1


def test_a_failure_on_all_samples_is_not_hidden() -> None:
    with pytest.raises(EvaluationError, match="no sample 0"):
        estimate(Metric("m", first_ones, None), [Sample("9", "", "", {})])


def test_nothing_to_estimate_from_is_refused() -> None:
    with pytest.raises(EvaluationError, match="at least one item"):
        estimate(MEAN, [])


def test_a_missing_score_names_the_item() -> None:
    with pytest.raises(EvaluationError, match=r"item '7' has no score 'score'; it has f1"):
        estimate(MEAN, [Sample("7", "", "", {"f1": 1.0})])


def test_a_slow_metric_on_many_items_is_resampled_less() -> None:
    calls = 0

    def counted(samples: Sequence[Sample]) -> float:
        nonlocal calls
        calls += 1
        return float(len(samples))

    estimate(Metric("m", counted, None), samples_of([0.0] * 2001))
    assert calls == 301
    calls = 0
    estimate(Metric("m", counted, None), samples_of([0.0] * 2000), num_resamples=400)
    assert calls == 401


@pytest.mark.parametrize(
    "setting", [{"num_resamples": 0}, {"confidence": 1.0}, {"confidence": 0.0}]
)
def test_impossible_settings_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="num_resamples"):
        estimate(MEAN, samples_of([1.0]), **setting)
    with pytest.raises(ValueError, match="num_resamples"):
        paired_difference(MEAN, samples_of([1.0]), samples_of([1.0]), **setting)


def test_the_order_of_the_second_does_not_matter() -> None:
    first, second = samples_of([1, 0, 0.5, 0.25]), samples_of([0, 0, 0.5, 1])
    forward = paired_difference(MEAN, first, second)
    assert forward == paired_difference(MEAN, first, second[::-1])
    assert forward.value == pytest.approx(0.0625)


def test_without_a_discordant_pair_the_rule_of_three_holds() -> None:
    same = samples_of([1.0] * 200 + [0.0] * 40)
    seen = paired_difference(MEAN, same, same)
    assert (seen.value, seen.p_value, seen.better) == (0.0, 1.0, "undecided")
    assert seen.high == -seen.low == pytest.approx(3 / 240, rel=0.01)


@pytest.mark.parametrize("metric", [MEAN, SLOW_MEAN])
def test_equal_models_never_give_a_zero_wide_difference(metric: Metric) -> None:
    same = samples_of([0.5, 0.25, 0.75] * 10)
    seen = paired_difference(metric, same, same)
    assert seen.low < 0 < seen.high
    assert seen.p_value == 1.0


def test_a_difference_among_some_counts_only_them() -> None:
    samples = [Sample(str(i), "", "", {"right": 1.0, "answerable": i % 2}) for i in range(20)]
    metric = Metric("right", mean_of("right", among="answerable"), higher_is_better=True)
    seen = paired_difference(metric, samples, samples)
    assert (seen.value, seen.n) == (0.0, 10)
    assert seen.high == pytest.approx(1 - 0.05**0.1)  # ten pairs, without a discordant one


def test_a_difference_among_different_items_counts_those_in_both() -> None:
    first = [Sample(str(i), "", "", {"right": 1.0, "in": i < 8}) for i in range(20)]
    second = [Sample(str(i), "", "", {"right": 1.0, "in": i >= 4}) for i in range(20)]
    metric = Metric("right", mean_of("right", among="in"), higher_is_better=True)
    assert paired_difference(metric, first, second).n == 4


def test_one_more_win_never_lowers_the_interval() -> None:
    ends = []
    for wins in range(5):
        first, second = samples_of([1.0] * wins + [0.0] * (60 - wins)), samples_of([0.0] * 60)
        seen = paired_difference(MEAN, first, second)
        assert seen.low <= seen.value <= seen.high
        ends.append((seen.low, seen.high))
    assert ends == sorted(ends)
    assert ends[1][0] < 0  # one lucky item in sixty is no proof of being no worse


def test_one_lucky_item_among_equal_answers_is_no_proof() -> None:
    first, second = samples_of([0.3] + [0.5] * 59), samples_of([0.0] + [0.5] * 59)
    for metric in (MEAN, SLOW_MEAN):
        seen = paired_difference(metric, first, second)
        assert seen.low < -0.03  # three in sixty may be losses, as without the lucky item
        assert seen.better == "undecided"


def exact_coverage(n: int, p_win: float, p_loss: float) -> float:
    """Chance that the interval of n 0/1 pairs holds the truth, summed over all outcomes."""
    coverage = 0.0
    for discordant in range(n + 1):
        p_discordant = binom.pmf(discordant, n, p_win + p_loss)
        if p_discordant < 1e-6:
            continue
        for wins in range(discordant + 1):
            losses = discordant - wins
            first = samples_of([1.0] * wins + [0.0] * (n - wins))
            second = samples_of([0.0] * wins + [1.0] * losses + [0.0] * (n - discordant))
            seen = paired_difference(MEAN, first, second)
            if seen.low <= p_win - p_loss <= seen.high:
                p_wins = binom.pmf(wins, discordant, p_win / (p_win + p_loss))
                coverage += float(p_discordant * p_wins)
    return coverage


@pytest.mark.parametrize(("p_win", "p_loss"), [(0.02, 0.02), (0.1, 0.02), (0.0, 0.08)])
def test_the_interval_of_paired_shares_covers_what_it_says(p_win: float, p_loss: float) -> None:
    assert exact_coverage(40, p_win, p_loss) > 0.94  # 95 % nominal, adjusted Wald is approximate


def test_pairing_is_worth_it() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=100)
    first, second = (
        samples_of((hard + 0.1).tolist()),
        samples_of((hard + rng.normal(0, 0.05, 100)).tolist()),
    )
    seen = paired_difference(MEAN, first, second)
    assert seen.better == "first"
    assert seen.high - seen.low < 0.05
    assert seen.p_value < 0.01


def test_a_cluster_is_drawn_for_both_models_together() -> None:
    clusters = [str(i // 10) for i in range(200)]
    first = samples_of([float(i // 10 % 2) for i in range(200)], clusters)
    second = samples_of([0.0] * 200, clusters)
    apart = paired_difference(
        MEAN, samples_of([s.scores["score"] for s in first]), samples_of([0.0] * 200)
    )
    together = paired_difference(MEAN, first, second)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_a_single_pair_proves_nothing() -> None:
    seen = paired_difference(MEAN, samples_of([0.9]), samples_of([0.1]))
    assert (seen.better, seen.p_value) == ("undecided", 1.0)


@light
@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=10))
def test_swapping_the_models_swaps_the_sign(pairs: list[tuple[float, float]]) -> None:
    first, second = samples_of([a for a, _ in pairs]), samples_of([b for _, b in pairs])
    forward = paired_difference(MEAN, first, second, num_resamples=60)
    backward = paired_difference(MEAN, second, first, num_resamples=60)
    assert forward.value == pytest.approx(-backward.value)
    assert forward.low == pytest.approx(-backward.high, abs=1e-9)
    assert forward.p_value == pytest.approx(backward.p_value)


def test_different_items_cannot_be_paired() -> None:
    with pytest.raises(EvaluationError, match="2 of 3 items are only in the first and 0 of 1"):
        paired_difference(MEAN, samples_of([1, 1, 1]), samples_of([1]))
    with pytest.raises(EvaluationError, match="1 item ids occur more than once"):
        paired_difference(MEAN, samples_of([1]) * 2, samples_of([1]))
    with pytest.raises(EvaluationError, match="at least one pair"):
        paired_difference(MEAN, [], [])
    with pytest.raises(EvaluationError, match="0 of 0 items are only in the first and 1 of 1"):
        paired_difference(MEAN, [], samples_of([1]))


def test_an_undefined_side_makes_the_difference_undefined() -> None:
    seen = paired_difference(MEAN, samples_of([math.nan, 1]), samples_of([0, 1]))
    assert math.isnan(seen.value)
    assert seen.better == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "better"),
    [
        (0.1, 0.3, True, "first"),
        (0.1, 0.3, False, "second"),
        (-0.3, -0.1, True, "second"),
        (-0.3, -0.1, False, "first"),
        (-0.1, 0.1, True, "undecided"),
        (0.0, 0.1, True, "undecided"),
        (-0.1, 0.0, True, "undecided"),
        (0.1, 0.3, None, "undecided"),
        (math.nan, math.nan, True, "undecided"),
    ],
)
def test_better_needs_the_whole_interval(
    low: float, high: float, higher_is_better: bool | None, better: str
) -> None:
    assert Difference(low, low, high, 10, higher_is_better).better == better


@light
@given(wins=st.integers(0, 40), losses=st.integers(0, 40))
def test_mcnemar_is_the_binomial_test(wins: int, losses: int) -> None:
    wanted = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar_exact(wins, losses) == pytest.approx(wanted)


def test_holm_never_lowers_a_p_value_and_keeps_the_order() -> None:
    assert holm([0.02, 0.001, 0.5, 0.02]) == pytest.approx([0.06, 0.004, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.0, 1.0]) == [0.0, 1.0]


def test_holm_refuses_what_is_no_p_value() -> None:
    with pytest.raises(EvaluationError, match="p-values"):
        holm([0.1, math.nan])


def test_four_times_the_items_show_half_the_difference() -> None:
    few, many = (smallest_detectable_difference(0.3, n) for n in (100, 400))
    assert few == pytest.approx(2 * many)
    assert few == pytest.approx((1.959964 + 0.841621) * 0.03, abs=1e-6)


@pytest.mark.parametrize(
    "design",
    [{"n": 0}, {"spread": -0.1}, {"confidence": 1}, {"confidence": 0}, {"power": 1}, {"power": 0}],
)
def test_an_impossible_design_is_refused(design: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        smallest_detectable_difference(**{"spread": 0.3, "n": 10, **design})  # type: ignore[arg-type]
    assert smallest_detectable_difference(0.0, 1) == 0.0


@light
@given(
    pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=10),
    seed=st.integers(0, 9),
)
def test_the_order_of_the_items_changes_nothing(
    pairs: list[tuple[float, float]], seed: int
) -> None:
    clusters = [str(i // 2) for i in range(len(pairs))]
    first = samples_of([a for a, _ in pairs], clusters)
    second = samples_of([b for _, b in pairs], clusters)
    order = np.random.default_rng(seed).permutation(len(pairs))
    for metric in (MEAN, SLOW_MEAN):
        shuffled = [first[i] for i in order]
        assert estimate(metric, first, num_resamples=40) == estimate(
            metric, shuffled, num_resamples=40
        )
        assert paired_difference(metric, first, second, num_resamples=40) == paired_difference(
            metric, shuffled, second, num_resamples=40
        )


@light
@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=12), smaller=st.floats(0, 1))
def test_holm_is_monotone(p_values: list[float], smaller: float) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    lowered = holm([p_values[0] * smaller, *p_values[1:]])
    assert all(b <= a for a, b in zip(adjusted, lowered, strict=True))  # evidence never hurts


def test_few_clusters_have_the_interval_of_student() -> None:
    values = np.random.default_rng(3).normal(size=10)
    seen = estimate(MEAN, samples_of(values.tolist()), num_resamples=4000)
    half = 2.262 * values.std(ddof=1) / 10**0.5  # t with 9 degrees of freedom
    assert (seen.high - seen.low) / 2 == pytest.approx(half, rel=0.1)


def test_the_exchange_test_is_mcnemar_s_for_a_share() -> None:
    first, second = samples_of([1.0] * 9 + [0.0] * 31), samples_of([0.0] * 9 + [1.0] * 2 + [0] * 29)
    seen = paired_difference(SLOW_MEAN, first, second, num_resamples=2000)
    assert seen.p_value == pytest.approx(mcnemar_exact(9, 2), abs=0.02)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    shift=st.floats(0, 0.6),
    num_resamples=st.sampled_from([19, 20, 99, 100, 399, 1000]),
    alpha=st.sampled_from([0.05, 0.1, 1 - 0.95]),
)
def test_exchanges_reach_the_difference_exactly_where_the_test_does_not_reject_it(
    seed: int, shift: float, num_resamples: int, alpha: float
) -> None:
    rng = np.random.default_rng(seed)
    first, second = (samples_of(rng.normal(x, 1, size=40).tolist()) for x in (shift, 0.0))
    observed = abs(slow_mean(first) - slow_mean(second))
    for metric in (MEAN, SLOW_MEAN):
        seen = exchange_test(
            metric,
            first,
            second,
            np.arange(40),
            seed=seed,
            num_resamples=num_resamples,
            alpha=alpha,
        )
        assert (seen.reach < observed) == (seen.p_value <= alpha)


@pytest.mark.parametrize("ideal", [0.0, 0.3])
def test_interval_and_p_value_of_a_folded_figure_tell_one_story(ideal: float) -> None:
    """Percentiles alone hold zero in some of these where the test rejects it."""
    distance = Metric("distance", DistanceFrom(mean_of("score"), ideal=ideal), False)
    num_rejected = 0
    for seed in range(100):
        rng = np.random.default_rng([seed, 4])
        first, second = (samples_of(rng.normal(0.5, 1, size=60).tolist()) for _ in range(2))
        seen = paired_difference(distance, first, second, seed=seed, num_resamples=200)
        assert seen.p_value is not None
        assert (seen.low > 0 or seen.high < 0) == (seen.p_value <= 0.05)
        assert seen.low <= seen.value <= seen.high
        num_rejected += seen.p_value <= 0.05
    assert num_rejected > 0


def test_a_large_difference_has_a_p_value_that_survives_a_correction_for_forty() -> None:
    first, second = samples_of([0.9, 0.8] * 40), samples_of([0.1, 0.3] * 40)
    seen = paired_difference(MEAN, first, second)
    assert holm([seen.p_value] * 40)[0] < 0.05


def test_a_distance_is_folded_with_its_interval() -> None:
    distance = Metric("distance", DistanceFrom(mean_of("score"), ideal=0.5, scale=2), False)
    signed = estimate(MEAN, samples_of([1.0] * 30 + [0.0] * 10))
    seen = estimate(distance, samples_of([1.0] * 30 + [0.0] * 10))
    ends = [2 * abs(x - 0.5) for x in (signed.low, signed.value, signed.high)]
    assert [seen.low, seen.value, seen.high] == pytest.approx(ends)
    assert seen.higher_is_better is False
    even = estimate(distance, samples_of([1.0, 0.0] * 20))
    assert (even.low, even.value) == (0.0, 0.0)
    assert even.high > 0.2
    assert math.isnan(estimate(distance, samples_of([math.nan, 1.0])).low)
