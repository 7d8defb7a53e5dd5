"""Scratch is gone whatever happens: after an error at once, after a kill with the next command."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetune import scratch

HOLD = """
import sys, time
from pathlib import Path
from finetune import scratch
with scratch.beside(Path(sys.argv[1])) as made:
    made.mkdir()
    (made / "weights").write_bytes(b"0" * 1000)
    print("held", flush=True)
    time.sleep(60)
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def holder_process(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "release")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_what_is_made_is_renamed_and_nothing_else_stays(tmp_path: Path) -> None:
    with scratch.beside(tmp_path / "deep" / "release") as made:
        assert not made.exists()
        made.mkdir()
        (made / "a").touch()
        made.rename(tmp_path / "deep" / "release")
    assert names_in(tmp_path / "deep") == ["release"]
    assert names_in(tmp_path / "deep" / "release") == ["a"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch.beside(tmp_path / "release") as made:
            made.mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names_in(tmp_path) == []


def test_a_signal_during_the_removal_leaves_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, calls = shutil.rmtree, list[int]()

    def interrupted(path: Path, **how: bool) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        remove(path, **how)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), scratch.beside(tmp_path / "release") as made:
        made.touch()
    assert names_in(tmp_path) == []


def test_scratch_of_a_living_process_stays_and_of_a_killed_one_goes_with_the_next(
    tmp_path: Path, holder_process: subprocess.Popen[str]
) -> None:
    try:
        with scratch.beside(tmp_path / "release"):
            assert len(names_in(tmp_path)) == 2
        assert len(names_in(tmp_path)) == 1
        holder_process.send_signal(signal.SIGKILL)
        holder_process.wait()
        assert len(names_in(tmp_path)) == 1
        with scratch.beside(tmp_path / "another"):  # whatever is made next
            assert len(names_in(tmp_path)) == 1
        assert names_in(tmp_path) == []
    finally:
        holder_process.kill()
        holder_process.wait()
        assert holder_process.stdout is not None
        holder_process.stdout.close()


def test_own_scratch_is_not_taken_for_dead(tmp_path: Path) -> None:
    with scratch.beside(tmp_path / "a") as first, scratch.beside(tmp_path / "a") as second:
        first.touch()
        second.touch()
        scratch.sweep_below(tmp_path.parent)
        assert first.is_file()
        assert second.is_file()


def test_nothing_without_our_mark_is_ever_removed(tmp_path: Path) -> None:
    other = tmp_path / ".release-abcdefgh"  # as ours are named
    other.mkdir()
    (other / "thesis.tex").touch()
    (tmp_path / ".release-empty000").mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / scratch.MARK).touch()
    (tmp_path / ".link").symlink_to(target)
    with scratch.beside(tmp_path / "release"):
        pass
    assert names_in(tmp_path) == [".link", ".release-abcdefgh", ".release-empty000", "target"]
    assert (other / "thesis.tex").is_file()
    assert (target / scratch.MARK).is_file()


@pytest.mark.parametrize("letter", ["a", "ä", "語", "🙂"])
def test_a_name_that_the_system_just_takes_has_scratch_too(tmp_path: Path, letter: str) -> None:
    path = tmp_path / (letter * (255 // len(letter.encode())))
    with scratch.beside(path) as made:
        made.write_text("x")
        made.rename(path)
    assert path.read_text() == "x"


def test_temporary_folders_are_swept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / ".assay-deaddead"
    dead.mkdir()
    (dead / scratch.MARK).touch()
    with scratch.elsewhere() as folder:
        assert names_in(folder) == []
        assert not dead.exists()
    assert names_in(tmp_path) == []
