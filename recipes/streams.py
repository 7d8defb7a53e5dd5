"""Standard output and error that never end a command: closed, broken, or of a narrow alphabet."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

READER_GONE = 128 + 13
"""The exit code of a command whose reader went away, as ``| head`` does: that of SIGPIPE."""

_GONE = (errno.EPIPE, errno.EIO)  # a pipe without a reader, a terminal that was closed


class Raw(io.RawIOBase):
    """Bytes to a stream whose reader may go away, after which they are dropped.

    Work of hours does not end because nobody listens any more, and a verdict keeps its exit code.
    """

    def __init__(self, raw: Any, *, drops_all: bool) -> None:
        self._raw = raw
        self._drops_all = drops_all
        self.is_gone = False

    def writable(self) -> bool:
        """Return True: this is an output."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the stream beneath."""
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        """Return whether the stream beneath is a terminal."""
        return bool(self._raw.isatty())

    def write(self, data: Any) -> int | None:
        """Write bytes, or drop them once nobody reads."""
        if not self.is_gone:
            try:
                written: int | None = self._raw.write(data)
                return written
            except OSError as error:
                self.is_gone = True
                if error.errno not in _GONE and not self._drops_all:
                    raise OSError(error.errno, error.strerror, "standard output") from error
        return len(data)


class Outputs:
    """Standard output and error as they are while a command runs."""

    def __init__(self) -> None:
        self.out = _wrapped(sys.stdout, drops_all=False)
        self.err = _wrapped(sys.stderr, drops_all=True)  # a full disk under 2> ends no training

    def code(self, code: int) -> int:
        """Return a command's exit code: its own, or that nobody read what it printed."""
        raw = getattr(getattr(self.out, "buffer", None), "raw", None)
        is_gone = isinstance(raw, Raw) and raw.is_gone
        return READER_GONE if is_gone and code == 0 else code


@contextmanager
def resilient() -> Iterator[Outputs]:
    r"""Replace standard output and error by ones that only a full disk can break, meanwhile.

    What their encoding lacks is written as ``\xe9`` is. Descriptors that are closed lead nowhere,
    or the next file that is opened would be what libraries print into.
    """
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    outputs = Outputs()
    sys.stdout, sys.stderr = outputs.out, outputs.err
    try:
        yield outputs
    finally:
        outputs.err.flush()
        sys.stdout, sys.stderr = before


def _fill_descriptors() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _wrapped(stream: TextIO | None, *, drops_all: bool) -> TextIO:
    if stream is None:  # closed when Python began
        return open(os.devnull, "w", encoding="utf-8", newline="\n")  # noqa: PTH123 (lives as we do)
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # PYTHONUNBUFFERED leaves the buffer out
    if not isinstance(raw, io.RawIOBase):  # a test's, or a notebook's
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Raw(raw, drops_all=drops_all)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=drops_all or getattr(stream, "line_buffering", False),
        write_through=drops_all,
    )
