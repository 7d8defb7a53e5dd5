"""Resampling: what a figure would have been on other items, or with the two models exchanged.

Two questions, two schemes. How far is the figure from that of the population? The bootstrap
draws units (items, or whole clusters of them) with replacement. Could two models that are equal
in law differ as much? The exchange test swaps their answers, unit by unit, by the toss of a coin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri, stdtrit

from eval.errors import EvaluationError
from eval.sums import LargestGap, OfSums, divided, one_hot
from eval.task import Metric, Sample

Units = NDArray[np.intp]
Figure = Callable[[Units], NDArray[np.float64]]
"""The figure of each resample, shape ``(resamples,)``, of units ``(resamples, units)``."""

MAX_UNDEFINED_SHARE = 0.2
"""With more undefined resamples than this, the interval would describe only the lucky ones."""

MAX_SATURATED_SHARE = 0.005
"""A resample misses k of many units with chance exp(-k); from six on, a sign test could tell."""

NUM_EXCEEDANCES = 20
"""The exchange test stops when so many exchanges were as extreme (Besag and Clifford 1991)."""

_PART = 20
_MANY_ITEMS = 2000
_RESAMPLES_FOR_MANY = 300  # a percentile from 300 draws is good to about a tenth of the width


@dataclass(frozen=True)
class MeanOf:
    """The mean of one per-item score; resampling knows it and takes a faster road."""

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
class DistanceFrom:
    """How far a signed figure is from its ideal; `eval.stats.estimate` folds its interval too.

    Resampled by itself, a distance near zero is all noise, lifted by it, and its percentile
    interval covers 80 times in 100 instead of 95.
    """

    signed: Callable[[Sequence[Sample]], float]
    ideal: float = 0.0
    scale: float = 1.0

    def __call__(self, samples: Sequence[Sample]) -> float:
        """Return ``scale * |signed - ideal|``; NaN where the signed figure is."""
        return self.scale * abs(self.signed(samples) - self.ideal)


def unit_of(samples: Sequence[Sample]) -> Units:
    """Number what is resampled as one: a cluster, or a sample that has none."""
    numbers: dict[Hashable, int] = {}
    keys = [s.cluster if s.cluster is not None else (i,) for i, s in enumerate(samples)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)


def figure_of(metric: Metric, samples: Sequence[Sample], units: Units) -> Figure:
    """Return the metric as a function of the units drawn; NaN where it is refused on them."""
    if (quick := of_sums(metric.compute)) is not None:
        sums_UK = by_unit(quick.terms(samples), units)
        return lambda drawn: quick.figure(_drawn_sums(sums_UK, drawn))
    members: list[list[Sample]] = [[] for _ in range(units.max() + 1)]
    for sample, unit in zip(samples, units, strict=True):
        members[unit].append(sample)
    return lambda drawn: np.array(
        [_defined(metric, [s for unit in row for s in members[unit]]) for row in drawn]
    )


def of_sums(compute: Callable[[Sequence[Sample]], float]) -> OfSums | None:
    """Return a figure as one of sums over the items; None if it is not."""
    if isinstance(compute, MeanOf):
        return OfSums(
            lambda samples: np.stack(compute.terms(samples), axis=1),
            lambda sums_XK: divided(sums_XK[:, 0], sums_XK[:, 1]),
        )
    if isinstance(compute, DistanceFrom) and (signed := of_sums(compute.signed)) is not None:
        return OfSums(
            signed.terms,
            lambda sums_XK: compute.scale * np.abs(signed.figure(sums_XK) - compute.ideal),
        )
    return compute if isinstance(compute, OfSums) else None


def by_unit(terms: csr_array[np.float64] | NDArray[np.float64], units: Units) -> csr_array[Any]:
    """Return the sums of each unit, shape ``(units, K)``, of the terms of each item."""
    return csr_array(one_hot(units.tolist(), int(units.max()) + 1).T @ csr_array(terms))


def _drawn_sums(sums_UK: csr_array[Any], drawn: Units) -> NDArray[np.float64]:
    """Return the sums of each draw, shape ``(draws, K)``, of units ``(draws, units)``."""
    num_units = sums_UK.shape[0]
    counts = np.stack([np.bincount(row, minlength=num_units) for row in drawn])
    return np.asarray((csr_array(counts.astype(np.float64)) @ sums_UK).toarray())


def affordable(metric: Metric, samples: Sequence[Sample], num_resamples: int) -> int:
    """Return how many resamples to take: a slow metric on many items gets fewer."""
    is_slow = len(samples) > _MANY_ITEMS and of_sums(metric.compute) is None
    return min(num_resamples, _RESAMPLES_FOR_MANY) if is_slow else num_resamples


def bootstrap(figure: Figure, units: Units, seed: int, num_resamples: int) -> NDArray[np.float64]:
    """Return the figure on so many draws of as many units, with replacement (Efron 1979)."""
    rng = np.random.default_rng(seed)
    num_units = int(units.max()) + 1
    return np.concatenate(
        [figure(rng.integers(num_units, size=(k, num_units))) for k in _parts(num_resamples)]
    )


def percentiles(draws: NDArray[np.float64], alpha: float, num_units: int) -> tuple[float, float]:
    """Return the expanded percentile interval; NaN when too many draws are undefined.

    The bootstrap's spread is too small by ``sqrt((n - 1) / n)`` and its tails are the normal's;
    with n units the percentiles are taken further out, at ``Phi(sqrt(n / (n - 1)) t_{n-1})``, so
    that a mean gets Student's interval (Hesterberg 2015, arXiv:1411.5279, section 5.2). Without
    this, 12 documents cover 89 times in 100.
    """
    usable = draws[np.isfinite(draws)]
    if len(draws) - len(usable) > MAX_UNDEFINED_SHARE * len(draws):
        return math.nan, math.nan
    tail = alpha / 2
    if num_units > 1:
        quantile = float(stdtrit(num_units - 1, tail))
        tail = float(ndtr(math.sqrt(num_units / (num_units - 1)) * quantile))
    low, high = np.quantile(usable, [tail, 1 - tail])
    return float(low), float(high)


def reach_of_gaps(
    compute: LargestGap,
    samples: Sequence[Sample],
    units: Units,
    *,
    seed: int,
    num_resamples: int,
    alpha: float,
) -> float:
    """Return how far a largest gap may be from the true largest one.

    The ``1 - alpha`` quantile of how far any gap of a resample is from that of the items, which
    bounds how far the largest can be (`eval.sums.LargestGap`). Gaps that are too far below the
    largest to be it (by twice the quantile over all) are left out then, as in moment selection
    (Andrews and Soares 2010, Econometrica 78: 119-157). The quantile is taken further out for
    few units, as in `percentiles`.
    """
    sums_UK = by_unit(compute.terms(samples), units)
    num_units = sums_UK.shape[0]
    all_1K = np.asarray(sums_UK.sum(axis=0), dtype=np.float64).reshape(1, -1)
    [observed] = compute.differences(all_1K)

    def moved(drawn: Units) -> NDArray[np.float64]:
        far: NDArray[np.float64] = compute.differences(_drawn_sums(sums_UK, drawn)) - observed
        return np.abs(far)

    draws = bootstrap(moved, units, seed, num_resamples)
    draws = draws[np.isfinite(draws).all(axis=1)]
    wider = 1.0
    if num_units > 1:
        quantile = float(stdtrit(num_units - 1, alpha / 2) / ndtri(alpha / 2))
        wider = math.sqrt(num_units / (num_units - 1)) * quantile
    reach = wider * float(np.quantile(draws.max(axis=1), 1 - alpha))
    may_be_largest = np.abs(observed) >= np.abs(observed).max() - 2 * reach
    return wider * float(np.quantile(draws[:, may_be_largest].max(axis=1), 1 - alpha))


def bias_of(draws: NDArray[np.float64], value: float) -> float:
    """Return by how much resampling lifts the figure.

    A figure that is folded or a maximum (a calibration error, a largest gap) is lifted by noise,
    and a resample by that noise once more; a mean of ratios over rare classes is lowered. So the
    figure is expected to stand as far from the truth as its resamples from the figure (Efron and
    Tibshirani 1993, chapter 10).
    """
    return float(draws[np.isfinite(draws)].mean()) - value


def knows_too_little(draws: NDArray[np.float64], *ends: float) -> bool:
    """Say whether all draws agree, or more than a few lie where no unit differs from the rest."""
    usable = draws[np.isfinite(draws)]
    crumb = _crumb(float(np.abs(usable).max()))
    if np.ptp(usable) <= crumb:
        return True
    return any((np.abs(usable - end) <= crumb).mean() > MAX_SATURATED_SHARE for end in ends)


@dataclass(frozen=True)
class Exchange:
    """What exchanging two models' answers says about their difference."""

    p_value: float
    """Two-sided, for "exchanging the answers changes nothing"."""

    reach: float
    """How far from zero exchanges carry the difference, but for ``alpha`` of them.

    The observed difference lies further out exactly where ``p_value`` is ``alpha`` or less.
    """


