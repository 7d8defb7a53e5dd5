"""What a private run asks for, and the one plan that everything else derives from.

Sampler, clipping, noise, denominator and accountant all read the same :class:`DPPlan`, so that
what is run and what is accounted cannot drift apart. This module needs no torch.
"""

import dataclasses
import json
import math
from typing import Literal, Self

from pydantic import Field, model_validator

from privacy import accountant
from privacy.errors import PrivacyError
from privacy.settings import Settings

ADJACENCY = "add-or-remove-one"
"""Neighbouring data sets: one example more or one example less."""


class BudgetConfig(Settings):
    """The account that this run is charged to, beside all other runs on the same data."""

    file: str
    """Of the account; the first run makes it. Keep it with the data, and back it up."""

    epsilon: float = Field(gt=0)
    """What all runs together may spend."""

    delta: float = Field(1e-5, gt=0, lt=1)
    """Of the whole account."""


class ReportConfig(Settings):
    """What only people can say, for the privacy report; what is left out is to be completed."""

    data_source: str | None = None
    """Where the training rows come from."""

    lawful_basis: str | None = None
    """On what basis they are processed, as whoever answers for it puts it."""

    owner: str | None = None
    """Who answers for the model."""

    approver: str | None = None
    """Who approves its use."""

    expires: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    """Day, as 2027-01-31, after which the approval is to be given anew."""

    tuning: str | None = None
    """How settings were chosen: how many trial runs, on what data, and how they are accounted."""


class PrivacyConfig(Settings):
    """How much one example may change the model (DP-SGD, Abadi et al. 2016, arXiv:1607.00133).

    Example:
        >>> PrivacyConfig(epsilon=3).epsilon
        3.0
        >>> PrivacyConfig(epsilon=None, noise_multiplier=0.8).noise_multiplier
        0.8
    """

    epsilon: float | None = Field(8.0, gt=0)
    """Target epsilon; the least noise that keeps it is found. None if the noise is given."""

    noise_multiplier: float | None = Field(None, gt=0)
    """Noise standard deviation / clipping norm. Given only where epsilon is set to None."""

    delta: float | Literal["auto"] = "auto"
    """Chance outside the epsilon bound, below 1 / examples. "auto": min(1e-5, 1 / (10 n))."""

    clipping_norm: float = Field(1.0, gt=0)
    """Largest L2 norm C that one example's gradient keeps. Most should reach it."""

    unit: str = "example"
    """What is protected: ``example`` (a row), or the name of a column, as ``customer``: then all
    rows of one value count as one, and each draw takes one of them. It must be ``data.group``."""

    budget: BudgetConfig | None = None
    """The account of the data set, shared by all runs on it; a run that would exceed it is not
    begun. None: this run is accounted by itself."""

    report: ReportConfig = ReportConfig()
    """What only people can say, for the privacy report."""

    @model_validator(mode="after")
    def _one_of_epsilon_and_noise(self) -> Self:
        if self.noise_multiplier is not None and self.epsilon is not None:
            raise ValueError(
                f"noise_multiplier is {self.noise_multiplier:g} and epsilon is {self.epsilon:g}: "
                "one follows from the other. Set epsilon to null to fix the noise, or leave out "
                "noise_multiplier to fix epsilon"
            )
        if self.noise_multiplier is None and self.epsilon is None:
            raise ValueError("neither epsilon nor noise_multiplier is given; set one of them")
        if self.delta != "auto" and not 0 < self.delta < 1:
            raise ValueError(f'delta must be "auto" or in (0, 1), got {self.delta:g}')
        return self


