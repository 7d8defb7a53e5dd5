"""`assay` as a test calls it: in a process of its own, or in this one, which is much quicker."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recipes import cli
from tests import tiny

ROOT = Path(__file__).parents[1]
QUIET = ("TRANSFORMERS_VERBOSITY", "TRL_EXPERIMENTAL_SILENCE", "HF_HUB_DISABLE_TELEMETRY")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The last paragraph on standard error, which begins with the program's name."""
        return self.err[self.err.rindex("assay: ") :] if "assay: " in self.err else ""

    def json(self) -> Any:
        """What is on standard output, as strict JSON."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


def assay(*arguments: object, folder: Path) -> Done:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "recipes.cli", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def assay_here(*arguments: object, folder: Path) -> Done:
    """Run a command in this process; what nobody expected is exit code 1 and a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["assay", *map(str, arguments)])
        for name in QUIET:
            patch.setenv(name, "1" if name != QUIET[0] else "error")
        try:
            cli.main()
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else 1
        except Exception:
            traceback.print_exc()
            code = 1
    return Done(code, out.getvalue(), err.getvalue())


def write_rows(path: Path, rows: Iterable[object]) -> Path:
    """Write a jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(kind: str) -> list[dict[str, Any]]:
    """Return a recipe's rows, a few dozen."""
    if kind == "classification":
        return [dict(row) for row in tiny.class_rows(36)]
    if kind == "chat":
        return [{"messages": messages} for messages in tiny.chat_rows(24)]
    return tiny.qa_rows(32)


TASK = {"qa": "question_answering", "classification": "classification", "chat": "reference_replies"}
METRIC = {"qa": "f1", "classification": "accuracy", "chat": "rouge_l"}


def write_recipe(folder: Path, kind: str, base: Path, **sections: Any) -> Path:
    """Write a recipe file that runs in seconds, and its rows if they are not there.

    ``sections`` are merged into the sections of the file, or replace what is no mapping.
    """
    values: dict[str, Any] = {
        "name": "a-run",
        "recipe": kind,
        "base": {"checkpoint": str(base)},
        "data": {"train": "rows.jsonl", "test_fraction": 0.3},
        "adapter": {"rank": 4, "alpha": 8},
        "train": {
            "epochs": 1,
            "batch_size": 8,
            "learning_rate": 1e-2,
            "max_length": 512,
            "num_threads": 1,
            "logging_steps": 1,
        },
        "eval": {"tasks": [TASK[kind]], "max_items": 6, "max_base_items": 6, "max_new_tokens": 4},
        "gate": {"accuracy": {"metric": METRIC[kind], "at_least": 0.0, "min_items": 1}},
    }
    for name, section in sections.items():
        is_mapping = isinstance(section, dict) and isinstance(values.get(name), dict)
        values[name] = values[name] | section if is_mapping else section
    if not (folder / "rows.jsonl").exists():
        write_rows(folder / "rows.jsonl", rows_of(kind))
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")  # JSON is YAML 1.2
    return path


def state_of(folder: Path) -> dict[str, str]:
    """Return every file below a folder with its hash; the lock of a run folder does not count."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def flip_a_byte(path: Path, at: int = -1) -> None:
    """Change one bit of the byte ``at`` a place of a file, by default its last."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
