"""JSONL: one object per line. A line that cannot be read is a finding, and the next is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.data.catalog import UNUSABLE_ROW, WRONG_ENCODING
from recipes.data.findings import Findings
from recipes.data.readers.json_text import EXCESSIVE, once
from recipes.data.readers.text import Lines, Text
from recipes.data.rows import Row, RowError

NO_TEXT = "a text holds half of a character (a lone surrogate, as of a cut emoji)"


def line_rows(path: Path, codec: str, findings: Findings) -> Iterator[Row]:
    """Yield the row of each line; blank lines are passed over."""
    with Text(path, codec) as text:
        lines = Lines(text)
        for line in lines:
            if not line.strip():
                continue
            place = f"{path}:{lines.num_read}"
            if faults := lines.take_faults():
                findings.add(WRONG_ENCODING, place, faults[0][1])
                continue
            try:
                values = json.loads(line, object_pairs_hook=once)
            except json.JSONDecodeError as error:
                why = f"not valid JSON at column {error.colno}: {error.msg}"
                findings.add(UNUSABLE_ROW, place, why)
                continue
            except RowError as error:
                findings.add(UNUSABLE_ROW, place, str(error))
                continue
            except (ValueError, RecursionError):  # thousands of digits, a tower of brackets
                findings.add(UNUSABLE_ROW, place, EXCESSIVE)
                continue
            if (row := checked_row(place, values, findings, line)) is not None:
                yield row


def checked_row(place: str, values: Any, findings: Findings, source: str = r"\u") -> Row | None:
    """Return a value as a row; what is no object of texts becomes a finding.

    Args:
        place: of the row.
        values: of the row.
        findings: receives what is wrong.
        source: the JSON that the values were read from; without escapes it cannot hold half of a
            character.
    """
    if not isinstance(values, dict):
        why = f"wanted a JSON object, found a {type(values).__name__}"
        findings.add(UNUSABLE_ROW, place, why)
        return None
    if "\\u" in source and not is_text(values):
        findings.add(UNUSABLE_ROW, place, NO_TEXT)
        return None
    return Row(place, values)


def is_text(value: Any) -> bool:
    """Return whether all texts of a JSON value are text; its escapes can write what is none."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
