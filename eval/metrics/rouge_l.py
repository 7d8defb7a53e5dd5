"""ROUGE-L: overlap with the reference by the longest common subsequence of words."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from rouge_score import rouge_scorer

from eval.metrics.metric import LocalMetric, check_columns


def rouge_l(prediction: str, reference: str) -> float:
    """Return the F measure of the longest common subsequence of tokens, in 0..1.

    Lin 2004 (aclanthology W04-1013), section 3.1, with beta = 1, by the ``rouge-score`` package
    without stemming. Its tokens are runs of ``a-z0-9`` after lowering the case: letters with
    accents split words, and other scripts have no tokens at all. A reference without a token
    gives NaN, since nothing could match it; an empty prediction gives 0.0.

    Example:
        >>> round(rouge_l("the cat sat", "the cat is on the mat"), 4)
        0.4444
    """
    scorer = _scorer()
    if not scorer._tokenizer.tokenize(reference):
        return math.nan
    return float(scorer.score(reference, prediction)["rougeL"].fmeasure)


@functools.cache
def _scorer() -> Any:
    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


class RougeL(LocalMetric):
    """Mean over items of the ROUGE-L F measure, in 0..1; NaN if a reference has no tokens."""

    paper = "Lin 2004, https://aclanthology.org/W04-1013"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        check_columns("ROUGE-L", predictions=predictions, references=references)
        return {"rouge_l": float(np.mean([*map(rouge_l, predictions, references)]))}
