"""Intervals and paired comparisons: how far a figure can be trusted on the items behind it.

No figure leaves this module with an interval of zero width. A bootstrap of 40 items that are all
right says "100 %, certainly"; what 40 items can say is "over 91 %". Where resampling shows no
spread, or too little to be resampled, the interval comes from an exact or adjusted formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from eval.errors import EvaluationError
from eval.resampling import (
    DistanceFrom,
    MeanOf,
    affordable,
    bias_of,
    bootstrap,
    exchange_test,
    figure_of,
    knows_too_little,
    mean_of,
    percentiles,
    reach_of_gaps,
    unit_of,
)
from eval.shares import (
    adjusted_wald,
    clopper_pearson,
    holm,
    mcnemar_exact,
    smallest_detectable_difference,
)
from eval.sums import LargestGap
from eval.task import Estimate, Metric, Sample

__all__ = [
    "Difference",
    "MeanOf",
    "clopper_pearson",
    "estimate",
    "holm",
    "mcnemar_exact",
    "mean_of",
    "paired_difference",
    "smallest_detectable_difference",
]


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
      Pearson 1934, which covers at least as often as it says.
    - Anything else: the percentile bootstrap (Efron 1979) over samples, or over whole clusters
      when any sample has one (a sample without a cluster is its own), with the percentiles
      widened for few units (`eval.resampling.percentiles`). Where resampling lifts the figure
      (`eval.resampling.bias_of`), the low end is moved down by twice that, and where it lowers
      it the high end up: measured, 200 items then cover a calibration error 94 times in 100
      and not 88. The other end, which a gate reads, stays where it was. A metric that is not a
      `mean_of` or another figure of sums is resampled at most 300 times on more than 2,000
      samples.
    - A `LargestGap`: the same, but the low end lies as far below the figure as a gap may be from
      the true one, and the high end no further above it (`eval.resampling.reach_of_gaps`).
      Measured: where groups do not differ, or hardly, the percentiles cover the true largest gap
      78 times in 100, and this 95 to 98 times.
    - When all resamples agree, or more than 1 in 200 lie at an end of the figure's range (five
      units or fewer are unlike the rest), resampling knows too little. Then a share ``h`` of the
      population is allowed to be unlike all m units seen, and as bad or as good as the range
      permits, with ``1 - 2 (1 - h)^m`` the confidence. For a share at 0 or 1 this is Clopper and
      Pearson's bound. The range is taken as 0 to 1 for a value in it, as -1 to 1 for one in
      that, and otherwise as the value plus or minus itself, which is crude.

    - A `DistanceFrom` an ideal: the interval of the signed figure, folded at the ideal.

    The interval always contains the value. A resample on which the metric is NaN, infinite or
    refused (`EvaluationError`) is left out; when more than a fifth are, the estimate is NaN. The
    order of the samples does not matter.

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
    if isinstance(metric.compute, DistanceFrom):
        signed = replace(metric, compute=metric.compute.signed)
        found = estimate(
            signed, samples, seed=seed, num_resamples=num_resamples, confidence=confidence
        )
        return _folded(found, metric.compute)
    samples = sorted(samples, key=lambda sample: sample.id)
    alpha = 1 - confidence
    units = unit_of(samples)
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
        num_resamples = affordable(metric, samples, num_resamples)
        draws = bootstrap(figure_of(metric, samples, units), units, seed, num_resamples)
        low, high = percentiles(draws, alpha, num_units)
        if math.isnan(low):
            return undefined
        bias, (smallest, largest) = bias_of(draws, value), _range(value)
        if bias > 0:
            low = min(low, max(smallest, low - 2 * bias))
        else:
            high = max(high, min(largest, high - 2 * bias))
        if isinstance(metric.compute, LargestGap):
            reach = reach_of_gaps(
                metric.compute,
                samples,
                units,
                seed=seed,
                num_resamples=num_resamples,
                alpha=alpha,
            )
            low, high = max(0.0, value - reach), min(high, value + reach)
        if knows_too_little(draws, smallest, largest):
            wide = _widen(value, smallest, largest, 1 - (alpha / 2) ** (1 / num_units))
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
      ``1 - alpha^(1/n)``, about 3/n, and so is the difference in either direction. Both err on
      the safe side: with fewer than ten discordant pairs they reject less than 2 times in 100
      where there is no difference, with twenty 3 to 4 times. (A mid-p value would reject 4.6
      times, but more than 5 times on some samples, so the exact one stays.)
    - Anything else: both models are resampled together, by item or by cluster, with the rules of
      `estimate`. When all resamples agree, or more than 1 in 200 see no difference at all (five
      units or fewer differ), the interval is widened by the rule of three, on a scale of 1 or
      of the larger of the two figures: one lucky item is no proof. The p-value is that of
      `eval.resampling.exchange_test`, which is valid for any figure and any number of units,
      and the interval leaves zero out exactly where that test rejects it, so that the two never
      tell two stories. Where it does not, zero is taken in: a ratio in 40 clusters else excluded
      it 9 times in 100. Where it does and the percentiles hold zero nevertheless (a figure that
      is folded or a maximum, lifted once more by each resample's own noise), the end beyond zero
      is the one by the test: the value less what exchanges alone reach.

    The order of the items does not matter.

    Raises:
        EvaluationError: if the samples are none, an id occurs twice, or the ids differ.
    """
    _check_settings(num_resamples, confidence)
    first, second = _paired(metric, first, second)
    alpha = 1 - confidence
    units = unit_of(first)
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
        low, high = adjusted_wald(*zero_one, n, alpha)
        is_too_little = not any(zero_one)
    else:
        one, other = figure_of(metric, first, units), figure_of(metric, second, units)
        num_resamples = affordable(metric, first, num_resamples)
        draws = bootstrap(lambda drawn: one(drawn) - other(drawn), units, seed, num_resamples)
        low, high = percentiles(draws, alpha, num_units)
        if math.isnan(low):
            return undefined
        exchange = exchange_test(
            metric, first, second, units, seed=seed, num_resamples=num_resamples, alpha=alpha
        )
        p_value = exchange.p_value
        if p_value > alpha:
            low, high = min(low, 0.0), max(high, 0.0)
        elif low <= 0 <= high:
            low, high = (
                (value - exchange.reach, high) if value > 0 else (low, value + exchange.reach)
            )
        is_too_little = knows_too_little(draws, 0.0)
    if is_too_little:
        scale = max(1.0, abs(value), *map(abs, figures))
        wide = _widen(value, -scale, scale, 1 - alpha ** (1 / num_units))
        low, high = min(low, wide[0]), max(high, wide[1])
    return Difference(value, min(low, value), max(high, value), n, metric.higher_is_better, p_value)


