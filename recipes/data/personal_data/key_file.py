"""The file that reverses a redaction: placeholders and what they stand for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetune import scratch as scratches
from recipes.data.personal_data.kinds import PLACEHOLDER
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
    _refuse_runs(target, runs)
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
    _write_private(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the originals of each placeholder.

    Raises:
        InputError: if the file is missing or is not such a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise KeyError
        return {str(name): tuple(map(str, of)) for name, of in content["placeholders"].items()}
    except FileNotFoundError:
        raise InputError(f"data.personal_data_key: {path} is missing") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(
            f"data.personal_data_key: {path} is not a key file of personal data, so it is not "
            "overwritten; name another file"
        ) from None


def restore(text: str, originals: Mapping[str, Sequence[str]]) -> str:
    """Return a text with placeholders replaced by the first spelling they stand for.

    Example:
        >>> restore("mail <EMAIL_1>", {"<EMAIL_1>": ["a@example.com"]})
        'mail a@example.com'
    """

    def original(match: re.Match[str]) -> str:
        return originals[match.group()][0] if match.group() in originals else match.group()

    return PLACEHOLDER.sub(original, text)


def _refuse_runs(target: Path, runs: Path | None) -> None:
    for folder in target.parents:
        is_run = any((folder / name).is_file() for name in RUN_FILES)
        holds_runs = folder.name == "runs" or (runs is not None and folder == runs.resolve())
        if folder == target.parent:
            holds_runs = holds_runs or any(folder.glob(f"*/{RUN_FILES[0]}"))
        if is_run or holds_runs:
            raise InputError(
                f"data.personal_data_key: {target} is in {folder}, where runs are kept; a run "
                "folder is passed on, so the key must be elsewhere"
            )


def _write_private(target: Path, text: str) -> None:
    """Write a file at once, readable by the user alone."""
    with scratches.beside(target) as scratch:
        scratch.touch(mode=0o600)
        with scratch.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(target)
