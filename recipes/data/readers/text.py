"""The text of a file, decoded as it is read; bytes that are no text are kept apart from it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from recipes.data.readers.compression import open_binary
from recipes.data.readers.encodings import CJK, display_name

_ESCAPED = re.compile("[\udc80-\udcff]")
"""Bytes that could not be decoded, as Python's `surrogateescape` keeps them (PEP 383)."""

_ESCAPED_OR_REPLACED = re.compile("[\udc80-\udcff\ufffd]")


class Text:
    """A text file that is open for reading.

    Bytes that are no text in ``codec`` do not end the reading: `fault` finds them. In a code page
    of one byte, text that is UTF-8 all over is a fault too: it is so by accident in one of
    thousands of lines, and else comes from another file.
    """

    def __init__(self, path: Path, codec: str) -> None:
        is_wide = codec.startswith(("utf-16", "utf-32"))
        self.codec = codec
        self.name = display_name(codec)
        self._may_hide_utf8 = not is_wide and codec != "utf-8" and codec not in CJK
        self._pattern = _ESCAPED_OR_REPLACED if is_wide else _ESCAPED
        self.stream: TextIO = io.TextIOWrapper(
            open_binary(path),
            encoding="utf-8-sig" if codec == "utf-8" else codec,
            errors="replace" if is_wide else "surrogateescape",  # which UTF-16 does not have
            newline="",
        )

    def __enter__(self) -> Text:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def fault(self, text: str) -> str | None:
        """Return what is wrong with the encoding of a text, without the text; None for nothing."""
        if text.isascii():
            return None
        if found := self._pattern.search(text):
            code, at = ord(found.group()), f"character {found.start() + 1}"
            what = at if code == 0xFFFD else f"byte 0x{code - 0xDC00:02X} at {at}"
            return f"{what} is not {self.name}"
        if self._may_hide_utf8 and _is_utf8(text, self.codec):
            return f"it is UTF-8, and the file is read as {self.name}"
        return None


def _is_utf8(text: str, codec: str) -> bool:
    """Return whether the bytes that a text was decoded from are UTF-8 too."""
    try:
        text.encode(codec).decode()
    except UnicodeError:
        return False
    return True


class Lines:
    """The lines of a text, with their numbers, for the csv module, which asks for no more."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self.num_read = 0
        self.faults: list[tuple[int, str]] = []
        """Line number and fault of each line with a byte that could not be decoded."""

    def __iter__(self) -> Iterator[str]:
        for line in self._text.stream:
            self.num_read += 1
            if self.num_read == 1:
                line = line.removeprefix("\ufeff")
            if (fault := self._text.fault(line)) is not None:
                self.faults.append((self.num_read, fault))
            yield line

    def take_faults(self) -> list[tuple[int, str]]:
        """Return the faults since the last call."""
        found, self.faults = self.faults, []
        return found
