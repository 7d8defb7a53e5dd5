from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from privacy.audit_power import power
from privacy.coin_guesses import SHARES, lower_bound, num_correct, p_value, rounds
from privacy.one_run import audit

# the survey's table: 95 %, delta 1e-5, r = m guesses of which a share is right
BOUNDS = {
    10: (1.052, 0.430, 0.0),
    50: (2.783, 1.393, 0.484),
    100: (3.490, 1.630, 0.702),
    300: (4.594, 1.873, 0.873),
    1000: (5.782, 2.021, 0.976),
}

# (m, r, v, epsilon, delta) and what `_one_run_p_value` of jax-privacy 2.0.0 gives
JAX_PRIVACY = [
    ((10, 10, 10, 1.0, 1e-5), 0.04364930712607135),
    ((100, 100, 90, 1.6, 1e-5), 0.03991030451353257),
    ((400, 80, 62, 0.5, 1e-5), 0.0030968889371563307),
    ((400, 80, 62, 2.0, 1e-5), 0.997662328078373),
    ((1000, 1000, 750, 0.9, 1e-6), 0.003271605976200217),
    ((1000, 1000, 750, 1.0, 1e-4), 0.09823159504845254),
    ((5000, 500, 450, 2.0, 1e-5), 0.10713155600560852),
    ((300, 150, 150, 3.0, 1e-5), 0.0012322460959376792),
    ((300, 150, 150, 3.0, 0.0), 0.0006836238379998582),
    ((50, 50, 25, 0.0, 1e-5), 0.5562455432263962),
    ((5000, 5000, 5000, 1.0, 1e-5), 6.985437258149038e-05),  # the best shift is 1,400 or so
    ((5000, 5000, 4500, 1.0, 1e-5), 0.00010795112637944446),
]


@pytest.mark.parametrize("m", BOUNDS)
def test_the_bounds_of_the_survey_come_out_to_their_digits(m: int) -> None:
    found = [lower_bound(m, m, math.floor(m * share + 1e-9), 1e-5) for share in (1.0, 0.9, 0.75)]
    assert found == pytest.approx(BOUNDS[m], abs=6e-4)


@pytest.mark.parametrize(("case", "expected"), JAX_PRIVACY)
def test_p_values_are_those_of_jax_privacy(
    case: tuple[int, int, int, float, float], expected: float
) -> None:
    assert p_value(*case) == pytest.approx(expected, rel=1e-12)


def exact_p_value(m: int, r: int, v: int, chance: Fraction, delta: Fraction) -> Fraction:
    """Theorem 5.2 of Steinke et al. 2023, word for word, in fractions."""

    def f(least: int) -> Fraction:
        ways = (
            math.comb(r, k) * chance**k * (1 - chance) ** (r - k)
            for k in range(max(0, least), r + 1)
        )
        return sum(ways, Fraction(0))

    gains = [(f(v - i) - f(v)) / i for i in range(1, v + 1)]
    return min(Fraction(1), f(v) + 2 * m * delta * max([Fraction(0), *gains]))


@given(r=st.integers(0, 8), more=st.integers(0, 4), share=st.floats(0, 1))
def test_the_p_value_is_the_theorem_in_exact_arithmetic(r: int, more: int, share: float) -> None:
    m, v = max(1, r + more), round(share * r)
    expected = exact_p_value(m, r, v, Fraction(3, 4), Fraction(1, 100))
    assert p_value(m, r, v, math.log(3), 0.01) == pytest.approx(float(expected), rel=1e-9)


cases = st.tuples(st.integers(2, 600), st.floats(0, 1), st.floats(0, 1))
epsilons = st.floats(0, 12)


def sizes(case: tuple[int, float, float]) -> tuple[int, int, int]:
    m, guessed, right = case
    r = round(guessed * m)
    return m, r, round(right * r)


@given(case=cases, a=epsilons, b=epsilons, delta=st.sampled_from([0.0, 1e-6, 1e-4, 0.0008]))
def test_a_larger_epsilon_is_never_refuted_sooner(
    case: tuple[int, float, float], a: float, b: float, delta: float
) -> None:
    m, r, v = sizes(case)
    low, high = sorted((a, b))
    assert p_value(m, r, v, low, delta) <= p_value(m, r, v, high, delta) + 1e-12


@given(case=cases, epsilon=epsilons)
def test_a_right_guess_more_and_a_smaller_delta_never_weaken_an_audit(
    case: tuple[int, float, float], epsilon: float
) -> None:
    m, r, v = sizes(case)
    p = p_value(m, r, v, epsilon, 1e-4)
    assert 0 <= p <= 1
    assert p_value(m, r, min(r, v + 1), epsilon, 1e-4) <= p + 1e-12
    assert p_value(m, r, v, epsilon, 1e-5) <= p


@pytest.mark.parametrize(
    "bad",
    [(10, 11, 5, 1.0, 0.0), (10, 5, 6, 1.0, 0.0), (10, 5, 5, -1.0, 0.0), (10, 5, 5, 1.0, 0.1)],
)
def test_impossible_arguments_are_refused(bad: tuple[int, int, int, float, float]) -> None:
    with pytest.raises(ValueError, match=r"wanted|must be"):
        p_value(*bad)


