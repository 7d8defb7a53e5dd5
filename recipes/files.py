"""Files that are either old, absent or whole: written under a temporary name and renamed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from recipes.errors import InputError


def write_text(path: Path, text: str) -> None:
    """Write a file at once; a crash or a full disk leaves what was there before."""
    with replacing(path) as stream:
        stream.write(text.encode("utf-8"))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a stream whose content takes the place of a file at the end, unless an error ends it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def write_json(path: Path, values: Any) -> None:
    """Write JSON at once, indented, with a final newline; NaN and infinities become null."""
    write_text(path, json.dumps(finite(values), indent=1, allow_nan=False) + "\n")


def finite(values: Any) -> Any:
    """Return JSON values with null for NaN and infinity, which JSON does not have."""
    if isinstance(values, float) and not math.isfinite(values):
        return None
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    return values


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Return the hex SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        InputError: if it is missing or torn.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


@contextmanager
def undamaged(folder: Path) -> Iterator[None]:
    """Tell of a damaged file what else would be a traceback: a key, a type or a form is missing.

    For reading what we wrote ourselves, and for nothing else: it hides what a bug says.

    Raises:
        InputError: in the place of such an error.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, struct.error) as error:
        raise InputError(
            f"a file in {folder} is damaged ({error!r}); evaluate, merge or gate it again"
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder alone; the lock goes with the process, however that ends.

    A folder that was made for the lock, and in which nothing was written, is removed again.

    Raises:
        InputError: if another process holds it.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is at work in {folder}; wait for it, or choose another name"
            ) from None
        try:
            yield
        finally:
            if is_new and folder.is_dir() and list(folder.iterdir()) == [lock]:
                lock.unlink()
                folder.rmdir()
