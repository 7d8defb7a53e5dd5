"""What right guesses of secret coins say about epsilon.

Steinke, Nasr and Jagielski 2023 (arXiv:2305.08846). A fair coin decides for each of m canaries
whether it is trained on. Afterwards somebody guesses r of the coins from the model. Under
(epsilon, 0)-DP the number of right guesses is stochastically below a binomial one with chance
e^epsilon / (1 + e^epsilon), whatever the attack: so many right guesses refute an epsilon.
"""

import functools

import numpy as np
from numpy.typing import NDArray

SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
"""Of the canaries, how many are guessed to be in, and as many to be out, round by round. A strong
leak shows best when all are guessed, a weak one at the two ends."""

CONFIDENCE = 0.95

LARGEST_EPSILON = 64.0
"""No bound is looked for above it: 1e25 coins would have to be guessed right."""

_TOLERANCE = 1e-6  # of a bound on epsilon
_SHIFTS_AT_ONCE = 128


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
        if high >= LARGEST_EPSILON:
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
