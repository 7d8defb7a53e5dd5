"""Which row of a table names its columns, and the title that may be above it."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence, Set
from typing import TypeVar

from recipes.config import DataConfig
from recipes.data.catalog import DOUBLED_COLUMN, LINES_ABOVE_HEADER
from recipes.data.findings import Findings

NUM_LOOKED_AT = 20
"""Rows among which the header is looked for."""

Cell = TypeVar("Cell")


def find_header(rows: Sequence[Sequence[object]], wanted: Collection[str]) -> int:
    """Return the index of the row that names the columns.

    It is the row with the most names that a recipe wants. Where there are none, it is the first
    row with more than half as many filled cells as the rows after it have (their median), so that
    a title of one or two cells is passed over.

    Args:
        rows: the first rows of a table that hold anything; empty cells are None or blank.
        wanted: names that columns may have.

    Example:
        >>> find_header([["Tickets 2026"], ["Id", "Text", "Queue"], ["1", "a", "b"]], {"label"})
        1
    """
    named = [sum(str(cell).strip() in wanted for cell in row) for row in rows]
    if any(named):
        return named.index(max(named))
    filled = [sum(cell is not None and str(cell).strip() != "" for cell in row) for row in rows]
    for index, count in enumerate(filled[:-1]):
        if count > statistics.median(filled[index + 1 :]) / 2:
            return index
    return 0


_USUAL = frozenset({"id", "text", "label", "labels", "messages", "conversations", "prompt",
                    "completion", "instruction", "output", "context", "question", "answers",
                    "answer", "document"})  # fmt: skip


def wanted_columns(config: DataConfig) -> Set[str]:
    """Return names that the columns of a file are likely to have: the recipe's, else ours."""
    given = {*config.columns.values()} | ({config.group} if config.group is not None else set())
    return given | (_USUAL - {*config.columns})


def column_names(cells: Sequence[object], place: str, findings: Findings) -> list[str]:
    """Return the names that a header row gives, trimmed, without the empty ones after the last.

    A column without a name within the header is named ``""``; it is not read. So is one whose name
    is there before it, which becomes a finding.
    """
    names = ["" if cell is None else str(cell).strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(names, 1):
        numbers.setdefault(name, []).append(number)
    for name, found in numbers.items():
        if name and len(found) > 1:
            listed = ", ".join(map(str, found))
            findings.add(DOUBLED_COLUMN, place, f"columns {listed} are named {shown_name(name)}")
    return [name if number == numbers[name][0] else "" for number, name in enumerate(names, 1)]


def shown_name(name: str) -> str:
    """Return a column's name for a message, cut: where a header is missing, it is text of a row."""
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}...")


_LONGEST_NAME = 30
"""Characters of a name that are shown."""


HEADER_AGAIN = "repeats the names of the columns, as where files were joined"


def is_header_again(names: Sequence[str], cells: Sequence[object], wanted: Collection[str]) -> bool:
    """Return whether a row has the names of the columns in place of values.

    Never where no name is one that a recipe wants: the header may then be a row itself.
    """
    found = ["" if cell is None else str(cell).strip("\ufeff ").strip() for cell in cells]
    while found and not found[-1]:
        found.pop()
    return len(found) > 1 and found == [*names] and any(name in wanted for name in names)


def note_skipped(findings: Findings, path: str, skipped: Sequence[int], header: int) -> None:
    """Record the rows above a header that was recognised, by their numbers."""
    for number in skipped:
        findings.add(
            LINES_ABOVE_HEADER,
            f"{path}:{number}",
            f"not read: the columns are named in {header}",
        )


def table_row(names: Sequence[str], cells: Sequence[Cell]) -> dict[str, Cell]:
    """Return the cells under the names that their columns have."""
    return {name: cell for name, cell in zip(names, cells, strict=False) if name}
