"""Intervals and tests that have a closed form: for shares, paired shares, and many at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr, betaincinv, ndtri

from eval.errors import EvaluationError


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper and Pearson 1934).

    Example:
        >>> low, high = clopper_pearson(0, 40)
        >>> low, round(high, 4)
        (0.0, 0.0881)
    """
    tail = (1 - confidence) / 2
    low = betaincinv(successes, n - successes + 1, tail) if successes > 0 else 0.0
    high = betaincinv(successes + 1, n - successes, 1 - tail) if successes < n else 1.0
    return float(low), float(high)


def mcnemar_exact(wins: int, losses: int) -> float:
    """Return the two-sided p-value of McNemar's test, from the binomial law itself.

    Only items that exactly one of the two models got right count. Without any, it is 1.

    Example:
        >>> round(mcnemar_exact(wins=1, losses=5), 5)
        0.21875
    """
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def adjusted_wald(wins: int, losses: int, n: int, alpha: float) -> tuple[float, float]:
    """Bonett and Price 2012, J. Educational and Behavioral Statistics 37(4): 479-488."""
    won, lost = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = float(ndtri(1 - alpha / 2)) * math.sqrt((won + lost - (won - lost) ** 2) / (n + 2))
    return max(-1.0, won - lost - half), min(1.0, won - lost + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for looking at several at once (Holm 1979), in the order given.

    Raises:
        EvaluationError: if one is not in [0, 1]; NaN is a comparison that was never made.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise EvaluationError(f"p-values must lie in 0..1, got {list(p_values)}")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def smallest_detectable_difference(
    spread: float, n: int, *, confidence: float = 0.95, power: float = 0.8
) -> float:
    """Return the smallest true difference that n paired items show with this power.

    By the normal approximation, ``(z_{1-alpha/2} + z_power) * spread / sqrt(n)``.

    Args:
        spread: standard deviation of the per-item differences; for 0/1 scores about the root of
            the share of items on which the two models disagree.
        n: number of items.
        confidence: of the interval that is to exclude zero.
        power: chance that it does.

    Example:
        >>> round(smallest_detectable_difference(spread=0.1**0.5, n=400), 3)
        0.044
    """
    if not (spread >= 0 and n >= 1 and 0 < confidence < 1 and 0 < power < 1):
        raise ValueError(f"impossible design: {spread=}, {n=}, {confidence=}, {power=}")
    return float((ndtri((1 + confidence) / 2) + ndtri(power)) * spread / math.sqrt(n))


def items_to_settle(
    value: float, end: float, limit: float, n: int, *, confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """Return how many more items would bring the pessimistic end of an interval to its bound.

    Two assumptions, both stated with the result. The true figure is the one measured; and the
    interval's width falls with ``1 / sqrt(n)``. Then the end reaches the limit with this power when

        n' = n * (|value - end| / |value - limit|)^2 * ((z_{1-alpha/2} + z_power) / z_{1-alpha/2})^2

    A difference of 0 without any item that differs is wide by the rule of three, which falls with
    1 / n: there n' is the n at which ``1 - alpha^(1/n)`` is the limit itself. Other intervals near
    the end of their range narrow faster than assumed, and need fewer.

    Args:
        value: the figure, on the good side of ``limit``.
        end: the pessimistic end of its interval, on the other.
        limit: the bound.
        n: items behind the figure.
        confidence: of the interval.
        power: chance that so many items bring the end to the limit.

    Returns:
        ``n' - n``, at least 1; None where the figure lies on the bound, and no number would do.

    Example:
        >>> items_to_settle(0.52, 0.43, 0.5, n=60), items_to_settle(0.5, 0.43, 0.5, n=60)
        (2423, None)
    """
    width, room = abs(value - end), abs(value - limit)
    if room == 0:
        return None
    alpha = 1 - confidence
    if value == 0 and math.isclose(width, 1 - alpha ** (1 / n)) and room < 1:
        needed = math.log(alpha) / math.log1p(-room)
    else:
        quantile = float(ndtri(1 - alpha / 2))
        needed = n * (width / room * (1 + float(ndtri(power)) / quantile)) ** 2
    return max(1, math.ceil(needed) - n)
