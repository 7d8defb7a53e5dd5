"""Perplexity of the reference answer: how surprised the model is by what should be said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from eval.errors import EvaluationError
from eval.metrics.metric import INTEGER, NUMBER, LocalMetric, check_columns


def perplexity(loglikelihoods: Sequence[float], num_tokens: Sequence[int]) -> float:
    """Return ``exp(-sum of loglikelihoods / sum of tokens)``, at least 1; lower is better.

    Token-weighted over all texts, not a mean of each text's perplexity. Only comparable between
    models with the same tokenizer: an adapter and its base, not two bases. Infinite where it
    exceeds what a float holds, or a text was held impossible.

    Args:
        loglikelihoods: summed natural-log likelihood of each text, at most 0.
        num_tokens: number of tokens that were scored, per text.

    Raises:
        EvaluationError: if there are no texts or no tokens, or lengths differ.

    Example:
        >>> round(perplexity([-math.log(8), -math.log(2)], [3, 1]), 9)
        2.0
    """
    check_columns("perplexity", loglikelihoods=loglikelihoods, num_tokens=num_tokens)
    total = sum(num_tokens)
    if total < 1:
        raise EvaluationError("perplexity needs at least one scored token, got none")
    try:
        return math.exp(-math.fsum(loglikelihoods) / total)
    except OverflowError:
        return math.inf


class Perplexity(LocalMetric):
    """Perplexity of summed log-likelihoods in nats (predictions) and token counts (references)."""

    inputs: ClassVar = {"predictions": NUMBER, "references": INTEGER}

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"perplexity": perplexity(predictions, references)}
