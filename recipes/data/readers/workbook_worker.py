"""Reads one sheet of a workbook with calamine, in a process of its own: see `workbooks`.

It is run as a script, so that it starts without the rest of the package. Its only output are lines
of JSON: one of what the workbook holds, one per row, and null at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from datetime import date, time, timedelta
from typing import Any

_MEMORY = 2 << 30
_SECONDS = 10
_BYTES_A_SECOND = 20_000
"""Of the file, beyond that: a thousandth of the speed measured for xlsx, xls and ods. On a table
that does not end calamine reads the end of the file for ever."""


def main(path: str, wanted: str) -> None:
    """Write the rows of a sheet.

    Args:
        path: the workbook.
        wanted: name or number of the sheet as JSON; null takes the first visible one with rows.
    """
    _end_with_parent()
    _limit(_SECONDS + os.path.getsize(path) // _BYTES_A_SECOND)  # noqa: PTH202 (no import more)
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    try:
        book = CalamineWorkbook.from_path(path)
        names, ranked = _names(book)
        name = _choose(book, names, ranked, json.loads(wanted))
        _write({"names": names, "name": name})
        if name is not None:
            for line in book.get_sheet_by_name(name).iter_rows():
                _write([_plain(cell) for cell in line])
        _write(None)
    except PasswordError:
        _write({"error": "password"})
    except (CalamineError, OSError, ValueError):
        _write({"error": "damaged"})


def _end_with_parent() -> None:
    """Let the kernel end this process with the one that started it: calamine may never return."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL


def _limit(seconds: int) -> None:
    """Keep a damaged file, whose lengths mean nothing, from taking all memory or time."""
    if sys.platform == "win32":  # it has no such limits
        return
    import resource

    limits = {
        resource.RLIMIT_AS: _MEMORY,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        with contextlib.suppress(ValueError, OSError):  # macOS refuses to bound memory
            resource.setrlimit(kind, (most, most))


def _names(book: Any) -> tuple[list[str], list[str]]:
    """Return the names of the sheets with cells, in the workbook's order and hidden ones last."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    sheets = [one for one in book.sheets_metadata if one.typ == SheetTypeEnum.WorkSheet]
    ranked = sorted(sheets, key=lambda one: one.visible != SheetVisibleEnum.Visible)
    return [one.name for one in sheets], [one.name for one in ranked]


def _choose(book: Any, names: list[str], ranked: list[str], wanted: str | int | None) -> str | None:
    """Return the name of the sheet to read; None where there is no such sheet."""
    if wanted is None:
        heights = {name: book.get_sheet_by_name(name).height for name in ranked}
        for fewest in (2, 1, 0):  # a cover sheet may hold a title alone
            if found := [name for name in ranked if heights[name] >= fewest]:
                return found[0]
        return None
    if wanted in names:
        return str(wanted)
    is_number = str(wanted).isdecimal() and 1 <= int(wanted) <= len(names)
    return names[int(wanted) - 1] if is_number else None


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it: nothing as null, dates and times as ISO text."""
    if value == "":
        return None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return value


def _write(message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
