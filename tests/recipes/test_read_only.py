"""An archive: a run that cannot be written is compared, gated, shipped and audited where it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli import assay_here, state_of
from tests.recipes.finished import make_finished, moved
from tests.recipes.test_run_agreement import COMMANDS


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A run that ended. Read only."""
    return make_finished(tmp_path_factory.mktemp("finished") / "story", tiny_base)


@pytest.fixture
def archived(a_run: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it below which nothing can be written, by whatever this machine can do."""
    run = moved(a_run, tmp_path / "story")
    undo = _seal(run)
    try:
        yield run
    finally:
        undo()


def _seal(folder: Path) -> Callable[[], object]:
    """Make a folder read-only, for root too; skip where nobody can."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if not os.access(folder, os.W_OK):
        return lambda: [p.chmod(0o755) for p in [folder, *folder.rglob("*")] if p.is_dir()]
    chattr = shutil.which("chattr")
    if chattr and subprocess.run([chattr, "-R", "+i", folder], capture_output=True).returncode == 0:
        return lambda: subprocess.run([chattr, "-R", "-i", folder], check=True)
    pytest.skip("run by root, on a file system without chattr +i")


def test_it_is_gated_in_memory_and_says_that_nothing_was_written(archived: Path) -> None:
    before = state_of(archived)
    done = assay_here(*COMMANDS["gate"](archived), folder=archived.parents[1])
    assert (done.code, "PASSED  not written: " in done.out) == (0, True), done.err
    asked = ("--override", "accuracy/f1/at_least", "--by", "A. Lovelace", "--ticket", "QA-12")
    more = ("--reason", "a pilot of ten users, see the ticket", "--expires", "2999-12-31")
    done = assay_here("gate", archived, *asked, *more, folder=archived.parents[1])
    assert (done.code, "is read-only" in done.said) == (2, True), done.err
    assert state_of(archived) == before


def test_it_is_compared_and_evaluated_from_what_it_holds(archived: Path) -> None:
    before = state_of(archived)
    for verb in ("eval", "compare"):
        done = assay_here(*COMMANDS[verb](archived), folder=archived.parents[1])
        assert done.code == 0, (verb, done.err)
    assert (archived.parents[2] / "page.html").is_file()
    assert state_of(archived) == before


def test_it_is_shipped_verified_and_audited(archived: Path) -> None:
    release = archived.parents[2] / "release"
    for command in (COMMANDS["ship"](archived), ("verify", release), COMMANDS["audit"](archived)):
        done = assay_here(*command, folder=archived.parents[1])
        assert done.code == 0, (command, done.err)


@pytest.mark.parametrize("verb", ["merge", "run", "train"])
def test_what_would_write_into_it_says_so_first(archived: Path, verb: str) -> None:
    done = assay_here(*COMMANDS[verb](archived), folder=archived.parents[1])
    assert (done.code, "is read-only" in done.said) == (2, True), done.err


def test_an_evaluation_that_is_not_finished_is_told(a_run: Path, tmp_path: Path) -> None:
    run = moved(a_run, tmp_path / "story")
    (run / "eval" / "base" / "report.json").unlink()
    undo = _seal(run)
    try:
        done = assay_here(*COMMANDS["compare"](run), folder=run.parents[1])
    finally:
        undo()
    assert (done.code, "its evaluation of the base is not finished" in done.said) == (2, True)
