"""Context gain: by how much the passage makes an answer likelier than the question alone does.

The pointwise mutual information of answer and passage, given the question (as used by van der
Poel, Cotterell and Meister 2022, arXiv:2210.13210, against hallucinated summaries). An answer
that is no likelier with the passage than without does not come from it. Needs only the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from eval.errors import EvaluationError
from eval.metrics.metric import INTEGER, NUMBER, LocalMetric, check_columns


def context_gain(with_context: float, without_context: float, num_tokens: int) -> float:
    """Return ``(ll(answer | context, question) - ll(answer | question)) / tokens``, in nats.

    Args:
        with_context: summed natural-log likelihood of the answer, given context and question.
        without_context: the same of the same tokens, given the question alone.
        num_tokens: number of the answer's tokens.

    Raises:
        EvaluationError: if the answer has no tokens.

    Example:
        >>> context_gain(-2.0, -8.0, 3)
        2.0
    """
    if num_tokens < 1:
        raise EvaluationError("context gain needs at least one token of an answer, got none")
    return (with_context - without_context) / num_tokens


def mean_context_gain(
    with_context: Sequence[float], without_context: Sequence[float], num_tokens: Sequence[int]
) -> float:
    """Return the mean of `context_gain` over answers; NaN if a log-likelihood is.

    Raises:
        EvaluationError: if there are no answers, one has no tokens, or lengths differ.
    """
    columns = {"with_context": with_context, "without_context": without_context}
    check_columns("context gain", num_tokens=num_tokens, **columns)
    triples = zip(with_context, without_context, num_tokens, strict=True)
    return float(np.mean([context_gain(*triple) for triple in triples]))


class ContextGain(LocalMetric):
    """Mean gain in nats a token; a prediction has both log-likelihoods, a reference is tokens."""

    inputs: ClassVar = {
        "predictions": {"with_context": NUMBER, "without_context": NUMBER},
        "references": INTEGER,
    }
    paper = "van der Poel, Cotterell and Meister 2022, arXiv:2210.13210"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        given = [p["with_context"] for p in predictions]
        alone = [p["without_context"] for p in predictions]
        return {"context_gain": mean_context_gain(given, alone, references)}
