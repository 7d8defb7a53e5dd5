"""Group gaps of a classifier: whether it serves one group of people otherwise than another.

For more than two classes each class is taken against the rest, and the largest gap counts. A
largest-minus-smallest is biased upwards on small groups; a group below ``min_n`` therefore makes
the figure NaN. Resampling changes group sizes: check the sizes once on all items, and give the
bootstrapped metric ``min_n=1``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eval.metrics.metric import TEXT, LocalMetric, check_columns


def demographic_parity_difference(
    predictions: Sequence[Hashable], groups: Sequence[Hashable], *, min_n: int = 30
) -> float:
    """Return the largest gap between groups in how often a class is predicted, in 0..1.

    ``max over classes of (max_a P(class | a) - min_a P(class | a))``; ideal 0. For two classes
    this is fairlearn's figure of the same name. NaN with fewer than two groups, or when a group
    has fewer than ``min_n`` items.

    Raises:
        EvaluationError: if there are no items, or lengths differ.
    """
    check_columns("demographic parity", predictions=predictions, groups=groups)
    counts = _count(groups, predictions, predictions).sum(axis=1)
    if not _is_enough(counts.sum(axis=1), min_n):
        return float("nan")
    return _largest_gap(counts / counts.sum(axis=1, keepdims=True))


def equalized_odds_difference(
    predictions: Sequence[Hashable],
    references: Sequence[Hashable],
    groups: Sequence[Hashable],
    *,
    min_n: int = 30,
) -> float:
    """Return the largest gap between groups in true or false positive rate, in 0..1; ideal 0.

    Hardt et al. 2016 (arXiv:1610.02413), the worst case over both rates and all classes; for
    two classes this is fairlearn's figure of the same name. NaN with fewer than two groups,
    when a group has fewer than ``min_n`` items, and when one group lacks a class (or has
    nothing else) that another has: its rate is unknown, and fairlearn's 0.0 would invent a gap.

    Raises:
        EvaluationError: if there are no items, or lengths differ.
    """
    check_columns("equalized odds", predictions=predictions, references=references, groups=groups)
    counts = _count(groups, references, predictions)
    if not _is_enough(counts.sum(axis=(1, 2)), min_n):
        return float("nan")
    positives = counts.sum(axis=2)
    negatives = positives.sum(axis=1, keepdims=True) - positives
    hits = np.diagonal(counts, axis1=1, axis2=2)
    false_alarms = counts.sum(axis=1) - hits
    occurs = positives.any(axis=0)  # a class that was only ever predicted has no hit rate
    with np.errstate(invalid="ignore"):
        hit_rates, false_alarm_rates = (hits / positives)[:, occurs], false_alarms / negatives
    return max(_largest_gap(hit_rates), _largest_gap(false_alarm_rates), key=_nan_first)


def _count(
    groups: Sequence[Hashable], references: Sequence[Hashable], predictions: Sequence[Hashable]
) -> NDArray[np.float64]:
    """Count items, shape (groups, classes, classes): by group, reference and prediction."""
    group_codes = _codes(groups)
    classes = _codes([*references, *predictions])
    num_classes = int(classes.max()) + 1
    counts = np.zeros((int(group_codes.max()) + 1, num_classes, num_classes))
    n = len(groups)
    np.add.at(counts, (group_codes, classes[:n], classes[n:]), 1)
    return counts


def _codes(values: Sequence[Hashable]) -> NDArray[np.intp]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.intp)


def _is_enough(group_sizes: NDArray[np.float64], min_n: int) -> bool:
    return len(group_sizes) >= 2 and bool((group_sizes >= min_n).all())


def _largest_gap(rates: NDArray[np.float64]) -> float:
    return float(np.ptp(rates, axis=0).max())  # NaN if any rate is


def _nan_first(value: float) -> float:
    return np.inf if np.isnan(value) else value


class GroupGap(LocalMetric):
    """Demographic parity and equalised odds gaps; a reference has ``label`` and ``group``."""

    inputs: ClassVar = {"predictions": TEXT, "references": {"label": TEXT, "group": TEXT}}
    paper = "Hardt et al. 2016, arXiv:1610.02413"

    def _compute(self, predictions: Any, references: Any, min_n: int = 30) -> dict[str, float]:
        labels, groups = [r["label"] for r in references], [r["group"] for r in references]
        return {
            "demographic_parity_difference": demographic_parity_difference(
                predictions, groups, min_n=min_n
            ),
            "equalized_odds_difference": equalized_odds_difference(
                predictions, labels, groups, min_n=min_n
            ),
        }
