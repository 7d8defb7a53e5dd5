"""Tables in text files: CSV, TSV and what is like them."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recipes.config import DataConfig
from recipes.data.catalog import UNUSABLE_ROW, WRONG_ENCODING
from recipes.data.findings import FindingKind, Findings
from recipes.data.readers import delimiters, headers
from recipes.data.readers.compression import compression_of
from recipes.data.readers.encodings import display_name, encoding_of
from recipes.data.readers.file_read import FileRead, OpenedFile
from recipes.data.readers.kinds import kind_of
from recipes.data.readers.text import Lines, Text
from recipes.data.rows import Row
from recipes.errors import InputError

_SAMPLE_CHARACTERS = 200_000
_SAMPLE_LINES = 500
_LONGEST_FIELD = 2**30
"""The csv module's own limit, 128 KB, is less than a long document."""


@dataclass(frozen=True)
class _Dialect:
    delimiter: str
    is_quoted: bool
    """Whether fields may be quoted; in TSV a quote is a plain character, often unbalanced."""

    num_skipped: int
    """Lines before the table that the reader passes over."""


def open_table(path: Path, config: DataConfig, findings: Findings) -> OpenedFile:
    """Open a table: detect its encoding, delimiter and header.

    Raises:
        InputError: if a setting cannot be, the header names a column twice, or a quote is never
            closed.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    codec = encoding_of(path, config.encoding)
    kind = "tsv" if kind_of(path) == "tsv" else "csv"
    dialect = _dialect(path, codec, config, kind)
    header = _header(path, _parse(path, codec, dialect), config, findings)
    read = FileRead(
        path=str(path),
        kind=kind,
        encoding=display_name(codec),
        delimiter=dialect.delimiter,
        header_row=header.number,
        columns=tuple(name for name in header.names if name),
        compression=compression_of(path),
    )
    wanted = headers.wanted_columns(config)
    rows = _named_rows(path, header, wanted, findings, is_tsv=not dialect.is_quoted)
    return OpenedFile(read, rows)


def _dialect(path: Path, codec: str, config: DataConfig, kind: str) -> _Dialect:
    with Text(path, codec) as text:
        lines = _first_lines(Lines(text))
    declared = delimiters.declared(lines[0]) if lines else None
    skipped = 1 if declared is not None else 0
    if config.header_row is not None:
        skipped = config.header_row - 1
    wanted = headers.wanted_columns(config)
    delimiter = (
        config.delimiter
        or declared
        or delimiters.detect(lines[skipped:], wanted, "\t" if kind == "tsv" else ",")
    )
    if delimiter in '"\r\n':
        raise InputError(f"data.delimiter: {delimiter!r} cannot separate columns")
    return _Dialect(delimiter, kind != "tsv" or delimiter != "\t", skipped)


def _first_lines(lines: Lines) -> list[str]:
    """Return whole lines to detect by; the last is left out where the file goes on."""
    found: list[str] = []
    size = 0
    for line in lines:
        found.append(line)
        size += len(line)
        if size > _SAMPLE_CHARACTERS or len(found) > _SAMPLE_LINES:
            return found[:-1] or found
    return found


@dataclass(frozen=True)
class _Line:
    """One row, which may span lines."""

    number: int
    """Of its first line."""

    fields: list[str]
    faults: tuple[tuple[FindingKind, int, str], ...] = ()
    """Why it cannot be used: kind, line and detail of each fault."""


def _parse(path: Path, codec: str, dialect: _Dialect) -> Iterator[_Line]:
    """Yield the rows that hold anything, and those that cannot be parsed."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.is_quoted else csv.QUOTE_NONE
    with Text(path, codec) as text:
        lines = Lines(text)
        rest = iter(lines)
        for _ in itertools.islice(rest, dialect.num_skipped):
            pass
        lines.take_faults()
        reader = csv.reader(rest, delimiter=dialect.delimiter, quoting=quoting, strict=True)
        while True:
            number = lines.num_read + 1  # a row begins where the one before it ended
            try:
                fields = next(reader)
                faults = [(WRONG_ENCODING, line, why) for line, why in lines.take_faults()]
            except StopIteration:
                return
            except csv.Error as error:
                if "end of data" in str(error):
                    raise InputError(
                        f"{path}:{number}: a quote is opened here or in this row and never "
                        "closed, so the rows after it cannot be read; close it"
                    ) from None
                lines.take_faults()
                fields, faults = [], [(UNUSABLE_ROW, number, f"not valid CSV: {error}")]
            if faults or any(field.strip() for field in fields):
                yield _Line(number, fields, tuple(faults))


@dataclass(frozen=True)
class _Header:
    number: int | None
    """Line of the names; None in a file without rows."""

    names: list[str]
    rest: Iterator[_Line]
    """What follows it."""


def _header(path: Path, lines: Iterator[_Line], config: DataConfig, findings: Findings) -> _Header:
    if config.header_row is not None:
        chosen = next(lines, None)
        if chosen is None or chosen.number != config.header_row:
            raise InputError(
                f"{path}: data.header_row is {config.header_row}, a line without names"
            )
        return _Header(chosen.number, _names(path, chosen), lines)
    head = list(itertools.islice(lines, headers.NUM_LOOKED_AT))
    if not head:
        return _Header(None, [], lines)
    index = headers.find_header([line.fields for line in head], headers.wanted_columns(config))
    chosen = head[index]
    headers.note_skipped(findings, str(path), [one.number for one in head[:index]], chosen.number)
    return _Header(chosen.number, _names(path, chosen), itertools.chain(head[index + 1 :], lines))


def _names(path: Path, line: _Line) -> list[str]:
    """Return the names of a header.

    Raises:
        InputError: if it cannot be read, without which no row can.
    """
    place = f"{path}:{line.number}"
    if line.faults:
        raise InputError(
            f"{place}: the line that names the columns cannot be read: {line.faults[0][2]}"
        )
    return headers.column_names(line.fields, place)


def _named_rows(
    path: Path, header: _Header, wanted: Collection[str], findings: Findings, *, is_tsv: bool
) -> Iterator[Row]:
    count = len(header.names)
    for line in header.rest:
        place, fields = f"{path}:{line.number}", line.fields
        if line.faults:
            (kind, number, why), *more = line.faults
            also = f" (and in {len(more)} more lines of this row)" if more else ""
            findings.add(kind, f"{path}:{number}", f"{why}{also}")
        elif headers.is_header_again(header.names, fields, wanted):
            findings.add(UNUSABLE_ROW, place, headers.HEADER_AGAIN)
        elif any(field.strip() for field in fields[count:]):
            findings.add(UNUSABLE_ROW, place, f"more fields than the header's {count}")
        elif len(fields) < count:
            findings.add(UNUSABLE_ROW, place, f"fewer fields than the header's {count}")
        elif is_tsv and any(map(_is_quoted, fields)):
            why = "a field is quoted as in CSV, and TSV has no quotes"
            findings.add(UNUSABLE_ROW, place, why)
        else:
            yield Row(place, headers.table_row(header.names, fields))


def _is_quoted(field: str) -> bool:
    """Return whether a program wrote this field with quotes around it and its own doubled."""
    inner = field[1:-1]
    is_within = len(field) > 3 and field[0] == field[-1] == '"'
    return is_within and '""' in inner and '"' not in inner.replace('""', "")
