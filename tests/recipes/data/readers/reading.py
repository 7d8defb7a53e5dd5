"""Reading a file in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recipes.data.findings import Findings
from recipes.data.readers import FileRead, read_rows
from tests.recipes.rows import places, settings_of

A, B = {"text": "one", "label": "x"}, {"text": "two", "label": "y"}
CSV = "text,label\none,x\ntwo,y\n"
JSONL = json.dumps(A) + "\n" + json.dumps(B) + "\n"


def read(path: Path, **settings: Any) -> tuple[list[tuple[str, Any]], list[str]]:
    """Return each row's place and values, and what was found, without the folder."""
    findings = Findings()
    rows = [
        (row.place.replace(f"{path.parent}/", ""), dict(row.values))
        for row in read_rows(path, settings_of(**settings), findings)
    ]
    return rows, [place.replace(f"{path.parent}/", "") for place in places(findings)]


def values(path: Path, **settings: Any) -> list[Any]:
    """Return the values of all rows; nothing may be found."""
    rows, found = read(path, **settings)
    assert not found
    return [row for _, row in rows]


def read_as(path: Path, **settings: Any) -> FileRead:
    """Return how a file was read."""
    reads: list[FileRead] = []
    list(read_rows(path, settings_of(**settings), Findings(), reads))
    [found] = reads
    return found
