"""Files that are either old, absent or whole: written under a temporary name and renamed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from finetune import scratch as scratches
from recipes.errors import InputError


def write_text(path: Path, text: str) -> None:
    """Write a file at once; a crash or a full disk leaves what was there before."""
    with replacing(path) as stream:
        stream.write(text.encode("utf-8"))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a stream whose content takes the place of a file at the end, unless an error ends it."""
    with scratches.beside(path) as scratch:
        with scratch.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        scratch.chmod(0o644)
        scratch.replace(path)


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
    except RecursionError:
        raise InputError(f"{path} cannot be read: brackets without end") from None
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


def is_read_only(folder: Path) -> bool:
    """Return whether a folder is there and nothing can be written into it, as in an archive."""
    return folder.is_dir() and not os.access(folder, os.W_OK)