def _check_settings(num_resamples: int, confidence: float) -> None:
    if num_resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"num_resamples must be at least 1 and confidence in (0, 1), got {num_resamples}, "
            f"{confidence}"
        )


def _folded(signed: Estimate, distance: DistanceFrom) -> Estimate:
    if math.isnan(signed.value):
        return signed
    value, *ends = (
        distance.scale * abs(x - distance.ideal) for x in (signed.value, signed.low, signed.high)
    )
    low = 0.0 if signed.low <= distance.ideal <= signed.high else min(ends)
    return replace(signed, value=value, low=min(low, value), high=max(*ends, value))


def _range(value: float) -> tuple[float, float]:
    if 0 <= value <= 1:
        return 0.0, 1.0
    return (-1.0, 1.0) if -1 <= value < 0 else (value - abs(value), value + abs(value))


def _widen(value: float, smallest: float, largest: float, share: float) -> tuple[float, float]:
    """Let a share of the population lie at either end of the range."""
    return value - share * (value - smallest), value + share * (largest - value)


def _paired(
    metric: Metric, first: Sequence[Sample], second: Sequence[Sample]
) -> tuple[list[Sample], list[Sample]]:
    """Return both lists in the order of the ids."""
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
    return [a[key] for key in sorted(a)], [b[key] for key in sorted(a)]
