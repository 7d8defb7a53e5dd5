"""Results on standard output, at any width: lines end between words, and no cell is cut short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_ANY_WIDTH = 100_000
_WORD = re.compile(r"\s*\S+\s*")


class Printer(Console):
    """A console whose texts wrap between words and whose tables lose nothing.

    rich breaks a word that is longer than the line, and ends with an ellipsis what does not fit
    into its column. Here such a word runs over the edge, where the terminal, or whoever reads the
    pipe, deals with it whole; and a table that does not fit is written row by row.
    """

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def print(self, *objects: Any, **how: Any) -> None:
        """Print texts and tables, each on lines of its own."""
        for one in objects or ("",):
            if isinstance(one, Table):
                self._print_table(one)
            elif isinstance(one, str | Text):
                self.paragraph(one, **how)
            else:
                super().print(one, **how)

    def paragraph(self, text: str | Text, indent: int = 0, **how: Any) -> None:
        """Print a text, its lines ``indent`` columns from the left."""
        words = self.render_str(text) if isinstance(text, str) else text
        width = _ANY_WIDTH if how.get("soft_wrap") else max(self.width - indent, 10)
        for line in _lines(words, width):
            super().print(Text(" " * indent).append_text(line), soft_wrap=True)

    def _print_table(self, table: Table) -> None:
        wide = self.options.update(max_width=_ANY_WIDTH)
        cells = [[self._text(cell) for cell in column.cells] for column in table.columns]
        headers = [self._text(column.header) for column in table.columns]
        sizes = [
            [Measurement.get(self, wide, cell) for cell in ([header] if table.show_header else [])]
            + [Measurement.get(self, wide, cell) for cell in column]
            for header, column in zip(headers, cells, strict=True)
        ]
        least = [max((size.minimum for size in column), default=0) for column in sizes]
        most = [max((size.maximum for size in column), default=0) for column in sizes]
        room = self.width - (Measurement.get(self, wide, table).maximum - sum(most))
        if sum(least) > room:
            self._print_rows(table, headers, cells)
            return
        if sum(most) > room:
            for column, width in zip(table.columns, _widths(least, most, room), strict=True):
                column.width = width
        super().print(table)

    def _print_rows(self, table: Table, headers: list[Text], cells: list[list[Text]]) -> None:
        if table.title:
            self.paragraph(self._text(table.title))
        for row in zip(*cells, strict=True):
            if not table.show_header:
                self.paragraph(Text(": ").join(cell for cell in row if cell.plain))
                continue
            for place, (header, cell) in enumerate(zip(headers, row, strict=True)):
                name = Text(f"{header.plain}: ") if header.plain else Text()
                self.paragraph(name.append_text(cell), indent=2 if place else 0)

    def _text(self, cell: Any) -> Text:
        return cell if isinstance(cell, Text) else self.render_str(str(cell))


def _lines(text: Text, width: int) -> Iterator[Text]:
    """Split a text at blanks; `Text.wrap` breaks a word that is too long, or cuts it."""
    for line in text.split("\n", allow_blank=True):
        ends, used = [], 0
        for word in _WORD.finditer(line.plain):
            if used and used + cell_len(word[0].rstrip()) > width:
                ends.append(word.start())
                used = 0
            used += cell_len(word[0])
        for part in line.divide(ends):
            part.rstrip()
            yield part


def _widths(least: list[int], most: list[int], room: int) -> list[int]:
    """Share room between columns, so that those which want little get all of it."""
    widths, left = list(least), room - sum(least)
    by_want = sorted(range(len(least)), key=lambda i: most[i] - least[i])
    for num_before, i in enumerate(by_want):
        more = min(most[i] - least[i], left // (len(by_want) - num_before))
        widths[i] += more
        left -= more
    return widths
