"""A workbench: the states that commands start from, made once, and copied for each try."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipes.data.personal_data import key_file
from tests import tiny
from tests.cli import METRIC, write_recipe, write_rows
from tests.faults.matrix import results
from tests.faults.matrix.cells import KEY, REDACTED, RUN, Kind, Row, Stage
from tests.faults.matrix.child import Command
from tests.faults.matrix.processes import Ended, Running, Server

TRAIN: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 4,
    "evaluations_per_epoch": 3,
    "logging_steps": 3,  # a line is a mean over steps of which a kill may cut some off
}
RULE = {"at_least": 0.0, "not_worse_than_base_by": 1.0, "min_items": 1}
PLAIN = {"train": TRAIN | {"validation_fraction": 0.1}}
PRIVATE = {"train": TRAIN | {"epochs": 1}, "privacy": {"epsilon": 8}}
BEFORE: dict[Stage, tuple[Stage, tuple[str, ...]]] = {
    "trained": ("new", ("train", "recipe.yaml")),
    "evaluated": ("trained", ("eval", RUN)),
    "gated": ("evaluated", ("gate", RUN)),
    "finished": ("gated", ("run", "recipe.yaml")),
    "released": ("finished", ("ship", RUN, "-o", "release", "--key", "key.pem")),
}
"""How a state is made of another."""


@dataclass(frozen=True)
class Reference:
    """What a command does that nothing disturbs."""

    printed: Any
    files: dict[str, str]
    num_seconds: float
    num_writes: int
    """File operations that write."""

    num_operations: int
    """All file operations."""

    best_loss: float
    """Of the run, on held-back rows; NaN where there is none."""


class Bench:
    """One recipe's states. Commands run in `world`, whose path is in some files, one at a time."""

    def __init__(self, server: Server, folder: Path, kind: Kind, *, is_private: bool) -> None:
        self._server = server
        self._folder = folder.resolve()
        self._kind = kind
        self._is_private = is_private
        self._references: dict[tuple[str, Stage], Reference] = {}
        self._last_arguments: tuple[str, ...] = ()
        self.world = self._folder / "world"
        self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all commands that have ended."""
        return self._server.cpu_seconds

    def restore(self, stage: Stage, into: Path | None = None) -> None:
        """Make the world as it is at a stage."""
        saved = self.stage(stage)
        if into is None:
            shutil.rmtree(self.world, ignore_errors=True)
        shutil.copytree(saved, into or self.world, dirs_exist_ok=into is not None)

    def stage(self, stage: Stage) -> Path:
        """Return the saved state of a stage, made if it is not there. Read only."""
        saved = self._folder / f"stage-{stage}"
        if saved.is_dir():
            return saved
        if stage == "new":
            shutil.rmtree(self.world, ignore_errors=True)
            self._make_inputs()
        elif stage == "interrupted":
            self._interrupt_training()
        else:
            before, arguments = BEFORE[stage]
            self.restore(before)
            ended = self.run(arguments)
            if ended.code != 0:
                raise RuntimeError(f"assay {' '.join(arguments)}: {ended.code}\n{ended.err}")
        shutil.copytree(self.world, saved)
        return saved

    def other_run(self) -> Path:
        """Return a finished world on another base, with another adapter. Read only."""
        saved = self._folder / "stage-other"
        if not saved.is_dir():
            self.restore("new")
            shutil.rmtree(self.world / "base")
            tiny.make_base(self.world / "base", seed=1)
            # enough to differ everywhere, and little enough to be believed
            ended = self.run(("run", "recipe.yaml", "--set", "train.learning_rate=5e-3"))
            if ended.code != 0:
                raise RuntimeError(ended.err)
            shutil.copytree(self.world, saved)
        return saved

    def files_of(self, row: Row) -> tuple[str, ...]:
        """Return the names of the files of a row that are damaged in turn."""
        saved = self.stage(row.damaged_stage)
        found = []
        for name in row.damaged:
            path = saved / name
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            found += [file.relative_to(saved).as_posix() for file in files if file.is_file()]
        return tuple(name for name in found if not Path(name).name.startswith(".lock"))

    def start(self, arguments: tuple[str, ...], **faults: Any) -> Running:
        """Start a command in the world."""
        self._last_arguments = arguments
        scratch = self._folder / "streams"
        scratch.mkdir(exist_ok=True)
        name = f"{time.monotonic_ns():020}"
        for old in sorted(scratch.iterdir())[:-12]:  # of the last four commands
            old.unlink()
        command = Command(
            arguments,
            folder=str(self.world),
            env={
                "ASSAY_CACHE": str(self.world / "cache"),
                "HOME": str(self.world / "home"),
                "TMPDIR": str(self.world / "tmp"),
            },
            out=str(scratch / f"{name}.out"),
            err=str(scratch / f"{name}.err"),
            begun=str(scratch / f"{name}.begun"),
        )
        return self._server.start(replace(command, **faults))

    def run(self, arguments: tuple[str, ...], **faults: Any) -> Ended:
        """Run a command in the world to its end."""
        return self.start(arguments, **faults).wait()

    def reference(self, row: Row, stage: Stage | None = None) -> Reference:
        """Return what the row's command does from a stage when nothing disturbs it."""
        at = stage or row.starts_from
        if (row.name, at) not in self._references:
            self.restore(at)
            self._references[row.name, at] = self.measured(row)
        return self._references[row.name, at]

    def measured(self, row: Row) -> Reference:
        """Run the row's command in the world as it is, and return what it did.

        Raises:
            RuntimeError: if it failed.
        """
        running = self.start(row.command, action="none")
        ended = running.wait()
        if ended.code != 0:
            raise RuntimeError(f"assay {' '.join(row.command)}: {ended.code}\n{ended.err}")
        writes, everything = running.counts() or (0, 0)
        return Reference(
            results.of_text(ended.out),
            results.of_folder(self.world),
            ended.seconds,
            writes,
            everything,
            results.best_loss(self.world / RUN),
        )

    @contextmanager
    def on_small_disk(self, stage: Stage, free_kb: int) -> Iterator[Callable[[], None]]:
        """Put the world on a disk of its own with little room; give what makes room.

        Raises:
            PermissionError: if this machine lets us mount nothing.
        """
        self.stage(stage)
        shutil.rmtree(self.world, ignore_errors=True)
        self.world.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "assay-matrix", str(self.world)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PermissionError(f"no disk of its own: {done.stderr.strip()}")
        try:
            self.restore(stage, into=self.world)
            filler = self.world / "tmp" / "filler"
            room = shutil.disk_usage(self.world).free - free_kb * 1024
            with filler.open("wb") as stream:
                stream.write(b"\0" * room)
            yield filler.unlink
        finally:
            subprocess.run(["umount", "--lazy", str(self.world)], check=True)

    def _make_inputs(self) -> None:
        self.world.mkdir()
        for name in ("cache", "home", "tmp"):
            (self.world / name).mkdir()
        tiny.make_base(self.world / "base")
        accuracy = {"metric": METRIC[self._kind]} | RULE
        sections = PRIVATE if self._is_private else PLAIN
        base = self.world / "base"
        write_recipe(self.world, self._kind, base, gate={"accuracy": accuracy}, **sections)
        key_file.write(self.world / KEY, {"<EMAIL_1>": ("ada@example.com",)})
        write_rows(self.world / REDACTED, [{"text": f"<EMAIL_1> wrote {i}"} for i in range(20)])
        for line in (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem",
            "pkey -in key.pem -pubout -out key.pub",
        ):
            subprocess.run(
                ["openssl", *line.split()], cwd=self.world, check=True, capture_output=True
            )

    def _interrupt_training(self) -> None:
        """Kill a training in its tenth step of twelve, with checkpoints of the sixth and eighth."""
        run = self.world / RUN
        while True:
            self.restore("new")
            running = self.start(("train", "recipe.yaml"))
            while '"step": 9' not in _text(run / "training.jsonl") and not running.has_ended():
                time.sleep(0.001)
            running.send(signal.SIGKILL)
            running.wait()
            if not (run / "checkpoints" / "checkpoint-10").exists():
                return


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
