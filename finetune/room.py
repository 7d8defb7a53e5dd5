"""Room on a disk and in memory: whether there is enough, and what says that there was none."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no quota, or a limit on the size of a file."""

_WORDS = {
    "no space left on device": errno.ENOSPC,
    "not enough space on the disk": errno.ENOSPC,  # Windows
    "disk quota exceeded": errno.EDQUOT,
    "file too large": errno.EFBIG,
}
_UNNAMED = re.compile(
    r"inline_container\.cc.*unexpected pos|PytorchStreamWriter|iostream error"  # torch.save
    r"|\d+ requested and \d+ written"  # numpy
)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from or after, and so on."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def full_disk(error: BaseException) -> int | None:
    """Return the errno of a write for which there was no room, or None of any other error.

    Libraries that write in C++ or Rust (safetensors, tokenizers, torch) raise what is no OSError,
    and torch and numpy do not even say why.
    """
    for one in chain(error):
        if isinstance(one, OSError) and one.errno in FULL:
            return one.errno
        if isinstance(one, OSError | RuntimeError) or type(one).__name__ in _BARE:
            text = str(one)
            for words, number in _WORDS.items():
                if words in text.lower():
                    return number
            if _UNNAMED.search(text):
                return errno.ENOSPC
    return None


_BARE = ("SafetensorError", "Exception")  # of safetensors; of tokenizers

NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out of memory|unable to mmap"
    r"|std::bad_alloc|failed to map segment|CU(BLAS|DNN)_STATUS_ALLOC_FAILED|MemoryError"
    # oneDNN, which has no place for its code; threading, which has none for a stack
    r"|^could not create a primitive$|^can't start new thread$",
    re.IGNORECASE,
)
"""What torch, the dynamic loader and Rust say of memory, without an error of its own."""


def no_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, of the machine or of a GPU."""
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
        or (
            (isinstance(one, RuntimeError | ImportError) or type(one).__name__ in _BARE)
            and bool(NO_MEMORY.search(str(one)))
        )
        for one in chain(error)
    )


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Raise an OSError that names ``path`` for each write within that found no room.

    Raises:
        OSError: with one of `FULL` as its errno.
    """
    try:
        yield
    except Exception as error:
        number = full_disk(error)
        if number is None or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def require(path: Path, num_bytes: int, what: str) -> None:
    """Refuse a long write for which there is no room, before it begins.

    Args:
        path: what is to be written; its nearest folder that exists is looked at.
        num_bytes: that are to be written there.
        what: in words.

    Raises:
        InputError: with what is needed, and what is free.
    """
    folder = existing(path)
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise InputError(
            f"{what} needs {in_words(num_bytes)} in {folder}, where {in_words(free)} are free; "
            "make room there, or name a folder on another disk. Nothing was written"
        )


def existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that is there."""
    return next((one for one in (path, *path.parents) if one.exists()), Path())


def in_words(num_bytes: float) -> str:
    """Return a number of bytes as people read it: 1,234 bytes, 12.3 MB, 4.5 GB."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes:,.0f} bytes"
