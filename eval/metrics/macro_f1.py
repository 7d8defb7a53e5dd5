"""Macro F1: the mean over classes of the harmonic mean of precision and recall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from eval.metrics.metric import LocalMetric, check_columns


def macro_f1(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> float:
    """Return the unweighted mean of the classes' F1, in 0..1.

    For a class with t right answers, p predictions and r references, ``F1 = 2t / (p + r)``. The
    classes are those in the references or the predictions, as in scikit-learn's
    ``f1_score(average="macro")``, with which it agrees; counted here because a bootstrap asks
    for it a thousand times. It averages the F1 values, and is not the F1 of averaged precision
    and recall (Opitz and Burst 2019, arXiv:1911.03347, set the two apart).

    Raises:
        EvaluationError: if there are no items, or the columns differ in length.

    Example:
        >>> macro_f1(["a", "b", "b", "a"], ["a", "b", "a", "a"])
        0.7333333333333334
    """
    check_columns("macro F1", predictions=predictions, references=references)
    right = Counter(r for p, r in zip(predictions, references, strict=True) if p == r)
    both = Counter(predictions) + Counter(references)
    return sum(2 * right[label] / both[label] for label in both) / len(both)


class MacroF1(LocalMetric):
    """Unweighted mean of F1 over the labels in the references or the predictions."""

    paper = "Opitz and Burst 2019, arXiv:1911.03347"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"macro_f1": macro_f1(predictions, references)}
