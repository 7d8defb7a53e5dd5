"""The table: which commands are tried under which faults, and how often."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Stage = Literal["new", "interrupted", "trained", "evaluated", "gated", "finished", "released"]
Kind = Literal["classification", "chat", "qa"]

RUN = "runs/a-run"
RECIPE, ROWS = "recipe.yaml", "rows.jsonl"


@dataclass(frozen=True)
class Row:
    """A command of the table, and the state that it starts from."""

    name: str
    verb: str
    arguments: tuple[str, ...]
    starts_from: Stage = "new"
    damaged_from: Stage | None = None
    """Where its files are damaged; None: as `starts_from`."""

    damaged: tuple[str, ...] = ()
    """Folders and files, each file of which is damaged in turn."""

    kind: Kind = "qa"
    is_private: bool = False
    num_kills: int = 10
    is_brief: bool = False
    """Whether it is tried under interruptions alone: another recipe of a row that has them all."""

    @property
    def damaged_stage(self) -> Stage:
        """The stage in which its files are damaged."""
        return self.damaged_from or self.starts_from

    @property
    def takes_any_rows(self) -> bool:
        """Whether it may be given other rows than the run was trained and evaluated on."""
        return self.verb == "predict"

    @property
    def is_random(self) -> bool:
        """Whether two runs of it differ, as noise is drawn from the system."""
        return self.is_private and self.verb == "train"

    @property
    def command(self) -> tuple[str, ...]:
        """All arguments of `assay`."""
        return (self.verb, *self.arguments, "--json")


_INPUTS = (RECIPE, ROWS, "base")

REDACTED, KEY = "redacted.jsonl", "customers.key.json"

ROWS_OF_TABLE = (
    Row("check", "check", (RECIPE,), damaged=_INPUTS, num_kills=6),
    Row("plan", "plan", (RECIPE,), damaged=_INPUTS, num_kills=6),
    Row(
        "init",
        "init",
        ("classification", "--data", ROWS, "-o", "new.yaml"),
        damaged=(ROWS,),
        num_kills=6,
    ),
    Row(
        "restore",
        "restore",
        (REDACTED, "--key", KEY, "-o", "restored.jsonl"),
        damaged=(REDACTED, KEY),
        num_kills=6,
    ),
    Row(
        "train",
        "train",
        (RECIPE,),
        damaged_from="interrupted",
        damaged=(*_INPUTS, RUN),
        num_kills=60,
    ),
    Row(
        "run",
        "run",
        (RECIPE,),
        damaged_from="finished",
        damaged=(*_INPUTS, RUN),
        num_kills=20,
    ),
    Row(
        "eval",
        "eval",
        (RUN,),
        starts_from="trained",
        damaged_from="finished",
        damaged=(ROWS, RUN),
        num_kills=20,
    ),
    Row("compare", "compare", (RUN,), starts_from="finished", damaged=(ROWS, RUN)),
    Row(
        "predict",
        "predict",
        (RUN, "--data", ROWS, "-o", "predicted.jsonl"),
        starts_from="finished",
        damaged=(ROWS, RUN),
    ),
    Row(
        "gate",
        "gate",
        (RUN,),
        starts_from="evaluated",
        damaged_from="finished",
        damaged=(ROWS, RUN),
    ),
    Row(
        "merge",
        "merge",
        (RUN,),
        starts_from="gated",
        damaged_from="finished",
        damaged=(ROWS, RUN),
        num_kills=20,
    ),
    Row(
        "ship",
        "ship",
        (RUN, "-o", "release", "--key", "key.pem"),
        starts_from="finished",
        damaged=(ROWS, RUN),
        num_kills=20,
    ),
    Row(
        "verify",
        "verify",
        ("release", "--key", "key.pub"),
        starts_from="released",
        damaged=("release", "key.pub"),
    ),
    Row("audit", "audit", (RUN,), starts_from="finished", damaged=(ROWS, RUN)),
    Row(
        "train, private",
        "train",
        (RECIPE,),
        is_private=True,
        num_kills=20,
        is_brief=True,
    ),
    Row(
        "audit, private",
        "audit",
        (RUN, "-o", "privacy"),
        starts_from="trained",
        damaged=(RUN,),
        is_private=True,
    ),
    Row("run, chat", "run", (RECIPE,), kind="chat", num_kills=4, is_brief=True),
    Row(
        "run, classification",
        "run",
        (RECIPE,),
        kind="classification",
        num_kills=4,
        is_brief=True,
    ),
)


class Fault(StrEnum):
    """What happens to a command."""

    KILL = "kill -9"
    SIGTERM = "SIGTERM"
    SIGINT = "SIGINT"
    FULL_DISK = "full disk"
    MEMORY = "no memory"
    READ_ONLY = "read-only"
    SECOND = "second process"
    BETWEEN = "changed between"
    DURING = "changed during"
    TRUNCATED = "truncated"
    EMPTIED = "emptied"
    DELETED = "deleted"
    FLIPPED = "bit flipped"
    SWAPPED = "of another run"
    NO_BASE = "base missing"
    OTHER_BASE = "base changed"
    CACHE = "unwritable cache"
    STREAMS = "closed stdout"


DAMAGES = (Fault.TRUNCATED, Fault.EMPTIED, Fault.DELETED, Fault.FLIPPED, Fault.SWAPPED)
INTERRUPTIONS = (Fault.KILL, Fault.SIGTERM, Fault.SIGINT)
FREE_KB = (0, 8, 24, 60, 150, 300, 600)
EXTRA_MB = (1, 8, 64, 256, 1024)
STREAM_FAULTS = ("stdout closed", "stdout no reader", "stderr closed", "stderr no reader")


def faults_of(row: Row) -> tuple[Fault, ...]:
    """Return the faults that a row is tried under."""
    return (*INTERRUPTIONS, Fault.FULL_DISK) if row.is_brief else tuple(Fault)


def row_named(name: str) -> Row:
    """Return a row of the table."""
    return next(row for row in ROWS_OF_TABLE if row.name == name)


def details(row: Row, fault: Fault, files: tuple[str, ...]) -> Iterator[str]:
    """Yield what is varied from try to try of a cell.

    Args:
        row: the command.
        fault: what happens to it.
        files: names of the files of `Row.damaged`, below the folder that commands run in.
    """
    draw = random.Random(f"{row.name}/{fault}")
    if fault in INTERRUPTIONS:
        count = (
            row.num_kills if fault is Fault.KILL else 4 if row.is_brief else min(8, row.num_kills)
        )
        for number in range(count):
            share = draw.random()
            if number % 10 == 5:
                yield f"fresh process, moment {share:.4f}"
            else:
                yield f"{('moment', 'operation')[number % 2]} {share:.4f}"
    elif fault is Fault.FULL_DISK:
        yield from (f"{free} kB free" for free in FREE_KB)
    elif fault is Fault.MEMORY:
        yield from (f"{extra} MB more" for extra in EXTRA_MB)
    elif fault is Fault.READ_ONLY:
        yield "the run" if row.starts_from != "new" else "the folder"
    elif fault is Fault.SECOND:
        yield from (f"operation {draw.random():.4f}" for _ in range(3))
    elif fault is Fault.BETWEEN:
        yield from (ROWS, RECIPE)
    elif fault is Fault.DURING:
        targets = [name for name in (ROWS, "base/model.safetensors") if _reads(row, name)]
        if row.damaged_from == "finished" or row.starts_from == "finished":
            targets += [f"{RUN}/adapter/adapter_model.safetensors", f"{RUN}/record.json"]
        if row.verb == "restore":
            targets = [REDACTED, KEY]
        if row.verb == "verify":
            targets = ["release/model.safetensors", "release/merge.json"]
        for target in targets:
            yield from (f"{target} at operation {draw.random():.4f}" for _ in range(2))
    elif fault in DAMAGES:
        names = files if fault is not Fault.SWAPPED else [f for f in files if f.startswith(RUN)]
        yield from names
    elif fault is Fault.NO_BASE:
        yield "base"
    elif fault is Fault.CACHE:
        yield "cache"
    elif fault is Fault.OTHER_BASE:
        yield from ("base/model.safetensors", "base/tokenizer.json", "base/config.json")
    elif fault is Fault.STREAMS:
        yield from STREAM_FAULTS
        if row.verb in ("check", "verify", "init"):
            yield from (f"fresh process, {stream}" for stream in STREAM_FAULTS)


def _reads(row: Row, name: str) -> bool:
    if row.verb == "init":
        return name == ROWS
    return row.verb not in ("verify", "audit", "restore")
