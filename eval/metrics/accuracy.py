"""Accuracy: the share of items answered right."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from eval.metrics.metric import LocalMetric, check_columns


def accuracy(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> float:
    """Return the share of predictions that equal their reference, in 0..1.

    Equality is exact; what counts as equal text (case, spaces) is the caller's to normalise.

    Raises:
        EvaluationError: if there are no items, or the columns differ in length.

    Example:
        >>> accuracy(["a", "b", "b", "a"], ["a", "b", "a", "a"])
        0.75
    """
    n = check_columns("accuracy", predictions=predictions, references=references)
    return sum(p == r for p, r in zip(predictions, references, strict=True)) / n


class Accuracy(LocalMetric):
    """Share of predicted labels that equal their reference."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": accuracy(predictions, references)}
