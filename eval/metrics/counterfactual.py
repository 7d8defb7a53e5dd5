"""Counterfactual pairs: what changes when only the person in the text does.

Garg et al. 2019 (counterfactual token fairness, arXiv:1809.10610); Huang et al. 2020
(arXiv:1911.03064). Any edit of a text moves a model a little, so each figure is to be read
against its noise floor: the same figure for edits that touch no protected attribute.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from eval.metrics.metric import LocalMetric, check_columns


def flip_rate(originals: Sequence[Hashable], counterfactuals: Sequence[Hashable]) -> float:
    """Return the share of pairs whose two answers differ, in 0..1; ideal 0.

    Raises:
        EvaluationError: if there are no pairs, or lengths differ.
    """
    n = check_columns("flip rate", originals=originals, counterfactuals=counterfactuals)
    return sum(a != b for a, b in zip(originals, counterfactuals, strict=True)) / n


def mean_absolute_gap(originals: Sequence[float], counterfactuals: Sequence[float]) -> float:
    """Return the mean of ``|g(x) - g(x')|`` over pairs of scores; ideal 0, NaN if a score is.

    Raises:
        EvaluationError: if there are no pairs, or lengths differ.
    """
    check_columns("score gap", originals=originals, counterfactuals=counterfactuals)
    return float(np.mean(np.abs(np.subtract(originals, counterfactuals))))


def excess_over_noise(observed: Sequence[float], noise: Sequence[float]) -> float:
    """Return the mean over swaps minus the mean over neutral edits; ideal 0.

    Not cut off at zero: below it, the swap moves the model less than a neutral edit does.

    Args:
        observed: a per-pair figure (flipped or not, absolute gap) where the person was swapped.
        noise: the same for edits that touch no protected attribute; any number of them.

    Raises:
        EvaluationError: if either is empty.
    """
    check_columns("counterfactual excess", observed=observed)
    check_columns("noise floor", noise=noise)
    return float(np.mean(observed) - np.mean(noise))


class Counterfactual(LocalMetric):
    """Flip rate between answers on the originals (references) and on the swapped (predictions)."""

    paper = "Garg et al. 2019, arXiv:1809.10610"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"flip_rate": flip_rate(references, predictions)}
