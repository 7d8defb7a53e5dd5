"""Selective prediction: whether the model is least sure where it is wrong or out of its depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from eval.errors import EvaluationError
from eval.metrics.metric import BOOL, NUMBER, LocalMetric, check_columns


def aurc(confidences: Sequence[float], correct: Sequence[bool]) -> float:
    """Return the area under the risk-coverage curve, in 0..1; lower is better.

    Mean over k of the error rate among the k most confident answers (Geifman, Uziel and El-Yaniv
    2019, arXiv:1805.08206). Answers of equal confidence count with their expected
    value over all orders, so that the order of the items does not matter.

    Raises:
        EvaluationError: if there are no items, lengths differ, or a confidence is NaN.
    """
    wrong, sizes = _blocks(confidences, correct)
    k = np.arange(1, sizes.sum() + 1)
    return float(np.mean(np.cumsum(np.repeat(wrong / sizes, sizes)) / k))


def excess_aurc(confidences: Sequence[float], correct: Sequence[bool]) -> float:
    """Return AURC minus that of the best possible order of the same answers; 0 is ideal.

    The best order is computed exactly (all right answers first), where the paper's equation
    takes its limit ``r + (1 - r) ln(1 - r)``.

    Raises:
        EvaluationError: if there are no items, lengths differ, or a confidence is NaN.
    """
    value = aurc(confidences, correct)
    return value - aurc([float(c) for c in correct], correct) if not all(correct) else value


def coverage_at_risk(
    confidences: Sequence[float], correct: Sequence[bool], *, risk: float = 0.05
) -> float:
    """Return the largest share of items that can be answered with an error rate of at most risk.

    Over all thresholds; equal confidences are answered together. 0.0 if none will do. The
    threshold is chosen on the very items, so this is what the ranking could give at best: fix
    a threshold on other data before relying on one.

    Raises:
        EvaluationError: if there are no items, lengths differ, or a confidence is NaN.
    """
    wrong, sizes = _blocks(confidences, correct)
    answered = np.cumsum(sizes)
    return float(max(answered[np.cumsum(wrong) / answered <= risk], default=0) / answered[-1])


def auroc(confidences: Sequence[float], correct: Sequence[bool]) -> float:
    """Return the chance that a right answer is more confident than a wrong one; ties are half.

    The Mann-Whitney statistic; 0.5 is no better than chance. NaN if all answers are right or
    all are wrong.

    Raises:
        EvaluationError: if there are no items, lengths differ, or a confidence is NaN.
    """
    check_columns("AUROC", confidences=confidences, correct=correct)
    scores, right = _no_nan(confidences), np.asarray(correct, dtype=bool)
    num_right, num_wrong = int(right.sum()), int((~right).sum())
    if not num_right or not num_wrong:
        return math.nan
    above = rankdata(scores)[right].sum() - num_right * (num_right + 1) / 2
    return float(above / (num_right * num_wrong))


def false_positive_rate_at_tpr(
    in_scope: Sequence[float], out_of_scope: Sequence[float], *, tpr: float = 0.95
) -> float:
    """Return the share of out-of-scope inputs that pass for in-scope ones; lower is better.

    The threshold is the highest that keeps at least a share ``tpr`` of the in-scope inputs (a
    confidence at or above it is kept); counted are the out-of-scope inputs at or above it. With
    ``tpr=0.95`` the FPR95 of Liang, Li and Srikant 2018 (ODIN, arXiv:1706.02690).

    Raises:
        EvaluationError: if either is empty or holds NaN.
    """
    n = check_columns("out-of-scope detection", in_scope=in_scope)
    check_columns("out-of-scope detection", out_of_scope=out_of_scope)
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must lie in (0, 1], got {tpr!r}")
    num_kept = math.ceil(tpr * n - 1e-9)  # 0.55 * 20 is a hair above 11
    threshold = np.sort(_no_nan(in_scope))[::-1][max(num_kept, 1) - 1]
    return float(np.mean(_no_nan(out_of_scope) >= threshold))


def _blocks(
    confidences: Sequence[float], correct: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return errors and sizes of the blocks of equal confidence, the most confident first."""
    check_columns("risk-coverage", confidences=confidences, correct=correct)
    wrong = 1 - np.asarray(correct, dtype=np.float64)
    _, block, sizes = np.unique(-_no_nan(confidences), return_inverse=True, return_counts=True)
    return np.bincount(block, wrong).astype(np.float64), sizes


def _no_nan(confidences: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(confidences, dtype=np.float64)
    if np.isnan(values).any():
        raise EvaluationError(f"{np.isnan(values).sum()} of {len(values)} confidences are NaN")
    return values


class Selective(LocalMetric):
    """AURC, its excess, AUROC and coverage at 5 % risk of confidences against correctness."""

    inputs: ClassVar = {"predictions": NUMBER, "references": BOOL}
    paper = "Geifman, Uziel and El-Yaniv 2019, arXiv:1805.08206"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {
            "aurc": aurc(predictions, references),
            "excess_aurc": excess_aurc(predictions, references),
            "auroc": auroc(predictions, references),
            "coverage_at_risk": coverage_at_risk(predictions, references),
        }
