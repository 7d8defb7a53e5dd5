"""A lower bound on epsilon from one training run, and what a bound of that size can show at all.

Steinke, Nasr and Jagielski 2023 (arXiv:2305.08846). Before training, a fair coin decides for each
of m canaries whether it is trained on. Afterwards somebody guesses r of the coins from the model.
Under (epsilon, 0)-DP the number of right guesses is stochastically below a binomial one with
chance e^epsilon / (1 + e^epsilon), whatever the attack; so many right guesses refute an epsilon,
and few of them refute nothing. A bound is therefore never given without its power here.

How many coins are guessed is fixed in :func:`rounds` before anything is seen; the best of the
rounds is taken, and paid for by Bonferroni's correction.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
"""Of the canaries, how many are guessed to be in, and as many to be out, round by round. A strong
leak shows best when all are guessed, a weak one at the two ends."""

CONFIDENCE = 0.95

_TOLERANCE = 1e-6  # of a bound on epsilon
_LARGEST_EPSILON = 64.0  # all of 1e25 coins would have to be guessed right
_SHIFTS_AT_ONCE = 128


@dataclass(frozen=True)
class Round:
    """Some coins guessed, and what follows from that alone, before the correction is paid."""

    num_guesses: int
    """r: half of them the canaries with the highest scores, guessed to be in."""

    num_correct: int
    """v."""

    epsilon_lower: float
    """Bound of this round, at the corrected level."""

    p_value: float | None
    """At the claimed epsilon, uncorrected; None where none is claimed."""


@dataclass(frozen=True)
class Power:
    """What an audit of this size could have shown; the scale on which its bound is to be read."""

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


@dataclass(frozen=True)
class OneRun:
    """A one-run audit: the bound, what it rests on, and its power."""

    num_canaries: int
    num_guesses: int
    num_correct: int
    """Of the round with the highest bound, or, where all bounds are 0, the lowest p-value."""

    epsilon_lower: float
    """Epsilon is at least this, at this delta, with this confidence."""

    confidence: float
    delta: float
    epsilon_claimed: float | None
    p_value: float | None
    """Chance of so many right guesses, or more, if the claim were true; corrected for the rounds.
    A large one is no evidence for the claim."""

    rounds: tuple[Round, ...]
    power: Power

    @property
    def is_refuted(self) -> bool:
        """Whether the claimed epsilon cannot be true, at this confidence."""
        return self.p_value is not None and self.p_value <= 1 - self.confidence


def p_value(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """Bound the chance of at least v right among r guesses under (epsilon, delta)-DP.

    Theorem 5.2 of Steinke et al. 2023: with f(v) = P[Bin(r, e^epsilon / (1 + e^epsilon)) >= v],
    the chance is at most f(v) + 2 m delta max_i (f(v - i) - f(v)) / i over i from 1 to v. In
    words: delta buys a shift by i right guesses with a total chance of 2 m delta / i.

    It never falls when epsilon grows: with c = 2 m delta at most 1, it is the maximum over i of
    (1 - c / i) f(v) + (c / i) f(v - i), and f grows with epsilon.

    Args:
        m: canaries whose coins were tossed.
        r: coins guessed.
        v: right guesses.
        epsilon: of the claim under test, 0 or more.
        delta: of that claim.

    Raises:
        ValueError: unless 0 <= v <= r <= m, epsilon >= 0 and 0 <= 2 m delta <= 1.

    Example:
        >>> round(p_value(m=100, r=100, v=90, epsilon=1.63, delta=1e-5), 3)
        0.05
    """
    from scipy.special import expit
    from scipy.stats import binom

    if not 0 <= v <= r <= m:
        raise ValueError(f"wanted 0 <= v <= r <= m, got v={v}, r={r}, m={m}")
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be 0 or more, got {epsilon!r}")
    if not (delta >= 0 and 2 * m * delta <= 1):
        raise ValueError(f"delta must be between 0 and 1 / (2 m) = {0.5 / m:g}, got {delta!r}")
    chance = float(expit(epsilon))
    f_v = float(binom.sf(v - 1, r, chance))
    gain = 0.0
    for start in range(1, v + 1, _SHIFTS_AT_ONCE):
        if gain >= (1 - f_v) / start:  # which no later shift can exceed
            break
        shifts = np.arange(start, min(v + 1, start + _SHIFTS_AT_ONCE))
        gains = (binom.sf(v - shifts - 1, r, chance) - f_v) / shifts
        gain = max(gain, float(np.max(gains)))
    return min(1.0, f_v + 2 * m * delta * gain)


@functools.lru_cache(maxsize=65536)
def lower_bound(m: int, r: int, v: int, delta: float, level: float = 1 - CONFIDENCE) -> float:
    """Give the largest epsilon that v right guesses of r refute.

    Args:
        m: canaries.
        r: guesses, their number fixed before the model was seen.
        v: right ones.
        delta: at which epsilon is stated.
        level: chance that the bound is above the truth.

    Returns:
        Epsilon, to 1e-6; 0 where nothing is refuted.
    """
    from scipy.optimize import brentq

    if p_value(m, r, v, 0.0, delta) > level:
        return 0.0
    low, high = 0.0, 1.0
    while p_value(m, r, v, high, delta) <= level:
        if high >= _LARGEST_EPSILON:
            return high
        low, high = high, 2 * high
    return float(
        brentq(lambda epsilon: p_value(m, r, v, epsilon, delta) - level, low, high, xtol=_TOLERANCE)
    )


def rounds(m: int) -> tuple[int, ...]:
    """Give the numbers of guesses that are tried with m canaries, each even, ascending.

    Raises:
        ValueError: if there are fewer than two canaries.
    """
    if m < 2:
        raise ValueError(f"an audit needs at least two canaries, got {m}")
    return tuple(sorted({2 * min(max(1, round(share * m)), m // 2) for share in SHARES}))


def num_correct(scores: NDArray[np.float64], is_in: NDArray[np.bool_], r: int) -> int:
    """Count the right guesses when the r / 2 highest scores are guessed in, the lowest out.

    Ties are broken by position, which knows nothing of the coins.
    """
    order = np.argsort(-scores, kind="stable")
    half = r // 2
    return int(is_in[order[:half]].sum() + (~is_in[order[len(order) - half :]]).sum())


def audit(
    scores: ArrayLike,
    is_in: ArrayLike,
    *,
    delta: float,
    epsilon: float | None,
    confidence: float = CONFIDENCE,
    num_simulations: int = 200,
) -> OneRun:
    """Bound epsilon from below by the scores of canaries whose coins are known.

    Args:
        scores: one a canary, higher where it looks trained on; a statistic chosen beforehand.
        is_in: the coins, one a canary, independent and fair.
        delta: at which epsilon is claimed, or looked for.
        epsilon: the claim; None where there is none, as for a plain run.
        confidence: of the bound.
        num_simulations: of the ideal mechanism, for the power.

    Raises:
        ValueError: if scores and coins differ in number, or a score is no finite number.
    """
    values, coins = np.asarray(scores, dtype=np.float64), np.asarray(is_in, dtype=np.bool_)
    if values.shape != coins.shape or values.ndim != 1:
        raise ValueError(f"wanted one coin a score, got {values.shape} and {coins.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a score is no finite number")
    m, tried = len(values), rounds(len(values))
    level = (1 - confidence) / len(tried)
    found = []
    for r in tried:
        v = num_correct(values, coins, r)
        bound = lower_bound(m, r, v, delta, level)
        p = None if epsilon is None else p_value(m, r, v, epsilon, delta)
        found.append(Round(r, v, bound, p))
    # where no round shows anything, the one that comes nearest to it
    chances = [p_value(m, one.num_guesses, one.num_correct, 0.0, delta) for one in found]
    _, _, best = max(
        zip((one.epsilon_lower for one in found), (-p for p in chances), found, strict=True),
        key=lambda three: three[:2],
    )
    return OneRun(
        num_canaries=m,
        num_guesses=best.num_guesses,
        num_correct=best.num_correct,
        epsilon_lower=best.epsilon_lower,
        confidence=confidence,
        delta=delta,
        epsilon_claimed=epsilon,
        p_value=_corrected([one.p_value for one in found]),
        rounds=tuple(found),
        power=power(m, delta, epsilon, confidence=confidence, num_simulations=num_simulations),
    )


def _corrected(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return min(1.0, min(known) * len(known)) if known else None


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
    while true_epsilon < _LARGEST_EPSILON:
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
