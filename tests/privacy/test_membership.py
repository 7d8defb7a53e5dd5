from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from privacy import membership

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


@given(inside=scores, outside=scores)
def test_the_auc_is_scikit_learns_and_lies_in_its_interval(
    inside: list[float], outside: list[float]
) -> None:
    found = membership.auc(inside, outside)
    labels = [1] * len(inside) + [0] * len(outside)
    assert found.value == pytest.approx(roc_auc_score(labels, inside + outside))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high  # also where the two are told apart perfectly
    mirrored = membership.auc(outside, inside)
    assert mirrored.value == pytest.approx(1 - found.value)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-6)


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.5])
@pytest.mark.parametrize(("n", "m"), [(20, 20), (50, 200)])
def test_the_interval_of_an_auc_covers_the_truth_as_often_as_it_says(
    mu: float, n: int, m: int
) -> None:
    rng = np.random.default_rng(3)
    truth = norm.cdf(mu / math.sqrt(2))
    covers = []
    for _ in range(300):
        found = membership.auc(rng.normal(size=n) + mu, rng.normal(size=m))
        covers.append(found.low <= truth <= found.high)
    assert np.mean(covers) >= 0.95 - 2.6 * math.sqrt(0.05 * 0.95 / 300)


def test_the_standard_error_at_chance_is_that_of_the_survey() -> None:
    for n, error in ((100, 0.041), (250, 0.026), (500, 0.018), (1000, 0.013)):
        found = membership.auc([0.0] * n, [0.0] * n)
        # the interval inverts the test, so it is a little narrower than 1.96 errors each way
        assert (found.high - found.low) / 2 / 1.96 == pytest.approx(error, abs=1e-3)


def test_the_number_of_non_members_decides_which_rate_may_be_named() -> None:
    rng = np.random.default_rng(0)
    members = rng.normal(size=200) + 1
    assert membership.true_positives(members, rng.normal(size=99)) is None
    rates = {}
    for num in (100, 999, 1_000, 9_999, 10_000):
        found = membership.true_positives(members, rng.normal(size=num))
        assert found is not None
        assert found.low <= found.value <= found.high
        assert (
            found.false_positive_rate_low
            <= found.false_positive_rate
            <= found.false_positive_rate_high
        )
        rates[num] = found.false_positive_rate
    assert rates == {100: 0.05, 999: 0.05, 1_000: 0.01, 9_999: 0.01, 10_000: 0.001}
    for rate, num in ((0.001, 9_999), (0.01, 999), (0.02, 9_999)):
        with pytest.raises(ValueError, match=r"needs|must be one of"):
            membership.true_positives_at(members, rng.normal(size=num), rate)


def test_the_range_behind_a_false_positive_rate_is_that_of_the_survey() -> None:
    found = membership.true_positives([1.0], np.arange(1000.0))
    assert found is not None
    low, high = found.false_positive_rate_low, found.false_positive_rate_high
    assert (low, high) == pytest.approx((0.0048, 0.018), abs=5e-4)


@given(inside=scores, outside=st.lists(st.integers(-5, 5).map(float), min_size=100, max_size=120))
def test_no_more_non_members_than_the_rate_allows_lie_above_the_threshold(
    inside: list[float], outside: list[float]
) -> None:
    found = membership.true_positives_at(inside, outside, 0.05)
    allowed = math.floor(0.05 * len(outside) + 1e-9)
    best = max(
        sum(score > threshold for score in inside)
        for threshold in {*outside}
        if sum(score > threshold for score in outside) <= allowed
    )
    assert found.value == pytest.approx(best / len(inside))


def test_min_k_is_the_mean_of_the_least_likely_fifth() -> None:
    tokens = [-0.1, -5.0, -0.2, -3.0, -0.3, -0.1, -0.1, -0.1, -0.1, -0.1]
    assert membership.min_k(tokens) == pytest.approx(-4.0)
    assert membership.min_k([-2.0]) == membership.loss([-2.0]) == -2.0
    assert membership.loss(tokens) == pytest.approx(-0.91)
    for of_nothing in (membership.loss, membership.min_k):
        with pytest.raises(ValueError, match="no loss"):
            of_nothing([])


def test_exposure_is_capped_by_the_number_of_alternatives() -> None:
    found = membership.exposure([10.0, 9.0, 0.0], np.arange(1.0, 8.0))
    assert (found.median, found.largest, found.cap) == (3.0, 3.0, 3.0)
    assert membership.exposure([0.0], np.arange(1.0, 8.0)).largest == 0.0  # the last of eight
    assert membership.exposure([1.0], [1.0] * 7).largest == 0.0  # a tie exposes nothing


@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf]])
def test_no_figure_is_made_of_nothing(bad: list[float]) -> None:
    for measure in (membership.auc, membership.exposure):
        with pytest.raises(ValueError, match=r"no score|no finite"):
            measure(bad, [1.0])
        with pytest.raises(ValueError, match=r"no score|no finite"):
            measure([1.0], bad)