def exchange_test(
    metric: Metric,
    first: Sequence[Sample],
    second: Sequence[Sample],
    units: Units,
    *,
    seed: int,
    num_resamples: int,
    alpha: float,
) -> Exchange:
    """Test whether the difference of two models is more than that of their answers exchanged.

    The paired permutation test (Fisher 1935; Noreen 1989, chapter 2): where two models are equal
    in law, each exchange of their answers to a unit is as likely as the observed order, so the
    p-value is valid for any figure, any spread and any number of units. For a share on single
    items it is McNemar's. It is drawn sequentially: it stops at ``NUM_EXCEEDANCES`` exchanges
    that differ as much, which leaves a large p-value coarse and costs nothing where there is no
    difference (Besag and Clifford 1991, Biometrika 78: 301-304).

    Args:
        metric: defined on both.
        first: answers of one model.
        second: answers of the other to the same items, in the same order.
        units: what is exchanged as one, per item.
        seed: of the coins.
        num_resamples: most exchanges; no p-value is below ``1 / (1 + num_resamples)``.
        alpha: level of the reach; needs ``1 / alpha`` exchanges, else the reach is infinite.
    """
    exchanged = _exchanged(metric, first, second, units)
    num_units = int(units.max()) + 1
    [observed] = np.abs(exchanged(np.zeros((1, num_units), dtype=bool)))
    rng = np.random.default_rng(seed)
    drawn = np.empty(0)
    for k in _parts(num_resamples):
        swapped = rng.integers(2, size=(k, num_units)).astype(bool)
        drawn = np.append(drawn, np.nan_to_num(np.abs(exchanged(swapped)), nan=math.inf))
        exceeds = drawn >= observed - _crumb(observed)  # undefined counts against
        reached = np.flatnonzero(exceeds.cumsum() >= NUM_EXCEEDANCES)
        if reached.size:
            n = int(reached[0]) + 1
            return Exchange(NUM_EXCEEDANCES / n, _reach(drawn[:n], alpha * n))
    return Exchange(
        (1 + int(exceeds.sum())) / (1 + num_resamples),
        _reach(drawn, alpha * (1 + num_resamples) - 1),
    )


