"""What an audit by canaries could have shown: the scale on which its bound is to be read.

A small bound says nothing by itself. A few hundred canaries find gross errors and no more: where a
mechanism truly spends epsilon 4, 400 canaries and the best possible attack show about 1.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from privacy.coin_guesses import (
    CONFIDENCE,
    LARGEST_EPSILON,
    lower_bound,
    num_correct,
    p_value,
    rounds,
)


@dataclass(frozen=True)
class Power:
    """The power of an audit of one size, for one claim."""

    epsilon_at_most: float
    """The bound if every guess had been right: no audit of this size can show more."""

    epsilon: float | None
    """Of the ideal mechanism that the next two figures are for: the claimed one."""

    median: float | None
    """The bound that half of all audits of this size stay below when a Gaussian mechanism spends
    exactly the claimed epsilon and the attack is the best there is."""

    high: float | None
    """The same for 95 % of them."""

    refuting: float | None
    """A true epsilon at which half of all audits of this size would refute the claim, to a step of
    a tenth; None where no true epsilon would do."""

    canaries_needed: int | None
    """With fewer canaries not even a perfect attack could refute the claim."""

    num_simulations: int


def power(
    m: int,
    delta: float,
    epsilon: float | None,
    *,
    confidence: float = CONFIDENCE,
    num_simulations: int = 200,
) -> Power:
    """Say what an audit of m canaries could show, whatever it has shown.

    The ideal case is a Gaussian mechanism that spends exactly an epsilon, attacked by its own
    likelihood ratio: a canary's score is a standard normal, and mu higher if it is in, with mu
    from the analytic Gaussian mechanism (Balle and Wang 2018, arXiv:1805.06530). The simulations
    are drawn from a fixed seed: they are public.

    Args:
        m: canaries.
        delta: of the claim.
        epsilon: of the claim; without it only the best case is given.
        confidence: of the bounds.
        num_simulations: of the ideal mechanism.
    """
    tried = rounds(m)
    level = (1 - confidence) / len(tried)
    at_most = max(lower_bound(m, r, r, delta, level) for r in tried)
    if epsilon is None:
        return Power(at_most, None, None, None, None, None, 0)
    bounds = [
        max(lower_bound(m, r, v, delta, level) for r, v in zip(tried, counts, strict=True))
        for counts in _simulated(m, delta, epsilon, tried, num_simulations)
    ]
    return Power(
        epsilon_at_most=at_most,
        epsilon=epsilon,
        median=float(np.median(bounds)),
        high=float(np.quantile(bounds, 0.95)),
        refuting=_refuting(m, delta, epsilon, tried, level, num_simulations),
        canaries_needed=_canaries_needed(epsilon, delta, level),
        num_simulations=num_simulations,
    )


def _simulated(
    m: int, delta: float, epsilon: float, tried: Sequence[int], num_simulations: int
) -> list[list[int]]:
    """Return the right guesses of each round in simulated audits of an ideal mechanism."""
    from dp_accounting import get_sigma_gaussian

    mu = 1 / get_sigma_gaussian(epsilon, delta)
    rng = np.random.default_rng(m)
    found = []
    for _ in range(num_simulations):
        is_in = rng.random(m) < 0.5
        scores = rng.normal(size=m) + mu * is_in
        found.append([num_correct(scores, is_in, r) for r in tried])
    return found


def _refuting(
    m: int,
    delta: float,
    epsilon: float,
    tried: Sequence[int],
    level: float,
    num_simulations: int,
) -> float | None:
    """Return a true epsilon at which half of the audits refute the claim, in steps of a tenth."""
    enough = [_fewest_refuting(m, r, delta, epsilon, level) for r in tried]
    if all(v is None for v in enough):
        return None
    true_epsilon = epsilon
    while true_epsilon < LARGEST_EPSILON:
        audits = _simulated(m, delta, true_epsilon, tried, num_simulations)
        num_refuting = sum(
            any(need is not None and v >= need for v, need in zip(counts, enough, strict=True))
            for counts in audits
        )
        if 2 * num_refuting >= num_simulations:
            return true_epsilon
        true_epsilon *= 1.1
    return None


def _fewest_refuting(m: int, r: int, delta: float, epsilon: float, level: float) -> int | None:
    """Return how many right guesses of r refute a claim, or None if not even all of them do."""
    if p_value(m, r, r, epsilon, delta) > level:
        return None
    low, high = 0, r  # the p-value falls with v
    while low < high:
        middle = (low + high) // 2
        if p_value(m, r, middle, epsilon, delta) <= level:
            high = middle
        else:
            low = middle + 1
    return high


def _canaries_needed(epsilon: float, delta: float, level: float) -> int | None:
    """Return how many canaries a perfect attack needs to refute a claim, to two digits upwards.

    None where delta allows no such number.
    """
    # without delta, chance^m <= level
    least = math.log(level) / -math.log1p(math.exp(-epsilon)) if epsilon < 30 else math.inf
    if not math.isfinite(least):
        return None
    m = max(2, math.ceil(abs(least)))
    while 2 * m * delta <= 1:
        if p_value(m, m, m, epsilon, delta) <= level:
            digits = max(0, len(str(m)) - 2)
            return int(math.ceil(m / 10**digits) * 10**digits)
        m = math.ceil(m * 1.02)
    return None
