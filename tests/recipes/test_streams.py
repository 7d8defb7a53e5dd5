"""Closed, broken, full and narrow outputs: no traceback, and the exit code of the verb."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import ROOT

SCHEMA = f"{sys.executable} -m recipes.cli schema"
MISSING = f"{sys.executable} -m recipes.cli plan missing.yaml"


def shell(line: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    """Run a line of bash; the code is that of the first command of a pipe."""
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (f"{SCHEMA} | true", 141, ""),  # which is gone before there is a line
        (f"{SCHEMA} >&-", 0, ""),
        (f"{SCHEMA} >&- 2>&- <&-", 0, ""),
        (f"{SCHEMA} > /dev/full", 2, "assay: standard output cannot be written: no space"),
        (f"{SCHEMA} 2>&- > /dev/full", 2, ""),
        (f"{MISSING} | true", 2, "assay: there is no recipe file missing.yaml"),
        (f"{MISSING} 2>&-", 2, ""),
        (f"{MISSING} 2> /dev/full", 2, ""),
        (f"{MISSING} 2>&1 | true", 2, ""),
    ],
)
def test_an_output_that_cannot_be_written_ends_no_command(
    tmp_path: Path, line: str, code: int, said: str
) -> None:
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    found, _, err = shell(line, tmp_path, PYTHONUNBUFFERED="")
    assert found == code
    assert err.startswith(said)
    assert bool(err) == bool(said)


def test_an_output_without_a_buffer_is_no_other(tmp_path: Path) -> None:
    assert shell(f"{SCHEMA} | true", tmp_path, PYTHONUNBUFFERED="1") == (141, "", "")


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX"},
    ],
)
def test_what_an_encoding_lacks_is_written_as_an_escape(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "recipes.cli", "plan", "Prüfung.yaml"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"assay: there is no recipe file Pr")


def test_a_file_does_not_become_what_libraries_print_into(tmp_path: Path) -> None:
    """A file that is opened where standard output is closed would get its descriptor."""
    code = (
        "import os; from recipes.streams import resilient\n"
        "with resilient(), open('kept', 'w') as stream:\n"
        "    print('said'); os.write(1, b'printed by C'); stream.write('kept')"
    )
    line = f'{sys.executable} -c "{code}" >&-'
    assert shell(line, tmp_path)[0] == 0
    assert (tmp_path / "kept").read_text() == "kept"
