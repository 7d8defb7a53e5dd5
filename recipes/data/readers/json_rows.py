"""Rows of JSON files, in every arrangement that programs write.

All are read as a stream, one row in memory at a time, but for pandas' `orient="columns"`, which
writes a column after the other and is read whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recipes.config import DataConfig
from recipes.data.catalog import UNUSABLE_ROW, WRONG_ENCODING
from recipes.data.findings import Findings
from recipes.data.readers import squad
from recipes.data.readers.compression import compression_of
from recipes.data.readers.encodings import display_name, encoding_of
from recipes.data.readers.faults import UnreadableFile
from recipes.data.readers.file_read import FileRead, OpenedFile
from recipes.data.readers.json_layout import Layout, find_layout
from recipes.data.readers.json_lines import checked_row, line_rows
from recipes.data.readers.json_text import JsonFault, JsonText
from recipes.data.readers.text import Text
from recipes.data.rows import Row, RowError


def open_json(path: Path, config: DataConfig, findings: Findings) -> OpenedFile:
    """Open a JSON file of whatever arrangement; its suffix decides only what nothing else does.

    Raises:
        UnreadableFile: if it is not JSON, or has no rows or several candidates for them.
    """
    codec = encoding_of(path, config.encoding)
    layout = find_layout(path, codec, config)
    read = FileRead(
        path=str(path),
        kind="jsonl" if layout.kind == "lines" else "json",
        encoding=display_name(codec),
        layout=layout.describe(),
        compression=compression_of(path),
    )
    if layout.kind == "lines":
        return OpenedFile(read, line_rows(path, codec, findings))
    return OpenedFile(read, _document_rows(path, codec, layout, findings))


def _document_rows(path: Path, codec: str, layout: Layout, findings: Findings) -> Iterator[Row]:
    with Text(path, codec) as text:
        reader = _Reader(path, text, findings)
        try:
            match layout.kind:
                case "array":
                    yield from reader.array()
                    reader.refuse_rest()
                case "values" | "one":
                    yield from reader.values()
                case "by-id":
                    yield from reader.by_id()
                case "columns":
                    yield from reader.columns()
                case "under":
                    yield from reader.under(layout.key, reader.array)
                case "squad":
                    yield from reader.under(layout.key, reader.squad)
                case _:
                    yield from reader.under(layout.key, lambda: reader.split(layout.columns))
        except JsonFault as fault:
            raise UnreadableFile(f"{path}:{fault.line}", f"not valid JSON: {fault}") from None


class _Reader:
    """Reads rows at a position of a text."""

    def __init__(self, path: Path, text: Text, findings: Findings) -> None:
        self.path = path
        self.text = text
        self.at = JsonText(text.stream)
        self.findings = findings

    def value(self, place: str) -> Any:
        """Return the next value, or None with a finding where it cannot be used."""
        try:
            found = self.at.value()
        except RowError as error:
            self.findings.add(UNUSABLE_ROW, place, str(error))
            return None
        if (fault := self.text.fault(self.at.source)) is not None:
            self.findings.add(WRONG_ENCODING, place, fault)
            return None
        if found is None:
            self.findings.add(UNUSABLE_ROW, place, "wanted a JSON object, found null")
        return found

    def row(self, place: str, values: Any, source: str = r"\u") -> Iterator[Row]:
        """Yield a value as a row, if it is one."""
        if values is not None:
            row = checked_row(place, values, self.findings, source)
            if row is not None:
                yield row

    def array(self) -> Iterator[Row]:
        """Yield a row for each object of an array."""
        for index in self.at.items():
            place = f"{self.path}[{index}]"
            yield from self.row(place, self.value(place), self.at.source)

    def values(self) -> Iterator[Row]:
        """Yield a row for each object of a text that is nothing but objects."""
        while self.at.peek():
            place = f"{self.path}:{self.at.line}"
            yield from self.row(place, self.value(place), self.at.source)

    def by_id(self) -> Iterator[Row]:
        """Yield the objects under their ids, which become the column ``id``."""
        seen: set[str] = set()
        for index, key in enumerate(self.at.members()):
            place = f"{self.path}[{index}]"
            values = self.value(place)
            if key in seen and values is not None:  # else it is a finding already
                why = f"the key {key[:30]!r} appears twice in one object"
                self.findings.add(UNUSABLE_ROW, place, why)
                continue
            seen.add(key)
            is_object = isinstance(values, dict)
            yield from self.row(place, {"id": key} | values if is_object else values)

    def columns(self) -> Iterator[Row]:
        """Yield the rows of columns, each an object from a row's name to its value."""
        columns: dict[str, Any] = {}
        for key in self.at.members():
            column = self.value(f"{self.path}[{key[:30]!r}]")
            if key in columns or not isinstance(column, dict):
                raise UnreadableFile(
                    self.path, f"the column {key[:30]!r} is there twice or damaged"
                )
            columns[key] = column
        names = dict.fromkeys(name for column in columns.values() for name in column)
        for index, name in enumerate(names):
            values = {key: column.get(name) for key, column in columns.items()}
            yield from self.row(f"{self.path}[{index}]", values)

    def split(self, columns: tuple[str, ...]) -> Iterator[Row]:
        """Yield the rows of lists whose columns are named apart from them."""
        for index in self.at.items():
            place = f"{self.path}[{index}]"
            values = self.value(place)
            if isinstance(values, list) and len(values) == len(columns):
                yield from self.row(place, dict(zip(columns, values, strict=True)))
            elif values is not None:
                why = f"wanted a list of {len(columns)} values, one for each of its columns"
                self.findings.add(UNUSABLE_ROW, place, why)

    def squad(self) -> Iterator[Row]:
        """Yield a row for each question of the SQuAD format."""
        for index in self.at.items():
            article = self.value(f"{self.path}[{index}]")
            if article is not None:
                yield from squad.article_rows(self.path, index, article, self.findings)

    def under(self, wanted: str, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
        """Yield the rows under one key of an object."""
        is_read = False
        for key in self.at.members():
            if key == wanted and not is_read and self.at.peek() == "[":
                is_read = True
                yield from rows()
            else:
                self.at.value(skip=True)
                if key == wanted:
                    raise UnreadableFile(self.path, f"the key {key[:30]!r} appears twice")

    def refuse_rest(self) -> None:
        """Raise if anything follows the position."""
        if self.at.peek():
            raise JsonFault(self.at.line, "text follows the end of the array")
