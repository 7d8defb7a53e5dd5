"""What a person sees while a command runs: lines and progress bars on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

NARROW = 72
"""Columns below which a bar with its times would be cut."""

LINE_SECONDS = 15.0
"""Where there is no terminal, a bar is a line of text this often."""


@dataclass(frozen=True)
class Bar:
    """A progress bar: call it with what was done, and say beside it how things stand."""

    advance: Callable[[int], None]
    note: Callable[[str], None]

    def __call__(self, done: int) -> None:
        """Move the bar on by ``done``."""
        self.advance(done)


OpenBar = Callable[[str, int], Bar]
"""Opens a bar: what is done, and how much there is to do."""


def shares_on(bar: Bar) -> Callable[[float], None]:
    """Return a function that moves a bar of 100 to a share, 0 to 1, of what there is to do."""
    moved = 0

    def move(share: float) -> None:
        nonlocal moved
        now = int(100 * share)
        bar.advance(now - moved)
        moved = now

    return move


class Narrator:
    """Says what is being done. Customer text is never given to it."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False)

    @contextmanager
    def bars(self) -> Iterator[OpenBar]:
        """Give a function that opens a bar with its remaining time, for as long as this lasts.

        Where there is no terminal, or one that cannot draw bars, a bar is a line of text now and
        then.
        """
        console = self.console
        if not console.is_terminal or console.is_dumb_terminal or console.width < NARROW:
            yield self._lines
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console) as progress:

            def open_bar(what: str, total: int) -> Bar:
                task = progress.add_task(what, total=total, note="")
                return Bar(
                    advance=lambda done: progress.update(task, advance=done),
                    note=lambda text: progress.update(task, note=text),
                )

            yield open_bar

    def _lines(self, what: str, total: int) -> Bar:
        began = last = time.monotonic()
        done, note = 0, ""

        def advance(more: int) -> None:
            nonlocal done, last
            done += more
            now = time.monotonic()
            if now - last >= LINE_SECONDS and done < total:
                last = now
                left = (now - began) / max(done, 1) * (total - done)
                self.say(f"{what}: {done}/{total}, {left:.0f} s left{', ' + note if note else ''}")

        def take_note(text: str) -> None:
            nonlocal note
            note = text

        return Bar(advance, take_note)
