"""A folder has one owner at a time, who is named, and whose lock ends with the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.scratch import MARK
from recipes.errors import InputError
from recipes.locks import HOLDER, locked

HOLD = """
import sys, time
from pathlib import Path
from recipes.locks import locked
with locked(Path(sys.argv.pop())):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_named_and_its_lock_ends_with_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, "train", str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        named = rf"{tmp_path}: assay train, process {process.pid} on .+, since 20\d\d-.+; wait"
        with pytest.raises(InputError, match=named), locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with locked(tmp_path):  # although the file of the killed one still names it
        assert f'"pid": {os.getpid()},' in (tmp_path / HOLDER).read_text()
    assert not (tmp_path / HOLDER).exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": 1', "\x00"])
def test_a_holder_that_cannot_be_read_is_not_named(tmp_path: Path, content: str) -> None:
    with locked(tmp_path):
        (tmp_path / HOLDER).write_text(content)
        with pytest.raises(InputError, match=r"is at work in [^:]+; wait"), locked(tmp_path):
            pass


def test_what_killed_processes_left_anywhere_in_the_folder_is_removed(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "eval" / "adapter"):
        dead = folder / ".record.json-abcdefgh"
        dead.mkdir(parents=True)
        (dead / MARK).touch()
        (dead / "record.json").write_text("{")
    with locked(tmp_path):
        assert not list(tmp_path.rglob("*record*"))
