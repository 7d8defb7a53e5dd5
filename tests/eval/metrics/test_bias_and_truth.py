"""BBQ, stereotype pairs, counterfactual pairs and truthful choice."""

from __future__ import annotations

import math

import pytest

from eval.errors import EvaluationError
from eval.metrics.bbq import BbqAnswer, bbq_scores, biased_choice
from eval.metrics.counterfactual import excess_over_noise, flip_rate, mean_absolute_gap
from eval.metrics.stereotype import (
    likelihood_gap,
    prefers_stereotype,
    stereotype_preference,
    stereotype_share,
)
from eval.metrics.truthful import mc1, mc2

BIASED, OTHER, UNKNOWN = 0, 1, 2


def ambiguous(chosen: int) -> BbqAnswer:
    return BbqAnswer(True, chosen, answer=UNKNOWN, biased=BIASED, unknown=UNKNOWN)


def disambiguated(chosen: int, answer: int) -> BbqAnswer:
    return BbqAnswer(False, chosen, answer=answer, biased=BIASED, unknown=UNKNOWN)


def test_bbq_by_hand() -> None:
    answers = [ambiguous(c) for c in (BIASED, BIASED, BIASED, OTHER, UNKNOWN)]
    answers += [
        disambiguated(BIASED, BIASED),
        disambiguated(BIASED, OTHER),
        disambiguated(OTHER, OTHER),
        disambiguated(BIASED, BIASED),
        disambiguated(UNKNOWN, BIASED),
    ]
    seen = bbq_scores(answers)
    assert seen.accuracy_ambiguous == pytest.approx(0.2)
    assert seen.accuracy_disambiguated == pytest.approx(0.6)
    assert seen.bias_ambiguous == pytest.approx(0.8 * (2 * 3 / 4 - 1))
    assert seen.bias_disambiguated == pytest.approx(2 * 3 / 4 - 1)


def test_a_model_that_always_errs_against_the_stereotype_has_a_negative_bias() -> None:
    assert bbq_scores([ambiguous(OTHER)] * 3).bias_ambiguous == -1.0


def test_bias_is_undefined_where_nobody_was_named() -> None:
    seen = bbq_scores([ambiguous(UNKNOWN)] * 3 + [disambiguated(UNKNOWN, OTHER)])
    assert (seen.accuracy_ambiguous, seen.accuracy_disambiguated) == (1.0, 0.0)
    assert math.isnan(seen.bias_ambiguous)
    assert math.isnan(seen.bias_disambiguated)


def test_a_condition_without_items_is_undefined() -> None:
    seen = bbq_scores([ambiguous(OTHER)])
    assert math.isnan(seen.accuracy_disambiguated)
    assert math.isnan(seen.bias_disambiguated)
    with pytest.raises(EvaluationError, match="at least one"):
        bbq_scores([])


def test_the_biased_choice_depends_on_what_is_asked() -> None:
    assert biased_choice(is_negative=True, target=1, unknown=0) == 1
    assert biased_choice(is_negative=False, target=1, unknown=0) == 2
    with pytest.raises(ValueError, match="no single"):
        biased_choice(is_negative=False, target=1, unknown=1)
    with pytest.raises(ValueError, match="no single"):
        biased_choice(is_negative=False, target=1, unknown=0, num_choices=4)


def test_stereotype_figures_by_hand() -> None:
    more, less = [-1.0, -2.0, -3.0, -4.0], [-2.0, -1.0, -3.0, -6.0]
    assert stereotype_share(more, less) == 2.5 / 4
    assert stereotype_preference(more, less) == pytest.approx(0.25)
    assert stereotype_preference(less, more) == pytest.approx(0.25)  # either way
    assert likelihood_gap(more, less) == 1.0


def test_a_missing_likelihood_is_not_a_preference() -> None:
    assert math.isnan(prefers_stereotype(math.nan, -1.0))
    assert math.isnan(stereotype_share([math.nan, 0.0], [0.0, 0.0]))


def test_counterfactual_figures_by_hand() -> None:
    assert flip_rate(["a", "b", "a"], ["a", "a", "a"]) == pytest.approx(1 / 3)
    assert mean_absolute_gap([0.5, 0.75], [0.75, 0.25]) == 0.375
    assert excess_over_noise([1, 0, 1, 0], [0, 0, 0, 1, 0]) == pytest.approx(0.3)
    assert excess_over_noise([0.0], [0.5]) == -0.5
    assert math.isnan(mean_absolute_gap([math.nan], [0.0]))


@pytest.mark.parametrize(("observed", "noise"), [([], [1.0]), ([1.0], [])])
def test_an_excess_needs_both_sides(observed: list[float], noise: list[float]) -> None:
    with pytest.raises(EvaluationError, match="at least one"):
        excess_over_noise(observed, noise)


def test_truthful_choice_by_hand() -> None:
    ll = [math.log(p) for p in (0.2, 0.5, 0.3)]
    assert mc1(ll, [False, True, False]) == 1.0
    assert mc1(ll, [True, False, False]) == 0.0
    assert mc2(ll, [True, False, True]) == pytest.approx(0.5)
    assert mc2([x - 1000 for x in ll], [True, False, True]) == pytest.approx(0.5)


def test_a_tie_counts_against_the_model() -> None:
    assert mc1([-1.0, -1.0], [True, False]) == 0.0


@pytest.mark.parametrize("ll", [[math.nan, -1.0], [-1.0, math.nan]])
def test_a_missing_likelihood_is_undefined(ll: list[float]) -> None:
    assert math.isnan(mc1(ll, [True, False]))
    assert math.isnan(mc2(ll, [True, False]))


def test_impossible_choices_have_no_share() -> None:
    assert math.isnan(mc2([-math.inf, -math.inf], [True, False]))
    assert mc2([-math.inf, 0.0], [True, False]) == 0.0


@pytest.mark.parametrize("is_true", [[True, True], [False, False]])
def test_a_choice_needs_true_and_false_answers(is_true: list[bool]) -> None:
    with pytest.raises(EvaluationError, match="true and false"):
        mc1([0.0, 0.0], is_true)
