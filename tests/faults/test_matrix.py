"""One try of each kind of fault, for real; all of them: ``python -m tests.faults.matrix``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from recipes.cli import app
from tests.cli import ROOT
from tests.faults.matrix import cells, runner, table
from tests.faults.matrix.bench import Bench
from tests.faults.matrix.cells import ROWS_OF_TABLE, Fault, faults_of, row_named
from tests.faults.matrix.faults import attempt
from tests.faults.matrix.processes import Server
from tests.faults.matrix.verdicts import Outcome

PAGE = ROOT / "docs" / "reliability.md"
TAKES_NO_FILES = {"schema", "doctor"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def bench(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("matrix")
    return Bench(server, folder, "qa", is_private=False)


CHECKPOINT = "runs/a-run/checkpoints/newest/optimizer.pt"


@pytest.mark.parametrize(
    ("row", "fault", "detail"),
    [
        ("train", Fault.KILL, "operation 0.6"),
        ("train", Fault.SIGTERM, "operation 0.5"),
        ("train", Fault.SIGINT, "operation 0.5"),
        ("train", Fault.FULL_DISK, "150 kB free"),
        ("check", Fault.MEMORY, "1 MB more"),
        ("init", Fault.READ_ONLY, "the folder"),
        ("restore", Fault.SECOND, "operation 0.5"),
        ("train", Fault.BETWEEN, cells.ROWS),
        ("check", Fault.DURING, f"{cells.ROWS} at operation 0.9"),
        ("train", Fault.TRUNCATED, CHECKPOINT),
        ("train", Fault.EMPTIED, CHECKPOINT),
        ("train", Fault.DELETED, CHECKPOINT),
        ("train", Fault.FLIPPED, CHECKPOINT),
        pytest.param("eval", Fault.SWAPPED, "runs/a-run/eval/base/report.json",
                     marks=pytest.mark.slow),
        ("plan", Fault.NO_BASE, "base"),
        ("train", Fault.OTHER_BASE, "base/model.safetensors"),
        ("plan", Fault.CACHE, "cache"),
        ("check", Fault.STREAMS, "stdout no reader"),
    ],
)  # fmt: skip
def test_a_command_survives_a_fault_or_explains_it(
    bench: Bench, row: str, fault: Fault, detail: str
) -> None:
    if "newest" in detail:
        saved = bench.stage("interrupted") / "runs" / "a-run" / "checkpoints"
        newest = max(saved.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
        detail = detail.replace("newest", newest.name)
    verdict = attempt(bench, row_named(row), fault, detail)
    if verdict.outcome is Outcome.SKIPPED:
        pytest.skip(verdict.reason)
    assert verdict.outcome is not Outcome.FAILED, verdict.reason


def test_every_command_that_works_on_files_is_a_row_of_the_table() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert {row.verb for row in ROWS_OF_TABLE} == commands - TAKES_NO_FILES


@pytest.mark.slow
@pytest.mark.parametrize("row", [row.name for row in ROWS_OF_TABLE])
def test_no_cell_of_a_command_fails(server: Server, tmp_path: Path, row: str) -> None:
    """Every fault of a row, and of each every ninth try."""
    bench = runner.Benches(server, tmp_path).of(row_named(row))
    results = [
        result
        for fault in faults_of(row_named(row))
        for result in runner.attempts(bench, row_named(row), fault, every=9)
    ]
    failures = [one for one in results if one.outcome is Outcome.FAILED]
    assert not failures, "\n".join(f"{f.fault} / {f.detail}: {f.reason}" for f in failures)


def tables_of(page: str) -> dict[tuple[str, str], str]:
    """Return the cells of the page's tables by command and fault."""
    found: dict[tuple[str, str], str] = {}
    columns: list[str] = []
    for line in page.splitlines():
        parts = [part.strip() for part in line.strip("|").split("|")]
        if line.startswith("| fault |"):
            columns = parts[1:]
        elif line.startswith("| ") and columns:
            found |= {(row, parts[0]): cell for row, cell in zip(columns, parts[1:], strict=True)}
    return found


@pytest.mark.skipif(
    not PAGE.is_file(),
    reason="not run to its end yet: python -m tests.faults.matrix --write docs/reliability.md",
)
def test_the_page_shows_every_command_under_every_fault_and_none_failed() -> None:
    shown = tables_of(PAGE.read_text(encoding="utf-8"))
    for row in ROWS_OF_TABLE:
        for fault in filter(lambda fault: table.applies(row, fault), Fault):
            cell = shown[row.name, fault.value]
            numbers = re.fullmatch(r"(\d+) / (\d+)", cell)
            assert numbers, f"{row.name} under {fault}: {cell}"
            assert sum(map(int, numbers.groups())) > 0
    for name, num_kills in (("train", 60), ("eval", 20), ("merge", 20), ("ship", 20)):
        assert shown[name, Fault.KILL.value].startswith(f"{num_kills} /")
