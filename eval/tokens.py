"""A request as tokens: what is read, and which of them are scored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Tokens:
    """A request as tokens, up to its last scored one. The first is never scored."""

    ids: tuple[int, ...]
    owners: tuple[int, ...]
    """For each token the number of the scored piece it belongs to, or -1."""

    num_pieces: int

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The tokens that are read: the last one is only predicted."""
        return self.ids[:-1]

    @cached_property
    def first_row(self) -> int:
        """The position from which the first scored token is predicted; 0 if none is."""
        return next((i - 1 for i, owner in enumerate(self.owners) if owner >= 0), 0)

    @cached_property
    def num_rows(self) -> int:
        """Number of scored tokens."""
        return sum(owner >= 0 for owner in self.owners)
