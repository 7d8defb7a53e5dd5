"""What the XML of an Excel workbook says and calamine does not: cells with errors, and its size."""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

_CHUNK = 1 << 20
_ERROR_CELL = re.compile(rb'<(?:\w+:)?c\s(?=[^>]*\bt="e")[^>]*\br="([A-Z]{1,3})(\d{1,7})"')
_ROW = re.compile(rb'<(?:\w+:)?row\s[^>]*\br="(\d{1,7})"')
_COLUMN = re.compile(rb'\sr="([A-Z]{1,3})\d')
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


@dataclass(frozen=True)
class SheetFacts:
    """Of one sheet."""

    errors: frozenset[tuple[int, int]] = frozenset()
    """Row and column, from 1, of each cell that holds an error."""

    num_rows: int = 0
    num_columns: int = 0

    @property
    def num_cells(self) -> int:
        """Cells of the rectangle that holds all cells."""
        return self.num_rows * self.num_columns


def read_facts(path: Path) -> dict[str, SheetFacts]:
    """Return the facts of each sheet by its name; none where the file is no xlsx or is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {}
            for name, part in _parts(archive).items():
                with archive.open(part) as stream:
                    found[name] = _facts(stream)
            return found
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, ValueError, NotImplementedError,
            OSError, EOFError, zlib.error, RuntimeError):  # fmt: skip
        return {}  # the workbook is refused, or read, by calamine


def _parts(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the name of the part that holds each sheet."""
    relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))  # noqa: S314
    targets = {one.get("Id", ""): one.get("Target", "") for one in relations}
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))  # noqa: S314
    found = {}
    for element in book.iter():
        target = targets.get(element.get(_RELATION, ""), "")
        if element.tag.endswith("}sheet") and "worksheets" in target:
            is_absolute = target.startswith("/")
            found[element.get("name", "")] = target[1:] if is_absolute else f"xl/{target}"
    return found


def _facts(stream: IO[bytes]) -> SheetFacts:
    errors: set[tuple[int, int]] = set()
    columns: set[bytes] = set()
    num_rows = 0
    rest = b""
    while block := stream.read(_CHUNK):
        block = rest + block
        cut = block.rfind(b"<")
        block, rest = (block[:cut], block[cut:]) if cut > 0 else (b"", block)
        columns.update(_COLUMN.findall(block))
        num_rows = max([num_rows, *map(int, _ROW.findall(block))])
        errors.update((int(row), _number(column)) for column, row in _ERROR_CELL.findall(block))
    return SheetFacts(frozenset(errors), num_rows, max(map(_number, columns), default=0))


def _number(column: bytes) -> int:
    """Return the number of a column.

    Example:
        >>> [_number(column) for column in (b"A", b"Z", b"AA")]
        [1, 26, 27]
    """
    number = 0
    for letter in column:
        number = number * 26 + letter - 64
    return number
