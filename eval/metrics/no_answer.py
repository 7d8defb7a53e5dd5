"""When to answer: the threshold on a model's own doubt, as the SQuAD 2.0 script has it.

Rajpurkar, Jia and Liang 2018 (arXiv:1806.03822), ``evaluate-v2.0.py``: an answer is withdrawn where
the probability that there is none lies above a threshold, and a withdrawn answer is right where
there is none. Its best threshold is chosen on the questions that it is reported on, which
flatters: choose on one part, and report on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from eval.metrics.metric import BOOL, NUMBER, LocalMetric, check_columns


def score_at_threshold(
    scores: Sequence[float],
    na_probabilities: Sequence[float],
    has_answer: Sequence[bool],
    threshold: float,
) -> float:
    """Return the mean score when answers above the threshold are withdrawn.

    Args:
        scores: exact match or F1 of each question as it was answered, in 0..1.
        na_probabilities: of each, that it has no answer.
        has_answer: whether it has one.
        threshold: an answer stays where its probability is at most this.

    Raises:
        EvaluationError: if there are no questions, or lengths differ.
    """
    check_columns("no-answer", scores=scores, na=na_probabilities, has_answer=has_answer)
    is_withdrawn = np.asarray(na_probabilities, dtype=np.float64) > threshold
    kept = np.where(is_withdrawn, ~np.asarray(has_answer, dtype=bool), scores)
    return float(kept.mean())


def best_threshold(
    scores: Sequence[float], na_probabilities: Sequence[float], has_answer: Sequence[bool]
) -> tuple[float, float]:
    """Return the best mean score that a threshold reaches, and the lowest threshold that does.

    Thresholds are 0, which the script calls "answer nothing" and starts from, and all
    probabilities. Questions of one probability are withdrawn together, as a threshold does; the
    script takes them one by one, so that where many tie, its best may be reached by no threshold.

    Returns:
        The score, and the threshold; ``-1.0`` stands for one below all, where nothing is answered.

    Raises:
        EvaluationError: if there are no questions, or lengths differ.

    Example:
        >>> best_threshold([1.0, 0.0, 0.0], [0.2, 0.9, 0.4], [True, False, False])
        (1.0, 0.2)
    """
    n = check_columns("no-answer", scores=scores, na=na_probabilities, has_answer=has_answer)
    na = np.asarray(na_probabilities, dtype=np.float64)
    order = np.argsort(na, kind="stable")
    withdrawn = ~np.asarray(has_answer, dtype=bool)
    gains = (np.asarray(scores, dtype=np.float64) - withdrawn)[order]
    totals = np.concatenate([[withdrawn.sum()], withdrawn.sum() + np.cumsum(gains)])
    sorted_na = na[order]
    is_end = np.append(sorted_na[1:] != sorted_na[:-1], True)
    thresholds = np.concatenate([[-1.0], sorted_na[is_end]])
    reached = np.concatenate([totals[:1], totals[1:][is_end]])
    best = int(reached.argmax())
    return float(reached[best] / n), float(thresholds[best])


class NoAnswer(LocalMetric):
    """Best mean score over thresholds on the no-answer probability, and where it lies."""

    inputs: ClassVar = {
        "predictions": {"score": NUMBER, "na_probability": NUMBER},
        "references": BOOL,
    }
    paper = "Rajpurkar, Jia and Liang 2018, arXiv:1806.03822"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        best, threshold = best_threshold(
            [p["score"] for p in predictions],
            [p["na_probability"] for p in predictions],
            references,
        )
        return {"best": best, "best_threshold": threshold}
