"""macOS and Windows, imitated: every module starts, every verb runs, the results are the same.

No test ran on such a machine; `other_systems` says what an imitation cannot show.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune.scratch import MARK
from tests.cli import ROOT, assay_here, rows_of, state_of, write_recipe
from tests.faults import every_verb
from tests.faults.other_systems import REFUSED, System, fresh_modules
from tests.test_architecture import SOURCES

SYSTEMS: tuple[System, ...] = ("darwin", "win32")
OPTIONAL = {"lm_eval", "spacy", "llama_cpp", "mlflow", "fastapi", "playwright"}

HELD = """
import json, os, sys
from pathlib import Path
from tests.faults.other_systems import hold_files_as_windows_does
hold_files_as_windows_does(Path.cwd())
Path("file").write_text("x"); Path("other").write_text("x"); Path("folder").mkdir()
Path("folder/inside").write_text("x")
refused = {}
def attempt(name, what):
    try:
        what()
        refused[name] = False
    except OSError:
        refused[name] = True
with open("file") as stream:
    attempt("remove what is open", lambda: os.remove("file"))
    attempt("replace what is open", lambda: os.replace("other", "file"))
with open("folder/inside") as stream:
    attempt("move a folder of it", lambda: os.rename("folder", "elsewhere"))
attempt("rename onto a file", lambda: os.rename("other", "file"))
attempt("open a folder", lambda: os.open("folder", os.O_RDONLY))
attempt("link", lambda: os.symlink("file", "link"))
attempt("a colon in a name", lambda: open("a:b", "w"))
attempt("the name of a device", lambda: open("nul.txt", "w"))
attempt("replace what is closed", lambda: os.replace("other", "file"))
attempt("move a folder", lambda: os.rename("folder", "elsewhere"))
print(json.dumps(refused))
"""


def module_names() -> list[str]:
    parts = (file.relative_to(ROOT).with_suffix("").parts for file in SOURCES)
    return [".".join(part for part in one if part != "__init__") for one in parts]


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_module_can_be_imported(system: System) -> None:
    failed = {}
    with fresh_modules(system):
        for name in module_names():
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name not in OPTIONAL:
                    failed[name] = str(error)
            except (ImportError, AttributeError) as error:
                failed[name] = str(error)
            else:
                seen: Any = getattr(module, "sys", None)
                assert seen is None or seen.platform == system, "the imitation was passed by"
    assert not failed


@pytest.mark.parametrize("system", SYSTEMS)
def test_check_finds_the_same_rows(
    system: System, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(tmp_path, "classification", tiny_base)
    here = assay_here("check", "recipe.yaml", "--json", folder=tmp_path)
    with fresh_modules(system):
        from recipes import cli

        monkeypatch.setattr("tests.cli.cli", cli)
        there = assay_here("check", "recipe.yaml", "--json", folder=tmp_path)
    assert (here.code, there.code) == (0, 0), there.err
    assert there.json() == here.json()


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_process_is_forked(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries of macOS do not survive it, and Windows has none; the results are the same."""
    with fresh_modules(system):
        from recipes.check import workers

        monkeypatch.setattr(workers, "FEWEST_ROWS", 0)
        with workers.started(lambda rows: (os.getpid(), sum(rows)), 2 * workers.CHUNK) as results:
            found = [*results]
    assert {pid for _, (pid, _) in found} == {os.getpid()}
    assert sum(total for _, (_, total) in found) == sum(range(2 * workers.CHUNK))


def test_the_imitation_of_windows_minds_files_as_windows_does(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    allowed = {name for name, is_refused in json.loads(done.stdout).items() if not is_refused}
    assert allowed == {"replace what is closed", "move a folder"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every verb ran on the real system."""
    folder = tmp_path_factory.mktemp("here")
    every_verb.prepare(folder, "qa", rows_of("qa"))
    ended = every_verb.run_all(folder)
    assert not [one for one in ended if one.done.code], ended
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_verb_ends_as_on_linux(system: System, here: Path, tmp_path: Path) -> None:
    every_verb.prepare(tmp_path, "qa", rows_of("qa"))
    ended = every_verb.run_all(tmp_path, system)
    failed = {one.command: one.done.err[-2000:] for one in ended if one.done.code}
    assert not failed
    adapters = [f / "runs/a-run/adapter/adapter_model.safetensors" for f in (here, tmp_path)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    theirs, ours = (set(state_of(folder)) for folder in (tmp_path, here))
    assert {name for name in theirs if "/." not in name} == {n for n in ours if "/." not in n}
    made = [path.relative_to(tmp_path) for path in tmp_path.rglob("*")]
    assert not [path for path in made if path.name == MARK], "scratch was left behind"
    assert not [path for path in made if any(REFUSED.search(part) for part in path.parts)]
    assert len({str(path).casefold() for path in made}) == len(made)
