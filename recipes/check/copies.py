"""Copies of data files: tables as CSV, everything else as JSONL, both in UTF-8."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from recipes.data.readers import FileRead
from recipes.data.readers.compression import COMPRESSIONS
from recipes.data.readers.kinds import KINDS
from recipes.files import finite


class Write(Protocol):
    """Writes one row, by column."""

    def __call__(self, values: Mapping[str, Any], /) -> None:
        """Write a row."""
        ...


def is_table(read: FileRead) -> bool:
    """Return whether all rows of a file have the same columns and no nested values."""
    return read.sheet is not None or read.kind in ("csv", "tsv")


def copy_name(read: FileRead, taken: set[str]) -> str:
    """Return the name of a copy that no file in ``taken`` has, and add it there.

    Example:
        >>> taken = {"changes.jsonl"}
        >>> [copy_name(FileRead(p, "csv"), taken) for p in ("a/x.csv.gz", "b/X.csv")]
        ['x.csv', 'X-2.csv']
    """
    stem = Path(read.path).name
    for ends in (COMPRESSIONS, KINDS):
        end = Path(stem).suffix.lstrip(".").lower()
        if end in ends:
            stem = Path(stem).stem
    suffix = "csv" if is_table(read) else "jsonl"
    name, number = f"{stem}.{suffix}", 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}.{suffix}"
    taken.add(name.casefold())
    return name


def change_of_form(read: FileRead) -> str:
    """Return how a file was written when its copy is not; empty where both have one form."""
    if read.compression is None and read.encoding == "UTF-8":
        if read.kind == "csv" and read.delimiter == "," and read.header_row == 1:
            return ""
        if read.kind == "jsonl":
            return ""
    return read.describe()


@contextmanager
def writer(path: Path, read: FileRead) -> Iterator[Write]:
    """Open a copy and give a function that writes a row to it."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        if not is_table(read):

            def write_object(values: Mapping[str, Any], /) -> None:
                stream.write(json.dumps(finite(values), ensure_ascii=False, default=str) + "\n")

            yield write_object
            return
        # Ends of lines as RFC 4180 has them, so that the csv module quotes fields with \r too.
        # Fields that begin with = + - @ stay as they are: a spreadsheet may take them for
        # formulas, but the copy is for training, and a mark before them would be learned.
        table = csv.writer(stream, lineterminator="\r\n")
        table.writerow(read.columns)

        def write_cells(values: Mapping[str, Any], /) -> None:
            table.writerow(_cells(values, read.columns))

        yield write_cells


def _cells(values: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [_cell(values.get(column)) for column in columns]


def _cell(value: Any) -> str:
    """Return a value as a table in a text file has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
