"""The promise of an abstention rule is kept as often as it says, whatever the distribution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.abstention import abstention_rule
from eval.errors import EvaluationError

Array = NDArray[np.float64]


def falling(c: Array) -> Array:
    """The surer, the fewer errors: crosses 10 % among answers well inside."""
    return 0.25 * (1 - c)


def at_the_limit(c: Array) -> Array:
    """Every threshold has an error rate just above the promise: any rule at all breaks it."""
    return np.full_like(c, 0.101)


def surest_are_worst(c: Array) -> Array:
    """Overconfidence at the top, which a search from the top must not be led by."""
    return np.where(c > 0.9, 0.3, 0.05)


def in_waves(c: Array) -> Array:
    """The error rate is no monotone function of the threshold."""
    return 0.1 + 0.1 * np.sin(40 * c)


@pytest.mark.parametrize("errors", [falling, at_the_limit, surest_are_worst, in_waves])
@pytest.mark.parametrize("num_values", [None, 12], ids=["continuous", "ties"])
def test_the_rate_is_kept_as_often_as_promised(
    errors: Callable[[Array], Array], num_values: int | None
) -> None:
    rng = np.random.default_rng(7)
    scale = np.linspace(0, 1, 4001) if num_values is None else np.linspace(0, 1, num_values)
    rates = errors(scale)
    num_draws, num_broken = 400, 0
    for _ in range(num_draws):
        drawn = rng.integers(len(scale), size=300)
        correct = rng.uniform(size=300) >= rates[drawn]
        try:
            rule = abstention_rule(scale[drawn], list(correct), error_rate=0.1, confidence=0.9)
        except EvaluationError:
            continue  # no label is given, so none is wrong
        answered = scale >= rule.threshold
        num_broken += bool(rates[answered].mean() > 0.1)
    # at most a tenth, and three standard errors of 400 draws
    assert num_broken / num_draws <= 0.1 + 3 * (0.1 * 0.9 / num_draws) ** 0.5


def test_a_good_classifier_answers_nearly_all() -> None:
    rng = np.random.default_rng(1)
    confidences = rng.uniform(size=3000)
    correct = rng.uniform(size=3000) >= 0.08 * (1 - confidences)
    rule = abstention_rule(confidences, list(correct), error_rate=0.05)
    assert rule.num_answered / 3000 > 0.85
    assert rule.num_wrong / rule.num_answered < rule.upper_bound <= 0.05


def test_without_errors_everything_is_answered() -> None:
    rule = abstention_rule([0.5] * 100, [True] * 100, error_rate=0.05)
    assert (rule.num_answered, rule.threshold) == (100, -np.inf)


def test_equal_confidences_are_answered_together_or_not_at_all() -> None:
    confidences = [0.9] * 150 + [0.8] * 150
    correct = [True] * 150 + [True, False] * 75
    rule = abstention_rule(confidences, correct, error_rate=0.05)
    assert (rule.num_answered, rule.num_wrong) == (150, 0)
    assert 0.8 < rule.threshold <= 0.9


def test_the_order_of_the_items_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    confidences = np.round(rng.uniform(size=500), 2)
    correct = rng.uniform(size=500) >= 0.1 * (1 - confidences)
    one = abstention_rule(confidences, list(correct), error_rate=0.08)
    order = rng.permutation(500)
    assert abstention_rule(confidences[order], list(correct[order]), error_rate=0.08) == one


def test_too_few_items_are_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(EvaluationError, match="58 evaluated items, which are too few: 59 without"):
        abstention_rule([0.9] * 58, [True] * 58, error_rate=0.05)
    abstention_rule([0.9] * 59, [True] * 59, error_rate=0.05)


def test_a_rate_that_nothing_keeps_is_refused_with_the_lowest_bound() -> None:
    with pytest.raises(EvaluationError, match=r"the lowest upper bound is 0\.\d+, among the \d+"):
        abstention_rule([i / 200 for i in range(200)], [False, True] * 100, error_rate=0.05)


@pytest.mark.parametrize(
    ("confidences", "correct"), [([], []), ([0.5], [True, False]), ([float("nan")] * 9, [True] * 9)]
)
def test_what_is_no_sample_is_refused(confidences: list[float], correct: list[bool]) -> None:
    with pytest.raises(EvaluationError):
        abstention_rule(confidences, correct, error_rate=0.05)


@pytest.mark.parametrize("rate", [0.0, 1.0, float("nan")])
def test_a_rate_outside_of_0_and_1_is_a_mistake_of_the_caller(rate: float) -> None:
    with pytest.raises(ValueError, match="error_rate"):
        abstention_rule([0.5], [True], error_rate=rate)
