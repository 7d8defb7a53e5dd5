"""Reading what others publish: each mistake in a file is told by its place in it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from eval.errors import EvaluationError


@dataclass(frozen=True)
class Row:
    """One record of a file, which knows where it stands."""

    where: str
    """File and line, as ``pairs.csv:12``, or file and place in a JSON document."""

    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        """Return a text that is not blank.

        Raises:
            EvaluationError: if there is none.
        """
        value = self.get(key, str, "a text")
        if not value.strip():
            raise EvaluationError(f"{self.where}: {key!r} is empty; give a text")
        return str(value)

    def texts(self, key: str) -> list[str]:
        """Return a list of texts.

        Raises:
            EvaluationError: if it is none.
        """
        value = self.get(key, list, "a list of texts")
        if not all(isinstance(item, str) for item in value):
            raise EvaluationError(f"{self.where}: {key!r} holds something else than texts")
        return list(value)

    def one_of(self, key: str, wanted: Sequence[str]) -> str:
        """Return a text out of a few.

        Raises:
            EvaluationError: if it is another.
        """
        value = self.text(key)
        if value not in wanted:
            raise EvaluationError(
                f"{self.where}: {key!r} is {value!r}; wanted {' or '.join(map(repr, wanted))}"
            )
        return value

    def rows(self, key: str) -> list[Row]:
        """Return a list of records within this one.

        Raises:
            EvaluationError: if it is none.
        """
        return records(self.get(key, list, "a list of objects"), f"{self.where}.{key}")

    def row(self, key: str) -> Row:
        """Return a record within this one.

        Raises:
            EvaluationError: if it is none.
        """
        return Row(f"{self.where}.{key}", self.get(key, dict, "an object"))

    def get(self, key: str, kind: type | UnionType, wanted: str) -> Any:
        """Return a value of a kind.

        Raises:
            EvaluationError: if it is missing, or of another kind.
        """
        if key not in self.values:
            found = ", ".join(str(name) for name in self.values) or "nothing"
            raise EvaluationError(f"{self.where}: no {key!r}; found {found}, wanted {wanted}")
        value = self.values[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise EvaluationError(
                f"{self.where}: {key!r} is {_shown(value)}; wanted {wanted} "
                "(is this the published format?)"
            )
        return value


def read_csv(path: Path, columns: Sequence[str]) -> list[Row]:
    """Return the records of a CSV file with a header.

    Raises:
        EvaluationError: if it cannot be read, lacks a column, or a record has other fields.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    rows: list[Row] = []
    first = 1
    try:
        header = reader.fieldnames or []
        if missing := [column for column in columns if column not in header]:
            raise EvaluationError(
                f"{path}:1: no column {missing[0]!r}; found {', '.join(map(repr, header))}, "
                f"wanted {', '.join(map(repr, columns))}"
            )
        first = reader.line_num + 1
        for values in reader:
            where = f"{path}:{first}"
            first = reader.line_num + 1
            if None in values or None in values.values():
                raise EvaluationError(
                    f"{where}: the record has another number of fields than the header's "
                    f"{len(header)}; quote fields that hold a comma"
                )
            rows.append(Row(where, values))
    except csv.Error as error:
        raise EvaluationError(f"{path}:{first}: no sound CSV: {error}") from error
    return _some(path, rows)


def read_json_lines(path: Path) -> list[Row]:
    """Return the objects of a file with one a line.

    Raises:
        EvaluationError: if it cannot be read, or a line is no object.
    """
    rows = []
    # not splitlines(): JSON texts may hold other line ends than \n
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        rows += records([_parse(line, where)], where, is_numbered=False)
    return _some(path, rows)


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Return the lines of a text file that are not blank, each with its place.

    Raises:
        EvaluationError: if it cannot be read, or has none.
    """
    lines = [(f"{path}:{i}", line.strip()) for i, line in enumerate(_text(path).split("\n"), 1)]
    found = [(where, line) for where, line in lines if line]
    if not found:
        raise EvaluationError(f"{path}: no lines; give the file of the set")
    return found


def read_json(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        EvaluationError: if it cannot be read.
    """
    return _parse(_text(path), str(path))


def records(values: Iterable[object], where: str, *, is_numbered: bool = True) -> list[Row]:
    """Return objects as records that know their place.

    Raises:
        EvaluationError: if one is no object.
    """
    rows = []
    for number, value in enumerate(values):
        place = f"{where}[{number}]" if is_numbered else where
        if not isinstance(value, dict):
            raise EvaluationError(f"{place}: found {_shown(value)}, wanted an object")
        rows.append(Row(place, value))
    return rows


def counted(num_kept: int, num_all: int, what: str) -> str:
    """Return how many of a file's records are asked, in words.

    Example:
        >>> counted(1508, 1508, "pairs"), counted(100, 1508, "pairs")
        ('1,508 pairs', 'the first 100 of 1,508 pairs')
    """
    return (
        f"{num_all:,} {what}"
        if num_kept == num_all
        else (f"the first {num_kept:,} of {num_all:,} {what}")
    )


def digest(path: Path) -> str:
    """Return ``sha256:...`` over the bytes of a file.

    Raises:
        EvaluationError: if it cannot be read.
    """
    return "sha256:" + hashlib.sha256(_bytes(path)).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise EvaluationError(f"{path}: {reason}; give the file of the set") from error


def _text(path: Path) -> str:
    data = _bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise EvaluationError(f"{path}:{line}: no UTF-8 text; save the file as UTF-8") from error


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = where if "\n" not in text else f"{where}:{error.lineno}"
        raise EvaluationError(f"{place}: no sound JSON: {error.msg}") from error


def _some(path: Path, rows: list[Row]) -> list[Row]:
    if not rows:
        raise EvaluationError(f"{path}: no records; give the file of the set")
    return rows


def _shown(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"the number {value}"
    return "null" if value is None else kinds.get(type(value), type(value).__name__)
