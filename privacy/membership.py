"""Membership inference: how well members are told from others by how a model scores them.

Descriptive figures, no guarantee: an attack that fails shows that this attack fails. They say
something of memory only where members and others are alike but for the training, which is why
each comes with its interval, and a control belongs beside it.

A score is higher where a record looks like a member.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_K_SHARE = 0.2
"""Of a record's tokens, the least likely ones, which `min_k` looks at."""

LEAST_NON_MEMBERS = {0.001: 10_000, 0.01: 1_000, 0.05: 100}
"""False-positive rates, and the non-members that each needs to be called by its name: with fewer, a
handful of false positives decides where the threshold lies."""


@dataclass(frozen=True)
class AUC:
    """Chance that a member scores higher than a non-member, ties counting half."""

    value: float
    low: float
    high: float
    confidence: float
    num_members: int
    num_non_members: int

    @property
    def holds_half(self) -> bool:
        """Whether the interval holds 0.5, so that the attack may be no better than a coin."""
        return self.low <= 0.5 <= self.high


@dataclass(frozen=True)
class TruePositives:
    """Share of the members that are found at a low rate of false alarms."""

    false_positive_rate: float
    """The nominal one, at which the threshold was set on the non-members at hand."""

    false_positive_rate_low: float
    false_positive_rate_high: float
    """95 % interval of the rate that the threshold has among all non-members."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Exposure:
    """How far up canaries stand among equally likely ones that were never seen, in bits.

    Carlini et al. 2019 (arXiv:1802.08232), section 4: log2 |R| - log2 rank, the rank being among
    |R| canaries of the same random space. It cannot exceed ``cap``, however well a canary is known.
    """

    median: float
    largest: float
    cap: float
    """log2 |R|."""


@dataclass(frozen=True)
class Attack:
    """What one statistic achieves."""

    statistic: str
    auc: AUC
    true_positives: TruePositives | None
    """At the lowest false-positive rate that the number of non-members allows, or None."""


def loss(loglikelihoods: Sequence[float]) -> float:
    """Mean log-likelihood per token, the loss turned round (Yeom et al. 2018, arXiv:1709.01604).

    Raises:
        ValueError: if there is no token.
    """
    if not loglikelihoods:
        raise ValueError("a record without a scored token has no loss")
    return math.fsum(loglikelihoods) / len(loglikelihoods)


def min_k(loglikelihoods: Sequence[float], share: float = MIN_K_SHARE) -> float:
    """Mean log-likelihood of the least likely tokens (Min-K%, Shi et al. 2024, arXiv:2310.16789).

    Args:
        loglikelihoods: of each token.
        share: of the tokens that are looked at, at least one.

    Raises:
        ValueError: if there is no token.
    """
    return loss(sorted(loglikelihoods)[: max(1, int(share * len(loglikelihoods)))])


def auc(members: ArrayLike, non_members: ArrayLike, *, confidence: float = 0.95) -> AUC:
    """Estimate the area under the ROC curve with its interval.

    The value is the Mann-Whitney statistic. The interval is Newcombe's (2006, Statistics in
    Medicine 25:559, method 5): all A with |found - A| <= z sqrt(V(A)), with Hanley and McNeil's
    variance V(A) for (n1 + n2) / 2 records of either kind. At A = 0.5 that variance is exact.
    Unlike DeLong's it does not shrink to nothing where the two kinds are told apart perfectly.

    Args:
        members: scores, higher where a record looks like a member.
        non_members: scores.
        confidence: of the interval.

    Raises:
        ValueError: if there is no member or no non-member, or a score is no finite number.

    Example:
        >>> found = auc([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
        >>> round(found.value, 3), round(found.low, 2), round(found.high, 2)
        (0.944, 0.45, 1.0)
    """
    from scipy.stats import norm, rankdata

    inside, outside = _finite(members), _finite(non_members)
    n, m = len(inside), len(outside)
    ranks = rankdata(np.concatenate([inside, outside]))
    value = float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
    z = float(norm.ppf((1 + confidence) / 2))
    low, high = _limit(value, z, n, m, 0.0), _limit(value, z, n, m, 1.0)
    return AUC(value, low, high, confidence, n, m)


def _limit(value: float, z: float, n: int, m: int, end: float) -> float:
    """Return the A between ``value`` and ``end`` that is just z standard errors from ``value``."""
    from scipy.optimize import brentq

    def excess(a: float) -> float:
        others = (n + m) / 2 - 1
        variance = a * (1 - a) * (1 + others * ((1 - a) / (2 - a) + a / (1 + a))) / (n * m)
        return abs(value - a) - z * math.sqrt(variance)

    if excess(end) <= 0:  # at the end itself, where the variance is nothing
        return end
    # just inside of ``value`` the error exceeds the distance, which is 0 there
    start = value if 0 < value < 1 else abs(value - 1e-12)
    return float(brentq(excess, start, end, xtol=1e-9))


def true_positives(members: ArrayLike, non_members: ArrayLike) -> TruePositives | None:
    """Give the share of members found at the lowest false-positive rate that n allows.

    LiRA's figure (Carlini et al. 2022, arXiv:2112.03570, section III), with Clopper and Pearson's
    intervals. The threshold is the score that just so many non-members exceed; a tie with it is
    no finding.

    Returns:
        None for fewer than 100 non-members.
    """
    allowed = [rate for rate, least in LEAST_NON_MEMBERS.items() if np.size(non_members) >= least]
    return true_positives_at(members, non_members, min(allowed)) if allowed else None


def true_positives_at(members: ArrayLike, non_members: ArrayLike, rate: float) -> TruePositives:
    """Give the share of members found at a false-positive rate; see `true_positives`.

    Raises:
        ValueError: if there are too few non-members to set a threshold at this rate, or the rate
            is none of `LEAST_NON_MEMBERS`.
    """
    from scipy.stats import binomtest

    inside, outside = _finite(members), _finite(non_members)
    if rate not in LEAST_NON_MEMBERS:
        raise ValueError(f"the rate must be one of {list(LEAST_NON_MEMBERS)}, got {rate!r}")
    if len(outside) < LEAST_NON_MEMBERS[rate]:
        raise ValueError(
            f"a false-positive rate of {rate:g} needs {LEAST_NON_MEMBERS[rate]} non-members, and "
            f"there are {len(outside)}"
        )
    num_false = math.floor(rate * len(outside) + 1e-9)
    threshold = np.sort(outside)[::-1][num_false]
    found = binomtest(int((inside > threshold).sum()), len(inside))
    false = binomtest(num_false, len(outside))
    of_found, of_false = (one.proportion_ci(method="exact") for one in (found, false))
    return TruePositives(
        false_positive_rate=rate,
        false_positive_rate_low=float(of_false.low),
        false_positive_rate_high=float(of_false.high),
        value=float(found.statistic),
        low=float(of_found.low),
        high=float(of_found.high),
    )


def attack(statistic: str, members: ArrayLike, non_members: ArrayLike) -> Attack:
    """Measure one statistic."""
    return Attack(statistic, auc(members, non_members), true_positives(members, non_members))


def exposure(members: ArrayLike, never_seen: ArrayLike) -> Exposure:
    """Rank each canary that was learned among those of its kind that were not.

    Args:
        members: scores of the canaries that were trained on.
        never_seen: scores of others from the same random space.

    Raises:
        ValueError: if either is empty, or a score is no finite number.

    Example:
        >>> exposure([5.0, 1.5], [1.0, 2.0, 3.0]).cap
        2.0
    """
    inside, outside = _finite(members), np.sort(_finite(never_seen))
    size = len(outside) + 1  # |R| counts the canary itself
    ranks = 1 + len(outside) - np.searchsorted(outside, inside, side="left")  # ties rank above it
    bits = math.log2(size) - np.log2(ranks)
    return Exposure(float(np.median(bits)), float(bits.max()), math.log2(size))


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise ValueError("there is no score on one of the two sides")
    if not np.isfinite(values).all():
        raise ValueError("a score is no finite number")
    return values
