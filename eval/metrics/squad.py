"""Exact match and token F1 as the SQuAD 2.0 script computes them, and its two halves.

Rajpurkar, Jia and Liang 2018 (arXiv:1806.03822), ``evaluate-v2.0.py``. A question without an
answer has the golds ``[]`` or ``[""]``, and the right prediction is the empty string: turn a
refusal in words into "" before scoring it.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import datasets

from eval.metrics.metric import TEXT, LocalMetric, check_columns

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower the case, then drop ASCII punctuation, articles and extra spaces, in this order.

    Example:
        >>> normalize_answer("The  Eiffel-Tower, a tower!")
        'eiffeltower tower'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def has_answer(golds: Sequence[str]) -> bool:
    """Return whether the question has an answer at all (a gold that is not empty)."""
    return any(golds)


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """Return 1.0 if the normalised prediction equals a normalised gold, else 0.0.

    Golds that normalise to nothing are left out; if none remains the gold is the empty answer.
    """
    return float(any(normalize_answer(prediction) == normalize_answer(g) for g in _scored(golds)))


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """Return the best F1 of normalised tokens, counted with repeats, over the golds, in 0..1.

    If either side has no tokens it is 1.0 when neither has, and 0.0 otherwise.

    Example:
        >>> token_f1("30 calendar days", ["30 days", "a month"])
        0.8
    """
    return max(_f1(normalize_answer(prediction).split(), gold) for gold in _tokens(golds))


def split_by_answer(golds: Sequence[Sequence[str]]) -> tuple[list[int], list[int]]:
    """Return the positions of the questions that have an answer, and of those that have none."""
    answerable = [i for i, item in enumerate(golds) if has_answer(item)]
    return answerable, [i for i, item in enumerate(golds) if not has_answer(item)]


def _scored(golds: Sequence[str]) -> list[str]:
    return [gold for gold in golds if normalize_answer(gold)] or [""]


def _tokens(golds: Sequence[str]) -> list[list[str]]:
    return [normalize_answer(gold).split() for gold in _scored(golds)]


def _f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    num_same = sum((Counter(predicted) & Counter(gold)).values())
    return 2 * num_same / (len(predicted) + len(gold))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


class SquadV2(LocalMetric):
    """SQuAD 2.0 exact match and F1, in 0..1, over all questions and over its two halves.

    References are lists of golds, empty for a question without an answer. A half that has no
    questions is NaN.
    """

    inputs: ClassVar = {"predictions": TEXT, "references": datasets.List(TEXT)}
    paper = "Rajpurkar, Jia and Liang 2018, arXiv:1806.03822"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        n = check_columns("SQuAD", predictions=predictions, references=references)
        answerable, unanswerable = split_by_answer(references)
        parts = {"": range(n), "has_ans_": answerable, "no_ans_": unanswerable}
        scores = {"exact_match": exact_match, "f1": token_f1}
        return {
            f"{part}{name}": _mean([score(predictions[i], references[i]) for i in positions])
            for part, positions in parts.items()
            for name, score in scores.items()
        }
