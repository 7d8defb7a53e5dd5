"""Intervals and paired comparisons: how far a figure can be trusted on the items behind it.

No figure leaves this module with an interval of zero width. A bootstrap of 40 items that are all
right says "100 %, certainly"; what 40 items can say is "over 91 %". Where resampling shows no
spread, or too little to be resampled, the interval comes from an exact or adjusted formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betaincinv, ndtri

from eval.errors import EvaluationError
from eval.task import Estimate, Metric, Sample

_Units = NDArray[np.intp]
_Figure = Callable[[_Units], float]

MAX_UNDEFINED_SHARE = 0.2
"""With more undefined resamples than this, the interval would describe only the lucky ones."""

MAX_SATURATED_SHARE = 0.005
"""A resample misses k of many units with chance exp(-k); from six on, a sign test could tell."""

_MANY_ITEMS = 2000
_RESAMPLES_FOR_MANY = 300  # a percentile from 300 draws is good to about a tenth of the width


@dataclass(frozen=True)
class MeanOf:
    """The mean of one per-item score; `estimate` knows it and takes a faster, exact road."""

    key: str
    among: str | None = None

    def __call__(self, samples: Sequence[Sample]) -> float:
        """Return the mean; NaN when no sample counts."""
        values, counts = self.terms(samples)
        return float(values.sum() / counts.sum()) if counts.any() else math.nan

    def terms(self, samples: Sequence[Sample]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each sample's score (0 where it does not count) and whether it counts (0 or 1).

        Raises:
            EvaluationError: if a sample lacks a score that is needed.
        """
        counts = np.ones(len(samples))
        if self.among is not None:
            counts = np.array([float(_score(s, self.among) > 0) for s in samples])
        values = [_score(s, self.key) if c else 0.0 for s, c in zip(samples, counts, strict=True)]
        return np.array(values, dtype=np.float64), counts


def mean_of(key: str, *, among: str | None = None) -> MeanOf:
    """Return the metric function "mean of ``scores[key]``".

    With ``among``, only samples whose ``scores[among]`` is above zero count (such as the
    answerable questions), and the estimate's n is the number of these.
    """
    return MeanOf(key, among)


