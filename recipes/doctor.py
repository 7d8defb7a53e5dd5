"""What this machine has, and what is wrong with the installation."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from finetune.cache import NoCache, cache_folder
from finetune.cores import num_threads
from recipes.errors import Problem
from recipes.printing import Printer

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
        "machine": provenance.machine() | {"threads": num_threads()},
        "device": str(checkpoints.device()),
        "compute_dtype": dtype_name(checkpoints.compute_dtype()),
        "cache": _cache(),
        "problems": [str(problem) for problem in problems],
    }


def _cache() -> str:
    try:
        return str(cache_folder())
    except NoCache as error:
        return f"none: {error}"


def show_doctor(found: Mapping[str, Any]) -> None:
    """Print the machine for a person."""
    table = Table("", "", show_header=False, box=None)
    for key, value in (found["machine"] | {k: found[k] for k in found if k != "machine"}).items():
        table.add_row(key.replace("_", " "), str(value) if value != [] else "none")
    Printer().print(table)
