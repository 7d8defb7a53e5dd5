"""How a file was read: what was detected or set, for `assay check` and the record of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from recipes.data.rows import Row

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class FileRead:
    """One file, and how it was read."""

    path: str
    kind: str
    """One of `KINDS`; for `.txt` what its content is: ``csv`` or ``jsonl``."""

    encoding: str | None = None
    """Of a text file, such as ``Windows-1252``; UTF-8 with a byte order mark is ``UTF-8``."""

    delimiter: str | None = None
    """Of a table in a text file."""

    sheet: str | None = None
    """Of a workbook."""

    num_sheets: int | None = None
    """All sheets of the workbook, but for charts."""

    header_row: int | None = None
    """Line or sheet row of the column names, from 1; None where the format has no such row."""

    columns: tuple[str, ...] = ()
    """Column names of a table, in its order; empty where each row has its own."""

    layout: str | None = None
    """Of JSON: how its rows are arranged, such as ``rows under 'items'``."""

    num_rows: int = 0
    """Rows that could be read."""

    compression: str | None = None
    """Such as ``gzip``."""

    def describe(self) -> str:
        """Return how the file was read, for a person.

        Example:
            >>> FileRead("a.csv", "csv", "Windows-1252", ";", header_row=1).describe()
            'read as Windows-1252, semicolons'
            >>> FileRead("a.xlsx", "xlsx", sheet="Q1", num_sheets=3, header_row=4).describe()
            "sheet 'Q1' of 3, header in row 4"
        """
        parts = []
        if self.sheet is not None:
            parts.append(f"sheet {self.sheet!r} of {self.num_sheets}")
        elif self.encoding is not None:
            parts.append(f"read as {self.encoding}")
        else:
            parts.append(f"read as {self.kind}")
        if self.delimiter is not None:
            parts.append(_DELIMITERS.get(self.delimiter, f"delimiter {self.delimiter!r}"))
        if self.layout is not None:
            parts.append(self.layout)
        if self.header_row is not None and self.header_row > 1:
            parts.append(f"header in {'line' if self.sheet is None else 'row'} {self.header_row}")
        if self.compression is not None:
            parts.append(f"{self.compression}-compressed")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"columns": list(self.columns)}


@dataclass(frozen=True)
class OpenedFile:
    """A file whose head has been looked at: how it is read, and its rows, not read yet."""

    read: FileRead
    rows: Iterator[Row]
