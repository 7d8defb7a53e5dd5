"""What a command made, without what no two runs share: times, memory, random signatures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

VOLATILE = frozenset(
    {
        "num_seconds",
        "num_tokens",  # of this process; a resumed one sees fewer
        "peak_memory_bytes",
        "peak_cuda_bytes",
        "started",
        "finished",
        "created",
        "made",
        "timestamp",
        "serialNumber",
        "resumed_from",
        "training_notes",  # of interruptions
        "commit",  # says whether a file of the checkout was edited meanwhile
        "payload",
        "sig",
        "record",  # hash of a record with its times
    }
)
"""JSON keys whose values are times or processes, or hashes and signatures over such."""

PRESENT = frozenset({".html", ".md", ".sig", ".pem", ".pub", ".lock", ""})
"""Kinds of files that must be there, whatever their text: their figures are in JSON beside them."""

OF_TRAINING = "checkpoints"
"""Folder that a training leaves while it is not complete."""


def of_folder(folder: Path) -> dict[str, str]:
    """Return the files below a folder, each with a hash of what two runs of it share."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not _is_scrap(name):
            found[name] = _digest(path)
    return found


def bytes_of(folder: Path) -> dict[str, str]:
    """Return the files below a folder, each with the hash of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not _is_scrap(path.relative_to(folder).as_posix())
    }


def _is_scrap(name: str) -> bool:
    """Return whether a file is a lock, an entry of a cache, or times alone.

    Any command may add an entry, and answers that were kept cost no time, so none is noted.
    """
    top, last = name.split("/")[0], name.rpartition("/")[2]
    return top in ("cache", "home") or last == "cost.json" or last.startswith(".lock")


def of_text(text: str) -> Any:
    """Return printed JSON without what no two runs share; other text as it is."""
    try:
        return shared(json.loads(text))
    except ValueError:
        return text


def shared(value: Any) -> Any:
    """Return a JSON value without `VOLATILE` keys and hashes of reports, which hold times."""
    if isinstance(value, dict):
        return {
            key: shared(inner)
            for key, inner in value.items()
            if key not in VOLATILE and not key.endswith("report.json")
        }
    if isinstance(value, list):
        return [shared(inner) for inner in value]
    return value


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.name in ("SHA256SUMS", "cache.jsonl") or path.suffix in PRESENT:
        return f"{len(content) > 0}"
    if path.suffix in (".json", ".jsonl"):
        try:
            text = content.decode()
            lines = text.splitlines() if path.suffix == ".jsonl" else [text]
            content = json.dumps([shared(json.loads(line)) for line in lines]).encode()
        except ValueError:
            pass  # a damaged file is its bytes
    return hashlib.sha256(content).hexdigest()


def best_loss(run: Path) -> float:
    """Return the best loss on held-back rows of a run; NaN where its record has none."""
    record = run / "record.json"
    training = json.loads(record.read_text()).get("training") if record.is_file() else None
    return float((training or {}).get("best_eval_loss") or "nan")


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return what was added, removed or changed, in words."""
    return [
        *(f"{name} is new" for name in after if name not in before),
        *(f"{name} is missing" for name in before if name not in after),
        *(f"{name} differs" for name in before if name in after and before[name] != after[name]),
    ]
