"""Checkpoints of a training that may be interrupted: whole or refused, and checked before use.

A checkpoint is a folder `checkpoint-STEP`. Its `manifest.json` is there from the first moment of a
save, without a list of files; it is written again, with their sizes and hashes, after all of them
are on the disk. A kill, a full disk or a power cut thus leaves a checkpoint that is known to be
unfinished, and a file that was damaged later is known by its hash.

A checkpoint without a manifest was saved by an earlier version. It is used if its files are there
and load; that no number in them has changed cannot be seen, and that is said.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

MANIFEST = "manifest.json"
STATE = "trainer_state.json"
WEIGHTS = "adapter_model.safetensors"
SET_ASIDE = "damaged-"
"""Begins the name of a checkpoint that was set aside."""

_NAME = re.compile(r"checkpoint-(\d+)")
_NEEDED = (WEIGHTS, "optimizer.pt", "scheduler.pt")
"""Files without which a run would go on otherwise than it began."""

_RANDOM_STATES = ("rng_state.pth", "rng_state_0.pth")
"""Of one process, and of the first of several."""


class _Written(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    size_bytes: int
    sha256: str


class _Manifest(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    version: Literal[1] = 1
    step: int
    files: dict[str, _Written] | None
    """By path within the checkpoint; None while it is being saved."""


@dataclass(frozen=True)
class Found:
    """Where a run goes on."""

    checkpoint: Path | None
    """None: at its first step."""

    notes: tuple[str, ...]
    """What there is to say: checkpoints that were set aside, or that could not be checked."""


def path_of(folder: Path, step: int) -> Path:
    """Return the checkpoint of a step."""
    return folder / f"checkpoint-{step}"


def begin(checkpoint: Path) -> None:
    """Mark a checkpoint as being saved, before its first file is written."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    _write(checkpoint, _Manifest(step=_step_in(checkpoint.name), files=None))


def seal(checkpoint: Path) -> None:
    """Put all files of a checkpoint on the disk, then the list of them."""
    files = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb+") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                os.fsync(stream.fileno())
            name = path.relative_to(checkpoint).as_posix()
            files[name] = _Written(size_bytes=path.stat().st_size, sha256=digest)
    _sync_folder(checkpoint)
    _write(checkpoint, _Manifest(step=_step_in(checkpoint.name), files=files))
    _sync_folder(checkpoint.parent)


def keep_newest(folder: Path, num: int, *, best: int | None) -> None:
    """Remove all checkpoints but the newest ``num`` and the one of step ``best``."""
    for path in _checkpoints(folder)[num:]:
        if _step_in(path.name) != best:
            shutil.rmtree(path)


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint whose save was not interrupted, without reading its files."""
    return next((path for path in _checkpoints(folder) if (path / STATE).is_file()), None)


def newest_whole(folder: Path, *, has_random_state: bool) -> Found:
    """Return the newest checkpoint that a run can go on from; set all damaged ones aside.

    One that is whole is of no use without the checkpoint of the best evaluation before it: the run
    would end with another adapter.

    Args:
        folder: where the checkpoints are; it need not exist.
        has_random_state: whether a checkpoint without the states of random generators is damaged.
    """
    notes: list[str] = []
    whole: dict[int, Path] = {}
    for path in reversed(_checkpoints(folder)):
        step = _step_in(path.name)
        why = damage(path, has_random_state=has_random_state)
        best = None if why else _state(path)["best_global_step"]
        if best is not None and best != step and best not in whole:
            why = f"it needs checkpoint-{best}, the best before it, which is damaged or missing"
        if why is None:
            whole[step] = path
        else:
            notes.append(f"{path.name} cannot be used: {why}. It is kept as {_set_aside(path)}")
    newest = whole[max(whole)] if whole else None
    if newest is not None and not (newest / MANIFEST).is_file():
        notes.append(
            f"{newest.name} was saved by an earlier version, without hashes: its files are there "
            "and load, and whether a number in them has changed since cannot be told"
        )
    if notes and newest is None:
        notes.append("no checkpoint is whole, so training begins at its first step")
    return Found(newest, tuple(notes))


def damage(checkpoint: Path, *, has_random_state: bool = False) -> str | None:
    """Say what is wrong with a checkpoint; None if nothing is, as far as can be seen."""
    try:
        if (checkpoint / MANIFEST).is_file():
            return _not_as_written(checkpoint)
        return _does_not_load(checkpoint, has_random_state=has_random_state)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


def _not_as_written(checkpoint: Path) -> str | None:
    """Hold a checkpoint against its manifest."""
    try:
        manifest = _Manifest.model_validate_json((checkpoint / MANIFEST).read_bytes())
    except ValidationError:
        return f"{MANIFEST} is damaged"
    if manifest.files is None:
        return "its save was interrupted"
    if manifest.step != _step_in(checkpoint.name):
        return f"{MANIFEST} is that of step {manifest.step}"
    for name, written in manifest.files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != written.size_bytes:
            return f"{name} has {path.stat().st_size} bytes, and {written.size_bytes} were written"
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != written.sha256:
                return f"{name} has changed since it was written"
    return None


def _does_not_load(checkpoint: Path, *, has_random_state: bool) -> str | None:
    """Look for what can be seen without hashes: what is missing, empty or torn."""
    state = _state(checkpoint)
    if state.get("global_step") != _step_in(checkpoint.name) or "best_global_step" not in state:
        return f"{STATE} is missing or damaged"
    for name in _NEEDED:
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
    try:
        with safe_open(checkpoint / WEIGHTS, framework="pt"):
            pass  # the sizes that its header tells are those of the file
    except SafetensorError:
        return f"{WEIGHTS} is damaged"
    states = [name for name in _RANDOM_STATES if (checkpoint / name).is_file()]
    if has_random_state and not states:
        return f"{_RANDOM_STATES[0]} is missing"
    for name in (*_NEEDED[1:], *states):
        try:
            with zipfile.ZipFile(checkpoint / name) as archive:  # what torch writes, with sums
                broken = archive.testzip()
        except (zipfile.BadZipFile, EOFError, ValueError):
            broken = name
        if broken is not None:
            return f"{name} is damaged"
    return None


def _state(checkpoint: Path) -> dict[str, Any]:
    """Return the trainer's state; empty if it is missing or damaged."""
    try:
        state = json.loads((checkpoint / STATE).read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def _checkpoints(folder: Path) -> Sequence[Path]:
    """Return all checkpoints, whole or not, the newest first."""
    paths = [p for p in folder.glob("checkpoint-*") if p.is_dir() and _NAME.fullmatch(p.name)]
    return sorted(paths, key=lambda path: _step_in(path.name), reverse=True)


def _step_in(name: str) -> int:
    return int(name.rpartition("-")[2])


def _set_aside(checkpoint: Path) -> str:
    """Rename a checkpoint, so that nothing takes it for one; return its new name."""
    number = 1
    to = checkpoint.with_name(SET_ASIDE + checkpoint.name)
    while to.exists():
        number += 1
        to = checkpoint.with_name(f"{SET_ASIDE}{checkpoint.name}-{number}")
    checkpoint.rename(to)
    return to.name


def _write(checkpoint: Path, manifest: _Manifest) -> None:
    """Write the manifest, old or new and nothing between, and return once it is on the disk."""
    scratch = checkpoint / f".{MANIFEST}"
    try:
        with scratch.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(manifest.model_dump_json(indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(checkpoint / MANIFEST)
    finally:
        scratch.unlink(missing_ok=True)
    _sync_folder(checkpoint)


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk; only POSIX systems can be asked to."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
