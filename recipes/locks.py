"""One process at a time in a folder: the lock names its holder and goes with its process."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from finetune import scratch
from finetune.room import named
from recipes.errors import InputError
from recipes.files import is_read_only

LOCK = ".lock"
HOLDER = ".lock.holder"
"""Who holds the lock, for people; Windows lets nobody else read a file that is locked."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone; the operating system ends the lock with the process, however that ends.

    What killed processes left half-written in the folder is removed first. A folder that was made
    for the lock, and in which nothing was written, is removed again.

    Raises:
        InputError: if another process holds it, saying which, or it is read-only.
        OSError: naming the folder, where a write within found no room and names nothing itself.
    """
    if is_read_only(folder):
        raise InputError(
            f"{folder} is read-only, and this would write into it; copy it to a place that can be "
            "written. Where it is, a finished run can be compared, gated, shipped and audited"
        )
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / LOCK), folder / HOLDER
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"another process is at work in {folder}{_named(holder)}; wait for it, end it, or "
            "choose another name"
        ) from None
    try:
        scratch.sweep_below(folder)
        with suppress(OSError):  # a full disk; what this is for then says so
            holder.write_text(json.dumps(_this_process()), encoding="utf-8", newline="\n")
        with named(folder):
            yield
    finally:
        holder.unlink(missing_ok=True)
        if is_new and folder.is_dir() and list(folder.iterdir()) == [folder / LOCK]:
            with suppress(PermissionError):  # Windows removes no file that is open
                (folder / LOCK).unlink()
                folder.rmdir()
        lock.release()


@contextmanager
def locked_to_read(folder: Path) -> Iterator[None]:
    """Hold a folder alone, as `locked`; one that is read-only is not locked: nothing changes it.

    Raises:
        InputError: if another process holds it.
    """
    if is_read_only(folder):
        yield
        return
    with locked(folder):
        yield


def _this_process() -> dict[str, str | int]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    host, verb = socket.gethostname(), " ".join(sys.argv[1:2])
    return {"pid": os.getpid(), "host": host, "verb": verb, "since": since}


def _named(holder: Path) -> str:
    """Return who holds a lock, in words; nothing where that is not to be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        one = json.loads(holder.read_text(encoding="utf-8"))
        return f": assay {one['verb']}, process {one['pid']} on {one['host']}, since {one['since']}"
    return ""
