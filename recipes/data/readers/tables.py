"""Tables in text files: CSV, TSV and what is like them."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recipes.config import DataConfig
from recipes.data.catalog import UNCLOSED_QUOTE, UNUSABLE_ROW, WRONG_ENCODING
from recipes.data.findings import FindingKind, Findings
from recipes.data.readers import delimiters, headers
from recipes.data.readers.compression import compression_of
from recipes.data.readers.encodings import display_name, encoding_of
from recipes.data.readers.faults import UnreadableFile
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
        UnreadableFile: if its header cannot be read.
        InputError: if a setting cannot be.
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


class _RowLines:
    """The lines of a table, each with its number, of which those of a row can be read again."""

    def __init__(self, lines: Lines, num_skipped: int) -> None:
        self._lines = lines
        self._rest = iter(lines)
        for _ in itertools.islice(self._rest, num_skipped):
            pass
        lines.take_faults()
        self._again: list[tuple[int, str, tuple[str, ...]]] = []  # the next one last
        self._row: list[tuple[int, str, tuple[str, ...]]] = []

    def __iter__(self) -> Iterator[str]:
        while True:
            if self._again:
                self._row.append(self._again.pop())
            else:
                line = next(self._rest, None)
                if line is None:
                    return
                faults = tuple(why for _, why in self._lines.take_faults())
                self._row.append((self._lines.num_read, line, faults))
            yield self._row[-1][1]

    def begin_row(self) -> None:
        """Forget the lines of the row before."""
        self._row = []

    @property
    def first(self) -> tuple[int, str]:
        """Number and text of the first line of the row."""
        return self._row[0][:2]

    @property
    def last(self) -> tuple[int, str]:
        """Number and text of the last line of the row so far."""
        return self._row[-1][:2]

    def faults(self) -> list[tuple[FindingKind, int, str]]:
        """Return what is wrong with the encoding of the row."""
        return [(WRONG_ENCODING, number, why) for number, _, whys in self._row for why in whys]

    def read_again(self) -> None:
        """Begin again after the first line of the row."""
        self._again += self._row[:0:-1]

    def are_rows(self, delimiter: str, num_fields: int) -> bool:
        """Return whether most lines within the row have so many fields, as rows of their own do."""
        inner = [line for _, line, _ in self._row[1:-1]]
        num_alike = sum(line.count(delimiter) == num_fields - 1 for line in inner)
        return num_fields > 1 and 2 * num_alike > len(inner)


def _parse(path: Path, codec: str, dialect: _Dialect) -> Iterator[_Line]:
    """Yield the rows that hold anything, and those that cannot be parsed.

    A quote that is not closed takes the lines after it into one field, up to the next quote or to
    the end. They are read again, as if the row ended with its first line. No line is read more
    than twice: there is no other quote among them.
    """
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.is_quoted else csv.QUOTE_NONE
    with Text(path, codec) as text:
        lines = _RowLines(Lines(text), dialect.num_skipped)
        unclosed: _Line | None
        while True:
            reader = csv.reader(
                iter(lines), delimiter=dialect.delimiter, quoting=quoting, strict=True
            )
            unclosed = yield from _rows(reader, lines, dialect.delimiter)
            if unclosed is None:
                return
            yield unclosed
            lines.read_again()


def _rows(
    reader: Iterator[list[str]], lines: _RowLines, delimiter: str
) -> Generator[_Line, None, _Line | None]:
    """Yield rows up to one with a quote that is not closed, which is returned."""
    num_fields = 0
    while True:
        lines.begin_row()
        faults: list[tuple[FindingKind, int, str]] = []
        try:
            fields = next(reader)
            faults = lines.faults()
            num_fields = len(fields) or num_fields
        except StopIteration:
            return None
        except csv.Error as error:
            number, line = lines.first
            last, end = lines.last
            is_at_end = "end of data" in str(error)
            opens_field = last > number and _opens_field(end, delimiter)
            if is_at_end or opens_field or lines.are_rows(delimiter, num_fields):
                until = "" if is_at_end else f"; the next quote is in line {last}"
                why = f"a quote is opened here and never closed{until}"
                fields = next(csv.reader([line], delimiter=delimiter), [])
                return _Line(number, fields, ((UNCLOSED_QUOTE, number, why),))
            span = f" (lines {number} to {last})" if last > number else ""
            fields, faults = [], [(UNUSABLE_ROW, number, f"not valid CSV{span}: {error}")]
        if faults or any(field.strip() for field in fields):
            yield _Line(lines.first[0], fields, tuple(faults))


def _opens_field(line: str, delimiter: str) -> bool:
    """Return whether the first quote of a line that is not doubled begins a field."""
    at = line.replace('""', "  ").find('"')
    return at == 0 or line[:at].endswith(delimiter)


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
            raise UnreadableFile(
                path, f"data.header_row is {config.header_row}, a line without names"
            )
        return _Header(chosen.number, _names(path, chosen, findings), lines)
    head = list(itertools.islice(lines, headers.NUM_LOOKED_AT))
    if not head:
        return _Header(None, [], lines)
    index = headers.find_header([line.fields for line in head], headers.wanted_columns(config))
    chosen = head[index]
    headers.note_skipped(findings, str(path), [one.number for one in head[:index]], chosen.number)
    names = _names(path, chosen, findings)
    return _Header(chosen.number, names, itertools.chain(head[index + 1 :], lines))


def _names(path: Path, line: _Line, findings: Findings) -> list[str]:
    """Return the names of a header.

    Raises:
        UnreadableFile: if it cannot be read, without which no row can.
    """
    place = f"{path}:{line.number}"
    if line.faults:
        raise UnreadableFile(
            place, f"the line that names the columns cannot be read: {line.faults[0][2]}"
        )
    return headers.column_names(line.fields, place, findings)


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
