"""A path that is too long is refused at once and in words, on every verb that takes one."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes import exits
from recipes.errors import InputError
from recipes.long_paths import MOST_BYTES, refuse_long
from tests.cli import assay_here, write_recipe

LONG = "n" * 300


@pytest.mark.parametrize("letter", ["n", "ä", "語"])
def test_a_name_is_as_long_as_its_bytes(tmp_path: Path, letter: str) -> None:
    most = (MOST_BYTES - 10) // len(letter.encode())
    refuse_long(tmp_path / (letter * most))
    with pytest.raises(InputError, match=r"its last name has 2.. bytes, and at most 245"):
        refuse_long(tmp_path / (letter * (most + 2)))
    with pytest.raises(InputError, match=r"a name in it has [3-9].. bytes, and at most 255"):
        refuse_long(tmp_path / (letter * 300) / "down")


def test_a_file_that_is_there_may_have_any_name_that_the_system_took(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    path.touch()
    refuse_long(path)


def test_a_whole_path_is_bounded_too(tmp_path: Path) -> None:
    refuse_long(tmp_path.joinpath(*["n" * 100] * 30))
    with pytest.raises(InputError, match=r"the whole has 4... bytes, and at most 3796"):
        refuse_long(tmp_path.joinpath(*["n" * 100] * 40))


@pytest.mark.parametrize(
    "arguments",
    [
        ("init", "qa", "-o", LONG),
        ("check", LONG),
        ("check", "recipe.yaml", "--html", LONG),
        ("check", "recipe.yaml", "--fix", LONG),
        ("train", "recipe.yaml", "--runs", LONG),
        ("run", "recipe.yaml", "--runs", f"{LONG}/runs"),
        ("eval", LONG),
        ("compare", "runs/a", "-o", LONG),
        ("gate", f"runs/{LONG}"),
        ("merge", "runs/a", "--serving-base", LONG),
        ("ship", "runs/a", "-o", LONG, "--unsigned"),
        ("verify", LONG),
        ("audit", "runs/a", "-o", LONG),
    ],
)
def test_every_verb_refuses_a_name_of_300_letters_before_anything_is_loaded(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = assay_here(*arguments, folder=tmp_path)
    assert done.code == exits.INPUT
    assert done.err == done.said
    assert len(done.said.splitlines()) == 1
    assert "is too long" in done.said
    assert "300 bytes" in done.said
    assert list(tmp_path.iterdir()) == []


def test_a_run_name_of_300_letters_is_refused_with_its_bound(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "qa", tmp_path / "no-base", name=LONG)
    done = assay_here("train", recipe, folder=tmp_path)
    assert done.code == exits.INPUT
    assert "name" in done.said
    assert "at most 80 characters" in done.said
    assert LONG not in done.said
    assert not (tmp_path / "runs").exists()


def test_a_data_path_of_300_letters_is_refused_in_words(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "qa", tmp_path / "no-base", data={"train": f"{LONG}.csv"})
    done = assay_here("train", recipe, folder=tmp_path)
    assert done.code == exits.INPUT
    assert len(done.said.splitlines()) == 1
    assert "too long" in done.said
