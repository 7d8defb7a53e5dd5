"""Append-only files of JSON lines in which each line carries the hash of the one before it.

An edited, removed, reordered or repeated line breaks the chain at a line that can be named. What
the chain alone cannot show is that whole lines are missing *at the end*.
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privacy.errors import LedgerError

_NOTHING = "0" * 64  # what the first line has before it


@dataclass(frozen=True)
class Chain:
    """A file whose chain holds."""

    entries: tuple[dict[str, Any], ...]
    """Of every line, with ``hash`` and ``previous``."""

    size_bytes: int

    @property
    def hashes(self) -> tuple[str, ...]:
        """Of every line."""
        return tuple(entry["hash"] for entry in self.entries)


def read(path: str | os.PathLike[str]) -> Chain:
    """Read a file and check every line of it.

    Raises:
        LedgerError: naming the first line that is torn, edited, out of order or repeated.
        FileNotFoundError: if there is no such file.
    """
    name = Path(path).name
    content = Path(path).read_bytes()
    if not content:
        raise LedgerError(f"{name} is empty; it has at least its header line.")
    lines = content.split(b"\n")
    if lines.pop() != b"":
        raise LedgerError(
            f"{name}, line {len(lines) + 1}: torn. The write was cut off, so what it says was "
            f"never used. Keep a copy, cut the file after line {len(lines)}, and resume."
        )
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        entry = _read_line(line, f"{name}, line {number}")
        if entry.get("previous") != (entries[-1]["hash"] if entries else _NOTHING):
            raise LedgerError(
                f"{name}, line {number}: does not follow line {number - 1}. Lines were removed, "
                "reordered, repeated or written by two runs at once."
            )
        entries.append(entry)
    return Chain(tuple(entries), len(content))


def begin(path: Path, header: dict[str, Any]) -> None:
    """Write the first line of a new file.

    Raises:
        FileExistsError: if the file is there.
    """
    _append(path, _line({**header, "previous": _NOTHING}), os.O_CREAT | os.O_EXCL)


def hash_of_first(header: Mapping[str, Any]) -> str:
    """Return the hash that the first line of a file will have."""
    return _seal({**header, "previous": _NOTHING})


def append(path: Path, entry: dict[str, Any], previous: str, size_bytes: int) -> tuple[str, int]:
    """Write a line, and return once it is on the disk.

    Args:
        path: of the file.
        entry: of the line, without hashes.
        previous: hash of the last line.
        size_bytes: of the file, as it was read.

    Returns:
        The hash of the new line, and the new size of the file.

    Raises:
        LedgerError: if someone else has written to the file meanwhile.
        OSError: naming the file, which is as it was, if the disk is full.
    """
    if path.stat().st_size != size_bytes:
        raise LedgerError(
            f"{path.name} changed while this run had it open: two runs share one file. "
            "Stop the other, and resume."
        )
    linked = {**entry, "previous": previous}
    line = _line(linked)
    _append(path, line)
    return _seal(linked), size_bytes + len(line)


def _seal(entry: dict[str, Any]) -> str:
    """Hash of an entry without its own hash, in the one form in which it is written."""
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _line(entry: dict[str, Any]) -> bytes:
    sealed = {**entry, "hash": _seal(entry)}
    text = json.dumps(sealed, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def _read_line(line: bytes, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LedgerError(f"{where}: is not JSON; it was edited or damaged.") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("hash"), str):
        raise LedgerError(f"{where}: has no hash; it was edited or damaged.")
    # Byte for byte, not value for value: 1 and 1.0 are equal and do not hash alike.
    try:
        is_same = _line({k: v for k, v in entry.items() if k != "hash"}) == line + b"\n"
    except ValueError:  # NaN, or a number beyond all numbers, such as 1e999
        is_same = False
    if not is_same:
        raise LedgerError(f"{where}: does not match its hash; it was edited or damaged.")
    return entry


def _append(path: Path, line: bytes, flags: int = 0) -> None:
    binary = getattr(os, "O_BINARY", 0)  # or Windows would write another line end than was hashed
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | binary | flags, 0o644)
    size_bytes = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError as error:
        # nobody has used what the line says, and a torn one would keep the run from going on
        os.ftruncate(descriptor, size_bytes)
        if flags & os.O_CREAT:
            path.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)
    if flags & os.O_CREAT and os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)  # or the new file's name may be lost
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
