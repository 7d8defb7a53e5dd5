"""A run folder that ended, whole and made in seconds: for tests that then break it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval import harness
from eval.task import Report
from finetune import adapter as adapters
from finetune import checkpoint as checkpoints
from finetune import merge as merging
from finetune.config import AdapterConfig
from finetune.identity import identity
from finetune.quantization import dtype_name
from privacy.ledger import verify
from recipes import config, domains
from recipes.files import sha256_file, write_json
from recipes.gating import gate
from recipes.run import open_run
from tests import tiny
from tests.recipes.release.folders import edit, make_run


def make_finished(folder: Path, base: Path, *, is_private: bool = False, **sections: Any) -> Path:
    """Write a run that was trained, evaluated, merged and gated; its base lies beside its rows.

    Adapter and hashes are real. The "merged model" is the base itself, and the answers are made up.

    Returns:
        The run folder; ``base`` and the rows lie two folders up.
    """
    own = shutil.copytree(base, folder / "base")
    run = make_run(folder, own, is_private=is_private, noise=4.0, **sections)
    loaded = tiny.load_base(own, "nf4")
    adapters.save(
        tiny.as_if_trained(adapters.inject(loaded, AdapterConfig(rank=4, alpha=8.0))),
        loaded,
        run / "adapter",
    )
    made = merging.adapter_identity(run / "adapter")
    head = {"ledger_head": verify(run / "ledger.jsonl").head} if is_private else {}
    edit(run / "record.json", lambda r: r["training"].update(adapter=made, **head))
    weights = "model.safetensors"
    written = {weights: {"sha256": sha256_file(run / "merged" / weights), "bytes": 1}}
    edit(run / "merged" / "merge.json", lambda m: m.update(adapter=made, files=written))
    _evaluate_again(run, made, identity(own))
    opened = open_run(run)
    domain = domains.read(opened.recipe, opened.source)
    for kind in ("adapter", "merged"):
        gate(opened, domain, kind)
    return run


def _evaluate_again(run: Path, adapter: str, base: str) -> None:
    """Give every model of a run its report: that of the base asks the same items."""
    shutil.copytree(run / "eval" / "merged", run / "eval" / "adapter")
    (run / "eval" / "adapter" / "decision.json").unlink()
    dtype = dtype_name(checkpoints.compute_dtype())
    for kind in ("base", "adapter", "merged"):
        folder = run / "eval" / kind
        report = harness.read_report(folder)
        target = replace(
            report.target,
            kind=kind,  # type: ignore[arg-type]
            base=base,
            adapter=None if kind == "base" else adapter,
            merged=report.target.merged if kind == "merged" else None,
            quantization="none" if kind == "merged" else "nf4",
            dtype=dtype,
        )
        write_json(folder / "report.json", replace(report, target=target).to_json())
        cost = {"num_seconds": report.num_seconds, "num_tokens": 100}
        write_json(folder / "cost.json", cost | {"peak_memory_bytes": 1, "peak_cuda_bytes": None})


def moved(run: Path, to: Path) -> Path:
    """Copy a run with its rows and its base to another folder, which its documents then name."""
    old = run.parents[1]
    shutil.copytree(old, to, copy_function=shutil.copy2)
    copy = to / run.relative_to(old)
    for path in (copy / "record.json", copy / "resolved.yaml", to / "recipe.yaml"):
        path.write_text(path.read_text().replace(str(old), str(to)))
    resolved = copy / "resolved.yaml"
    resolved.write_text(config.dump(config.load(resolved)))  # lines of another length are folded
    return copy


def report_of(run: Path, kind: str) -> Report:
    """Return what a run's folder says of one of its models."""
    return Report.from_json(json.loads((run / "eval" / kind / "report.json").read_text()))
