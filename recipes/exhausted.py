"""What a command says that ran out of disk or memory: where, how much, and the way out."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

import psutil

from finetune.room import chain, existing, full_disk, in_words, no_memory
from recipes.stops import left_by

_ASKED = re.compile(
    r"(?:tried to allocate|unable to mmap|Unable to allocate) ([\d.]+) ?(\w+)", re.I
)
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

_LESS = {
    "train": "train with base.quantization: nf4, a smaller train.max_tokens_per_micro_batch or a "
    "smaller base",
    "eval": "evaluate with --quantization nf4, or a smaller base",
}
_LESS["run"] = _LESS["train"]


def explain(error: BaseException, verb: str) -> str | None:
    """Return one line on an error that says that disk or memory ran out; None of any other.

    Args:
        error: that ended the command.
        verb: of the command.
    """
    if (number := full_disk(error)) is not None:
        return _disk(error, number, left_by(verb))
    if no_memory(error):
        return _memory(error, verb, left_by(verb))
    return None


def _disk(error: BaseException, number: int, left: str) -> str:
    names = (one.filename for one in chain(error) if isinstance(one, OSError))
    path = Path(str(next((name for name in names if name is not None), ".")))
    said = {
        errno.ENOSPC: "no space is left on the disk",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file would be larger than its file system or ulimit -f allows",
    }[number]
    if str(path) == "standard output":
        return f"standard output cannot be written: {said}; make room where it goes to"
    usage = shutil.disk_usage(existing(path))
    return (
        f"{path} cannot be written: {said}. {in_words(usage.free)} of {in_words(usage.total)} are "
        f"free there now; make room, or work on another disk. Then: {left}"
    )


def _memory(error: BaseException, verb: str, left: str) -> str:
    found = next((m for one in chain(error) if (m := _ASKED.search(str(one)))), None)
    asked = ""
    if found and found[2].rstrip(".") in _UNITS:
        asked = f" for {in_words(float(found[1].rstrip('.')) * _UNITS[found[2]])} more"
    where, free = "this machine", ""
    if any("CUDA" in str(one) or "MPS" in str(one) for one in chain(error)):
        where = "the GPU"
    else:
        memory = psutil.virtual_memory()
        free = f" ({in_words(memory.available)} of {in_words(memory.total)} are free now)"
    less = _LESS.get(verb)
    way_out = f"{less}, or " if less else ""
    return (
        f"there is no memory on {where}{asked}{free}; {way_out}end other programs, lift a limit "
        f"that is set (ulimit -v, the container's), or take a machine with more. Then: {left}"
    )
