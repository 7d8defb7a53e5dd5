"""A confidence below which a classifier abstains, so that a stated error rate holds.

The rule is Selection with Guaranteed Risk (Geifman and El-Yaniv 2017, arXiv:1705.08500): on items
that were evaluated, find the largest share of answers whose error rate is shown to be low enough.
Each threshold is tested by the exact upper bound of Clopper and Pearson (1934), and all of them
together by Bonferroni's inequality, in the framework of Learn then Test (Angelopoulos et al. 2021,
arXiv:2110.01052).

Why it holds for every distribution and every sample size: the ranks at which the sorted
confidences are cut depend on the number of items alone. Given the confidence at such a rank, the
items above it are an independent sample of the items above it at large, so their number of errors
is binomial, and the bound is exact, ties included. A search whose next threshold depends on the
errors seen so far (as by bisection), or a fixed sequence over thresholds taken from the same
sample, has no such guarantee; the price of Bonferroni's is small (at 3,000 items, one error in a
hundred answers is allowed less).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.errors import EvaluationError
from eval.metrics.metric import check_columns
from eval.shares import clopper_pearson

_RATIO = 0.9
"""Of one rank to the next: nine tenths of the answers."""

METHOD = (
    "selection with guaranteed risk (arXiv:1705.08500): Clopper-Pearson bounds at ranks fixed "
    "beforehand, with Bonferroni's correction"
)


@dataclass(frozen=True)
class AbstentionRule:
    """Answer where the confidence is at least ``threshold``; what that promises, and from what."""

    threshold: float
    """In 0..1; ``-inf`` where every item may be answered."""

    error_rate: float
    """The promise: at most this share of the answers is wrong."""

    confidence: float
    """The chance, over the draw of the evaluated items, that the promise is kept."""

    num_items: int
    """Evaluated items that the rule was found on."""

    num_answered: int
    """Of them, those at or above the threshold."""

    num_wrong: int
    """Of the answered, those that are wrong."""

    upper_bound: float
    """Of the error rate among the answers, at ``confidence``; at most ``error_rate``."""

    num_tested: int
    """Thresholds that the confidence is shared among."""


def abstention_rule(
    confidences: Sequence[float],
    correct: Sequence[bool],
    *,
    error_rate: float,
    confidence: float = 0.95,
) -> AbstentionRule:
    """Return the rule that answers the most and keeps an error rate among its answers.

    With probability ``confidence`` over the draw of these items, at most a share ``error_rate`` of
    further answers is wrong, if further items are drawn like these: independently, from one
    distribution. It holds for this model alone, and not if the items were used to train it.

    Args:
        confidences: of the predictions, in any scale where more is surer.
        correct: whether each prediction is right.
        error_rate: that is to be kept among the answers, in (0, 1).
        confidence: that it is kept, in (0, 1).

    Raises:
        EvaluationError: if there are no items, lengths differ, a confidence is not finite, or no
            threshold is shown to keep the rate.
        ValueError: if a rate is not between 0 and 1.

    Example:
        >>> surest = [1 - i / 200 for i in range(200)]
        >>> rule = abstention_rule(surest, [c > 0.25 for c in surest], error_rate=0.1)
        >>> round(rule.threshold, 3), rule.num_answered, rule.num_wrong
        (0.275, 145, 0)
    """
    for name, rate in (("error_rate", error_rate), ("confidence", confidence)):
        if not 0 < rate < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {rate!r}")
    n = check_columns("abstention", confidences=confidences, correct=correct)
    surest = np.asarray(confidences, dtype=np.float64)
    if not np.isfinite(surest).all():
        raise EvaluationError("abstention needs finite confidences")
    order = np.argsort(-surest, kind="stable")
    ranked = surest[order]
    wrong = np.concatenate([[0], np.cumsum(~np.asarray(correct, dtype=bool)[order])])
    ranks = _ranks(n, error_rate, 1 - confidence)
    level = (1 - confidence) / max(len(ranks), 1)
    lowest = (1.0, 0)
    for rank in ranks:
        # answered is what lies strictly above the next confidence: fewer than `rank` where it ties
        below = ranked[rank] if rank < n else -math.inf
        answered = int(np.searchsorted(-ranked, -below)) if rank < n else n
        # its upper end alone, which the share exceeds with a chance of `level`
        bound = clopper_pearson(int(wrong[answered]), answered, 1 - 2 * level)[1]
        if bound <= error_rate:
            return AbstentionRule(
                threshold=float(np.nextafter(below, math.inf)) if rank < n else -math.inf,
                error_rate=error_rate,
                confidence=confidence,
                num_items=n,
                num_answered=answered,
                num_wrong=int(wrong[answered]),
                upper_bound=bound,
                num_tested=len(ranks),
            )
        lowest = min(lowest, (bound, answered))
    raise EvaluationError(
        f"no threshold is shown to keep an error rate of {error_rate:g} with {confidence:.0%} "
        f"confidence on {n} evaluated items"
        + (
            f": the lowest upper bound is {lowest[0]:.3f}, among the {lowest[1]} surest. Allow a "
            "higher error rate, evaluate more items, or state a threshold yourself"
            if ranks
            else f", which are too few: {_fewest(error_rate, 1 - confidence)} without a single "
            "error are needed. Allow a higher error rate, or evaluate more items"
        )
    )


def _ranks(n: int, error_rate: float, level: float) -> list[int]:
    """Return how many of the surest answers are tested, the most first.

    As many as can pass at all, when the level is shared among them. They must depend on nothing
    but the number of items.
    """
    ranks: list[int] = []
    rank = n
    while rank and (1 - error_rate) ** rank <= level / (len(ranks) + 1):
        ranks.append(rank)
        rank = min(rank - 1, math.floor(rank * _RATIO))
    return ranks


def _fewest(error_rate: float, level: float) -> int:
    return math.ceil(math.log(level) / math.log(1 - error_rate))
