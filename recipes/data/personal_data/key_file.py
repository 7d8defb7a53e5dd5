"""The file that reverses a redaction: placeholders and what they stand for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from finetune import scratch as scratches
from recipes.errors import InputError

FORMAT = "assay personal data key"
RUN_FILES = ("resolved.yaml", "record.json")


def write(path: Path, originals: Mapping[str, Sequence[str]], runs: Path | None = None) -> None:
    """Write the originals of all placeholders at once, readable by the user alone.

    Args:
        path: outside of every run folder.
        originals: the spellings that each placeholder stands for.
        runs: the folder of the runs, where it is known.

    Raises:
        InputError: if the path is in a run folder or a folder of runs, or holds a file that is not
            such a key, or the key of other data.
    """
    target = path.resolve()
    refuse_runs(target, runs, "data.personal_data_key")
    if target.exists():
        before = read(target)
        changed = [name for name in before if tuple(originals.get(name, ())) != before[name]]
        if any(not set(before[name]) <= set(originals.get(name, ())) for name in changed):
            raise InputError(
                f"data.personal_data_key: {path} is the key of other data; name another file, or "
                "delete this one (what was redacted with it can then no longer be reversed)"
            )
    if not target.parent.is_dir():
        raise InputError(f"data.personal_data_key: there is no folder {target.parent}")
    content = {
        "format": FORMAT,
        "schema": 1,
        "placeholders": {k: list(v) for k, v in originals.items()},
    }
    with open_private(target) as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read(path: Path, setting: str = "data.personal_data_key") -> dict[str, tuple[str, ...]]:
    """Return the originals of each placeholder.

    Args:
        path: of the key.
        setting: that names it, for messages.

    Raises:
        InputError: if the file is missing or is not such a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise KeyError
        return {str(name): tuple(map(str, of)) for name, of in content["placeholders"].items()}
    except FileNotFoundError:
        raise InputError(f"{setting}: {path} is missing") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(
            f"{setting}: {path} is not a key file of personal data, so it is not overwritten; "
            "name another file"
        ) from None


def refuse_runs(target: Path, runs: Path | None, setting: str) -> None:
    """Refuse a path for personal data that is in a run folder or a folder of runs.

    Args:
        target: absolute, links followed.
        runs: the folder of the runs, where it is known.
        setting: that names the path, for the message.

    Raises:
        InputError: if it is refused.
    """
    for folder in target.parents:
        is_run = any((folder / name).is_file() for name in RUN_FILES)
        holds_runs = folder.name == "runs" or (runs is not None and folder == runs.resolve())
        if folder == target.parent:
            holds_runs = holds_runs or any(folder.glob(f"*/{RUN_FILES[0]}"))
        if is_run or holds_runs:
            raise InputError(
                f"{setting}: {target} is in {folder}, where runs are kept; a run folder is passed "
                "on, so personal data must be elsewhere"
            )


@contextmanager
def open_private(target: Path) -> Iterator[TextIO]:
    """Open a file that is put in its place at the end, readable by the user alone."""
    with scratches.beside(target) as scratch:
        scratch.touch(mode=0o600)
        with scratch.open("w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(target)
