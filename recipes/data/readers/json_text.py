"""JSON text, read value by value, so that a file need not fit into memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, TextIO

from recipes.data.rows import RowError

_CHUNK = 1 << 20
_LARGEST_VALUE = 1 << 29
"""Characters of one value. Only a file that is damaged, or no rows of data, has a larger one."""

BLANKS = " \t\r\n"


class JsonFault(ValueError):
    """Text is not valid JSON; the message says why, without the text."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object from its pairs.

    Raises:
        RowError: if it gives a key twice, of which a parser silently keeps one.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise RowError(f"the key {key[:30]!r} appears twice in one object")
    return found


_ROWS = json.JSONDecoder(object_pairs_hook=once)
_SKIPPING = json.JSONDecoder(parse_int=len)  # which never fails, however long a number is

EXCESSIVE = "excessive JSON: a number is too long, or it is nested too deep"


class JsonText:
    """A position in JSON text, which moves from value to value."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._buffer = ""
        self._at = 0
        self._is_whole = False
        self._counted = 0  # up to where the line breaks of the buffer are in _line
        self._line = 1
        self.source = ""
        """Text of the value that was read last."""

    @property
    def line(self) -> int:
        """Line of the position, from 1."""
        self._line += self._buffer.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def peek(self) -> str:
        """Move past blanks and return the next character; empty at the end of the text."""
        while True:
            buffer, at = self._buffer, self._at
            while at < len(buffer) and (buffer[at] in BLANKS or buffer[at] == "\ufeff"):
                at += 1
            self._at = at
            if at < len(buffer):
                return buffer[at]
            if not self._more():
                return ""

    def expect(self, characters: str) -> str:
        """Move past the next character, which must be one of ``characters``, and return it.

        Raises:
            JsonFault: if it is another.
        """
        found = self.peek()
        if not found or found not in characters:
            wanted = " or ".join(repr(c) for c in characters)
            raise JsonFault(self.line, f"wanted {wanted}" + ("" if found else ", found the end"))
        self._at += 1
        return found

    def value(self, *, skip: bool = False) -> Any:
        """Read the next value whole and move past it; with ``skip``, repeated keys pass.

        Raises:
            JsonFault: if it is not valid JSON; the position does not move.
            RowError: if an object in it gives a key twice, or a number cannot be read. The position
                is after the value.
        """
        self.peek()
        while True:
            refused: RowError | None = None
            decoder = _SKIPPING if skip else _ROWS
            try:
                try:
                    found, end = decoder.raw_decode(self._buffer, self._at)
                except json.JSONDecodeError:
                    raise
                except ValueError as error:  # a key twice, or a number of thousands of digits
                    refused = error if isinstance(error, RowError) else RowError(EXCESSIVE)
                    found, end = _SKIPPING.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._may_be_cut(error) and self._more():
                    continue
                line = self.line + self._buffer.count("\n", self._at, error.pos)
                raise JsonFault(line, f"{error.msg} at column {error.colno}") from None
            except RecursionError:
                raise JsonFault(self.line, EXCESSIVE) from None
            if end == len(self._buffer) and self._more():
                continue  # a number may go on
            self.source = self._buffer[self._at : end]
            self._at = end
            if refused is not None:
                raise refused
            return found

    def items(self) -> Iterator[int]:
        """Yield the index of each item of an array; the caller reads the item."""
        self.expect("[")
        if self.peek() == "]":
            self.expect("]")
            return
        index = 0
        while True:
            yield index
            index += 1
            if self.expect(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """Yield each key of an object; the caller reads its value."""
        self.expect("{")
        if self.peek() == "}":
            self.expect("}")
            return
        while True:
            key = self.value(skip=True)
            if not isinstance(key, str):
                raise JsonFault(self.line, "wanted a key in double quotes")
            self.expect(":")
            yield key
            if self.expect(",}") == "}":
                return

    def rest_of_line_is_blank(self) -> bool:
        """Return whether nothing follows the position on its line."""
        while "\n" not in self._buffer[self._at :] and self._more():
            pass
        return not self._buffer[self._at :].partition("\n")[0].strip()

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        """Return whether text that is not in the buffer yet may mend an error."""
        near_end = error.pos > len(self._buffer) - 16
        return not self._is_whole and (near_end or error.msg.startswith("Unterminated string"))

    def _more(self) -> bool:
        """Read more text, doubling what is kept, and forget what the position is past."""
        if self._is_whole:
            return False
        kept = len(self._buffer) - self._at
        if kept > _LARGEST_VALUE:
            raise JsonFault(self.line, f"a value of more than {_LARGEST_VALUE:,} characters")
        _ = self.line  # counts the line breaks that are forgotten
        read = self._stream.read(max(_CHUNK, kept))
        self._is_whole = not read
        self._buffer = self._buffer[self._at :] + read
        self._at = self._counted = 0
        return True
