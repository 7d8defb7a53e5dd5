"""One file in, its rows out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from recipes.config import DataConfig
from recipes.data.findings import Findings
from recipes.data.readers.compression import DAMAGED, open_binary
from recipes.data.readers.faults import UnreadableFile
from recipes.data.readers.file_read import FileRead, OpenedFile
from recipes.data.readers.kinds import Format, format_of, kind_of
from recipes.data.rows import Row


def read_rows(
    path: Path, config: DataConfig, findings: Findings, reads: list[FileRead] | None = None
) -> Iterator[Row]:
    """Yield the rows of one file; a row that cannot be read becomes a finding.

    Each such row is exactly one finding of a kind that drops its row, recorded when the row's turn
    comes: rows and findings together are the file's rows in their order.

    Args:
        path: the file.
        config: how it is read where that is not to be detected.
        findings: receives what is wrong.
        reads: receives how the file was read, before its first row; its number of rows is set
            after the last that is taken.

    Raises:
        UnreadableFile: if the file cannot be read, or not to its end.
        InputError: if its kind is not known, or a setting cannot be.
    """
    try:
        opened = _open(path, config, findings)
        count, number = 0, len(reads or ())
        if reads is not None:
            reads.append(opened.read)
        try:
            for row in opened.rows:
                count += 1
                yield row
        finally:
            if reads is not None:
                reads[number] = replace(opened.read, num_rows=count)
    except UnicodeError:
        raise UnreadableFile(path, "not in the encoding it is read in; set data.encoding") from None
    except DAMAGED as error:
        why = getattr(error, "strerror", None) or error
        raise UnreadableFile(path, f"cannot be read ({why})") from None


def _open(path: Path, config: DataConfig, findings: Findings) -> OpenedFile:
    form = format_of(path)
    if path.stat().st_size == 0:
        return OpenedFile(FileRead(str(path), kind_of(path)), iter(()))
    _refuse_other_content(path, form)
    match form:
        case "json":
            from recipes.data.readers.json_rows import open_json as open_file
        case "sheet":
            from recipes.data.readers.sheets import open_sheet as open_file
        case "arrow":
            from recipes.data.readers.arrow import open_arrow as open_file
        case _:
            from recipes.data.readers.tables import open_table as open_file
    return open_file(path, config, findings)


_WORKBOOKS = (b"PK\x03\x04", bytes.fromhex("d0cf11e0a1b11ae1"))
"""Beginnings of xlsx, xlsb and ods (a zip archive), and of xls (a compound file)."""


def _refuse_other_content(path: Path, form: Format) -> None:
    """Raise if a workbook is named as text, or text as a workbook: both are common exports."""
    with open_binary(path) as stream:
        start = stream.read(512)
    is_workbook = start.startswith(_WORKBOOKS)
    if form in ("json", "table") and is_workbook:
        raise UnreadableFile(
            path,
            "not text, but a workbook or an archive; if it is a workbook, rename it to "
            ".xlsx or .xls",
        )
    if form == "sheet" and not is_workbook:
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            what = "a web page or XML; open it in Excel and save it as .xlsx"
        elif start and b"\0" not in start:
            what = "text; if it is a table, rename it to .csv"
        else:
            what = "it is damaged, or of another kind"
        raise UnreadableFile(path, f"not a readable workbook: {what}")
