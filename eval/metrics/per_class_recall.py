"""Recall of each class: which labels a good accuracy hides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

from eval.metrics.metric import LocalMetric, check_columns

Label = TypeVar("Label", bound=Hashable)


def per_class_recall(
    predictions: Sequence[Label], references: Sequence[Label]
) -> dict[Label, float]:
    """Return, for each label, the share of its items that were given that label.

    Labels come in the order in which they first occur in the references, then in the
    predictions. A label that was only predicted has no items, and its recall is NaN.

    Raises:
        EvaluationError: if there are no items, or the columns differ in length.

    Example:
        >>> per_class_recall(["a", "b", "b", "c"], ["a", "b", "a", "b"])
        {'a': 0.5, 'b': 0.5, 'c': nan}
    """
    check_columns("per-class recall", predictions=predictions, references=references)
    num_items = Counter(references)
    num_right = Counter(r for p, r in zip(predictions, references, strict=True) if p == r)
    labels = dict.fromkeys([*references, *predictions])
    return {
        label: num_right[label] / num_items[label] if label in num_items else math.nan
        for label in labels
    }


class PerClassRecall(LocalMetric):
    """Recall of each label; NaN for a label that occurs in the predictions only."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return per_class_recall(predictions, references)
