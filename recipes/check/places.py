"""The places of a finding in few lines: those of one file with equal details are joined."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from recipes.data.findings import Occurrence

MOST_NUMBERS = 8
"""Lines or rows that are named of a file with equal details."""

_LINE = re.compile(r"(.+):(\d+)", re.DOTALL)
_INDEX = re.compile(r"(.+)\[(\d+)\]", re.DOTALL)


def in_few_lines(occurrences: Sequence[Occurrence], workbooks: Collection[str] = ()) -> list[str]:
    """Return a line for each file and detail, in the order of their first places.

    Args:
        occurrences: of one finding.
        workbooks: paths of files whose places are rows of a sheet, not lines.

    Example:
        >>> in_few_lines([Occurrence(f"a.csv:{n}", "no label") for n in (3, 5, 6)])
        ['a.csv, lines 3, 5, 6: no label']
        >>> in_few_lines([Occurrence("a.csv:3", "no label"), Occurrence("a.csv", "odd")])
        ['a.csv:3: no label', 'a.csv: odd']
    """
    groups: dict[tuple[str, str, str], list[Occurrence]] = {}
    for one in occurrences:
        file, unit = _file_and_unit(one.place, workbooks)
        groups.setdefault((file, unit, one.detail), []).append(one)
    return [_line(*key, found) for key, found in groups.items()]


def _file_and_unit(place: str, workbooks: Collection[str]) -> tuple[str, str]:
    if line := _LINE.fullmatch(place):
        return line[1], "rows" if line[1] in workbooks else "lines"
    if index := _INDEX.fullmatch(place):
        return index[1], "places"
    return place, ""


def _line(file: str, unit: str, detail: str, found: Sequence[Occurrence]) -> str:
    if len(found) == 1:
        return str(found[0])
    end = f": {detail}" if detail else ""
    if not unit:
        return f"{file}{end} ({len(found):,} times)"
    numbers = [one.place.removeprefix(file).lstrip(":") for one in found[:MOST_NUMBERS]]
    shown = ", ".join(dict.fromkeys(numbers))
    more = f" and {len(found) - MOST_NUMBERS:,} more" if len(found) > MOST_NUMBERS else ""
    return f"{file}, {unit} {shown}{more}{end}"


def without_folders(text: str, folders: Sequence[str]) -> str:
    """Return a text in which files are named without their folders."""
    for folder in folders:
        text = text.replace(folder, "")
    return text


def folders_of(paths: Sequence[str]) -> list[str]:
    """Return the folders of files, the deepest first, each with a final slash."""
    return sorted({f"{Path(path).parent}/" for path in paths}, key=len, reverse=True)
