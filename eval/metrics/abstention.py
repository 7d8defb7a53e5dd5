"""Abstention: whether a model declines where it should, and only there.

The two sides of SQuAD 2.0 (Rajpurkar, Jia and Liang 2018, arXiv:1806.03822): an answer to a
question that has none is made up, and a refusal of one that has is of no use. Either alone is
won by a model that always does the same, so read them together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from eval.metrics.metric import BOOL, LocalMetric, check_columns


def over_refusal_rate(answered: Sequence[bool], answerable: Sequence[bool]) -> float:
    """Return the share of the answerable questions that got no answer; NaN if there are none.

    Raises:
        EvaluationError: if there are no questions, or lengths differ.

    Example:
        >>> over_refusal_rate([True, False, True], [True, True, False])
        0.5
    """
    check_columns("over-refusal", answered=answered, answerable=answerable)
    return _share([not a for a, is_one in zip(answered, answerable, strict=True) if is_one])


def answered_unanswerable_rate(answered: Sequence[bool], answerable: Sequence[bool]) -> float:
    """Return the share of the unanswerable questions that got an answer; NaN if there are none.

    Raises:
        EvaluationError: if there are no questions, or lengths differ.
    """
    check_columns("abstention", answered=answered, answerable=answerable)
    return _share([a for a, is_one in zip(answered, answerable, strict=True) if not is_one])


def abstention_error(answered: Sequence[bool], answerable: Sequence[bool]) -> float:
    """Return the mean of the two rates, in 0..1; lower is better, NaN if either is undefined.

    One minus the balanced accuracy of "this can be answered". A model that always answers, never
    does, or decides by lot, has 0.5.

    Raises:
        EvaluationError: if there are no questions, or lengths differ.
    """
    return (
        over_refusal_rate(answered, answerable) + answered_unanswerable_rate(answered, answerable)
    ) / 2


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found) if found else math.nan


class Abstention(LocalMetric):
    """Over-refusal and answers where there is none, of answered (predictions), answerable."""

    inputs: ClassVar = {"predictions": BOOL, "references": BOOL}
    paper = "Rajpurkar, Jia and Liang 2018, arXiv:1806.03822"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {
            "over_refusal_rate": over_refusal_rate(predictions, references),
            "answered_unanswerable_rate": answered_unanswerable_rate(predictions, references),
            "abstention_error": abstention_error(predictions, references),
        }