@dataclass(frozen=True)
class Difference:
    """First minus second on the same items, with its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float
    n: int
    higher_is_better: bool | None = True
    p_value: float = math.nan
    """Two-sided, for "no difference"; correct it by `holm` when several are looked at."""

    @property
    def better(self) -> Literal["first", "second", "undecided"]:
        """Who is better, where the whole interval says so; undecided for a descriptive figure."""
        if self.higher_is_better is None or not (self.low > 0 or self.high < 0):
            return "undecided"
        return "first" if (self.low > 0) == self.higher_is_better else "second"


def estimate(
    metric: Metric,
    samples: Sequence[Sample],
    *,
    seed: int = 0,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Estimate:
    """Compute a metric on all samples, with an interval for it.

    - A mean of scores that are all 0 or 1, without clusters: the exact interval of Clopper and
      Pearson 1934.
    - Anything else: the percentile bootstrap (Efron 1979) over samples, or over whole clusters
      when any sample has one (a sample without a cluster is its own). It is somewhat too narrow
      below about 20 clusters. A metric that is not a `mean_of` is resampled at most 300 times
      on more than 2,000 samples.
    - When all resamples agree, or more than 1 in 200 lie at an end of the figure's range (five
      units or fewer are unlike the rest), resampling knows too little. Then a share ``h`` of the
      population is allowed to be unlike all m units seen, and as bad or as good as the range
      permits, with ``1 - 2 (1 - h)^m`` the confidence. For a share at 0 or 1 this is Clopper and
      Pearson's bound. The range is taken as 0 to 1 for a value in it, as -1 to 1 for one in
      that, and otherwise as the value plus or minus itself, which is crude.

    The interval always contains the value. A resample on which the metric is NaN, infinite or
    refused (`EvaluationError`) is left out; when more than a fifth are, the estimate is NaN.

    Args:
        metric: what to compute. A value that is not finite gives NaN with a NaN interval.
        samples: at least one.
        seed: of the resampling; the same seed and samples give the same interval.
        num_resamples: bootstrap draws.
        confidence: of the interval, in (0, 1). The report and the gate say "95 %".

    Raises:
        EvaluationError: if there are no samples, or a score is missing.
    """
    _check_settings(num_resamples, confidence)
    if not samples:
        raise EvaluationError(f"{metric.name} needs at least one item, got none")
    alpha = 1 - confidence
    units = _unit_of(samples)
    value = float(metric.compute(samples))
    n, num_units, zero_one = len(samples), int(units.max()) + 1, None
    if isinstance(metric.compute, MeanOf):
        scores, counts = metric.compute.terms(samples)
        if counts.any():
            n, num_units = int(counts.sum()), len(np.unique(units[counts > 0]))
        zero_one = int(scores.sum()) if np.isin(scores, (0, 1)).all() else None
    undefined = Estimate(math.nan, math.nan, math.nan, n, metric.higher_is_better)
    if not math.isfinite(value):
        return undefined
    if zero_one is not None and num_units == n:
        low, high = clopper_pearson(zero_one, n, confidence)
    else:
        num_resamples = _affordable(metric, samples, num_resamples)
        draws = _bootstrap(_figure(metric, samples, units), units, seed, num_resamples)
        low, high = _percentiles(draws, alpha)
        if math.isnan(low):
            return undefined
        if _knows_too_little(draws, *_range(value)):
            wide = _widen(value, *_range(value), 1 - (alpha / 2) ** (1 / num_units))
            low, high = min(low, wide[0]), max(high, wide[1])
    return Estimate(value, min(low, value), max(high, value), n, metric.higher_is_better)


def paired_difference(
    metric: Metric,
    first: Sequence[Sample],
    second: Sequence[Sample],
    *,
    seed: int = 0,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Difference:
    """Compare two models on the same items: the metric on the first minus that on the second.

    - A mean of 0/1 scores without clusters: the adjusted Wald interval of Bonett and Price 2012
      (one imaginary win and one loss), and McNemar's exact test. Without any discordant pair,
      the rule of three: the share of items on which the two differ is at most
      ``1 - alpha^(1/n)``, about 3/n, and so is the difference in either direction.
    - Anything else: both models are resampled together, by item or by cluster, with the rules of
      `estimate`. When all resamples agree, or more than 1 in 200 see no difference at all (five
      units or fewer differ), the interval is widened by the rule of three, on a scale of 1 or
      of the larger of the two figures: one lucky item is no proof. The p-value is the
      bootstrap's, never below what a sign test on as many units could reach.

    Raises:
        EvaluationError: if the samples are none, an id occurs twice, or the ids differ.
    """
    _check_settings(num_resamples, confidence)
    first, second = _paired(metric, first, second)
    alpha = 1 - confidence
    units = _unit_of(first)
    figures = float(metric.compute(first)), float(metric.compute(second))
    value = figures[0] - figures[1]
    n, num_units, zero_one = len(first), int(units.max()) + 1, None
    if isinstance(metric.compute, MeanOf):
        (a, a_counts), (b, b_counts) = metric.compute.terms(first), metric.compute.terms(second)
        both = (a_counts > 0) & (b_counts > 0)
        if both.any():
            n, num_units = int(both.sum()), len(np.unique(units[both]))
        if np.isin([a, b], (0, 1)).all() and (a_counts == b_counts).all() and num_units == n:
            zero_one = int((a > b).sum()), int((a < b).sum())
    undefined = Difference(math.nan, math.nan, math.nan, n, metric.higher_is_better)
    if not math.isfinite(value):
        return undefined
    if zero_one is not None:
        p_value = mcnemar_exact(*zero_one)
        low, high = _adjusted_wald(*zero_one, n, alpha)
        is_too_little = not any(zero_one)
    else:
        one, other = _figure(metric, first, units), _figure(metric, second, units)
        num_resamples = _affordable(metric, first, num_resamples)
        draws = _bootstrap(lambda drawn: one(drawn) - other(drawn), units, seed, num_resamples)
        low, high = _percentiles(draws, alpha)
        if math.isnan(low):
            return undefined
        p_value = max(_bootstrap_p_value(draws), min(1.0, 2 * 0.5**num_units))
        is_too_little = _knows_too_little(draws, 0.0)
    if is_too_little:
        scale = max(1.0, abs(value), *map(abs, figures))
        wide = _widen(value, -scale, scale, 1 - alpha ** (1 / num_units))
        low, high = min(low, wide[0]), max(high, wide[1])
    return Difference(value, min(low, value), max(high, value), n, metric.higher_is_better, p_value)


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


def _score(sample: Sample, key: str) -> float:
    if key not in sample.scores:
        raise EvaluationError(
            f"item {sample.id!r} has no score {key!r}; it has {', '.join(sample.scores) or 'none'}"
        )
    return float(sample.scores[key])


def _check_settings(num_resamples: int, confidence: float) -> None:
    if num_resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"num_resamples must be at least 1 and confidence in (0, 1), got {num_resamples}, "
            f"{confidence}"
        )


def _unit_of(samples: Sequence[Sample]) -> _Units:
    """Number what is resampled as one: a cluster, or a sample that has none."""
    numbers: dict[Hashable, int] = {}
    keys = [s.cluster if s.cluster is not None else (i,) for i, s in enumerate(samples)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)


def _figure(metric: Metric, samples: Sequence[Sample], units: _Units) -> _Figure:
    """Return the metric as a function of the units drawn."""
    if isinstance(metric.compute, MeanOf):
        values, counts = metric.compute.terms(samples)
        unit_values, unit_counts = np.bincount(units, values), np.bincount(units, counts)

        def mean(drawn: _Units) -> float:
            total = unit_counts[drawn].sum()
            return float(unit_values[drawn].sum() / total) if total else math.nan

        return mean
    members: list[list[Sample]] = [[] for _ in range(units.max() + 1)]
    for sample, unit in zip(samples, units, strict=True):
        members[unit].append(sample)

    def compute(drawn: _Units) -> float:
        try:
            return float(metric.compute([s for unit in drawn for s in members[unit]]))
        except EvaluationError:  # a resample may lack what the whole has, such as any answer
            return math.nan

    return compute


def _affordable(metric: Metric, samples: Sequence[Sample], num_resamples: int) -> int:
    is_slow = len(samples) > _MANY_ITEMS and not isinstance(metric.compute, MeanOf)
    return min(num_resamples, _RESAMPLES_FOR_MANY) if is_slow else num_resamples


def _bootstrap(
    figure: _Figure, units: _Units, seed: int, num_resamples: int
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    num_units = int(units.max()) + 1
    return np.array([figure(rng.integers(num_units, size=num_units)) for _ in range(num_resamples)])


def _percentiles(draws: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    """Return the percentile interval; NaN when too many draws are undefined."""
    usable = draws[np.isfinite(draws)]
    if len(draws) - len(usable) > MAX_UNDEFINED_SHARE * len(draws):
        return math.nan, math.nan
    low, high = np.quantile(usable, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def _knows_too_little(draws: NDArray[np.float64], *ends: float) -> bool:
    """Say whether all draws agree, or more than a few lie where no unit differs from the rest."""
    usable = draws[np.isfinite(draws)]
    crumb = 1e-12 * max(1.0, float(np.abs(usable).max()))  # the order of summation leaves crumbs
    if np.ptp(usable) <= crumb:
        return True
    return any((np.abs(usable - end) <= crumb).mean() > MAX_SATURATED_SHARE for end in ends)


def _range(value: float) -> tuple[float, float]:
    if 0 <= value <= 1:
        return 0.0, 1.0
    return (-1.0, 1.0) if -1 <= value < 0 else (value - abs(value), value + abs(value))


def _widen(value: float, smallest: float, largest: float, share: float) -> tuple[float, float]:
    """Let a share of the population lie at either end of the range."""
    return value - share * (value - smallest), value + share * (largest - value)


def _adjusted_wald(wins: int, losses: int, n: int, alpha: float) -> tuple[float, float]:
    """Bonett and Price 2012, J. Educational and Behavioral Statistics 37(4): 479-488."""
    won, lost = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = float(ndtri(1 - alpha / 2)) * math.sqrt((won + lost - (won - lost) ** 2) / (n + 2))
    return max(-1.0, won - lost - half), min(1.0, won - lost + half)


def _bootstrap_p_value(draws: NDArray[np.float64]) -> float:
    usable = draws[np.isfinite(draws)]
    tail = min((usable <= 0).sum(), (usable >= 0).sum())
    return min(1.0, 2 * (1 + float(tail)) / (1 + len(usable)))


def _paired(
    metric: Metric, first: Sequence[Sample], second: Sequence[Sample]
) -> tuple[list[Sample], list[Sample]]:
    """Return both lists in the order of the first."""
    if not first and not second:
        raise EvaluationError(f"{metric.name} needs at least one pair of items, got none")
    a, b = {s.id: s for s in first}, {s.id: s for s in second}
    num_repeats = len(first) - len(a) + len(second) - len(b)
    if num_repeats:
        raise EvaluationError(
            f"{metric.name} cannot be paired: {num_repeats} item ids occur more than once; give "
            "each item its own id"
        )
    if only := a.keys() ^ b.keys():
        raise EvaluationError(
            f"{metric.name} cannot be paired: {len(a.keys() - b.keys())} of {len(a)} items are "
            f"only in the first and {len(b.keys() - a.keys())} of {len(b)} only in the second "
            f"(such as {min(only)!r}); evaluate both on the same items"
        )
    return list(a.values()), [b[key] for key in a]
