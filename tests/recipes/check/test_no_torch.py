"""`assay check` answers at once where the recipe or the file is at fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recipes import starter

PROGRAM = """
import sys
from recipes import cli
for command in sys.argv[1:]:
    sys.argv = ["assay", *command.split("|")]
    try:
        cli.main()
    except SystemExit as done:
        print("exit code", done.code)
print("loaded:", *sorted({"torch", "transformers", "sklearn"} & set(sys.modules)))
"""


def run(*commands: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *commands], check=True, capture_output=True, text=True
    )


@pytest.mark.slow
def test_an_empty_file_or_one_without_the_columns_is_named_without_torch(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "blank.csv").write_bytes(b"\n\n")
    (tmp_path / "other.csv").write_bytes(b"name,size\na,1\n")
    commands = []
    for recipe in starter.RECIPES:
        file = tmp_path / f"{recipe}.yaml"
        starter.write(recipe, file)
        for name in ("empty.csv", "blank.csv", "other.csv"):
            commands.append(f"check|{file}|--set|data.train={name}|--set|data.group=null")
    done = run(*commands)
    assert done.stdout.count("exit code 2") == 9
    assert done.stdout.count("ERROR  empty-file") == 6
    assert done.stdout.count("ERROR  missing-column") == 3
    assert done.stdout.endswith("loaded:\n")


@pytest.mark.slow
def test_an_unknown_key_is_named_and_a_recipe_written_for_a_file_without_torch(
    tmp_path: Path,
) -> None:
    rows = "".join(f"text {n} of a customer,{n % 3},C{n % 7}\n" for n in range(40))
    (tmp_path / "rows.csv").write_text(f"text,label,customer\n{rows}", encoding="utf-8")
    out = tmp_path / "r.yaml"
    done = run(
        f"init|classification|--data|{tmp_path / 'rows.csv'}|-o|{out}",
        f"check|{out}|--set|train.epoch=2",
    )
    assert "did you mean epochs?" in done.stderr
    assert done.stdout.count("exit code 0") == done.stdout.count("exit code 2") == 1
    assert done.stdout.endswith("loaded:\n")
