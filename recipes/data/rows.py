"""One row of a file, and how its columns are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from recipes.data.catalog import UNUSABLE_ROW
from recipes.data.findings import FindingKind

Item = TypeVar("Item")


@dataclass(frozen=True)
class Row:
    """One row of a file, with its place in it."""

    place: str
    """``file:line`` (or ``file[index]`` where lines mean nothing)."""

    values: Mapping[str, Any]

    annotations: Mapping[str, Any] = field(default_factory=dict)
    """What its format says of the columns, such as where an answer begins. Not part of the row's
    fingerprint."""

    is_redacted: bool = False
    """Whether personal data was replaced, so that offsets into the texts no longer hold."""


@dataclass(frozen=True)
class Parsed(Generic[Item]):
    """A row as its domain understands it."""

    item: Item
    content: str
    """What makes the row a duplicate of another."""

    label: str = ""
    """What the split is stratified by; empty where nothing."""

    passage: str = ""
    """What rows on one side of the split share, such as the passage of a question; or nothing."""


class RowError(ValueError):
    """A row is not what the domain wants; the message says why, without the row's text.

    Args:
        message: what was found and what was wanted.
        kind: of the finding; its rows are left out where it is no error.
    """

    def __init__(self, message: str, kind: FindingKind = UNUSABLE_ROW) -> None:
        super().__init__(message)
        self.kind = kind


Need = tuple[str, ...]
"""Our names of columns, any one of which a recipe needs, such as ``("label", "labels")``."""


class MissingColumn(RowError):
    """A row lacks columns, as all rows of a table with that header do.

    Args:
        message: names them, and the columns that there are.
        needs: what is lacking.
    """

    def __init__(self, message: str, needs: tuple[Need, ...]) -> None:
        super().__init__(message)
        self.needs = needs


def require_columns(row: Row, columns: Mapping[str, str], *needs: Need) -> None:
    """Raise if a row lacks columns, and name all that it lacks.

    Args:
        row: of a file.
        columns: our names: theirs.
        needs: each is met by any one of its columns, whether it has a value or not.

    Raises:
        MissingColumn: if a need is not met.
    """
    lacking = tuple(
        need for need in needs if not any(columns.get(name, name) in row.values for name in need)
    )
    if lacking:
        raise missing(row, columns, *lacking)


def missing(row: Row, columns: Mapping[str, str], *lacking: Need) -> MissingColumn:
    """Return the error of a row that lacks what meets these needs."""
    names = ", ".join(lacking_name(need, columns) for need in lacking)
    to_map = ", ".join(f"{need[0]}: THEIRS" for need in lacking)
    has = f"the row has {_listed(row.values)}"
    return MissingColumn(f"no column {names}; {has} (map it: data.columns: {{{to_map}}})", lacking)


def lacking_name(need: Need, columns: Mapping[str, str]) -> str:
    """Return what a file would have to call a column that meets a need.

    Example:
        >>> lacking_name(("label", "labels"), {}), lacking_name(("text",), {"text": "body"})
        ("'label' or 'labels'", "'body'")
    """
    *names, last = (repr(columns.get(name, name)) for name in need)
    return f"{', '.join(names)} or {last}" if names else last


def plain_number(value: Any) -> Any:
    """Return a number as text files have it, 3.0 as 3, and None for one that is none."""
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else value


def get_column(
    row: Row, name: str, columns: Mapping[str, str], *, kind: type = str, required: bool = True
) -> Any:
    """Return our column ``name`` of a row, under the name that the files have for it.

    Raises:
        RowError: if it is missing, of another type, or an empty text.
    """
    theirs = columns.get(name, name)
    value: Any = plain_number(row.values.get(theirs))
    if value is None:
        if not required:
            return None
        if theirs in row.values:
            raise RowError(f"column {theirs!r} has no value")
        raise missing(row, columns, (name,))
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, kind):
        raise RowError(f"column {theirs!r}: wanted {kind.__name__}, found {type(value).__name__}")
    if isinstance(value, str) and not value.strip():
        if not required:
            return None
        raise RowError(f"column {theirs!r} is empty")
    return value


def _listed(values: Mapping[str, Any]) -> str:
    """Name the first columns; where a table lacks its header, these are words of a row."""
    names = sorted(str(key) for key in values)
    shown = [name if len(name) <= 30 else f"{name[:30]}..." for name in names[:8]]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(shown) or "nothing") + more
