"""Before a run: is the data fit to train on, what would the run do, and is the machine fit?"""

from __future__ import annotations

import importlib.metadata
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recipes.config import Recipe
from recipes.data import Checked
from recipes.errors import Problem


@dataclass(frozen=True)
class Checkup:
    """What was found in a recipe's data; the errors have been raised instead."""

    rows: Mapping[str, int]
    labels: Mapping[str, int]
    """Training rows by label; empty where rows have none."""

    median_tokens: int
    longest_tokens: int
    supervised_share: float
    """Share of the training tokens that is learned."""

    num_cut: int
    """Rows whose learned tokens are cut, which the recipe allows."""

    shown: Sequence[tuple[str, Sequence[tuple[str, bool]]]]
    """Examples: row id, and runs of learned and not learned text."""

    near_duplicates: Mapping[str, Any] | None = None
    """Private recipes: texts that stand in several units of privacy, counts and row ids."""

    def to_json(self) -> dict[str, Any]:
        """Return the check-up as JSON values."""
        return asdict(self)


def check(recipe: Recipe, folder: Path, *, num_shown: int) -> Checkup:
    """Read and encode a recipe's data as training would, without loading weights.

    Raises:
        InputError: with every row that cannot be used, or whose stop token is not learned.
    """
    from finetune import checkpoint as checkpoints
    from finetune.encoding import marked
    from recipes import domains

    domain = domains.read(recipe, folder)
    base_folder = checkpoints.resolve(recipe.base)
    checkpoints.refuse_other_kinds(base_folder, domain.head)
    tokenizer = checkpoints.load_tokenizer(base_folder, prompt=recipe.adapter.prompt)
    stops = checkpoints.stop_ids_of(base_folder, tokenizer)
    rows = [*domain.parts.train, *domain.parts.validation]
    examples = [domain.encode(row.item, tokenizer, stops) for row in rows]
    domains.refuse_unfit(rows, examples, recipe.train)
    lengths = [len(e.input_ids) for e in examples]
    is_chat = domain.head == "causal-lm"
    learned = sum(e.num_supervised for e in examples) / sum(lengths) if is_chat else 1.0
    return Checkup(
        rows=domain.parts.manifest()["rows"],
        labels=dict(sorted(Counter(row.label for row in rows if row.label).items())),
        median_tokens=round(statistics.median(lengths)),
        longest_tokens=max(lengths),
        supervised_share=learned,
        num_cut=sum(e.num_cut > 0 for e in examples),
        shown=[
            (e.id, marked(tokenizer, e) if is_chat else [(tokenizer.decode(e.input_ids), False)])
            for e in examples[:num_shown]
        ],
        near_duplicates=_near_duplicates(recipe, domain.parts.train) if recipe.privacy else None,
    )


def _near_duplicates(recipe: Recipe, rows: Sequence[Checked[Any]]) -> dict[str, Any]:
    from recipes.near_duplicates import near_duplicates
    from recipes.training import private_units

    return near_duplicates(rows, private_units(recipe, rows)).to_json()


def show(found: Checkup) -> None:
    """Print a check-up for a person."""
    console = Console(highlight=False)
    table = Table("", "", show_header=False, box=None)
    for name, count in found.rows.items():
        table.add_row(f"rows {name.replace('_', ' ')}", str(count))
    table.add_row("tokens a row", f"median {found.median_tokens}, longest {found.longest_tokens}")
    table.add_row("tokens learned", f"{found.supervised_share:.1%}")
    table.add_row("rows cut", str(found.num_cut))
    console.print(table)
    alike = found.near_duplicates
    if alike and alike["num_near"]:
        console.print(
            f"{alike['num_near']} rows stand, word for word ({alike['num_exact']}) or nearly "
            f"(Jaccard {alike['threshold']:g} of {alike['words_per_shingle']}-word shingles), in "
            f"more than one unit of privacy, one text in up to {alike['largest_family']}: whoever "
            "wrote it is protected less. --json lists the row ids"
        )
    if found.labels:
        most = max(found.labels.values())
        balance = Table("label", "training rows", "", box=None)
        for label, count in found.labels.items():
            balance.add_row(Text(label), str(count), "#" * math.ceil(20 * count / most))
        console.print(balance)
    for name, runs in found.shown:
        console.print(Text(f"\n{name}: learned text is marked [[ ]]", style="dim"))
        line = Text()
        for text, is_learned in runs:
            line.append(f"[[{text}]]" if is_learned else text, "bold green" if is_learned else "")
        console.print(line)
    console.print("\nthe data is fit to train on")


def plan(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return what a run would do: rows, steps, memory, disk, privacy."""
    from finetune import checkpoint as checkpoints
    from recipes import domains, training

    domain = domains.read(recipe, folder)
    base_folder = checkpoints.resolve(recipe.base)
    checkpoints.refuse_other_kinds(base_folder, domain.head)
    size = sum(p.stat().st_size for p in base_folder.glob("*.safetensors"))
    num_rows = len(domain.parts.train) + recipe.data.canaries
    per_epoch = math.ceil(num_rows / recipe.train.batch_size)
    planned: dict[str, Any] = {
        "rows": domain.parts.manifest()["rows"],
        "steps": max(1, round(per_epoch * recipe.train.epochs)),
        "base_bytes_16_bit": size,
        "base_bytes_loaded": size // 4 if recipe.base.quantization == "nf4" else size,
        "merged_bytes": size,
        "tasks": [task.name for task in domain.tasks],
        "privacy": None,
    }
    if recipe.privacy:
        num_units = training.num_private_units(recipe, domain.parts.train)
        dp = training.private_plan(recipe, num_units)
        planned["steps"] = dp.steps
        planned["privacy"] = asdict(dp) | {"epsilon": dp.epsilon()}
    return planned


def show_plan(planned: Mapping[str, Any]) -> None:
    """Print a plan for a person."""
    table = Table("", "", show_header=False, box=None)
    for name, count in planned["rows"].items():
        table.add_row(f"rows {name.replace('_', ' ')}", str(count))
    table.add_row("steps", str(planned["steps"]))
    table.add_row("base in memory", f"about {planned['base_bytes_loaded'] / 1e6:.0f} MB")
    table.add_row("merged model on disk", f"about {planned['merged_bytes'] / 1e6:.0f} MB")
    table.add_row("tasks", ", ".join(planned["tasks"]))
    for name, value in (planned["privacy"] or {"privacy": "none"}).items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    Console(highlight=False).print(table)


PACKAGES = ("finetune", "recipes", "eval", "privacy")


def doctor() -> dict[str, Any]:
    """Return what this machine has, and what is wrong with the installation."""
    from finetune import checkpoint as checkpoints
    from finetune.quantization import dtype_name
    from recipes import provenance

    owners = importlib.metadata.packages_distributions()
    problems = [
        Problem(name, f"installed by {', '.join(sorted(set(owners[name])))}; keep assay alone")
        for name in PACKAGES
        if len(set(owners.get(name, ()))) > 1
    ]
    return {
        "machine": provenance.machine(),
        "device": str(checkpoints.device()),
        "compute_dtype": dtype_name(checkpoints.compute_dtype()),
        "cache": str(checkpoints.cache_folder()),
        "problems": [str(problem) for problem in problems],
    }


def show_doctor(found: Mapping[str, Any]) -> None:
    """Print the machine for a person."""
    table = Table("", "", show_header=False, box=None)
    for key, value in (found["machine"] | {k: found[k] for k in found if k != "machine"}).items():
        table.add_row(key.replace("_", " "), str(value) if value != [] else "none")
    Console(highlight=False).print(table)
