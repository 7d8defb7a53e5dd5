"""Epsilon from the numbers of a mechanism, or noise from an epsilon: nothing is trained or read.

For a run of any tool: what counts are the sample rate, the noise multiplier, the steps and delta,
provided that the run drew and clipped as they assume.
"""

import math
from dataclasses import dataclass

from privacy import accountant
from privacy.errors import PrivacyError


@dataclass(frozen=True)
class Calculation:
    """What a mechanism of these numbers spends, under add-or-remove-one neighbours."""

    sample_rate: float
    noise_multiplier: float
    steps: int
    delta: float
    num_examples: int | None
    target_epsilon: float | None
    """What the noise was found for, if it was not given."""

    epsilon: float
    """By privacy loss distribution, an upper bound: the figure that counts."""

    accountants: dict[str, float]
    """The same figure by each accountant, by name."""

    epsilon_without_amplification: float
    """For a reader who doubts that batches were drawn at random."""

    epsilon_replace_one: float
    """If neighbours replace an example instead of adding or removing one."""

    warnings: tuple[str, ...]


def calculate(
    *,
    sample_rate: float | None = None,
    steps: int | None = None,
    num_examples: int | None = None,
    batch_size: int | None = None,
    epochs: float | None = None,
    noise_multiplier: float | None = None,
    target_epsilon: float | None = None,
    delta: float | None = None,
) -> Calculation:
    """Account for a mechanism.

    Args:
        sample_rate: chance of an example to enter a batch; or give examples and batch size.
        steps: noisy sums released; or give epochs.
        num_examples: training examples n.
        batch_size: expected batch size.
        epochs: how often an example is used on average; steps are its ratio to the sample rate,
            rounded up.
        noise_multiplier: noise standard deviation / clipping norm; or give a target.
        target_epsilon: the noise is the least one (to 0.1 %) that keeps it.
        delta: chance outside the bound; min(1e-5, 1 / (10 n)) where the examples are given.

    Raises:
        PrivacyError: if a number is missing, out of range, or said twice; or if no noise reaches
            the target.
    """
    given_both = sample_rate is not None and batch_size is not None
    if given_both or (steps is not None and epochs is not None):
        twice = "sample rate and batch size" if given_both else "steps and epochs"
        raise PrivacyError(f"{twice} are both given, and one follows from the other; give one.")
    if (noise_multiplier is None) == (target_epsilon is None):
        raise PrivacyError("Give either the noise multiplier or a target epsilon.")
    if num_examples is not None and num_examples < 1:
        raise PrivacyError(f"examples is {num_examples}, wanted 1 or more.")
    if sample_rate is None:
        if num_examples is None or batch_size is None:
            raise PrivacyError("Give the sample rate, or examples and batch size.")
        if not 1 <= batch_size <= num_examples:
            raise PrivacyError(
                f"The batch size is {batch_size} of {num_examples} examples, wanted between 1 and "
                "the number of examples."
            )
        sample_rate = batch_size / num_examples
    if not 0 < sample_rate <= 1:
        raise PrivacyError(f"The sample rate is {sample_rate:g}, wanted in (0, 1].")
    if steps is None:
        if epochs is None:
            raise PrivacyError("Give the steps, or the epochs.")
        if not (math.isfinite(epochs) and epochs > 0):
            raise PrivacyError(f"epochs is {epochs:g}, wanted above 0.")
        if not math.isfinite(epochs / sample_rate):
            raise PrivacyError(f"{epochs:g} epochs are more steps than can be counted.")
        steps = max(1, math.ceil(epochs / sample_rate - 1e-9))
    if steps < 1:
        raise PrivacyError(f"steps is {steps}, wanted 1 or more.")
    if delta is None:
        if num_examples is None:
            raise PrivacyError("Give delta, or the examples that it follows from.")
        delta = min(1e-5, 1 / (10 * num_examples))
    if not 0 < delta < (1 / num_examples if num_examples else 1):
        raise PrivacyError(
            f"delta is {delta:g}, wanted above 0 and below 1 / examples: from there on, publishing "
            "one whole example at random would pass."
        )
    if noise_multiplier is None:
        assert target_epsilon is not None  # noqa: S101 (one of the two is given)
        if not (math.isfinite(target_epsilon) and target_epsilon > 0):
            raise PrivacyError(f"The target epsilon is {target_epsilon:g}, wanted above 0.")
        noise_multiplier = accountant.calibrate(target_epsilon, sample_rate, steps, delta)
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
        raise PrivacyError(f"The noise multiplier is {noise_multiplier:g}, wanted above 0.")
    values = (sample_rate, noise_multiplier, steps, delta)
    found = accountant.accountants(*values)
    warnings = []
    if num_examples and delta > 0.1 / num_examples * (1 + 1e-9):
        warnings.append(f"delta is above 1 / (10 examples) = {0.1 / num_examples:.3g}")
    lowest = min(found["prv"], found["rdp"])
    if lowest < found["pld"] * (1 - 1e-3) - 1e-3:
        warnings.append("an accountant lies below the PLD upper bound: a library is wrong")
    return Calculation(
        sample_rate=sample_rate,
        noise_multiplier=noise_multiplier,
        steps=steps,
        delta=delta,
        num_examples=num_examples,
        target_epsilon=target_epsilon,
        epsilon=found["pld"],
        accountants=found,
        epsilon_without_amplification=accountant.epsilon_without_amplification(*values),
        epsilon_replace_one=accountant.epsilon_replace_one(*values),
        warnings=tuple(warnings),
    )
