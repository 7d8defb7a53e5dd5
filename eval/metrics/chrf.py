"""chrF: overlap with the reference by character n-grams, in any script."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
from sacrebleu.metrics import CHRF

from eval.metrics.metric import TEXT, LocalMetric, check_columns


def chrf(prediction: str, references: Sequence[str]) -> float:
    """Return sentence chrF2 against the best of the references, in 0..1.

    Popovic 2015 (aclanthology W15-3049): F with beta = 2 over character 1- to 6-grams without
    spaces, by ``sacrebleu`` (which reports 0..100). Without a reference that has a character
    it is NaN; an empty prediction gives 0.0.

    Example:
        >>> chrf("thirty days", ["thirty days"])
        1.0
    """
    references = [r for r in references if r.strip()]
    if not references:
        return math.nan
    return float(_chrf().sentence_score(prediction, references).score) / 100


def corpus_chrf(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return chrF2 of n-gram counts summed over all items, in 0..1.

    Not the mean of `chrf`: long items weigh more. NaN if an item has no reference.

    Raises:
        EvaluationError: if there are no items, or the columns differ in length.
    """
    check_columns("chrF", predictions=predictions, references=references)
    golds = [[r for r in item if r.strip()] for item in references]
    if not all(golds):
        return math.nan
    width = max(map(len, golds))  # sacrebleu wants references by column; None is no reference
    columns = [[item[i] if i < len(item) else None for item in golds] for i in range(width)]
    return float(_chrf().corpus_score(predictions, columns).score) / 100


@functools.cache
def _chrf() -> Any:
    return CHRF()


class Chrf(LocalMetric):
    """Corpus chrF2 in 0..1; references are lists, one a prediction."""

    inputs: ClassVar = {"predictions": TEXT, "references": datasets.List(TEXT)}
    paper = "Popovic 2015, https://aclanthology.org/W15-3049"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"chrf": corpus_chrf(predictions, references)}
