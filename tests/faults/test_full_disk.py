"""A disk that is full at any moment: one line, nothing half-written, and the same command goes on.

The disk is a small tmpfs, which only a superuser may mount.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes import exits
from tests import tiny
from tests.cli import Done, assay_here, state_of, write_recipe


class Disk:
    """A file system of its own, as small as a test wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, kilobytes: int) -> None:
        _mount("-o", f"remount,size={kilobytes}k", str(self.folder))

    def fill(self) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as stream:
            try:
                while stream.write(b"0" * 4096):
                    pass
            except OSError:
                pass

    def make_room(self) -> None:
        (self.folder / "filler").unlink()


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder))
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its base and recipe. Read only."""
    folder = tmp_path_factory.mktemp("finished")
    write_recipe(folder, "classification", tiny.make_base(folder / "base"))
    done = assay_here("run", "recipe.yaml", folder=folder)
    assert done.code == 0, done.err
    return folder


def check_told(done: Done, *words: str) -> None:
    """One line that says where, how much and the way out."""
    assert done.code == exits.INPUT, done.err
    assert "Traceback" not in done.err
    assert len(done.said.splitlines()) == 1, done.said
    assert " free" in done.said
    for word in words:
        assert word in done.said


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


@pytest.mark.slow
def test_a_run_on_a_disk_that_grows_ends_as_one_that_had_room(disk: Disk, finished: Path) -> None:
    """Each size is full at another moment: rows, checkpoints, evaluation, merge, report."""
    said: set[str] = set()
    sizes = [int(24 * 1.3**step) for step in range(40)]
    for size in sizes:
        disk.resize(size)
        done = assay_here("run", "recipe.yaml", "--runs", disk.folder / "runs", folder=finished)
        if done.code == 0:
            break
        check_told(done, str(disk.folder))
        assert hidden(disk.folder) == []
        said.add(done.said.partition("assay: ")[2].partition(" ")[0])
    assert done.code == 0, done.err
    assert len(said) > 2, said  # it was full at several moments
    for name in ("adapter", "merged"):
        mine, its = (runs / "runs" / "a-run" / name for runs in (disk.folder, finished))
        weights = "adapter_model.safetensors" if name == "adapter" else "model.safetensors"
        assert (mine / weights).read_bytes() == (its / weights).read_bytes()
    figures = [
        json.loads((runs / "runs/a-run/eval/merged/report.json").read_text())["tasks"]
        for runs in (disk.folder, finished)
    ]
    for tasks in figures:
        for task in tasks.values():
            task.pop("seconds", None)
            task.pop("cost", None)
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_a_private_run_on_a_disk_that_grows_keeps_a_ledger_that_holds(
    disk: Disk, tmp_path: Path, tiny_base: Path
) -> None:
    recipe = write_recipe(
        tmp_path, "classification", tiny_base, privacy={"epsilon": 8}, train={"batch_size": 12}
    )
    size = 24
    while True:
        disk.resize(size)
        done = assay_here("train", recipe, "--runs", disk.folder / "runs", folder=tmp_path)
        if done.code in (0, exits.BUDGET):  # steps that were lost are charged again
            break
        check_told(done, str(disk.folder))
        size = int(size * 1.3)
    disk.resize(10_000)
    assert assay_here("audit", disk.folder / "runs" / "a-run", folder=tmp_path).code in (0, 2)


@pytest.mark.slow
def test_a_release_is_whole_or_not_there(disk: Disk, finished: Path) -> None:
    run, size = finished / "runs" / "a-run", 16
    ship = ("ship", run, "-o", disk.folder / "release", "--unsigned")
    while (done := assay_here(*ship, folder=finished)).code:
        check_told(done, str(disk.folder))
        assert list(disk.folder.iterdir()) == []
        size = int(size * 1.3)
        disk.resize(size)
    assert hidden(disk.folder) == []
    assert assay_here("verify", disk.folder / "release", folder=finished).code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "leaves"),
    [
        (("init", "qa", "-o", "{disk}/qa.yaml"), "qa.yaml"),
        (("check", "recipe.yaml", "--html", "{disk}/check.html"), "check.html"),
        (("check", "recipe.yaml", "--fix", "{disk}/cleaned"), "cleaned"),
        (("compare", "runs/a-run", "-o", "{disk}/compare.html"), "compare.html"),
    ],
)
def test_every_verb_that_writes_says_that_the_disk_is_full_and_then_goes_on(
    disk: Disk, finished: Path, arguments: tuple[str, ...], leaves: str
) -> None:
    disk.resize(4000)
    disk.fill()
    command = [one.format(disk=disk.folder) for one in arguments]
    before = state_of(disk.folder)
    check_told(assay_here(*command, folder=finished), str(disk.folder))
    assert state_of(disk.folder) == before
    disk.make_room()
    done = assay_here(*command, folder=finished)
    assert done.code == 0, done.err
    assert (disk.folder / leaves).exists()
    assert hidden(disk.folder) == []


@pytest.mark.slow
def test_a_gate_on_a_full_disk_leaves_the_decision_that_was_there(
    disk: Disk, finished: Path
) -> None:
    disk.resize(8000)
    subprocess.run(["cp", "-a", str(finished / "runs"), str(disk.folder)], check=True)
    run = disk.folder / "runs" / "a-run"
    (run / "report.html").unlink()
    disk.fill()
    before = state_of(run)
    check_told(assay_here("gate", run, folder=finished), str(run))
    assert state_of(run) == before
    disk.make_room()
    assert assay_here("gate", run, folder=finished).code == 0
    assert (run / "report.html").is_file()
