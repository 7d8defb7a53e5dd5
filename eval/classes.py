"""What all tasks of a classifier share: its rows are sound, and so are its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eval.errors import EvaluationError
from eval.items import LabelledText
from eval.task import Progress


class ClassModel(Protocol):
    """What is asked for classes: `eval.classifier.Classifier` or `ZeroShotClassifier`."""

    def probabilities(self, texts: Sequence[str], progress: Progress) -> NDArray[np.float64]:
        """Return P(label | text), shape (texts, labels)."""
        ...


def is_multi_label(rows: Sequence[LabelledText], labels: Sequence[str]) -> bool:
    """Return whether several classes may hold at once.

    Raises:
        EvaluationError: if rows of both kinds are mixed, or a label is unknown.
    """
    kinds = {isinstance(row.label, str) for row in rows}
    if len(kinds) > 1:
        raise EvaluationError("some rows have one label and some a tuple of labels; use one form")
    for row in rows:
        found = [row.label] if isinstance(row.label, str) else row.label
        if unknown := [label for label in found if label not in labels]:
            raise EvaluationError(
                f"row {row.id} has the label {unknown[0]!r}, which is not one of the "
                f"{len(labels)} labels the model was trained on; correct it or drop the row"
            )
    return kinds == {False}


def classify(
    model: ClassModel, texts: Sequence[str], labels: Sequence[str], progress: Progress
) -> NDArray[np.float64]:
    """Return P(label | text), shape (texts, labels).

    Raises:
        EvaluationError: if the model has other labels, in number or in order.
    """
    known = getattr(model, "labels", None)
    if known is not None and tuple(known) != tuple(labels):
        raise EvaluationError(
            "the model's labels are not those of the evaluation data, or in another order; "
            "evaluate with the labels that were recorded at training"
        )
    p = model.probabilities(texts, progress)
    if p.shape != (len(texts), len(labels)):
        raise EvaluationError(
            f"the model gave probabilities of shape {p.shape} for {len(texts)} texts and "
            f"{len(labels)} labels"
        )
    return p
