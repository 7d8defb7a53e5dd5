"""Group gaps of a classifier: whether it serves one group of people otherwise than another.

For more than two classes each class is taken against the rest, and the largest gap counts. A
largest-minus-smallest is biased upwards on small groups; a group below ``min_n`` therefore makes
the figure NaN. Resampling changes group sizes: check the sizes once on all items, and give the
bootstrapped metric ``min_n=1``. How large a gap is between groups that do not differ at all says
`null_mean`, which belongs beside each of them.

Several classes may hold at once: then each item has its own set of predicted and of true ones.
`GroupCounts` is what all figures are made of, for one table of items or for many resamples.

X any number of tables, G groups, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eval.metrics.metric import TEXT, LocalMetric, check_columns
from eval.sums import divided, largest_of


@dataclass(frozen=True)
class GroupCounts:
    """How many items each group has, and how many have a class, are given it, and both."""

    sizes: NDArray[np.float64]
    """Shape (X, G); the others have the shape (X, G, C)."""

    wanted: NDArray[np.float64]
    given: NDArray[np.float64]
    hits: NDArray[np.float64]

    def selection_rates(self) -> NDArray[np.float64]:
        """Return how often each class is given, shape (X, G, C); NaN for an empty group."""
        return divided(self.given, self.sizes[:, :, None])

    def hit_rates(self) -> NDArray[np.float64]:
        """Return the true positive rates, shape (X, G, C); NaN where no item has the class."""
        return divided(self.hits, self.wanted)

    def odds(self) -> NDArray[np.float64]:
        """Return true and false positive rates, shape (X, G, 2 C); NaN where undefined."""
        false_alarms = divided(self.given - self.hits, self.sizes[:, :, None] - self.wanted)
        return np.concatenate([self.hit_rates(), false_alarms], axis=2)


def smallest_ratio(rates_XGC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest ratio between two groups in any rate, shape (X,), in 0..1.

    A rate that is 0 in all groups has no ratio; NaN if that is all, or a rate is undefined.
    """
    ratios_XC = divided(rates_XGC.min(axis=1), rates_XGC.max(axis=1))
    is_nobodys_XC = (rates_XGC == 0).all(axis=1)
    smallest_X = np.where(is_nobodys_XC, np.inf, ratios_XC).min(axis=1, initial=np.inf)
    return np.where(np.isinf(smallest_X), np.nan, smallest_X)


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
    counts = _count(groups, predictions, predictions)
    if not _is_enough(counts, min_n):
        return float("nan")
    return float(largest_of(counts.selection_rates())[0])


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
    watched = None if positive is None else [positive]
    counts = _count(groups, predictions, predictions, watched)
    if not _is_enough(counts, min_n):
        return float("nan")
    return float(smallest_ratio(counts.selection_rates())[0])


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
    check_columns("equalized odds", predictions=predictions, references=references, groups=groups)
    counts = _count(groups, references, predictions, classes)
    return float(largest_of(counts.odds())[0]) if _is_enough(counts, min_n) else float("nan")


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
    check_columns(
        "equal opportunity", predictions=predictions, references=references, groups=groups
    )
    counts = _count(groups, references, predictions, classes)
    return float(largest_of(counts.hit_rates())[0]) if _is_enough(counts, min_n) else float("nan")


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


def _count(
    groups: Sequence[Hashable],
    references: Sequence[Hashable],
    predictions: Sequence[Hashable],
    classes: Collection[Hashable] | None = None,
) -> GroupCounts:
    """Count items of one class each, in one table, by group; only these classes, if given."""
    group_codes, codes = _codes(groups), _codes([*references, *predictions])
    n, num_classes = len(groups), int(codes.max()) + 1
    counts_GCC = np.zeros((int(group_codes.max()) + 1, num_classes, num_classes))
    np.add.at(counts_GCC, (group_codes, codes[:n], codes[n:]), 1)
    known = dict.fromkeys([*references, *predictions])
    watched = np.array([classes is None or name in classes for name in known])
    return GroupCounts(
        counts_GCC.sum(axis=(1, 2))[None],
        counts_GCC.sum(axis=2)[None][:, :, watched],
        counts_GCC.sum(axis=1)[None][:, :, watched],
        np.diagonal(counts_GCC, axis1=1, axis2=2)[None][:, :, watched],
    )


def _codes(values: Sequence[Hashable]) -> NDArray[np.intp]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.intp)


def _is_enough(counts: GroupCounts, min_n: int) -> bool:
    return counts.sizes.shape[1] >= 2 and bool((counts.sizes >= min_n).all())


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
