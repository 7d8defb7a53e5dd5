"""A lower bound on epsilon from one training run, never without what it could have shown at all.

Steinke, Nasr and Jagielski 2023 (arXiv:2305.08846); the mathematics is in `privacy.coin_guesses`,
the power in `privacy.audit_power`. How many coins are guessed is fixed before anything is seen; the
best of the rounds is taken, and paid for by Bonferroni's correction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from privacy.audit_power import Power, power
from privacy.coin_guesses import CONFIDENCE, lower_bound, num_correct, p_value, rounds


@dataclass(frozen=True)
class Round:
    """Some coins guessed, and what follows from them alone."""

    num_guesses: int
    """r: half of them the canaries with the highest scores, guessed to be in."""

    num_correct: int
    """v."""

    epsilon_lower: float
    """Bound of this round, at the corrected level."""

    p_value: float | None
    """At the claimed epsilon, uncorrected; None where none is claimed."""


@dataclass(frozen=True)
class OneRun:
    """A one-run audit: the bound, what it rests on, and its power."""

    num_canaries: int
    num_guesses: int
    num_correct: int
    """Of the round with the highest bound, or, where all bounds are 0, the lowest p-value."""

    epsilon_lower: float
    """Epsilon is at least this, at this delta, with this confidence."""

    confidence: float
    delta: float
    epsilon_claimed: float | None
    p_value: float | None
    """Chance of so many right guesses, or more, if the claim were true; corrected for the rounds.
    A large one is no evidence for the claim."""

    rounds: tuple[Round, ...]
    power: Power

    @property
    def is_refuted(self) -> bool:
        """Whether the claimed epsilon cannot be true, at this confidence."""
        return self.p_value is not None and self.p_value <= 1 - self.confidence


def audit(
    scores: ArrayLike,
    is_in: ArrayLike,
    *,
    delta: float,
    epsilon: float | None,
    confidence: float = CONFIDENCE,
    num_simulations: int = 200,
) -> OneRun:
    """Bound epsilon from below by the scores of canaries whose coins are known.

    Args:
        scores: one a canary, higher where it looks trained on; a statistic chosen beforehand.
        is_in: the coins, one a canary, independent and fair.
        delta: at which epsilon is claimed, or looked for.
        epsilon: the claim; None where there is none, as for a plain run.
        confidence: of the bound.
        num_simulations: of the ideal mechanism, for the power.

    Raises:
        ValueError: if scores and coins differ in number, or a score is no finite number.
    """
    values, coins = np.asarray(scores, dtype=np.float64), np.asarray(is_in, dtype=np.bool_)
    if values.shape != coins.shape or values.ndim != 1:
        raise ValueError(f"wanted one coin a score, got {values.shape} and {coins.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a score is no finite number")
    m, tried = len(values), rounds(len(values))
    level = (1 - confidence) / len(tried)
    found = []
    for r in tried:
        v = num_correct(values, coins, r)
        bound = lower_bound(m, r, v, delta, level)
        p = None if epsilon is None else p_value(m, r, v, epsilon, delta)
        found.append(Round(r, v, bound, p))

    def merit(one: Round) -> tuple[float, float]:
        """The bound; where no round shows anything, how near it came to that."""
        return one.epsilon_lower, -p_value(m, one.num_guesses, one.num_correct, 0.0, delta)

    best = max(found, key=merit)
    return OneRun(
        num_canaries=m,
        num_guesses=best.num_guesses,
        num_correct=best.num_correct,
        epsilon_lower=best.epsilon_lower,
        confidence=confidence,
        delta=delta,
        epsilon_claimed=epsilon,
        p_value=_corrected([one.p_value for one in found]),
        rounds=tuple(found),
        power=power(m, delta, epsilon, confidence=confidence, num_simulations=num_simulations),
    )


def _corrected(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return min(1.0, min(known) * len(known)) if known else None
