"""Try every command of `assay` under every fault, and write the table of what came of it.

    python -m tests.faults.matrix --write docs/reliability.md
    python -m tests.faults.matrix --only train/SIGTERM --only "/full disk"

Results are kept in a file. A run that was stopped goes on, and what was tried on the same sources
is not tried twice, unless ``--again``.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.cli import ROOT
from tests.faults.matrix import runner, table
from tests.faults.matrix.processes import Server
from tests.faults.matrix.verdicts import Outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix")
    parser.add_argument("--only", action="append", default=[], metavar="ROW/FAULT")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=ROOT / ".matrix" / "results.jsonl")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="every N-th try of a cell"
    )
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--claims", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    if chosen.claims is not None:
        _work(chosen)
        return 0
    cells = runner.cells(chosen.only)
    if chosen.again:
        again = {(row.name, fault.value) for row, fault in cells}
        kept = [r for r in runner.read(chosen.results) if (r.row, r.fault) not in again]
        chosen.results.unlink(missing_ok=True)
        for result in kept:
            runner.keep(chosen.results, result)
    began = time.monotonic()
    _start_jobs(chosen)
    results = runner.read(chosen.results)
    _show(results, runner.version(), time.monotonic() - began)
    if chosen.write is not None:
        chosen.write.write_text(table.page(results), encoding="utf-8")
        print(chosen.write)
    return int(any(r.outcome is Outcome.FAILED for r in results))


def _start_jobs(chosen: argparse.Namespace) -> None:
    """Share the cells among processes; each takes the next that none has taken."""
    with tempfile.TemporaryDirectory() as claims:
        command = [sys.executable, "-m", "tests.faults.matrix", "--claims", claims]
        command += ["--results", str(chosen.results), "--every", str(chosen.every)]
        for one in chosen.only:
            command += ["--only", one]
        jobs = [subprocess.Popen(command, cwd=ROOT) for _ in range(chosen.jobs)]
        try:
            codes = [job.wait() for job in jobs]
        finally:
            for job in jobs:
                job.terminate()
                job.wait()
        if any(codes):
            raise SystemExit(f"a job ended with {codes}; the same command goes on")


def _work(chosen: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that disks are unmounted
    with Server() as server, tempfile.TemporaryDirectory(prefix="assay-matrix-") as scratch:
        benches = runner.Benches(server, Path(scratch))
        # the longest first, so that the jobs end together
        for row, fault in sorted(runner.cells(chosen.only), key=lambda cell: -cell[0].num_kills):
            claim = chosen.claims / f"{row.name} {fault.name}"
            try:
                claim.touch(exist_ok=False)
            except FileExistsError:
                continue
            done = runner.read(chosen.results)
            for result in runner.attempts(benches.of(row), row, fault, done, every=chosen.every):
                runner.keep(chosen.results, result)
                if result.outcome is Outcome.FAILED:
                    print(
                        f"FAILED {row.name} / {fault} / {result.detail}: {result.reason}",
                        flush=True,
                    )


def _show(results: Sequence[runner.Result], code: str, seconds: float) -> None:
    counted = Counter(result.outcome for result in results)
    stale = sum(result.code != code for result in results)
    print(
        f"{len(results)} tries: {', '.join(f'{n} {what}' for what, n in counted.items())}; "
        f"{stale} of them on other sources; {sum(r.cpu_seconds for r in results):.0f} s of "
        f"processor time in all, {seconds:.0f} s now"
    )


if __name__ == "__main__":
    sys.exit(main())
