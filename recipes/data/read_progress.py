"""How far the reading of files is, by their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recipes.console import Bar, OpenBar

UNIT = 1_000
"""Bytes to one step of the bar."""

EVERY = 1_000
"""Rows after which the bar is moved."""


class ReadProgress:
    """Moves a bar while rows are read, and notes how many there are so far.

    Most formats do not say where in its file a row ends. A row counts with the length of its JSON,
    so the bar is exact between files and an estimate within one, and stays within its file.

    Args:
        bar: of kilobytes.
    """

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._num_rows = 0
        self._left = 0  # bytes of the file
        self._pending = 0

    def begin(self, size: int) -> None:
        """Begin a file of so many bytes."""
        self._left = size // UNIT * UNIT
        self._pending = 0

    def add_row(self, size: int) -> None:
        """Count a row of about so many bytes."""
        self._num_rows += 1
        self._pending += size
        if self._num_rows % EVERY == 0:
            self._move(min(self._pending, self._left) // UNIT)

    def end(self) -> None:
        """End the file."""
        self._move(self._left // UNIT)

    def _move(self, steps: int) -> None:
        self._bar.note(f"{self._num_rows:,} rows")
        self._bar(steps)
        self._left -= steps * UNIT
        self._pending = max(0, self._pending - steps * UNIT)


def open_progress(open_bar: OpenBar | None, paths: Sequence[Path]) -> ReadProgress | None:
    """Open a bar as long as some files; None where there is nothing to open it with."""
    if open_bar is None:
        return None
    size = sum(path.stat().st_size // UNIT for path in paths)
    return ReadProgress(open_bar("reading, in kilobytes", size))
