"""Training that has gone wrong: a loss that is no number, or far worse than guessing."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

NUM_STEPS = 10
"""Steps whose mean loss is looked at; one unlucky batch is no divergence."""

FEWEST_STEPS = 3
MARGIN = 10.0
"""Nats. A model that has exploded gives right answers e^10 times less than a guess would."""


class LossGuard:
    """Tells whether the losses of the last steps are those of a model that has exploded.

    Example:
        >>> guard = LossGuard(chance=math.log(3))
        >>> [guard.explodes(loss) for loss in (1.1, 0.9, 30.0, 40.0)]
        [False, False, False, True]
    """

    def __init__(self, chance: float) -> None:
        """Make a guard.

        Args:
            chance: loss of guessing, in nats.
        """
        self._chance = chance
        self._first: float | None = None
        self._last: deque[float] = deque(maxlen=NUM_STEPS)

    @property
    def mean(self) -> float:
        """Mean loss of the last steps."""
        return math.fsum(self._last) / len(self._last)

    @property
    def most(self) -> float:
        """The mean loss beyond which a model has exploded: a margin above where it began."""
        return max(self._chance, self._first or 0.0) + MARGIN

    def explodes(self, loss: float) -> bool:
        """Take the loss of another step, and tell whether the last ones are beyond all measure."""
        if self._first is None:
            self._first = loss
        self._last.append(loss)
        return len(self._last) >= FEWEST_STEPS and self.mean > self.most


def rows_in_words(ids: Sequence[str], num_shown: int = 20) -> str:
    """Name rows by their ids, the first of them.

    Example:
        >>> rows_in_words(["a", "b", "c"], num_shown=2)
        'a, b and 1 more'
    """
    shown = ", ".join(ids[:num_shown])
    return shown + (f" and {len(ids) - num_shown} more" if len(ids) > num_shown else "")
