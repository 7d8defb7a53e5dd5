"""Paths that no file system takes, refused before anything is loaded that they would end."""

from __future__ import annotations

import os
from pathlib import Path

from recipes.errors import InputError

MOST_BYTES = 255
"""Of one name. Linux, macOS and Windows agree on it, but for eCryptfs (143)."""

MOST_BYTES_IN_ALL = 4096 - 300
"""Of a whole path on Linux, less what we write below it."""

_SUFFIX_BYTES = 10
"""Room for the extensions and words that are put behind a name, as ``-original``."""


def refuse_long(path: Path) -> None:
    """Refuse a path with a name that is too long, or that is too long in all.

    Raises:
        InputError: with its length, and how much is possible.
    """
    bounds = [
        (
            "a name in it",
            max((len(os.fsencode(name)) for name in path.parts), default=0),
            MOST_BYTES,
        ),
        ("the whole", len(os.fsencode(path.absolute())), MOST_BYTES_IN_ALL),
        ("its last name", len(os.fsencode(path.name)), MOST_BYTES - _SUFFIX_BYTES),
    ]
    for what, num_bytes, most in bounds:
        # what is there has a name that was possible; the first two bounds let this look
        if num_bytes > most and not (what == "its last name" and path.exists()):
            raise InputError(
                f"the path {_cut(str(path))} is too long: {what} has {num_bytes} bytes, and at "
                f"most {most} are possible; choose a shorter one"
            )


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:50]}...{text[-20:]}"
