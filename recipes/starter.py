"""Commented recipe files to begin with."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from recipes.errors import InputError
from recipes.files import write_text

RECIPES = ("chat", "classification", "qa")


def write(recipe: str, out: Path) -> str:
    """Write the starting file of a recipe and say what to do next.

    Raises:
        InputError: if there is no such recipe, or the file exists.
    """
    if recipe not in RECIPES:
        raise InputError(f"there is no recipe {recipe!r}; choose one of {', '.join(RECIPES)}")
    if out.exists():
        raise InputError(f"{out} exists already; name another file with -o")
    text = (resources.files("recipes") / "presets" / f"{recipe}.yaml").read_text(encoding="utf-8")
    write_text(out, text)
    return f"wrote {out}; next: assay check {out}, then assay run {out}"