@dataclasses.dataclass(frozen=True)
class DPPlan:
    """One private run, fixed before its first step.

    ``num_examples`` counts as public: the sample rate and the denominator are computed from it
    once, and stay what they are if a neighbouring data set has one example more or less.
    """

    unit: str
    """What is protected: ``"example"``, or the column whose values are."""
    adjacency: str
    """Neighbouring relation; ``"add-or-remove-one"``."""
    num_examples: int
    """Units in the training data, n: examples, or different values of the column."""
    sample_rate: float
    """Each unit's chance to enter a batch, q, in (0, 1]."""
    noise_multiplier: float
    """Noise standard deviation / clipping norm, sigma."""
    clipping_norm: float
    """L2 bound on one example's gradient, C."""
    steps: int
    """Noisy sums released, T."""
    delta: float
    """Chance outside the epsilon bound, below 1 / n."""
    denominator: float
    """What a noisy sum is divided by: the *expected* batch size q n, a constant. The real size
    of a batch is private."""

    def __post_init__(self) -> None:
        if not self.unit:
            raise PrivacyError('The unit of privacy is empty; wanted "example" or a column.')
        if self.adjacency != ADJACENCY:
            raise PrivacyError(
                f"The neighbouring relation is {self.adjacency!r}; the plan is accounted under "
                f"{ADJACENCY!r} alone. Ask for epsilon_replace_one() beside it."
            )
        if self.num_examples < 1 or self.steps < 1:
            raise PrivacyError(
                f"A plan needs at least one example and one step, got {self.num_examples} "
                f"examples and {self.steps} steps."
            )
        if not 0 < self.sample_rate <= 1:
            raise PrivacyError(
                f"The sample rate is {self.sample_rate!r}, wanted in (0, 1]. Choose a batch size "
                f"between 1 and the {self.num_examples} examples."
            )
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise PrivacyError(
                f"The noise multiplier is {self.noise_multiplier!r}, wanted above 0: without "
                "noise no epsilon holds. Train without a privacy section instead."
            )
        if not (math.isfinite(self.clipping_norm) and self.clipping_norm > 0):
            raise PrivacyError(
                f"The clipping norm is {self.clipping_norm!r}, wanted positive and finite."
            )
        if not 0 < self.delta < 1 / self.num_examples:
            raise PrivacyError(
                f"delta is {self.delta!r}, wanted above 0 and below 1 / n = "
                f"{1 / self.num_examples:.3g}: from 1 / n on, publishing one whole example at "
                'random would pass. Set delta to "auto".'
            )
        expected = self.sample_rate * self.num_examples
        if not math.isclose(self.denominator, expected, rel_tol=1e-9):
            raise PrivacyError(
                f"The denominator is {self.denominator!r}, wanted the expected batch size "
                f"{expected!r}, fixed at planning. Make the plan with make_plan()."
            )

    def epsilon(self, steps: int | None = None) -> float:
        """Give epsilon at this plan's delta after ``steps`` steps, by default after all."""
        return accountant.epsilon(
            self.sample_rate,
            self.noise_multiplier,
            self.steps if steps is None else steps,
            self.delta,
        )

    def to_json(self) -> str:
        """Write the plan as one line of JSON; :meth:`from_json` gives back an equal plan."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a plan, and check it as if it had just been made.

        Raises:
            PrivacyError: if a field is missing, unknown or outside its range.
        """
        try:
            fields = json.loads(text)
            return cls(**fields)
        except (json.JSONDecodeError, TypeError) as error:
            raise PrivacyError(f"This is not a privacy plan: {error}") from error


def make_plan(
    config: PrivacyConfig,
    *,
    num_examples: int,
    batch_size: int,
    epochs: float,
    max_steps: int | None = None,
) -> DPPlan:
    """Fix a private run: q = batch_size / n, T = ceil(epochs / q), and noise for the epsilon.

    Args:
        config: what is asked for.
        num_examples: training examples n, or values of the unit column; treated as public.
        batch_size: the *expected* batch size; a real batch varies and may be empty.
        epochs: how often each example is used on average.
        max_steps: T itself, whatever ``epochs`` says.

    Returns:
        The plan. With ``config.epsilon`` given, its noise multiplier is the least one (to 0.1 %)
        whose PLD epsilon over all steps is at most that.

    Raises:
        PrivacyError: if delta is 1 / n or more, the batch is larger than the data, or no noise
            reaches the epsilon.
    """
    if num_examples < 1 or not 1 <= batch_size <= num_examples:
        raise PrivacyError(
            f"The batch size is {batch_size} of {num_examples} examples, wanted between 1 and the "
            "number of examples. Set a smaller batch size, or bring more examples."
        )
    if not (math.isfinite(epochs * num_examples) and epochs > 0):
        raise PrivacyError(f"epochs is {epochs!r}, wanted positive and finite.")
    delta = min(1e-5, 1 / (10 * num_examples)) if config.delta == "auto" else config.delta
    sample_rate = batch_size / num_examples
    # 3 epochs of 1000 / 100 are 30 steps, whatever the last binary digit says.
    steps = max_steps or max(1, math.ceil(epochs * num_examples / batch_size - 1e-9))
    plan = DPPlan(
        unit=config.unit,
        adjacency=ADJACENCY,
        num_examples=num_examples,
        sample_rate=sample_rate,
        noise_multiplier=config.noise_multiplier or 1.0,
        clipping_norm=config.clipping_norm,
        steps=steps,
        delta=delta,
        denominator=sample_rate * num_examples,
    )
    if config.epsilon is None:
        return plan
    # Checked above with a stand-in, so that a bad delta is refused before seconds of search.
    noise_multiplier = accountant.calibrate(config.epsilon, sample_rate, steps, delta)
    return dataclasses.replace(plan, noise_multiplier=noise_multiplier)
