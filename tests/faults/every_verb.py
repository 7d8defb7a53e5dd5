"""All verbs on a few rows, in one process, so that a fault of a machine meets each of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli import ROOT, Done, write_recipe, write_rows
from tests.recipes.handover import folders
from tests.recipes.test_dsse import make_key

COMMANDS: tuple[str, ...] = (
    "init qa -o fresh.yaml",
    "schema",
    "doctor",
    "check recipe.yaml --html check.html --fix cleaned",
    "plan recipe.yaml",
    "train recipe.yaml",
    "eval runs/a-run",
    "run recipe.yaml",
    "compare runs/a-run -o compare.html",
    "gate runs/a-run",
    "merge runs/a-run",
    "ship runs/a-run -o release --key key.pem --gguf Q8_0",
    "verify release --key key.pub",
    "audit recipe.yaml",
    "run recipe.yaml --set name=private --set train.schedule=constant --set privacy.epsilon=8",
    "audit runs/private -o privacy",
    "audit --sample-rate 0.1 --noise-multiplier 1 --steps 30 --delta 1e-5",
    "train recipe.yaml --set name=brief --set train.max_steps=1",
    "train recipe.yaml --set name=brief --fresh",
)


@dataclass(frozen=True)
class Ended:
    """A command and how it ended."""

    command: str
    done: Done


def prepare(folder: Path, kind: str, rows: list[Any]) -> None:
    """Write rows, recipe, base and keys into a folder; every path in them is relative to it."""
    folders.make_folder(folder / "base")
    write_rows(folder / "rows.jsonl", rows)
    write_recipe(folder, kind, Path("base"))
    make_key(folder)


def run_all(
    folder: Path,
    system: str = "linux",
    *,
    path: tuple[Path, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> list[Ended]:
    """Run every verb in a folder that `prepare` filled, in one new process.

    Args:
        folder: where the commands run.
        system: ``linux``, or one that `other_systems` imitates.
        path: folders in front of Python's path, as for a sitecustomize.
        environment: added to this process's.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.other_systems", system],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
        | dict(environment or {}),
        input=json.dumps([command.split() for command in COMMANDS]),
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    ended = [Done(**json.loads(line)) for line in done.stdout.splitlines()]
    return [Ended(*pair) for pair in zip(COMMANDS, ended, strict=True)]
