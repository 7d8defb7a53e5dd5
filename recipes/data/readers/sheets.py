"""Workbooks: Excel (xlsx, xlsm, xlsb, old xls) and OpenDocument, read by calamine.

A sheet is loaded whole; all other kinds are read as a stream. What a cell gives:

- text as it is, Excel's escapes (``_x000D_``) undone; a formula's value as it was saved with it;
- a number without its format: 7 where the program shows ``007``, 0.125 where it shows 12.5 %;
- a date or time as ISO text, whatever its format; true and false as such;
- only the first cell of merged ones has the value.

A cell with an error, such as #N/A, is a finding in xlsx and xlsm. Calamine gives an empty cell for
it; in xlsb, xls and ods it cannot be distinguished from one.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from recipes.config import DataConfig
from recipes.data.catalog import CELL_ERROR, ROUNDED_NUMBER, UNUSABLE_ROW
from recipes.data.findings import Findings
from recipes.data.readers import headers
from recipes.data.readers.faults import UnreadableFile
from recipes.data.readers.file_read import FileRead, OpenedFile
from recipes.data.readers.kinds import kind_of
from recipes.data.readers.sheet_xml import SheetFacts, read_facts
from recipes.data.readers.workbooks import open_sheet_of
from recipes.data.rows import Row, plain_number

_MOST_CELLS = 100_000_000
"""Of a sheet's rectangle; calamine keeps all of it in memory, about 24 bytes a cell."""

_EXACT = 10**15
"""Excel keeps 15 digits of a number."""


def open_sheet(path: Path, config: DataConfig, findings: Findings) -> OpenedFile:
    """Open one sheet of a workbook: `data.sheet`, else the first visible one with rows.

    Raises:
        UnreadableFile: if the workbook cannot be read, or has no such sheet.
    """
    facts = read_facts(path)
    for name, fact in facts.items():
        if fact.num_cells > _MOST_CELLS:
            raise UnreadableFile(
                path,
                f"sheet {name!r} has a cell far away from the others, in row "
                f"{fact.num_rows:,}, column {fact.num_columns:,}; delete what is beyond the table",
            )
    sheet = open_sheet_of(path, config.sheet)
    fact = facts.get(sheet.name, SheetFacts())
    rows = _filled_rows(sheet.rows, fact.errors)
    header, columns, rest = _header(path, rows, config, findings)
    read = FileRead(
        path=str(path),
        kind=kind_of(path),
        sheet=sheet.name,
        num_sheets=sheet.num_sheets,
        header_row=header,
        columns=tuple(name for name in columns if name),
    )
    return OpenedFile(read, _named_rows(path, columns, rest, findings))


_Cells = tuple[int, list[Any]]
"""Row of the sheet, from 1, and its cells; None where one is empty, `_ERROR` for an error."""

_ERROR = object()


def _filled_rows(
    lines: Iterator[list[Any]], errors: Collection[tuple[int, int]]
) -> Iterator[_Cells]:
    by_row: dict[int, list[int]] = {}
    for row, column in errors:
        by_row.setdefault(row, []).append(column)
    for number, cells in enumerate(lines, 1):
        for column in by_row.get(number, ()):
            cells += [None] * (column - len(cells))
            cells[column - 1] = _ERROR
        if any(cell is not None for cell in cells):
            yield number, cells


def _header(
    path: Path, rows: Iterator[_Cells], config: DataConfig, findings: Findings
) -> tuple[int | None, list[str], Iterator[_Cells]]:
    """Return the header's row, its names, and the rows that follow it."""
    wanted = config.header_row
    if wanted is not None:
        first = next((one for one in rows if one[0] >= wanted), None)
        if first is None or first[0] != wanted:
            raise UnreadableFile(path, f"data.header_row is {wanted}, a row without cells")
        return wanted, headers.column_names(first[1], f"{path}:{wanted}", findings), rows
    head = list(itertools.islice(rows, headers.NUM_LOOKED_AT))
    if not head:
        return None, [], rows
    index = headers.find_header([cells for _, cells in head], headers.wanted_columns(config))
    number, cells = head[index]
    headers.note_skipped(findings, str(path), [row for row, _ in head[:index]], number)
    names = headers.column_names(cells, f"{path}:{number}", findings)
    return number, names, itertools.chain(head[index + 1 :], rows)


def _named_rows(
    path: Path, columns: list[str], rows: Iterator[_Cells], findings: Findings
) -> Iterator[Row]:
    count = len(columns)
    for number, cells in rows:
        place = f"{path}:{number}"
        if any(cell is not None for cell in cells[count:]):
            findings.add(UNUSABLE_ROW, place, f"more cells than the header's {count}")
            continue
        cells = cells[:count] + [None] * (count - len(cells))
        named = headers.table_row(columns, cells)
        if wrong := [name for name, cell in named.items() if cell is _ERROR]:
            findings.add(CELL_ERROR, place, f"column {wrong[0]!r}")
            continue
        for name, cell in named.items():
            if isinstance(cell, float) and cell.is_integer() and abs(cell) >= _EXACT:
                findings.add(ROUNDED_NUMBER, place, f"column {name!r}")
        yield Row(place, {name: plain_number(cell) for name, cell in named.items()})
