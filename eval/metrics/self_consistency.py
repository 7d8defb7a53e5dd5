"""Self-consistency: whether a model says the same when it is asked again.

Answers are sampled several times from one prompt. What a model knows it tends to repeat, and
what it makes up it tends to make up anew (Manakul et al. 2023, arXiv:2303.08896). Two answers
count as one meaning when their token F1 (`eval.metrics.squad`) reaches a threshold, which suits
short answers; the papers use a second model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
import numpy as np

from eval.errors import EvaluationError
from eval.metrics.metric import TEXT, LocalMetric, check_columns
from eval.metrics.squad import token_f1

DEFAULT_THRESHOLD = 0.7


def agreement_share(answers: Sequence[str], *, threshold: float = DEFAULT_THRESHOLD) -> float:
    """Return the share of pairs of answers that agree, in 0..1; NaN for a single answer.

    Raises:
        EvaluationError: if there are no answers.

    Example:
        >>> round(agreement_share(["30 days", "the 30 days", "a year"]), 4)
        0.3333
    """
    check_columns("agreement", answers=answers)
    pairs = list(itertools.combinations(answers, 2))
    return sum(_agree(a, b, threshold) for a, b in pairs) / len(pairs) if pairs else math.nan


def semantic_entropy(answers: Sequence[str], *, threshold: float = DEFAULT_THRESHOLD) -> float:
    """Return the entropy of meanings among the answers in nats, from 0 to ln(number of answers).

    The discrete form of Farquhar et al. 2024 (Nature 630: 625-630): each answer joins the first
    cluster whose first member it agrees with, and cluster c has probability n_c / M. Lower is
    better; compare only figures of as many answers a prompt. NaN for a single answer.

    Raises:
        EvaluationError: if there are no answers.

    Example:
        >>> round(semantic_entropy(["30 days", "30 days", "a year", "never"]), 4)
        1.0397
    """
    num_answers = check_columns("semantic entropy", answers=answers)
    clusters: list[list[str]] = []
    for answer in answers:
        for cluster in clusters:
            if _agree(answer, cluster[0], threshold):
                cluster.append(answer)
                break
        else:
            clusters.append([answer])
    shares = [len(cluster) / num_answers for cluster in clusters]
    return sum(-p * math.log(p) for p in shares) + 0.0 if num_answers > 1 else math.nan


def _agree(a: str, b: str, threshold: float) -> bool:
    return token_f1(a, [b]) >= threshold


class SelfConsistency(LocalMetric):
    """Mean agreement and semantic entropy; a prediction is the list of answers to one prompt."""

    inputs: ClassVar = {"predictions": datasets.List(TEXT)}
    paper = "Manakul et al. 2023, arXiv:2303.08896; Farquhar et al. 2024, Nature 630: 625-630"

    def _compute(self, predictions: Any) -> dict[str, float]:
        if not len(predictions):
            raise EvaluationError("self-consistency needs at least one prompt, got none")
        return {
            "agreement": float(np.mean([*map(agreement_share, predictions)])),
            "semantic_entropy": float(np.mean([*map(semantic_entropy, predictions)])),
        }
