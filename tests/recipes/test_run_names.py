"""Names of runs that one system would refuse are refused on each, as runs are passed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.policy import GatePolicy
from recipes import run
from recipes.errors import InputError
from tests.cli import write_recipe


@pytest.mark.parametrize("name", ["nul", "CON", "com1", "aux.v2", "first."])
def test_a_name_that_windows_refuses_is_refused_for_a_new_run(
    name: str, tmp_path: Path, tiny_base: Path
) -> None:
    recipe = write_recipe(tmp_path, "qa", tiny_base, name=name)
    with pytest.raises(InputError, match=r"name: .* cannot be a folder on Windows"):
        run.start(recipe, [], tmp_path / "runs", is_fresh=False)
    (tmp_path / "runs" / name).mkdir(parents=True)  # made before, where it could be
    assert run.start(recipe, [], tmp_path / "runs", is_fresh=False).folder.name == name


@pytest.mark.parametrize("name", ["nulls", "console", "com", "aux-2", "v1.0", "first"])
def test_names_that_only_look_like_those_of_devices_are_taken(
    name: str, tmp_path: Path, tiny_base: Path
) -> None:
    recipe = write_recipe(tmp_path, "qa", tiny_base, name=name)
    assert run.start(recipe, [], tmp_path / "runs", is_fresh=False).folder.name == name


@pytest.mark.parametrize(
    "name", ["..\\other.json", "a\\..\\..\\b.json", "\\\\host\\b.json", "/b.json", "~/b.json"]
)
def test_evidence_stays_in_the_run_folder_on_windows_too(name: str) -> None:
    with pytest.raises(ValueError, match="leaves the run folder"):
        GatePolicy(evidence=(name,))
