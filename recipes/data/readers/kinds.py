"""Kinds of files, by the ends of their names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from recipes.data.readers.compression import COMPRESSIONS, open_binary
from recipes.errors import InputError

Format = Literal["json", "table", "sheet", "arrow", "text"]

FORMATS: dict[str, Format] = {
    **dict.fromkeys(("jsonl", "ndjson", "json"), "json"),
    **dict.fromkeys(("csv", "tsv"), "table"),
    "txt": "text",
    **dict.fromkeys(("parquet", "arrow", "feather", "ipc"), "arrow"),
    **dict.fromkeys(("xlsx", "xlsm", "xlsb", "xls", "ods"), "sheet"),
}

KINDS = tuple(FORMATS)
"""Ends of file names that are read."""


def kind_of(path: Path) -> str:
    """Return the kind of a file by its name, without the end of a compression.

    Raises:
        InputError: if the kind is not known, or is one that is not read compressed.
    """
    names = [suffix.lstrip(".").lower() for suffix in path.suffixes]
    is_compressed = bool(names) and names[-1] in COMPRESSIONS
    kind = "".join(names[-2:-1] if is_compressed else names[-1:])
    if kind not in FORMATS:
        raise InputError(
            f"data: {path.name} is of no known kind; wanted one of "
            f"{', '.join('.' + k for k in KINDS)} "
            f"({', '.join('.' + c for c in COMPRESSIONS)} of the text kinds)"
        )
    if is_compressed and FORMATS[kind] in ("arrow", "sheet"):
        raise InputError(
            f"data: {path.name}: a .{kind} file is compressed by itself; decompress it first"
        )
    return kind


def is_known(path: Path) -> bool:
    """Return whether the kind of a file is read."""
    try:
        kind_of(path)
    except InputError:
        return False
    return True


def format_of(path: Path) -> Format:
    """Return how a file is read; a `.txt` file is JSON where it begins like JSON, else a table."""
    found = FORMATS[kind_of(path)]
    if found != "text":
        return found
    with open_binary(path) as stream:
        start = stream.read(4096)
    return "json" if start.replace(b"\0", b"").lstrip(_BEFORE_JSON)[:1] in (b"{", b"[") else "table"


_BEFORE_JSON = b"\xef\xbb\xbf\xff\xfe \t\r\n"
"""Byte order marks and blanks."""
