"""Scratch: what is made beside a path before it gets that name, and is gone whatever happens.

A process that is killed cannot clean up. So every scratch folder holds a lock that lives as long as
its process, and whoever makes the next one there removes those whose lock is free. Only folders
with our mark in them are ever removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from finetune.room import named

MARK = ".assay-scratch"
"""The lock file within a scratch folder."""

_MOST_LETTERS = 40  # of a name; with four bytes each it still fits beside the random part


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a path in a folder of its own beside ``path``, where nothing is yet.

    The caller makes a file or a folder there and renames it to ``path``, on one file system. What
    is left then is removed. The parent of ``path`` is made if it is missing.

    Raises:
        OSError: naming ``path``, if the disk is full, whatever the library that writes makes of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    holder, lock = _hold(path.parent, f".{path.name[:_MOST_LETTERS]}-")
    try:
        with named(path):
            yield holder / path.name
    finally:
        _remove(holder, lock)


@contextmanager
def elsewhere() -> Iterator[Path]:
    """Yield an empty folder in the system's place for temporary files."""
    with beside(Path(tempfile.gettempdir()) / "assay") as folder:
        folder.mkdir()
        yield folder


def sweep(folder: Path) -> None:
    """Remove scratch in a folder that no living process owns; never raises an OSError."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                with suppress(OSError):
                    _remove_if_dead(Path(entry.path))


def sweep_below(folder: Path) -> None:
    """Remove dead scratch in a folder and in all folders below it."""
    for path, _, _ in os.walk(folder):
        sweep(Path(path))


def _hold(parent: Path, prefix: str) -> tuple[Path, FileLock]:
    while True:
        holder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = FileLock(holder / MARK)
        try:
            lock.acquire(blocking=False)
        except (Timeout, FileNotFoundError):
            continue  # swept between these two lines by another process, which took it for dead
        except BaseException:
            _remove(holder, lock)
            raise
        return holder, lock


def _remove_if_dead(holder: Path) -> None:
    if holder.is_symlink() or not (holder / MARK).is_file():
        return
    lock = FileLock(holder / MARK)
    with suppress(Timeout):
        lock.acquire(blocking=False)
        _remove(holder, lock)


def _remove(holder: Path, lock: FileLock) -> None:
    try:
        shutil.rmtree(holder, ignore_errors=True)
    finally:
        lock.release()
        # what a stop signal interrupted; and Windows removes no file that is open
        shutil.rmtree(holder, ignore_errors=True)
