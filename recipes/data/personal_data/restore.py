"""`assay restore`: placeholders of a redacted file replaced by what they stand for."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from recipes.data.personal_data import key_file
from recipes.data.personal_data.kinds import PLACEHOLDER
from recipes.data.readers import delimiters
from recipes.errors import InputError

_SAMPLE_LINES = 200
_LONGEST_FIELD = 2**30


@dataclass
class Restored:
    """How many placeholders were replaced, and how many the key does not know."""

    num_replaced: int = 0
    num_unknown: int = 0


def restore_file(source: Path, key: Path, out: Path) -> Restored:
    """Write a copy of a file with the originals of its placeholders, readable by the user alone.

    In JSON they are escaped, in CSV quoted; any other file is plain text.

    Args:
        source: UTF-8, such as a copy of `assay check --fix` or the answers of a model.
        key: that `data.personal_data_key` names.
        out: not there yet, and in no run folder.

    Raises:
        InputError: if the source is not UTF-8 text, the key is none, or ``out`` is refused.
    """
    if out.exists():
        raise InputError(f"-o: {out} exists already; name another file")
    target = out.resolve()
    key_file.refuse_runs(target, None, "-o")
    if not target.parent.is_dir():
        raise InputError(f"-o: there is no folder {target.parent}")
    originals = key_file.read(key, "--key")
    found = Restored()
    kind = source.suffix.lower()
    write = _write_cells if kind == ".csv" else _write_lines
    escape = _escaped if kind in (".json", ".jsonl", ".ndjson") else str
    try:
        with (
            source.open(encoding="utf-8", newline="") as stream,
            key_file.open_private(target) as to,
        ):
            write(stream, to, lambda text: restore(text, originals, escape, found))
    except UnicodeDecodeError:
        raise InputError(f"{source}: not UTF-8; save it so, and restore it again") from None
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
    except csv.Error as error:
        raise InputError(f"{source}: not valid CSV ({error})") from None
    return found


def restore(
    text: str,
    originals: Mapping[str, Sequence[str]],
    escape: Callable[[str], str] = str,
    found: Restored | None = None,
) -> str:
    """Return a text with placeholders replaced by the first spelling they stand for.

    Args:
        text: with placeholders.
        originals: the spellings of each.
        escape: writes an original as the text's format has it.
        found: counts them.

    Example:
        >>> restore("mail <EMAIL_1>", {"<EMAIL_1>": ["a@example.com"]})
        'mail a@example.com'
    """
    counts = found or Restored()

    def original(match: re.Match[str]) -> str:
        spellings = originals.get(match.group())
        if not spellings:
            counts.num_unknown += 1
            return match.group()
        counts.num_replaced += 1
        # what was redacted may have held a placeholder by then
        return escape(restore(spellings[0], originals))

    return PLACEHOLDER.sub(original, text)


def _escaped(text: str) -> str:
    """Return a text as it is within a JSON text."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _write_lines(stream: TextIO, to: TextIO, change: Callable[[str], str]) -> None:
    to.writelines(map(change, stream))


def _write_cells(stream: TextIO, to: TextIO, change: Callable[[str], str]) -> None:
    csv.field_size_limit(_LONGEST_FIELD)
    lines: Iterator[str] = iter(stream)
    head = list(itertools.islice(lines, _SAMPLE_LINES))
    delimiter = delimiters.detect(head, (), ",")
    end = "\r\n" if head and head[0].endswith("\r\n") else "\n"
    table = csv.writer(to, delimiter=delimiter, lineterminator=end)
    for row in csv.reader(itertools.chain(head, lines), delimiter=delimiter, strict=True):
        table.writerow(map(change, row))
