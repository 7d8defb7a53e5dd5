"""Workbooks, read by calamine in a process of its own.

On a damaged old workbook calamine may ask for terabytes, or fill all memory, and the process ends.
A limit on memory would hold for our whole process, so a small one reads and hands over the rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.data.readers.faults import UnreadableFile
from recipes.errors import nearest

_WORKER = Path(__file__).with_name("workbook_worker.py")


@dataclass(frozen=True)
class OpenSheet:
    """One sheet of a workbook."""

    name: str
    num_sheets: int
    """All sheets of the workbook, but for charts."""

    rows: Iterator[list[Any]]
    """Cells of each row, from the first row and column; an empty cell is None."""


def open_sheet_of(path: Path, wanted: str | int | None) -> OpenSheet:
    """Open a sheet: by name, by number from 1, or the first visible one with rows.

    Raises:
        UnreadableFile: if the workbook cannot be read, or has no such sheet; also while the rows
            are read.
    """
    messages = _messages(path, wanted)
    book = next(messages)
    names: list[str] = book["names"]
    if book["name"] is None:
        messages.close()
        if not names:
            raise UnreadableFile(path, "the workbook has no sheet with cells")
        hint = nearest(str(wanted), names) or f"it has {', '.join(map(repr, names))}"
        raise UnreadableFile(path, f"data.sheet: there is no sheet {wanted!r}; {hint}")
    return OpenSheet(book["name"], len(names), messages)


def _messages(path: Path, wanted: str | int | None) -> Generator[Any]:
    """Yield what the worker writes."""
    command = [sys.executable, "-P", str(_WORKER), str(path), json.dumps(wanted)]
    process = subprocess.Popen(  # noqa: S603 (our own script; the path is an argument of its own)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # calamine's panics
    )
    assert process.stdout is not None  # noqa: S101 (for mypy)
    try:
        for line in process.stdout:
            message = json.loads(line) if line.endswith(b"\n") else {"error": "damaged"}
            if message is None:
                return
            if "error" in message:
                break
            yield message
        else:
            message = {"error": "damaged"}
        if message["error"] == "password":
            raise UnreadableFile(path, "the workbook has a password; save a copy without one")
        raise UnreadableFile(path, "not a readable workbook: it is damaged, or of another kind")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
