"""Try cells one after another, and keep each result at once, so that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from tests.cli import ROOT
from tests.faults.matrix import faults
from tests.faults.matrix.bench import Bench
from tests.faults.matrix.cells import ROWS_OF_TABLE, Fault, Row, details, faults_of
from tests.faults.matrix.processes import Server
from tests.faults.matrix.verdicts import Outcome, Verdict


@dataclass(frozen=True)
class Result:
    """One try, as it is kept."""

    row: str
    fault: str
    detail: str
    outcome: Outcome
    reason: str
    seconds: float
    cpu_seconds: float
    code: str
    """What was tried: a hash of the four packages' sources."""

    commit: str
    """The commit that was checked out."""

    date: str


def version() -> str:
    """Return a hash over the sources of the product; a result holds for these."""
    found = hashlib.sha256()
    for package in ("finetune", "eval", "privacy", "recipes"):
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:12]


def commit() -> str:
    """Return the short name of the commit that is checked out."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip()


def read(path: Path) -> list[Result]:
    """Read the results that a file holds; the last of a try counts."""
    found: dict[tuple[str, str, str], Result] = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        values = json.loads(line)
        result = Result(
            **{"commit": "", "date": ""} | values | {"outcome": Outcome(values["outcome"])}
        )
        found[result.row, result.fault, result.detail] = result
    return list(found.values())


def cells(only: Sequence[str]) -> list[tuple[Row, Fault]]:
    """Return the cells that are chosen: all, or those of ``ROW/FAULT``, ``ROW`` or ``/FAULT``.

    Raises:
        ValueError: if a choice fits no cell.
    """
    every = [(row, fault) for row in ROWS_OF_TABLE for fault in faults_of(row)]
    if not only:
        return every
    chosen: dict[tuple[str, Fault], tuple[Row, Fault]] = {}
    for one in only:
        row_name, _, fault_name = one.partition("/")
        fitting = [
            (row, fault)
            for row, fault in every
            if row_name in ("", row.name) and fault_name in ("", fault.value, fault.name)
        ]
        if not fitting:
            raise ValueError(
                f"--only {one}: no such cell; rows: {', '.join(r.name for r in ROWS_OF_TABLE)}; "
                f"faults: {', '.join(Fault)}"
            )
        chosen |= {(row.name, fault): (row, fault) for row, fault in fitting}
    return list(chosen.values())


class Benches:
    """The benches of one process, each made when it is first needed."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._made: dict[tuple[str, bool], Bench] = {}

    def of(self, row: Row) -> Bench:
        """Return the bench that a row is tried on."""
        key = (row.kind, row.is_private)
        if key not in self._made:
            name = f"{row.kind}{'-private' if row.is_private else ''}"
            folder = self._folder / name
            self._made[key] = Bench(self._server, folder, row.kind, is_private=row.is_private)
        return self._made[key]


def attempts(
    bench: Bench, row: Row, fault: Fault, done: Sequence[Result] = (), *, every: int = 1
) -> Iterator[Result]:
    """Try what a cell has left to try, or every so-many-th of it, and yield each result."""
    code, at = version(), commit()
    known = {(r.row, r.fault, r.detail) for r in done if r.code == code}
    files = bench.files_of(row)
    for detail in islice(details(row, fault, files), 0, None, every):
        if (row.name, fault.value, detail) in known:
            continue
        began, cpu_before = time.monotonic(), bench.cpu_seconds
        try:
            verdict = faults.attempt(bench, row, fault, detail)
        except Exception:  # the try itself went wrong, which is no success
            verdict = Verdict(Outcome.FAILED, f"the try broke: {traceback.format_exc()[-600:]}")
        yield Result(
            row.name,
            fault,
            detail,
            verdict.outcome,
            verdict.reason,
            seconds=round(time.monotonic() - began, 2),
            cpu_seconds=round(bench.cpu_seconds - cpu_before, 2),
            code=code,
            commit=at,
            date=str(datetime.now(UTC).date()),
        )


def keep(path: Path, result: Result) -> None:
    """Add a result to a file."""
    with path.open("a") as stream:
        stream.write(json.dumps(asdict(result)) + "\n")
