"""Dates in columns of rows that do not exist, such as 2026-02-30 or 31/02/2026."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from recipes.data import catalog
from recipes.data.findings import Findings
from recipes.data.rows import Row

_TIME = r"(?:[T ,]+\d{1,2}[:.]\d{2}.*)?"
_ISO = re.compile(rf"(?P<y>\d{{4}})-(?P<m>\d{{2}})-(?P<d>\d{{2}}){_TIME}")
_LOCAL = re.compile(
    rf"(?:(?P<y>\d{{4}})([/.])(?P<a>\d{{1,2}})\2(?P<b>\d{{1,2}})"
    rf"|(?P<c>\d{{1,2}})([/.-])(?P<d>\d{{1,2}})\6(?P<z>\d{{4}})){_TIME}"
)
"""The year first or last, and day and month in either order. Years of two digits are not judged:
31/02/24 may be the 24th of February 2031."""

_FEW = 3
"""Values that are no dates in a column of other values that are none either."""


def date_exists(text: str) -> bool | None:
    """Return whether a date exists, in either order of day and month; None for what is none.

    Example:
        >>> [date_exists(text) for text in ("2026-02-30", "31/02/2026", "12/31/2026", "A-7")]
        [False, False, True, None]
        >>> date_exists("31.4.2026 10:15"), date_exists("2026/04/31"), date_exists("31/02/24")
        (False, False, None)
    """
    if found := _ISO.fullmatch(text):
        return _exists(found["y"], found["m"], found["d"])
    if found := _LOCAL.fullmatch(text):
        year, one, other = (
            (found["y"], found["a"], found["b"]) if found["y"] else found.group("z", "c", "d")
        )
        return _exists(year, one, other) or _exists(year, other, one)
    return None


def _exists(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


class DateCheck:
    """Judges the values of one file that are dates as a whole, ids among them.

    A column whose values have the form of local dates, and hardly one exists, holds something else
    (12-34-5678 is an account), and is not reported.

    Args:
        findings: receives dates that do not exist.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._num_dates: Counter[str] = Counter()
        self._impossible: dict[str, list[tuple[str, str]]] = {}

    def look_at(self, row: Row, name: str) -> None:
        """Look at the values of a row."""
        for column, value in _candidates(row.values):
            exists = date_exists(value)
            if exists is False and value[4] == "-":
                self._add(column, row.place, name)
            elif exists is False:
                self._impossible.setdefault(column, []).append((row.place, name))
            elif exists:
                self._num_dates[column] += 1

    def finish(self) -> None:
        """Report the local dates that do not exist, after the last row."""
        for column, found in self._impossible.items():
            if len(found) <= max(_FEW, self._num_dates[column]):
                for place, name in found:
                    self._add(column, place, name)

    def _add(self, column: str, place: str, name: str) -> None:
        self._findings.add(catalog.IMPOSSIBLE_DATE, place, f"column {column!r}", row=name)


def _candidates(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for column, value in values.items():
        if isinstance(value, str) and 8 <= len(value) <= 40 and value[0].isdecimal():
            text = value.strip()
            if not text[:5].isdecimal() and len(text) >= 8:
                yield column, text
