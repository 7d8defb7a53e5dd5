"""What went into a run and what it ran on: record.json, from the first step to the last."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from finetune.adapter_files import template_digest
from finetune.checkpoint import Base
from finetune.cores import usable_cores
from recipes.config import Recipe
from recipes.data.dataset import DataSplit
from recipes.files import read_json, write_json
from recipes.public_recipe import settings_of

LIBRARIES = (
    "assay",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "trl",
    "datasets",
    "evaluate",
    "opacus",
    "dp-accounting",
    "accelerate",
    "safetensors",
)


def begin(source: Path, recipe: Recipe, base: Base, parts: DataSplit[Any]) -> dict[str, Any]:
    """Return the record of a run that is about to train.

    A private run's record holds no seed of its noise or its draws, because there is none; the seed
    that it does hold is of the split and of the adapter's first values, which are public.
    """
    manifest = parts.manifest()
    return {
        "schema": 1,
        "status": "training",
        "name": recipe.name,
        "recipe": recipe.recipe,
        "source": str(source),
        "base": {
            "identity": base.identity,
            "checkpoint": recipe.base.checkpoint,
            "weights_version": base.quantization.version,
            **(
                {"chat_template": template_digest(base.tokenizer.chat_template)}
                if recipe.base.chat_template
                else {}
            ),
            **({"pooling": base.pooling} if base.pooling else {}),
        },
        "quantization": base.quantization.kind,
        "settings": settings_of(recipe),
        "data": {"files": manifest["files"], "fingerprint": manifest["fingerprint"]},
        "rows": manifest["rows"],
        "personal_data": manifest["personal_data"],
        "seed": recipe.train.seed,
        "is_private": recipe.privacy is not None,
        "started": now(),
        "versions": {name: _version(name) for name in LIBRARIES}
        | {"python": platform.python_version()},
        "commit": commit(),
        "machine": machine(),
    }


def add(path: Path, key: str, value: Any) -> None:
    """Add one part to a record, at once."""
    write_json(path, read_json(path) | {key: value})


def finish(path: Path) -> None:
    """Mark a run as complete."""
    write_json(path, read_json(path) | {"status": "complete", "finished": now()})


def machine() -> dict[str, Any]:
    """Return what the machine is, without its name or its user's."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": platform.machine(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "gpus": gpus,
        "system": platform.system(),
    }


def memory_text(machine: Mapping[str, Any]) -> str:
    """Return a machine's memory in words; records of machines that hide it hold none."""
    known = machine.get("memory_gb")
    return "unknown memory" if known is None else f"{known} GB"


def _memory_gb() -> float | None:
    """Return the machine's memory; None where the system does not say."""
    try:
        return round(psutil.virtual_memory().total / 1e9, 1)
    except OSError:  # Linux without /proc
        pass
    if sys.platform != "win32":
        with suppress(OSError, ValueError):
            return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    return None


def commit() -> str | None:
    """Return the commit of Assay that runs, with ``-dirty`` where its files were changed since.

    Known of a checkout, and of what pip installed from a repository; None of any other.
    """
    try:
        told = importlib.metadata.distribution("assay").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        told = None
    installed = json.loads(told or "{}").get("vcs_info", {}).get("commit_id")
    if installed:
        return str(installed)
    ours = Path(__file__).resolve().parents[1]
    git = ["git", "-C", str(ours)]
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        top, found = (
            subprocess.run(  # noqa: S603
                [*git, *what], capture_output=True, check=True, encoding="utf-8"
            ).stdout.strip()
            for what in (["rev-parse", "--show-toplevel"], describe)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    # a package inside somebody else's repository is not of its commit
    return found if Path(top) == ours else None


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
