"""Verbs that are stopped, killed and starved for real, on a tiny base."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune.scratch import MARK
from recipes import exits
from tests import tiny
from tests.cli import ROOT, assay_here, state_of, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its base and recipe. Read only."""
    folder = tmp_path_factory.mktemp("finished")
    write_recipe(folder, "classification", tiny.make_base(folder / "base"))
    done = assay_here("run", "recipe.yaml", folder=folder)
    assert done.code == 0, done.err
    return folder


def begin(*arguments: object, folder: Path, before: str = "") -> subprocess.Popen[str]:
    code = f"{before}\nimport sys\nfrom recipes import cli\nsys.argv[0] = 'assay'\ncli.main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not list(path.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


# a release of a tiny model takes no time to be copied
SLOW_COPY = """
import shutil, time
copy = shutil.copyfile
def slowly(*given, **named):
    time.sleep(0.5)
    return copy(*given, **named)
shutil.copyfile = slowly
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_ship_that_is_stopped_leaves_nothing_or_what_the_next_one_removes(
    finished: Path, tmp_path: Path, name: str
) -> None:
    ship = ("ship", finished / "runs" / "a-run", "-o", tmp_path / "release", "--unsigned")
    process = begin(*ship, folder=tmp_path, before=SLOW_COPY)
    wait_for(tmp_path, f".release-*/{MARK}", process)
    wait_for(tmp_path, ".release-*/*/config.json", process)
    process.send_signal(signal.Signals[name])
    _, said = process.communicate(timeout=60)
    if name == "SIGKILL":
        assert process.returncode == -signal.SIGKILL
        assert len(list(tmp_path.iterdir())) == 1  # with weights in it
    else:
        assert process.returncode == 128 + signal.Signals[name]
        assert said.endswith(
            f"interrupted ({name}); a release is written whole or not at all; give the same "
            "command again\n"
        )
        assert list(tmp_path.iterdir()) == []
    done = assay_here(*ship, folder=tmp_path)
    assert done.code == 0, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


def test_a_run_that_is_stopped_at_many_moments_ends_as_one_that_was_not(
    finished: Path, tmp_path: Path
) -> None:
    command = ("run", finished / "recipe.yaml", "--runs", tmp_path)
    run = tmp_path / "a-run"
    for pattern in ("record.json", "checkpoints/checkpoint-*", "eval/*/cache.jsonl", ".merged*"):
        process = begin(*command, folder=finished)
        wait_for(run, pattern, process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 143, said
        assert "interrupted (SIGTERM); the same command goes on" in said
        assert "Traceback" not in said
        left = {path.name for path in run.rglob(".*")} - {".lock", ".merged.proved"}
        assert left == set()
    done = assay_here(*command, folder=finished)
    assert done.code == 0, done.err
    for weights in ("adapter/adapter_model.safetensors", "merged/model.safetensors"):
        assert (run / weights).read_bytes() == (finished / "runs/a-run" / weights).read_bytes()


# from the moment that the verb begins, the process may take so much more
STARVE = """
import resource
import finetune.checkpoint as checkpoints
load = checkpoints.load
def starved(*given, **named):
    import psutil
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MORE,) * 2)
    return load(*given, **named)
checkpoints.load = starved
"""


@pytest.mark.parametrize("more", [0, 1 << 20, 8 << 20])
@pytest.mark.parametrize("verb", ["train", "eval"])
def test_a_command_without_memory_says_so_in_a_line_and_then_goes_on(
    finished: Path, tmp_path: Path, verb: str, more: int
) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    run = tmp_path / "runs" / "a-run"
    if verb == "train":
        shutil.rmtree(run)
    else:
        shutil.rmtree(run / "eval")
    arguments = ("train", finished / "recipe.yaml", "--runs", run.parent)
    command = arguments if verb == "train" else ("eval", run)
    process = begin(*command, folder=finished, before=STARVE.replace("MORE", str(more)))
    _, said = process.communicate(timeout=240)
    if process.returncode == 0:
        pytest.skip(f"{more} bytes were enough")
    assert process.returncode == exits.INPUT, said
    assert "Traceback" not in said
    assert "there is no memory on this machine" in said.splitlines()[-1]
    assert assay_here(*command, folder=finished).code == 0
    assert run.is_dir()


def test_a_check_that_is_killed_leaves_its_source_alone(finished: Path, tmp_path: Path) -> None:
    before = state_of(finished)
    process = begin(
        "check", finished / "recipe.yaml", "--fix", tmp_path / "cleaned", folder=finished
    )
    wait_for(tmp_path, f".cleaned-*/{MARK}", process)
    process.kill()
    process.communicate()
    done = assay_here(
        "check", finished / "recipe.yaml", "--fix", tmp_path / "cleaned", folder=finished
    )
    assert done.code == 0, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["cleaned"]
    assert state_of(finished) == before
