"""What is wrong with company data: a finding for each kind of fault, with its count and places.

A finding never holds the text of a row. It may name columns, labels and ids.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent
from typing import Literal, get_args

from recipes.errors import Problem, Problems

Severity = Literal["error", "warning", "ignore"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

_ROW = re.compile(r"(:\d+|\[\d+\])$")
"""The part of a place that names the row of a file."""

MOST_PLACES = 20
"""Places that are printed for a finding; JSON output has them all."""


@dataclass(frozen=True)
class FindingKind:
    """One kind of fault that data can have; `recipes.data.catalog` lists them all."""

    code: str
    """Name in `data.findings` of a recipe: lower case, words joined by hyphens."""

    severity: Severity
    """Default; a recipe may set another under `data.findings`."""

    meaning: str
    """What it is and why it matters, for a reader without machine-learning knowledge."""

    way_out: str
    """What to do about it."""

    drops_row: bool = False
    """Whether such a row cannot be used. It is left out where this is no error."""

    once_per_file: bool = False
    """Whether the same detail in further rows of a file only adds to the number of its rows."""


@dataclass(frozen=True)
class Occurrence:
    """One place where a fault was found."""

    place: str
    """``file:line`` or ``file[index]``; a file where it concerns all of it."""

    detail: str = ""
    """What exactly, without the text of the row."""

    row: str = ""
    """Id of the row, where it has one."""

    def __str__(self) -> str:
        return f"{self.place}: {self.detail}" if self.detail else self.place


@dataclass(frozen=True)
class Finding:
    """All occurrences of one kind of fault."""

    kind: FindingKind
    severity: Severity
    """After the recipe's own policy."""

    occurrences: tuple[Occurrence, ...]
    notes: tuple[str, ...]
    """Further lines for the reader."""

    to_paste: tuple[str, ...] = ()
    """Settings that are the way out, as lines of YAML to write under `data:` of the recipe."""

    @property
    def count(self) -> int:
        """Number of occurrences."""
        return len(self.occurrences)


Note = Callable[[FindingKind, str], None]
"""Records a finding at the row that is being read: kind, and what exactly."""


@dataclass
class Findings:
    """Collects findings while data is read.

    Args:
        policy: severities that the recipe sets, by code.
        drop_bad_rows: whether rows that cannot be used are left out without an error.
    """

    policy: dict[str, Severity] = field(default_factory=dict)
    drop_bad_rows: bool = False
    _found: dict[FindingKind, list[Occurrence]] = field(default_factory=dict)
    _notes: dict[FindingKind, list[str]] = field(default_factory=dict)
    _to_paste: dict[FindingKind, list[str]] = field(default_factory=dict)
    _num_rows: Counter[tuple[FindingKind, str, str]] = field(default_factory=Counter)

    def add(self, kind: FindingKind, place: str, detail: str = "", *, row: str = "") -> None:
        """Record one occurrence."""
        if kind.once_per_file:
            file = _ROW.sub("", place)
            self._num_rows[kind, file, detail] += 1
            if self._num_rows[kind, file, detail] > 1:
                return
        self._found.setdefault(kind, []).append(Occurrence(place, detail, row))

    def note(self, kind: FindingKind, text: str) -> None:
        """Add a line that is printed under a finding, once."""
        notes = self._notes.setdefault(kind, [])
        if text not in notes:
            notes.append(text)

    def paste(self, kind: FindingKind, settings: str) -> None:
        """Add settings that are the way out of a finding, as YAML below `data:`, once."""
        texts = self._to_paste.setdefault(kind, [])
        if settings not in texts:
            texts.append(settings)

    def severity(self, kind: FindingKind) -> Severity:
        """Return the severity of a kind under the recipe's policy.

        A row is never left out without a word: `ignore` is a warning there.
        """
        if kind.code in self.policy:
            chosen = self.policy[kind.code]
            return "warning" if kind.drops_row and chosen == "ignore" else chosen
        return "warning" if kind.drops_row and self.drop_bad_rows else kind.severity

    def occurrences(self, kind: FindingKind) -> tuple[Occurrence, ...]:
        """Return where a kind was found."""
        return tuple(self._found.get(kind, ()))

    def count_in(self, path: Path) -> int:
        """Return how many occurrences are in one file."""
        in_file = tuple(f"{path}{mark}" for mark in (":", "["))
        return sum(
            one.place == str(path) or one.place.startswith(in_file)
            for places in self._found.values()
            for one in places
        )

    def all(self) -> tuple[Finding, ...]:
        """Return all findings, errors first, each group in the order of discovery."""
        found = [
            Finding(
                kind,
                self.severity(kind),
                tuple(self._with_count(kind, one) for one in places),
                tuple(self._notes.get(kind, ())),
                tuple(self._to_paste.get(kind, ())),
            )
            for kind, places in self._found.items()
        ]
        return tuple(sorted(found, key=lambda one: SEVERITIES.index(one.severity)))

    def _with_count(self, kind: FindingKind, one: Occurrence) -> Occurrence:
        """Add the number of rows where only the first was recorded."""
        if not kind.once_per_file:
            return one
        num_rows = self._num_rows[kind, _ROW.sub("", one.place), one.detail]
        rows = "1 row" if num_rows == 1 else f"{num_rows} rows, this one first"
        return Occurrence(one.place, f"{one.detail}: {rows}", one.row)

    def errors(self) -> tuple[Finding, ...]:
        """Return the findings that stand against training."""
        return tuple(one for one in self.all() if one.severity == "error")

    def dropped(self) -> tuple[Problem, ...]:
        """Return the rows that are left out, each once, with its reasons."""
        reasons: dict[str, list[str]] = {}
        for kind, places in self._found.items():
            if kind.drops_row:
                for one in places:
                    reasons.setdefault(one.place, []).append(one.detail)
        return tuple(Problem(place, "; ".join(details)) for place, details in reasons.items())

    def raise_errors(self, among: Collection[FindingKind] | None = None) -> None:
        """Raise if an error was found.

        Args:
            among: kinds that count, beside those of rows that cannot be used; all by default.

        Raises:
            DataErrors: with every error, its count, its first places and the way out.
        """
        errors = self.errors()
        if among is not None:
            errors = tuple(one for one in errors if one.kind.drops_row or one.kind in among)
        if errors:
            raise DataErrors(errors)


class DataErrors(Problems):
    """The data has errors. Exit code 2."""

    def __init__(self, errors: tuple[Finding, ...]) -> None:
        self.errors = errors
        most_places = max(3, MOST_PLACES // len(errors))
        blocks = [_block(one, most_places) for one in errors]
        kinds = "1 kind of error" if len(errors) == 1 else f"{len(errors)} kinds of errors"
        ValueError.__init__(self, "\n".join([f"the data has {kinds}:", *blocks]))
        self.problems = [Problem(o.place, o.detail) for one in errors for o in one.occurrences]


def _block(one: Finding, most_places: int) -> str:
    lines = [f"{one.kind.code} ({one.count}): {one.kind.meaning}"]
    lines += [f"  {occurrence}" for occurrence in one.occurrences[:most_places]]
    if one.count > most_places:
        lines.append(f"  ... and {one.count - most_places} more ({one.count} in all)")
    lines += [f"  {note}" for note in one.notes]
    for settings in one.to_paste:
        lines += ["  to paste under `data:` of the recipe:", indent(settings, "  ")]
    return "\n".join([*lines, one.kind.way_out])
