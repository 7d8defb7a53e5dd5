"""Calibration: whether a confidence of 80 % is right eight times in ten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.errors import EvaluationError
from eval.metrics.metric import INTEGER, NUMBER, LocalMetric, check_columns


def expected_calibration_error(
    confidences: Sequence[float], correct: Sequence[bool], *, num_bins: int = 15
) -> float:
    """Return ``sum_b n_b/n * |accuracy_b - mean confidence_b|`` over equal-width bins, in 0..1.

    Section 2, equation 3 of Guo et al. 2017 (arXiv:1706.04599): bin b holds the confidences in
    ``((b-1)/B, b/B]``; 0 goes to the first bin; empty bins add nothing. It is biased upwards on
    few items and is no proper score: compare models by `brier_score`, and show this one.

    Args:
        confidences: probability of the chosen label, per item.
        correct: whether the chosen label was right, per item.
        num_bins: B.

    Raises:
        EvaluationError: if there are no items, lengths differ, or a confidence is not in 0..1.
    """
    n = check_columns("calibration error", confidences=confidences, correct=correct)
    c, right = _probabilities(confidences), np.asarray(correct, dtype=np.float64)
    surplus = np.bincount(bins_of(c, num_bins), right - c, minlength=num_bins)
    return float(np.abs(surplus).sum() / n)


def bins_of(confidences: ArrayLike, num_bins: int = 15) -> NDArray[np.intp]:
    """Return the bin of each confidence in `expected_calibration_error`, from 0.

    Raises:
        EvaluationError: if a confidence is not in 0..1.
    """
    places = np.ceil(_probabilities(confidences) * num_bins).astype(np.intp) - 1
    return np.clip(places, 0, num_bins - 1)


def adaptive_calibration_error(
    confidences: Sequence[float], correct: Sequence[bool], *, num_bins: int = 15
) -> float:
    """Return the calibration error over bins of equal mass, in 0..1.

    As `expected_calibration_error`, but the sorted confidences are cut into ``num_bins`` runs
    of as equal a size as can be (Nguyen and O'Connor 2015, arXiv:1508.05154;
    "adaptive" in Nixon et al. 2019, arXiv:1904.01685), so that no bin is empty where a model is
    always sure. Equal confidences count with the mean of their outcomes, so the order of the
    items does not matter. With fewer items than bins each item is its own bin.

    Raises:
        EvaluationError: if there are no items, lengths differ, or a confidence is not in 0..1.
    """
    n = check_columns("calibration error", confidences=confidences, correct=correct)
    c, right = _probabilities(confidences), np.asarray(correct, dtype=np.float64)
    _, block, sizes = np.unique(c, return_inverse=True, return_counts=True)
    surplus = np.sort(c) - np.repeat(np.bincount(block, right) / sizes, sizes)
    parts = np.array_split(surplus, min(num_bins, n))
    return float(sum(abs(part.sum()) for part in parts) / n)


def overconfidence(confidences: Sequence[float], correct: Sequence[bool]) -> float:
    """Return mean confidence minus accuracy, in -1..1; above zero the model promises too much.

    Raises:
        EvaluationError: if there are no items, lengths differ, or a confidence is not in 0..1.
    """
    check_columns("overconfidence", confidences=confidences, correct=correct)
    return float(np.mean(_probabilities(confidences) - np.asarray(correct, dtype=np.float64)))


def brier_score(probabilities: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """Return the mean over items of ``sum_k (p_k - 1[k = label])^2``, in 0..2; lower is better.

    The definition of Brier 1950 (Monthly Weather Review 78, p. 1), over all classes; for two
    classes it is twice the value of scikit-learn's ``brier_score_loss``. A proper score.

    Args:
        probabilities: one row an item, one column a class; rows sum to 1.
        labels: column of the right class, per item.

    Raises:
        EvaluationError: if there are no items, lengths differ, or a row is no distribution.
    """
    p = _distributions("Brier score", probabilities, labels)
    return float(np.mean(((p - np.eye(p.shape[1])[np.asarray(labels)]) ** 2).sum(axis=1)))


def negative_log_likelihood(
    probabilities: Sequence[Sequence[float]], labels: Sequence[int]
) -> float:
    """Return the mean of ``-ln p_label`` in nats; infinite if a right class was held impossible.

    Raises:
        EvaluationError: if there are no items, lengths differ, or a row is no distribution.
    """
    p = _distributions("log-likelihood", probabilities, labels)
    with np.errstate(divide="ignore"):
        return float(np.mean(-np.log(p[np.arange(len(p)), np.asarray(labels)])) + 0.0)


def _probabilities(values: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1 + 1e-6)).all():  # also refuses NaN; softmax may overshoot a hair
        raise EvaluationError("probabilities must lie in 0..1; these do not (or are NaN)")
    return np.minimum(p, 1.0)


def _distributions(
    what: str, probabilities: Sequence[Sequence[float]], labels: Sequence[int]
) -> NDArray[np.float64]:
    check_columns(what, probabilities=probabilities, labels=labels)
    if len({len(row) for row in probabilities}) != 1:
        raise EvaluationError(f"{what} needs as many probabilities for each item")
    p = _probabilities(probabilities)
    if not np.allclose(p.sum(axis=1), 1, atol=1e-3):  # bf16 softmax: 3 digits
        raise EvaluationError(f"{what} needs probabilities that sum to 1 for each item")
    if not all(0 <= label < p.shape[1] for label in labels):
        raise EvaluationError(f"{what} needs labels in 0..{p.shape[1] - 1}, one per column")
    return p


class Calibration(LocalMetric):
    """ECE, adaptive ECE, over-confidence, Brier and NLL of class probabilities against numbers."""

    inputs: ClassVar = {"predictions": datasets.List(NUMBER), "references": INTEGER}
    paper = "Guo et al. 2017, arXiv:1706.04599; Brier 1950"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        p = _distributions("calibration", predictions, references)
        confidences = p.max(axis=1).tolist()
        correct = (p.argmax(axis=1) == np.asarray(references)).tolist()
        return {
            "ece": expected_calibration_error(confidences, correct),
            "adaptive_ece": adaptive_calibration_error(confidences, correct),
            "overconfidence": overconfidence(confidences, correct),
            "brier": brier_score(predictions, references),
            "nll": negative_log_likelihood(predictions, references),
        }
