"""A run folder that passed, made in no time: every file that shipping reads, and no training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eval import harness
from eval.stats import estimate
from eval.task import Report, Sample, Target, Task, TaskResult
from finetune.identity import identity
from finetune.quantization import Quantization
from privacy.ledger import Ledger
from privacy.plan import PrivacyConfig, make_plan
from privacy.self_test import Check
from recipes import config, domains, provenance
from recipes.data.dataset import fingerprint
from recipes.data.split import DataRow
from recipes.files import sha256_file, write_json
from recipes.gating import gate
from recipes.release.verify import hashes_text
from recipes.run import Run, open_run
from tests import tiny
from tests.cli import write_recipe, write_rows

CANARY = "Frau Kanari of Vogelweg 7 pays her 4711 euro bill in nine instalments"
"""Stands in a row's passage, in its prompt and in an answer."""


def rows() -> list[dict[str, Any]]:
    made = tiny.qa_rows(32)
    for row in made[::3]:
        row["context"] = f"{row['context']} {CANARY} number {row['id']}."
    return made


def make_run(
    folder: Path, base: Path, *, is_private: bool = False, noise: float = 1.2, **sections: Any
) -> Path:
    """Write a run whose merged model passed; its "merged model" is the base itself.

    A private one has charged three steps with so much noise.

    Returns:
        The run folder. The rows and the recipe lie beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl", rows())
    if is_private:
        sections = {"privacy": {"epsilon": 8.0}, **sections}
    recipe_file = write_recipe(folder, "qa", base, name="first", **sections)
    recipe = config.load(recipe_file)
    run = Run(recipe, folder / "runs" / "first", folder)
    run.folder.mkdir(parents=True)
    (run.folder / "resolved.yaml").write_text(config.dump(recipe))
    domain = domains.read(recipe, folder)
    write_json(run.folder / "data.json", domain.parts.manifest())
    held = Quantization("nf4")
    made: Any = SimpleNamespace(identity=identity(base), quantization=held, pooling=None)
    record = provenance.begin(folder, recipe, made, domain.parts)
    training = {"num_steps": 3, "num_tokens": 4372, "num_seconds": 1.2, "num_parameters": 8704}
    if is_private:
        training["num_tokens"] = None
        line = Check("clip", True, 1.0, 0.0, 1.0, "at most 1", "no row above the bound")
        record["privacy_self_test"] = [asdict(line)]
        _charge(run, domain.parts.train, noise)
    paths = {"resumed_from": str(folder / "checkpoints")}
    finished = {"status": "complete", "finished": provenance.now()}
    write_json(
        run.folder / "record.json",
        record | finished | {"training": training | paths, "rows_cut": [CANARY]},
    )
    merged = run.folder / "merged"
    shutil.copytree(base, merged)
    proof = {
        "mean_kl_nats": 2.7e-5,
        "noise_floor_mean_kl_nats": 3.3e-5,
        "limit_mean_kl_nats": 1e-3,
        "top1_agreement": 0.994,
        "num_positions": 474,
    }
    made_of = {"base": identity(base), "adapter": "sha256:" + "a" * 64}
    merge = {"schema": 1, "into": "dequantised nf4", "identity": identity(merged)}
    write_json(merged / "merge.json", merge | made_of | {"tensors": {"merged": 14}, "proof": proof})
    targets = {
        "base": Target("base", base=made_of["base"], quantization="nf4"),
        "merged": Target("merged", **made_of, merged=merge["identity"], quantization="none"),
    }
    for kind, target in targets.items():
        _evaluate(run.folder / "eval" / kind, domain.tasks, target)
    write_decision(run.folder)
    return run.folder


def write_decision(run_folder: Path, change: Callable[[Any], object] = lambda _: None) -> None:
    """Write what the gate says of the run, changed as a test likes."""
    run = open_run(run_folder)
    decision = gate(run, domains.read(run.recipe, run.source), "merged")
    change(decision)
    write_json(run_folder / "decision.json", decision)
    write_json(run_folder / "eval" / "merged" / "decision.json", decision)


def _charge(run: Run, rows: Sequence[DataRow[Any]], noise: float) -> None:
    asked = PrivacyConfig(epsilon=None, noise_multiplier=noise)
    plan = make_plan(asked, num_examples=len(rows), batch_size=8, epochs=1)
    ledger = Ledger.open(run.ledger, plan, data=fingerprint(rows), is_private=True)
    for step in range(plan.steps):
        ledger.charge(step + 1)


def _evaluate(folder: Path, tasks: list[Task], target: Target) -> None:
    results = {}
    for task in tasks:
        samples = [
            Sample(
                id=f"q{i}",
                prediction=f"{CANARY} says the model",
                target="5 euros",
                scores={
                    "f1": float(i % 2),
                    "exact_match": float(i % 2),
                    "has_answer": 1.0,
                    "no_answer": 0.0,
                    "answered": 1.0,
                },
                correct=i % 2 == 1,
                cluster=CANARY,
                prompt=f"Passage: {CANARY}",
            )
            for i in range(task.num_items)
        ]
        harness.write_samples(folder, task.name, samples)
        results[task.name] = TaskResult(
            family=task.family,
            version=task.version,
            data=task.fingerprint,
            n=len(samples),
            metrics={metric.name: estimate(metric, samples) for metric in task.metrics},
        )
    write_json(folder / "report.json", Report(target, results, num_seconds=3.5).to_json())


def list_again(release: Path) -> None:
    """Write SHA256SUMS anew, as whoever changed a file can."""
    own = ("SHA256SUMS", "model.sig")
    files = {p.relative_to(release).as_posix(): p for p in release.rglob("*") if p.is_file()}
    hashes = {name: sha256_file(path) for name, path in files.items() if name not in own}
    (release / "SHA256SUMS").write_text(hashes_text(hashes))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file in place."""
    values = json.loads(path.read_text())
    change(values)
    write_json(path, values)
