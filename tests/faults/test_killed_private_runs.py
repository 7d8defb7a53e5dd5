"""kill -9 at thirty moments of a private run: what was spent is on record, and nothing twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from privacy import budget
from privacy.ledger import verify
from tests.faults.private_lives import the_plan

ROOT = Path(__file__).parents[2]
NUM_KILLS = 30


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_never_spends_unseen(
    tiny_base: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.faults.private_lives"]
    done = subprocess.run(
        [*command, str(tiny_base), str(tmp_path), str(NUM_KILLS)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lives = [
        tuple(map(int, line.split())) for line in (tmp_path / "lives").read_text().split("\n")[:-1]
    ]
    assert [code for code, _ in lives] == [-9] * NUM_KILLS + [0], done.stderr[-3000:]
    assert len({charged for _, charged in lives}) > 10, "the kills all fell before the first step"

    plan, summary = the_plan(), verify(tmp_path / "ledger.jsonl")  # the chain holds
    diary = (tmp_path / "diary").read_text().splitlines()
    noise = [line for line in diary if line.startswith("noise")]
    num_made = diary.count("step")

    # never below the truth: a noisy gradient that was made had been charged
    assert 0 < num_made <= summary.steps_charged == plan.steps
    assert summary.epsilon_spent >= plan.epsilon(num_made)
    # at most one charge a life was not used: the one that the kill fell upon
    assert summary.steps_charged - num_made <= NUM_KILLS
    assert len(set(noise)) == len(noise), "a noise draw was used twice"

    # the account of the data knows the run, once, and its last charge
    account = budget.read(tmp_path / "account.jsonl")
    assert [run.run for run in account.reservations] == [summary.hashes[0]]
    assert account.last_lines == {summary.hashes[0]: summary.head}

    # what was spent is what a run of as many steps spends, plus what was charged and lost
    last_step = int((tmp_path / "last_step").read_text())
    charged = Counter(summary.steps)
    assert sorted(charged) == list(range(1, max(charged) + 1))
    assert last_step == max(charged)
    num_lost = sum(times - 1 for times in charged.values())
    assert num_lost > 0
    assert summary.epsilon_spent == plan.epsilon(last_step + num_lost)
