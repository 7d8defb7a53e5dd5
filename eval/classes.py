"""What all tasks of a classifier share: sound rows, sound probabilities, figures by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from eval.errors import EvaluationError
from eval.items import LabelledText
from eval.metrics.calibration import bins_of
from eval.sums import OfSums, Values, divided, mean_of_defined, one_hot
from eval.task import Progress, Sample

_NUM_BINS = 15


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


def macro_f1_of(labels: Sequence[str]) -> OfSums:
    """Return `eval.metrics.macro_f1.macro_f1` of predictions and targets, as a figure of sums."""

    def figure(sums_XK: Values) -> Values:
        hits, given, wanted = np.split(sums_XK, 3, axis=1)
        return mean_of_defined(divided(2 * hits, given + wanted))

    return OfSums(_by_class(labels), figure)


def worst_recall_of(labels: Sequence[str]) -> OfSums:
    """Return the smallest of `eval.metrics.per_class_recall.per_class_recall`, likewise."""

    def figure(sums_XK: Values) -> Values:
        hits, _, wanted = np.split(sums_XK, 3, axis=1)
        recalls = divided(hits, wanted)
        smallest = np.where(np.isnan(recalls), np.inf, recalls).min(axis=1)
        return np.where(np.isinf(smallest), np.nan, smallest)

    return OfSums(_by_class(labels), figure)


def calibration_error() -> OfSums:
    """Return `eval.metrics.calibration.expected_calibration_error`, likewise."""

    def terms(samples: Sequence[Sample]) -> csr_array[np.float64]:
        confidences = np.array([s.scores["confidence"] for s in samples], dtype=np.float64)
        surplus = np.array([bool(s.correct) for s in samples]) - confidences
        bins = one_hot(bins_of(confidences, _NUM_BINS).tolist(), _NUM_BINS)
        ones = csr_array(np.ones((len(samples), 1)))
        return csr_array(hstack([csr_array(bins.multiply(surplus[:, None])), ones]))

    def figure(sums_XK: Values) -> Values:
        return divided(np.abs(sums_XK[:, :-1]).sum(axis=1), sums_XK[:, -1])

    return OfSums(terms, figure)


def _by_class(labels: Sequence[str]) -> Callable[[Sequence[Sample]], csr_array[np.float64]]:
    """Return the terms: hits, predictions and targets of each class, shape (N, 3 C)."""
    number = {label: i for i, label in enumerate(labels)}

    def terms(samples: Sequence[Sample]) -> csr_array[np.float64]:
        given = [number[s.prediction] for s in samples]
        wanted = [number[s.target] for s in samples]
        hits = [a if a == b else -1 for a, b in zip(given, wanted, strict=True)]
        return csr_array(hstack([one_hot(codes, len(number)) for codes in (hits, given, wanted)]))

    return terms
