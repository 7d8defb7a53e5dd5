"""What a run would do: rows, steps, memory, disk, privacy. No weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from recipes.config import Recipe
from recipes.printing import Printer


def plan(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return what a run would do: rows, steps, memory, disk, privacy."""
    from finetune import checkpoint as checkpoints
    from finetune.schedule import num_steps
    from recipes import domains, training

    domain = domains.read(recipe, folder)
    base_folder = checkpoints.resolve(recipe.base, folder)
    checkpoints.refuse_other_kinds(base_folder, domain.head)
    stored, size, merged = _sizes(base_folder)
    num_rows = len(domain.parts.train) + recipe.data.canaries
    planned: dict[str, Any] = {
        "rows": domain.parts.manifest()["rows"],
        "steps": num_steps(num_rows, recipe.train),
        "base_bytes_stored": stored,
        "base_bytes_16_bit": size,
        "base_bytes_loaded": size // 4 if recipe.base.quantization == "nf4" else size,
        "merged_bytes": merged,
        "tasks": [task.name for task in domain.tasks],
        "privacy": None,
    }
    if recipe.privacy:
        num_units = training.num_private_units(recipe, domain.parts.train)
        dp = training.private_plan(recipe, num_units)
        planned["steps"] = dp.steps
        planned["privacy"] = asdict(dp) | {"epsilon": dp.epsilon()}
    return planned


def _sizes(folder: Path) -> tuple[int, int, int]:
    """Return a base's bytes on disk, its bytes in 16 bits, and those of a model merged into it.

    One from a GGUF file is stored in float32, and a merge keeps what it does not change as it is.
    """
    from finetune.merge import linear_shapes
    from finetune.tensor_files import ITEM_BYTES, open_weights

    files = open_weights(folder)
    layers = linear_shapes(folder, files)
    entries = {name: entry for file in files for name, entry in file.entries.items()}
    halves = {n: e.num_bytes * 2 // ITEM_BYTES[e.dtype] for n, e in entries.items()}
    stored = {name: entry.num_bytes for name, entry in entries.items()}
    changed = {name for name in entries if name.removesuffix(".weight") in layers}
    merged = sum(halves[name] if name in changed else stored[name] for name in entries)
    return sum(stored.values()), sum(halves.values()), merged


def show_plan(planned: Mapping[str, Any]) -> None:
    """Print a plan for a person."""
    table = Table("", "", show_header=False, box=None)
    for name, count in planned["rows"].items():
        table.add_row(f"rows {name.replace('_', ' ')}", str(count))
    table.add_row("steps", str(planned["steps"]))
    table.add_row("base on disk", f"about {planned['base_bytes_stored'] / 1e6:.0f} MB")
    table.add_row("base in memory", f"about {planned['base_bytes_loaded'] / 1e6:.0f} MB")
    table.add_row("merged model on disk", f"about {planned['merged_bytes'] / 1e6:.0f} MB")
    table.add_row("tasks", ", ".join(planned["tasks"]))
    for name, value in (planned["privacy"] or {"privacy": "none"}).items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    Printer().print(table)