def _reach(drawn: NDArray[np.float64], num_further: float) -> float:
    """Return the furthest of the exchanges that has so many, rounded down, before it."""
    rank = math.floor(num_further + 1e-9)  # 0.05 * 20 may come out below 1
    return float(np.sort(drawn)[::-1][rank]) if 0 <= rank < len(drawn) else math.inf


def _exchanged(
    metric: Metric, first: Sequence[Sample], second: Sequence[Sample], units: Units
) -> Callable[[NDArray[np.bool_]], NDArray[np.float64]]:
    """Return the difference as a function of the units whose answers change sides, by row."""
    if (quick := of_sums(metric.compute)) is not None:
        both = csr_array(quick.terms([*first, *second]))  # together, so that columns agree
        a_UK, b_UK = by_unit(both[: len(first)], units), by_unit(both[len(first) :], units)
        a_K, b_K = (np.asarray(sums_UK.sum(axis=0)).reshape(1, -1) for sums_UK in (a_UK, b_UK))
        moved_UK = csr_array(b_UK - a_UK)

        def quick_differences(swapped: NDArray[np.bool_]) -> NDArray[np.float64]:
            moved_XK = (csr_array(swapped.astype(np.float64)) @ moved_UK).toarray()
            return quick.figure(a_K + moved_XK) - quick.figure(b_K - moved_XK)

        return quick_differences

    def difference(swapped: NDArray[np.bool_]) -> float:
        pairs = zip(first, second, swapped[units], strict=True)
        sides = [(y, x) if is_swapped else (x, y) for x, y, is_swapped in pairs]
        return _defined(metric, [x for x, _ in sides]) - _defined(metric, [y for _, y in sides])

    return lambda swapped: np.array([difference(row) for row in swapped])


def _parts(num_resamples: int) -> list[int]:
    """Cut the resamples into parts that neither fill the memory nor run far beyond a stop."""
    whole, rest = divmod(num_resamples, _PART)
    return [_PART] * whole + [rest] * (rest > 0)


def _defined(metric: Metric, samples: list[Sample]) -> float:
    try:
        return float(metric.compute(samples))
    except EvaluationError:  # a resample may lack what the whole has, such as any answer
        return math.nan


def _crumb(size: float) -> float:
    return 1e-12 * max(1.0, size)  # the order of summation leaves crumbs


def _score(sample: Sample, key: str) -> float:
    if key not in sample.scores:
        raise EvaluationError(
            f"item {sample.id!r} has no score {key!r}; it has {', '.join(sample.scores) or 'none'}"
        )
    return float(sample.scores[key])
