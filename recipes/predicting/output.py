"""Predictions as a file: CSV, JSON lines or Parquet, a row for each row of the input, streamed.

The file appears whole or not at all.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from recipes.errors import InputError
from recipes.files import replacing

Kind = Literal["text", "texts", "number", "flag", "by-label"]
Cell = str | tuple[str, ...] | float | bool | tuple[float, ...] | None
Value = str | float | bool | None | list[str] | dict[str, float]


@dataclass(frozen=True)
class Column:
    """One thing that is predicted of a row."""

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()
    """Of a column with a number for each label: an object in JSON, and columns ``name:LABEL`` in
    tables."""


@dataclass(frozen=True)
class OutputRow:
    """The prediction for one row of the input, or why there is none."""

    id: str | None
    place: str
    cells: tuple[Cell, ...] | None
    """In the order of the columns; None where there is a problem."""

    problem: str | None = None

    def to_json(self, columns: Sequence[Column]) -> dict[str, Value]:
        """Return it as JSON values; what was not predicted is null."""
        cells = self.cells or (None,) * len(columns)
        found: dict[str, Value] = {"id": self.id, "place": self.place}
        for column, cell in zip(columns, cells, strict=True):
            if column.kind == "by-label" and isinstance(cell, tuple):
                numbers = [float(one) for one in cell]
                found[column.name] = dict(zip(column.labels, numbers, strict=True))
            elif isinstance(cell, tuple):
                found[column.name] = [str(one) for one in cell]
            else:
                found[column.name] = cell
        return found | {"problem": self.problem}


Write = Callable[[Sequence[OutputRow]], None]
"""Adds rows to the file."""


@contextmanager
def open_output(path: Path, columns: Sequence[Column]) -> Iterator[Write]:
    """Give a function that adds rows; the file takes its name when all went well.

    Raises:
        InputError: if the name ends in none of the kinds that are written.
    """
    writer = _KINDS[kind_of(path)]
    with replacing(path) as stream, writer(stream, columns) as write:
        yield write


def kind_of(path: Path) -> str:
    """Return the kind of an output file by its name.

    Raises:
        InputError: if it is none that is written.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in _KINDS:
        raise InputError(
            f"--out {path}: predictions are written as {', '.join('.' + k for k in _KINDS)}; "
            "choose the kind by the end of the name"
        )
    return kind


@contextmanager
def _json_lines(stream: BinaryIO, columns: Sequence[Column]) -> Iterator[Write]:
    def write(rows: Sequence[OutputRow]) -> None:
        for row in rows:
            line = json.dumps(row.to_json(columns), ensure_ascii=False, allow_nan=False)
            stream.write(line.encode("utf-8") + b"\n")

    yield write


@contextmanager
def _csv(stream: BinaryIO, columns: Sequence[Column]) -> Iterator[Write]:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(name for name, _ in _flat(columns))

    def write(rows: Sequence[OutputRow]) -> None:
        for row in rows:
            values = _flat_values(row, columns)
            writer.writerow(_written(value) for value in values)

    yield write
    text.detach()


def _written(value: Value) -> str | float | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " | ".join(value)
    assert not isinstance(value, dict)  # noqa: S101 (each label has a column)
    return value


@contextmanager
def _parquet(stream: BinaryIO, columns: Sequence[Column]) -> Iterator[Write]:
    import pyarrow
    from pyarrow import parquet

    types: Mapping[Kind, pyarrow.DataType] = {
        "text": pyarrow.string(),
        "texts": pyarrow.list_(pyarrow.string()),
        "number": pyarrow.float64(),
        "flag": pyarrow.bool_(),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in _flat(columns)])
    with parquet.ParquetWriter(stream, schema) as writer:

        def write(rows: Sequence[OutputRow]) -> None:
            values = [_flat_values(row, columns) for row in rows]
            arrays = [
                pyarrow.array([value[place] for value in values], one.type)
                for place, one in enumerate(schema)
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))

        yield write


def _flat(columns: Sequence[Column]) -> list[tuple[str, Kind]]:
    """Return the columns of a table."""
    found: list[tuple[str, Kind]] = [("id", "text"), ("place", "text")]
    for column in columns:
        if column.kind == "by-label":
            found += [(f"{column.name}:{label}", "number") for label in column.labels]
        else:
            found.append((column.name, column.kind))
    return [*found, ("problem", "text")]


def _flat_values(row: OutputRow, columns: Sequence[Column]) -> list[Value]:
    values = row.to_json(columns)
    found: list[Value] = [row.id, row.place]
    for column in columns:
        value = values[column.name]
        if column.kind == "by-label":
            by_label = value if isinstance(value, dict) else {}
            found += [by_label.get(label) for label in column.labels]
        else:
            found.append(value)
    return [*found, row.problem]


_KINDS = {"csv": _csv, "jsonl": _json_lines, "parquet": _parquet}
