"""What must stay true of the house: who imports whom, and the names that others rely on."""

from __future__ import annotations

import ast
import json
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
PACKAGES = ("eval", "finetune", "privacy", "recipes")
SOURCES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
ALL_FILES = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]

VERBS = {
    "audit",
    "check",
    "compare",
    "doctor",
    "eval",
    "gate",
    "init",
    "merge",
    "plan",
    "predict",
    "restore",
    "run",
    "schema",
    "ship",
    "train",
    "verify",
}
RECIPE_KEYS = {
    "name", "recipe", "base", "data", "adapter", "train", "privacy", "eval", "gate", "card",
}  # fmt: skip


def trees(files: list[Path]) -> Iterator[tuple[str, ast.AST]]:
    for file in files:
        yield str(file.relative_to(ROOT)), ast.parse(file.read_text(encoding="utf-8"))


def imported(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports, wherever it stands."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def test_no_import_hides_the_builtin_eval() -> None:
    """`import eval` and `import eval.x` bind the name eval; `from eval.x import y` does not."""
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees(ALL_FILES)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "eval"
        in (
            [(a.asname or a.name.partition(".")[0]) for a in node.names]
            if isinstance(node, ast.Import)
            else [a.asname or a.name for a in node.names]
        )
    ]
    assert not found


def test_nothing_is_imported_relatively() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees(ALL_FILES)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not found


def test_the_pillars_know_nothing_of_one_another_or_of_the_roof() -> None:
    """The import-linter contract of `make check`, told quickly; imports inside functions count."""
    found = []
    for name, tree in trees(SOURCES):
        home = name.partition("/")[0]
        allowed = {*PACKAGES} if home == "recipes" else {home}
        for node in ast.walk(tree):
            for module in imported(node):
                if module.partition(".")[0] in {*PACKAGES, "tests"} - allowed:
                    found.append(f"{name} imports {module}")
    assert not found


def test_every_folder_of_tests_is_a_package() -> None:
    """Else pytest may put tests/ on the path, and `eval` is the tests' folder of that name."""
    folders = {file.parent for file in (ROOT / "tests").rglob("*.py")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").is_file()]


def test_just_the_four_packages_are_built() -> None:
    from setuptools import find_packages

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = find_packages(str(ROOT), include=settings["packages"]["find"]["include"])
    assert {name.partition(".")[0] for name in found} == set(PACKAGES)
    folders = {
        str(file.parent.relative_to(ROOT)).replace("/", ".")
        for file in SOURCES
        if file.name == "__init__.py"
    }
    assert set(found) == folders
    missing = {str(p.parent.relative_to(ROOT)) for p in SOURCES} - {
        n.replace(".", "/") for n in found
    }
    assert not missing, "a folder of modules without __init__.py would not be built"


def test_data_files_are_built_too() -> None:
    """What the program reads beside its modules is named in the build's package data."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    built = {
        file
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for file in (ROOT / package).glob(pattern)
    }
    needed = {
        file
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and file.suffix != ".py" and "__pycache__" not in file.parts
    }
    assert not {str(file.relative_to(ROOT)) for file in needed - built}


def test_no_other_distribution_owns_a_package_of_ours() -> None:
    owners = metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, ["assay"])) == {"assay"}


def test_the_verbs_of_the_command_line_are_an_interface() -> None:
    from recipes.cli import app

    command = typer.main.get_command(app)
    assert set(getattr(command, "commands")) == VERBS  # noqa: B009 (typer ships its own click)


def test_the_keys_of_a_recipe_are_an_interface() -> None:
    from recipes.config import Recipe

    assert set(Recipe.model_fields) == RECIPE_KEYS


HELP = """
import json, sys
sys.argv = ["assay", "--help"]
from recipes.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "numpy", "pydantic", "ruamel")


def test_help_imports_nothing_heavy_and_lists_every_verb() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}
    assert not loaded & set(HEAVY)
    assert not [verb for verb in VERBS if f" {verb} " not in done.stdout]


def cpu_seconds_of(command: list[str]) -> float:
    """Return what a command and its children cost, whatever else the machine does meanwhile."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_answers_in_under_half_a_second(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "recipes.cli", *arguments]
    assert min(cpu_seconds_of(command) for _ in range(3)) < 0.5
