"""A run that predicts, made in no time: an adapter with the values of a trained one, evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval import harness
from eval.task import Sample
from finetune import adapter as adapters
from finetune.merge import merge
from recipes import config, domains, provenance
from recipes.console import Narrator
from recipes.evaluating import evaluate_adapter, evaluate_merged
from recipes.files import write_json
from recipes.run import Run, base_folder
from recipes.training import load_base
from tests import tiny
from tests.cli import TASK, rows_of, write_recipe


def make_run(folder: Path, kind: str, base: Path, *, is_merged: bool = False, **more: Any) -> Path:
    """Write a run folder, evaluated on its test rows; recipe and rows lie beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = write_recipe(folder, kind, base, name="first", **more)
    recipe = config.load(file, ["base.quantization=none"])
    run = Run(recipe, folder / "runs" / "first", folder)
    run.folder.mkdir(parents=True)
    (run.folder / "resolved.yaml").write_text(config.dump(recipe))
    domain = domains.read(recipe, folder)
    loaded = load_base(run, base_folder(run), domain)
    model = tiny.as_if_trained(adapters.inject(loaded, recipe.adapter))
    adapters.save(model, loaded, run.folder / "adapter")
    record = provenance.begin(folder, recipe, loaded, domain.parts)
    write_json(run.folder / "record.json", record)
    evaluate_adapter(run, domain, Narrator())
    if is_merged:
        merge(base, run.folder / "adapter", run.folder / "merged")
        evaluate_merged(run, domain, Narrator())
    return run.folder


def evaluated(run: Path, kind: str, target: str = "adapter") -> dict[str, Sample]:
    """Return what the evaluation found, by the id of the row."""
    samples = harness.read_samples(run / "eval" / target, TASK[kind])
    return {sample.id: sample for sample in samples}


def unanswered(kind: str) -> list[dict[str, Any]]:
    """Return the rows of a run without what is to be predicted."""
    keep: Mapping[str, tuple[str, ...]] = {
        "classification": ("id", "text"),
        "qa": ("id", "context", "question"),
    }
    if kind == "chat":
        return [{"messages": row["messages"][:-1]} for row in rows_of(kind)]
    return [{key: row[key] for key in keep[kind]} for row in rows_of(kind)]
