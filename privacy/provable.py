"""What can still be *proved* of a run that was not what its account assumed.

Each function answers for one kind of departure, by the accountant that fits it. The reference run
of the survey behind this package (10,000 examples, batches of 256, noise multiplier 0.8, 117
steps, delta 1e-5, epsilon 3.373) serves where a refusal comes before there is a plan.
"""

import functools
import math
from dataclasses import dataclass

from privacy import accountant
from privacy.plan import DPPlan

__all__ = [
    "NOTHING",
    "REFERENCE",
    "Mechanism",
    "fixed_size",
    "honest",
    "mechanism_of",
    "of_draws",
    "of_group",
    "of_runs",
    "said",
    "truncated",
    "with_sensitivity",
    "without_amplification",
]

NOTHING = "no epsilon can be proved"

LARGEST_GROUP = 50
"""Rows of one person beyond which no epsilon means anything, and finding it takes minutes."""

_LARGEST_EPSILON = 30.0  # of one example; that of two is larger still


@dataclass(frozen=True)
class Mechanism:
    """What was accounted: the Poisson-subsampled Gaussian mechanism of these numbers."""

    sample_rate: float
    noise_multiplier: float
    steps: int
    delta: float
    num_examples: int | None = None


def mechanism_of(plan: DPPlan, steps: int | None = None) -> Mechanism:
    """Return what a plan is accounted as, by default with all its steps."""
    return Mechanism(
        plan.sample_rate,
        plan.noise_multiplier,
        plan.steps if steps is None else steps,
        plan.delta,
        plan.num_examples,
    )


REFERENCE = Mechanism(0.0256, 0.8, 117, 1e-5, 10_000)


def honest(of: Mechanism) -> float:
    """Epsilon of the mechanism as it is."""
    return accountant.epsilon(of.sample_rate, of.noise_multiplier, of.steps, of.delta)


def without_amplification(of: Mechanism) -> float:
    """Epsilon where batches were not drawn by Poisson sampling: each use counts in full."""
    return accountant.epsilon_without_amplification(
        of.sample_rate, of.noise_multiplier, of.steps, of.delta
    )


def with_sensitivity(of: Mechanism, factor: float) -> float:
    """Epsilon where one record can move a sum by ``factor`` clipping norms."""
    return accountant.epsilon(of.sample_rate, of.noise_multiplier / factor, of.steps, of.delta)


def of_group(of: Mechanism, size: int) -> float:
    """Epsilon of somebody who owns ``size`` examples.

    ``inf`` where it is beyond meaning: for large groups, and where one example alone spends so
    much that finding the figure takes minutes and says nothing.
    """
    if size > LARGEST_GROUP or honest(of) > _LARGEST_EPSILON:
        return math.inf
    return accountant.epsilon_of_group(
        of.sample_rate, of.noise_multiplier, of.steps, of.delta, size
    )


def of_draws(of: Mechanism, count: int) -> float:
    """Epsilon where a noisy sum adds ``count`` independent draws of rate q / count.

    A record then enters a sum a binomial number of times, as the rows of a group do.
    """
    return accountant.epsilon_of_group(
        of.sample_rate / count, of.noise_multiplier, of.steps, of.delta, count
    )


def of_runs(of: Mechanism, count: int) -> float:
    """Epsilon of ``count`` such runs on the same data."""
    return accountant.epsilon(of.sample_rate, of.noise_multiplier, of.steps * count, of.delta)


@functools.lru_cache(maxsize=64)
def truncated(of: Mechanism, max_batch: int) -> float:
    """Epsilon where draws beyond ``max_batch`` are cut to a random subset.

    Truncated Poisson sampling (arXiv:2508.15089), under the zero-out relation, in which n is
    public. Takes seconds. ``inf`` where the number of examples is not known.
    """
    if of.num_examples is None:
        return math.inf
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    account = PLDAccountant(dp_accounting.NeighboringRelation.REPLACE_SPECIAL)
    step = dp_accounting.TruncatedSubsampledGaussianDpEvent(
        of.num_examples, of.sample_rate, max_batch, of.noise_multiplier
    )
    account.compose(dp_accounting.SelfComposedDpEvent(step, of.steps))
    return float(account.get_epsilon(of.delta))


@functools.lru_cache(maxsize=64)
def fixed_size(of: Mechanism) -> float:
    """Epsilon of batches of a fixed size, drawn without replacement.

    By RDP (Wang et al. 2019, arXiv:1808.00087), under replace-one neighbours; the accountant
    reads the noise relative to the largest move, which is then 2 C. ``inf`` where the number of
    examples is not known.
    """
    if of.num_examples is None:
        return math.inf
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    account = RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE)
    size = max(1, round(of.sample_rate * of.num_examples))
    gaussian = dp_accounting.GaussianDpEvent(of.noise_multiplier / 2)
    step = dp_accounting.SampledWithoutReplacementDpEvent(of.num_examples, size, gaussian)
    account.compose(dp_accounting.SelfComposedDpEvent(step, of.steps))
    return float(account.get_epsilon(of.delta))


def said(epsilon: float) -> str:
    """Say what is left of a claim, rounded up, so that it stays true.

    Example:
        >>> said(11.0279), said(math.inf)
        ('epsilon 11.028 is what can be proved', 'no epsilon can be proved')
    """
    if not math.isfinite(epsilon):
        return NOTHING
    return f"epsilon {math.ceil(epsilon * 1000) / 1000:.3f} is what can be proved"
