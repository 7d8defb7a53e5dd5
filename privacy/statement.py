"""What a private run lets one say, in figures and in words."""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context

from privacy import accountant
from privacy.errors import PrivacyError
from privacy.plan import DPPlan
from privacy.provable import mechanism_of, of_group


@dataclass(frozen=True)
class PrivacyStatement:
    """What can be said about a run, with the assumptions that it rests on."""

    unit: str
    adjacency: str
    delta: float
    epsilon: float
    """By privacy loss distribution, for the steps charged; the figure that counts."""
    epsilon_prv: float
    """By opacus' PRV accountant (upper bound); ``inf`` if it found none."""
    epsilon_rdp: float
    """By opacus' RDP accountant; ``inf`` if it found none."""
    epsilon_without_amplification: float
    """If a reader doubts that batches were sampled at random."""
    epsilon_replace_one: float
    """If neighbours replace an example instead of adding or removing one."""
    num_examples: int
    sample_rate: float
    noise_multiplier: float
    clipping_norm: float
    denominator: float
    steps_planned: int
    steps_charged: int
    max_posterior: float
    """The most that somebody who held it for a fair coin whether an example took part can come to
    believe: e^eps / (1 + e^eps), up to delta."""
    max_true_positive_rate: float
    """Most members that an attack with 1 % false alarms can name: 0.01 e^eps + delta."""
    in_words: str
    not_protected: tuple[str, ...]


_NOT_PROTECTED = (
    "What the base model learned before this training, also from the same people.",
    "What is true of people in general and follows from the data as a whole.",
    "Other runs, adapters and hyper-parameter searches on the same data: their epsilons add up.",
    "Evaluation on private rows, their publication, and prompts or retrieved text at use.",
)


def statement(plan: DPPlan, *, steps_charged: int) -> PrivacyStatement:
    """State what a run has spent, by three accountants and under three readings.

    Args:
        plan: of the run.
        steps_charged: from its ledger; not from the trainer, which forgets what a crash repeated.

    Returns:
        The statement. Takes a few seconds for a long run.

    Raises:
        PrivacyError: if more steps were charged than planned.
    """
    if not 0 <= steps_charged <= plan.steps:
        raise PrivacyError(
            f"{steps_charged} steps are charged and {plan.steps} were planned. Read the number "
            "from the ledger of this plan."
        )
    values = (plan.sample_rate, plan.noise_multiplier, steps_charged, plan.delta)
    by = accountant.accountants(*values)
    epsilon = by["pld"]
    posterior = 1 / (1 + math.exp(-epsilon))
    true_positives = min(1.0, 0.01 * math.exp(min(epsilon, 700.0)) + plan.delta)
    return PrivacyStatement(
        unit=plan.unit,
        adjacency=plan.adjacency,
        delta=plan.delta,
        epsilon=epsilon,
        epsilon_prv=by["prv"],
        epsilon_rdp=by["rdp"],
        epsilon_without_amplification=accountant.epsilon_without_amplification(*values),
        epsilon_replace_one=accountant.epsilon_replace_one(*values),
        num_examples=plan.num_examples,
        sample_rate=plan.sample_rate,
        noise_multiplier=plan.noise_multiplier,
        clipping_norm=plan.clipping_norm,
        denominator=plan.denominator,
        steps_planned=plan.steps,
        steps_charged=steps_charged,
        max_posterior=posterior,
        max_true_positive_rate=true_positives,
        in_words=(
            f"The trained weights, and all checkpoints on the way, are ({digits_up(epsilon)}, "
            f"{delta_up(plan.delta)})-differentially private for one {plan.unit} under "
            f"{plan.adjacency} neighbours, the number of examples being public. Somebody who "
            "knows every other example and holds it for a fair coin whether one took part can "
            f"come to be at most {percent_up(posterior)} % sure, except with probability "
            f"{delta_up(plan.delta)}."
        ),
        not_protected=(_beyond(plan.unit), *_NOT_PROTECTED),
    )


def _beyond(unit: str) -> str:
    if unit == "example":
        return "What several examples of one person show together: the unit is one example."
    return f"Whoever stands under several values of {unit}, or in the rows of another one."


def digits_up(epsilon: float) -> str:
    """An epsilon with four digits, rounded up: a rounded bound stays true.

    Example:
        >>> digits_up(7.99241), digits_up(8.0), digits_up(math.inf)
        ('7.993', '8', 'inf')
    """
    if not math.isfinite(epsilon):
        return "inf"
    rounded = Context(prec=4, rounding=ROUND_CEILING).create_decimal(repr(epsilon))
    return f"{rounded.normalize():f}"


def delta_up(delta: float) -> str:
    """A delta with four digits, rounded up: a rounded bound stays true.

    Example:
        >>> delta_up(1e-5), delta_up(1.04901e-6)
        ('1e-05', '1.05e-06')
    """
    rounded = Context(prec=4, rounding=ROUND_CEILING).create_decimal(repr(delta))
    return f"{float(rounded):.4g}"


def percent_up(share: float) -> str:
    """A share as a percentage, rounded up, because it is a bound."""
    return f"{min(100.0, math.ceil(share * 10_000) / 100):g}"


@dataclass(frozen=True)
class GroupEpsilon:
    """What a run reveals of somebody who owns several of the units that it protects."""

    size: int
    epsilon: float
    """``inf`` where it is beyond meaning."""

    is_observed: bool
    """Whether somebody is known to own so many; else the size is an example."""


UNKNOWN_SIZES = (2, 4, 8)
"""Shown where nobody has counted what one person owns."""


def groups(plan: DPPlan, steps_charged: int, observed: int | None) -> tuple[GroupEpsilon, ...]:
    """Bound what the run reveals of whoever owns the most units.

    Args:
        plan: of the run.
        steps_charged: from its ledger.
        observed: most units of one person; None if nobody has counted them, and then figures for
            2, 4 and 8 are given as examples. Takes seconds a size.
    """
    sizes = UNKNOWN_SIZES if observed is None else (observed,)
    mechanism = mechanism_of(plan, steps_charged)
    return tuple(
        GroupEpsilon(size, of_group(mechanism, size), observed is not None) for size in sizes
    )
