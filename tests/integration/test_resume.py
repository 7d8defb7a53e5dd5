"""A run that was killed and started again ends with the adapter of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from finetune.resume import newest_whole
from tests.integration.train_slowly import NUM_STEPS, train_it

ROOT = Path(__file__).parents[2]


@contextmanager
def started(
    base: Path, folder: Path, head: str, hold_at: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.integration.train_slowly"]
    process = subprocess.Popen(
        [*command, str(base), str(folder), head, str(hold_at)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _step(folder: Path) -> int:
    path = folder / "step"
    return int((path.read_text() if path.is_file() else "") or 0)


def _kill_after(process: subprocess.Popen[bytes], folder: Path, step: int) -> None:
    """Kill -9 in the step after ``step``, whose work is then lost."""
    deadline = time.monotonic() + 240  # most of it is importing, on a busy machine
    while _step(folder) <= step:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("head", ["chat", "classification"])
def test_a_killed_run_ends_with_the_same_adapter_bit_for_bit(
    tiny_base: Path, tmp_path: Path, head: str
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    wanted = train_it(tiny_base, whole, head)
    assert wanted.num_steps == NUM_STEPS

    with started(tiny_base, cut, head, hold_at=7) as process:
        _kill_after(process, cut, 6)
    assert not (cut / "adapter").exists()
    assert newest_whole(cut / "checkpoints", has_random_state=True).checkpoint is not None

    # what a kill in the middle of the next save would have left
    torn = cut / "checkpoints" / f"checkpoint-{NUM_STEPS + 1}"
    torn.mkdir()
    (torn / "adapter_model.safetensors").write_bytes(b"half")

    with started(tiny_base, cut, head) as process:
        assert process.wait(timeout=240) == 0
    assert not torn.exists()

    def bytes_of(folder: Path) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (folder / "adapter").iterdir()}

    assert bytes_of(cut) == bytes_of(whole)

    def lines(folder: Path, key: str) -> list[tuple[int, float]]:
        read = map(json.loads, (folder / "training.jsonl").read_text().splitlines())
        return [(line["step"], line[key]) for line in read if key in line]

    # every step is told once, with the same numbers, and the resumed run began where it said
    assert [step for step, _ in lines(cut, "loss")] == list(range(1, NUM_STEPS + 1))
    assert lines(cut, "loss") == lines(whole, "loss")
    assert lines(cut, "eval_loss") == lines(whole, "eval_loss")


def test_other_seeds_end_with_other_adapters(tiny_base: Path, tmp_path: Path) -> None:
    """Else the test above holds nothing."""
    made = []
    for seed in (0, 1):
        train_it(tiny_base, tmp_path / str(seed), "chat", seed=seed)
        made.append((tmp_path / str(seed) / "adapter/adapter_model.safetensors").read_bytes())
    assert made[0] != made[1]