def gaussian_scores(
    rng: np.random.Generator, m: int, mu: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    is_in = rng.random(m) < 0.5
    return rng.normal(size=m) + mu * is_in, is_in


def best_bound(scores: NDArray[np.float64], is_in: NDArray[np.bool_], delta: float) -> float:
    """The bound of `audit`, without its power, which takes longer."""
    tried = rounds(len(scores))
    level = 0.05 / len(tried)
    return max(
        lower_bound(len(scores), r, num_correct(scores, is_in, r), delta, level) for r in tried
    )


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_bound_exceeds_the_truth_of_a_gaussian_mechanism_in_at_most_5_percent(
    epsilon: float,
) -> None:
    from dp_accounting import get_sigma_gaussian

    mu = 1 / get_sigma_gaussian(epsilon, 1e-5)
    rng = np.random.default_rng(5)
    wrong = [best_bound(*gaussian_scores(rng, 200, mu), 1e-5) > epsilon for _ in range(300)]
    assert np.mean(wrong) <= 0.05


def test_the_bound_is_valid_and_tight_for_randomised_response() -> None:
    """Each coin is told truly with chance e^eps / (1 + e^eps): the theorem's worst case."""
    rng = np.random.default_rng(5)
    chance, m = 1 / (1 + math.exp(-1.0)), 200
    over, over_by_rounds = [], []
    for _ in range(400):
        is_in = rng.random(m) < 0.5
        told = np.where(rng.random(m) < chance, is_in, ~is_in)
        scores = told + 0.1 * rng.random(m)
        over.append(lower_bound(m, m, int((told == is_in).sum()), 0.0) > 1.0)
        over_by_rounds.append(best_bound(scores, is_in, 0.0) > 1.0)
    assert 0.02 <= np.mean(over) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)
    assert np.mean(over_by_rounds) <= 0.05


# the survey's table of medians (40 simulations of each; ours has other draws)
MEDIANS = {(1, 1000): 0.18, (2, 400): 0.36, (4, 100): 0.54, (4, 400): 1.17, (8, 400): 2.24}


@pytest.mark.parametrize(("epsilon", "m"), MEDIANS)
def test_the_power_against_an_ideal_mechanism_is_that_of_the_survey(epsilon: int, m: int) -> None:
    found = power(m, 1e-5, float(epsilon), num_simulations=60)
    assert found.median == pytest.approx(MEDIANS[epsilon, m], abs=0.13)
    assert found.median is not None
    assert found.high is not None
    assert found.median <= found.high <= found.epsilon_at_most
    assert found.high < epsilon


def test_power_says_what_no_audit_of_this_size_could_refute() -> None:
    weak = power(400, 1e-5, 8.0, num_simulations=20)
    assert weak.epsilon_at_most == pytest.approx(lower_bound(400, 400, 400, 1e-5, 0.05 / 6))
    assert weak.epsilon_at_most < 8
    assert weak.refuting is None
    strong = power(400, 1e-5, 1.0, num_simulations=40)
    assert strong.refuting is not None
    assert 2 < strong.refuting < 6  # gross errors only
    assert strong.canaries_needed is not None
    fewer = strong.canaries_needed
    assert power(fewer, 1e-5, 1.0, num_simulations=2).epsilon_at_most > 1.0
    assert power(fewer - 4, 1e-5, 1.0, num_simulations=2).epsilon_at_most < 1.0
    assert power(50, 1e-5, None).median is None


@given(m=st.integers(2, 5000))
def test_no_canary_is_guessed_twice(m: int) -> None:
    tried = rounds(m)
    assert tried == tuple(sorted(set(tried)))
    assert all(r % 2 == 0 and 2 <= r <= m for r in tried)
    assert len(tried) <= len(SHARES)
    for r in tried:  # half of the guesses say in, so half are right if all are
        assert num_correct(np.zeros(m), np.ones(m, dtype=np.bool_), r) == r // 2


def test_an_audit_holds_all_that_its_bound_rests_on() -> None:
    scores, is_in = gaussian_scores(np.random.default_rng(0), 100, 9.0)
    found = audit(scores, is_in, delta=1e-5, epsilon=1.0, num_simulations=20)
    assert (found.num_canaries, found.confidence, found.delta) == (100, 0.95, 1e-5)
    assert [one.num_guesses for one in found.rounds] == list(rounds(100))
    best = max(one.epsilon_lower for one in found.rounds)
    assert found.epsilon_lower == best > 1.0
    chances = [one.p_value for one in found.rounds]
    assert found.p_value == pytest.approx(min(p for p in chances if p is not None) * 6)
    assert found.is_refuted
    assert found.power.epsilon_at_most >= found.epsilon_lower


def test_a_score_turned_upside_down_bounds_nothing() -> None:
    scores, is_in = gaussian_scores(np.random.default_rng(0), 100, 9.0)
    found = audit(-scores, is_in, delta=1e-5, epsilon=1.0, num_simulations=2)
    assert found.epsilon_lower == 0.0
    assert found.p_value == 1.0
    assert not found.is_refuted


def test_without_a_claim_there_is_no_p_value_and_still_the_best_case() -> None:
    scores, is_in = gaussian_scores(np.random.default_rng(0), 40, 9.0)
    found = audit(scores, is_in, delta=1e-5, epsilon=None)
    assert found.p_value is None
    assert not found.is_refuted
    assert found.power.epsilon_at_most > 0


@pytest.mark.parametrize(
    ("scores", "coins"), [([1.0, 2.0], [True]), ([1.0, math.nan], [True, False])]
)
def test_scores_without_coins_and_scores_that_are_no_numbers_are_refused(
    scores: list[float], coins: list[bool]
) -> None:
    with pytest.raises(ValueError, match=r"coin|finite"):
        audit(scores, coins, delta=1e-5, epsilon=None)
