"""A recipe as others may read it: file names in the place of paths."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from recipes.config import Recipe

_LOCAL = re.compile(r"(/|~|\.{1,2}/|[A-Za-z]:[\\/])")

_FREE = {
    "": ("name", "card", "gate", "eval"),
    "train": ("num_threads", "keep_checkpoints", "report_to"),
    "privacy": ("report",),
}
"""Keys by section that may change after training: a run may be gated by another policy or be asked
more tasks (its decision binds the one, its reports the others), and described in other words."""


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that a model was trained by, as its run's record keeps them."""
    return held_settings(public_recipe(recipe))


def held_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a public recipe without the keys that may change after training."""
    kept = {key: value for key, value in recipe.items() if key not in _FREE[""]}
    for section, free in _FREE.items():
        if isinstance(values := kept.get(section), dict):
            kept[section] = {k: v for k, v in values.items() if k not in free}
    return kept


def public_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the resolved recipe with file names instead of paths; the card stands elsewhere."""
    values: dict[str, Any] = json.loads(recipe.model_dump_json(exclude={"card"}))
    data = values["data"]
    for part in ("train", "test"):
        data[part] = [without_path(name) for name in data[part]] if data[part] else data[part]
    base = recipe.base
    values["base"]["checkpoint"] = public_checkpoint(base.checkpoint, revision=base.revision)
    return {key: _without_paths(value) for key, value in values.items()}


def without_path(name: str) -> str:
    r"""Return the last part of a path; a name inside a package or among the samples is kept whole.

    Example:
        >>> without_path("/home/anna/rows.jsonl"), without_path("sample:qa/handbook.jsonl")
        ('rows.jsonl', 'sample:qa/handbook.jsonl')
        >>> without_path("C:\\Users\\anna\\rows.csv")
        'rows.csv'
    """
    if name.startswith(("sample:", "package:")):
        return name
    return PureWindowsPath(PurePosixPath(name).name).name


def public_checkpoint(name: str, *, revision: str | None) -> str:
    """Return what a base is called: its id on the Hub, or a name without the path."""
    # a Hub id has a revision, and nothing else has: `models/acme` may be a folder of this machine
    return name if revision is not None else without_path(name)


def _without_paths(values: Any) -> Any:
    """Shorten every text that is a path of some machine, such as a budget's file."""
    if isinstance(values, str):
        return without_path(values) if _LOCAL.match(values) else values
    if isinstance(values, dict):
        return {key: _without_paths(value) for key, value in values.items()}
    return [_without_paths(value) for value in values] if isinstance(values, list) else values
