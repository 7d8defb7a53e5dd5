"""Group gaps of a classifier: whether it serves one group of people otherwise than another.

For more than two classes each class is taken against the rest, and the largest gap counts. A
largest-minus-smallest is biased upwards on small groups; a group below ``min_n`` therefore makes
the figure NaN. Resampling changes group sizes: check the sizes once on all items, and give the
bootstrapped metric ``min_n=1``. How large a gap is between groups that do not differ at all says
`null_mean`, which belongs beside each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
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


def demographic_parity_ratio(
    predictions: Sequence[Hashable],
    groups: Sequence[Hashable],
    *,
    positive: Hashable | None = None,
    min_n: int = 30,
) -> float:
    """Return the smallest ratio between groups in how often a class is predicted, in 0..1.

    ``min over classes of (min_a P(class | a) / max_a P(class | a))``; ideal 1. The "four fifths"
    of the US Uniform Guidelines (29 CFR 1607.4 D) ask for 0.8 in the class that is wished for:
    name it as ``positive``, and this is fairlearn's figure of the same name. A class that nobody
    is given has no ratio; NaN if that is all, or as in `demographic_parity_difference`.

    Raises:
        EvaluationError: if there are no items, or lengths differ.
    """
    check_columns("demographic parity", predictions=predictions, groups=groups)
    counts = _count(groups, predictions, predictions).sum(axis=1)
    if not _is_enough(counts.sum(axis=1), min_n):
        return float("nan")
    rates = (counts / counts.sum(axis=1, keepdims=True))[:, _watched(predictions, positive)]
    rates = rates[:, rates.any(axis=0)]
    return float((rates.min(axis=0) / rates.max(axis=0)).min()) if rates.size else float("nan")


def equalized_odds_difference(
    predictions: Sequence[Hashable],
    references: Sequence[Hashable],
    groups: Sequence[Hashable],
    *,
    min_n: int = 30,
    classes: Collection[Hashable] | None = None,
) -> float:
    """Return the largest gap between groups in true or false positive rate, in 0..1; ideal 0.

    Hardt et al. 2016 (arXiv:1610.02413), the worst case over both rates and all classes; for
    two classes this is fairlearn's figure of the same name. NaN with fewer than two groups,
    when a group has fewer than ``min_n`` items, and when one group lacks a class (or has
    nothing else) that another has: its rate is unknown, and fairlearn's 0.0 would invent a gap.
    With ``classes``, only these are looked at, such as those that every group has; NaN for none.

    Raises:
        EvaluationError: if there are no items, or lengths differ.
    """
    hits, false_alarms = _rates(predictions, references, groups, min_n, classes)
    return max(_largest_gap(hits), _largest_gap(false_alarms), key=_nan_first)


def equal_opportunity_difference(
    predictions: Sequence[Hashable],
    references: Sequence[Hashable],
    groups: Sequence[Hashable],
    *,
    min_n: int = 30,
    classes: Collection[Hashable] | None = None,
) -> float:
    """Return the largest gap between groups in the true positive rate of a class; ideal 0.

    Hardt et al. 2016 (arXiv:1610.02413), definition 2.2, the worst case over the classes: in
    words, a group of people whose texts of some class are recognised less often. With the class
    that is wished for as the only one of ``classes`` it is fairlearn's figure of the same name.
    NaN as in `equalized_odds_difference`.

    Raises:
        EvaluationError: if there are no items, or lengths differ.
    """
    return _largest_gap(_rates(predictions, references, groups, min_n, classes)[0])


def null_mean(
    gap: Callable[[Sequence[Hashable]], float],
    groups: Sequence[Hashable],
    *,
    num_shuffles: int = 20,
    seed: int = 0,
) -> float:
    """Return the mean of a gap over groups of the same sizes that are drawn by lot.

    The mean of the permutation null: as large is the gap to be expected where the group makes no
    difference at all. NaN if a shuffled gap is.

    Args:
        gap: the figure as a function of the groups.
        groups: group of each item.
        num_shuffles: draws.
        seed: of the draws; the same seed draws the same.

    Raises:
        EvaluationError: if there are no items.
    """
    n = check_columns("permutation null", groups=groups)
    rng = np.random.default_rng(seed)
    shuffled = [[groups[i] for i in rng.permutation(n)] for _ in range(num_shuffles)]
    return float(np.mean([*map(gap, shuffled)]))


def _rates(
    predictions: Sequence[Hashable],
    references: Sequence[Hashable],
    groups: Sequence[Hashable],
    min_n: int,
    classes: Collection[Hashable] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return true and false positive rates, shape (groups, classes); of no class if too few."""
    check_columns("equalized odds", predictions=predictions, references=references, groups=groups)
    counts = _count(groups, references, predictions)
    if not _is_enough(counts.sum(axis=(1, 2)), min_n):
        return np.zeros((2, 0)), np.zeros((2, 0))
    positives = counts.sum(axis=2)
    negatives = positives.sum(axis=1, keepdims=True) - positives
    hits = np.diagonal(counts, axis1=1, axis2=2)
    false_alarms = counts.sum(axis=1) - hits
    known = list(dict.fromkeys([*references, *predictions]))
    watched = np.array([classes is None or name in classes for name in known])
    occurs = positives.any(axis=0)  # a class that was only ever predicted has no hit rate
    with np.errstate(invalid="ignore"):
        return (
            (hits / positives)[:, occurs & watched],
            (false_alarms / negatives)[:, watched],
        )


def _watched(predictions: Sequence[Hashable], positive: Hashable | None) -> NDArray[np.bool_]:
    known = dict.fromkeys(predictions)
    return np.array([positive is None or name == positive for name in known])


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
    """Return the largest of the gaps of all classes; NaN if any rate is, or there is no class."""
    return float(np.ptp(rates, axis=0).max()) if rates.shape[1] else float("nan")


def _nan_first(value: float) -> float:
    return np.inf if np.isnan(value) else value


class GroupGap(LocalMetric):
    """Demographic parity, equalised odds and opportunity; a reference has ``label``, ``group``."""

    inputs: ClassVar = {"predictions": TEXT, "references": {"label": TEXT, "group": TEXT}}
    paper = "Hardt et al. 2016, arXiv:1610.02413"

    def _compute(self, predictions: Any, references: Any, min_n: int = 30) -> dict[str, float]:
        labels, groups = [r["label"] for r in references], [r["group"] for r in references]
        return {
            "demographic_parity_difference": demographic_parity_difference(
                predictions, groups, min_n=min_n
            ),
            "demographic_parity_ratio": demographic_parity_ratio(predictions, groups, min_n=min_n),
            "equalized_odds_difference": equalized_odds_difference(
                predictions, labels, groups, min_n=min_n
            ),
            "equal_opportunity_difference": equal_opportunity_difference(
                predictions, labels, groups, min_n=min_n
            ),
        }
