"""The faults of one chat, so that a row with several is reported with all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from recipes.data.findings import FindingKind, Note
from recipes.data.rows import RowError

_NAME = re.compile(r"[A-Za-z_][\w.-]{0,39}")
"""What is a name; anything else may be a customer's text, which no message holds."""


@dataclass
class Faults:
    """Collects what is wrong with one row.

    Args:
        note: records a finding at the row.
    """

    note: Note
    _found: dict[FindingKind, list[str]] = field(default_factory=dict)

    def add(self, kind: FindingKind, detail: str) -> None:
        """Record a fault."""
        self._found.setdefault(kind, []).append(detail)

    def has(self, *kinds: FindingKind) -> bool:
        """Return whether a fault of one of these kinds was recorded."""
        return any(kind in self._found for kind in kinds)

    def report(self) -> None:
        """Note each kind of fault once, and raise the last of those that drop the row.

        Raises:
            RowError: if a fault drops the row.
        """
        found, self._found = self._found, {}
        dropping: list[tuple[FindingKind, str]] = []
        for kind, details in found.items():
            if kind.once_per_file:
                for detail in dict.fromkeys(details):
                    self.note(kind, detail)
            elif kind.drops_row:
                dropping.append((kind, _first(details)))
            else:
                self.note(kind, _first(details))
        if not dropping:
            return
        *others, (kind, detail) = dropping
        for other in others:
            self.note(*other)
        raise RowError(detail, kind)


def _first(details: list[str]) -> str:
    more = len(details) - 1
    return f"{details[0]} (and {more} more in this chat)" if more else details[0]


def named(given: object) -> str:
    """Return a role, a type or a function's name for a message, and of other values their kind.

    Example:
        >>> named("bot"), named("My order is late"), named(3)
        ("'bot'", 'a text of 16 characters', 'a int')
    """
    if not isinstance(given, str):
        return f"a {type(given).__name__}"
    return repr(given) if _NAME.fullmatch(given) else f"a text of {len(given)} characters"
