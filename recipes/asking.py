"""Many models, published sets: each base is loaded once, and its adapters are switched on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from eval import harness
from eval.model import LanguageModel
from eval.task import Report, Task
from finetune import adapter as adapters
from finetune import checkpoint as checkpoints
from finetune.config import CheckpointConfig
from finetune.quantization import dtype_name
from recipes import contaminated, sources
from recipes.console import Narrator
from recipes.errors import InputError
from recipes.evaluating import cache_of
from recipes.locks import locked
from recipes.targets import Asked, Loaded, Quantization, resolve

_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}

_QUANTIZATIONS: dict[str, Quantization] = {"nf4": "nf4", "none": "none"}

_PROBE = "The quick brown fox jumps over the lazy dog. Question: why? Answer:"


def run(
    targets: Sequence[Path],
    given: Sequence[str],
    out: Path,
    *,
    base: str | None,
    revision: str | None,
    quantization: str | None,
    dtype: str,
    max_items: int | None,
    num_threads: int | None,
    narrator: Narrator,
) -> dict[str, Any]:
    """Do what `assay eval --task` asks for; return the reports as JSON values, by target.

    Raises:
        InputError: if an option has a value that it cannot have.
    """
    if dtype not in _DTYPES:
        raise InputError(f"--dtype {dtype}: wanted {', '.join(_DTYPES)}")
    if quantization is not None and quantization not in _QUANTIZATIONS:
        raise InputError(f"--quantization {quantization}: wanted {', '.join(_QUANTIZATIONS)}")
    if not given:
        raise InputError("nothing to ask: add --task NAME=PATH, once for each set")
    checkpoints.prepare_cpu(num_threads)
    tasks = sources.read_tasks(given, max_items=max_items)
    named = None if base is None else CheckpointConfig(checkpoint=base, revision=revision)
    wanted = _QUANTIZATIONS[quantization] if quantization is not None else None
    asked = resolve(targets, named, quantization=wanted)
    precision = _DTYPES[dtype] or checkpoints.compute_dtype()
    reports = evaluate(asked, tasks, out, precision, narrator)
    for name in reports:
        sources.write(out / name, given, max_items)
    contaminated.report(asked, tasks, out, narrator)
    return {name: report.to_json() for name, report in reports.items()}


def evaluate(
    asked: Sequence[Asked],
    tasks: Sequence[Task],
    out: Path,
    precision: torch.dtype,
    narrator: Narrator,
) -> dict[str, Report]:
    """Ask each model each task; leave ``out/NAME/report.json`` and ``out/NAME/samples/``.

    What is there already, on the same weights and the same items, is not asked again.

    Raises:
        InputError: if an adapter changes nothing, so that its scores would be the base's.
    """
    reports: dict[str, Report] = {}
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        for on in dict.fromkeys(one.on for one in asked):
            members = [one for one in asked if one.on == on]
            reports |= _evaluate_on(on, members, tasks, out, precision, narrator)
    return {one.name: reports[one.name] for one in asked}


def _evaluate_on(
    on: Loaded,
    members: Sequence[Asked],
    tasks: Sequence[Task],
    out: Path,
    precision: torch.dtype,
    narrator: Narrator,
) -> dict[str, Report]:
    """Evaluate all that stands on one base, loading it once, or not at all if all is done."""
    dtype = dtype_name(precision)
    targets = {one.name: one.target(dtype) for one in members}  # hashes the adapter's files
    found = {name: harness.finished(tasks, target, out / name) for name, target in targets.items()}
    reports = {name: report for name, report in found.items() if report is not None}
    waiting = [one for one in members if one.name not in reports]
    if not waiting:
        return reports
    base = checkpoints.load(
        on.folder, quantization=on.quantization, dtype=precision, held_as=on.held_as
    )
    names = {one.name: f"adapter_{k}" for k, one in enumerate(waiting) if one.adapter is not None}
    folders = {names[one.name]: one.adapter for one in waiting if one.adapter is not None}
    model = adapters.attach(base, folders) if folders else base.model.eval()
    for one in waiting:
        if one.adapter is not None:
            _refuse_idle(model, names[one.name], base, one)
    for one in waiting:
        narrator.say(f"evaluating {one.name}: {', '.join(task.name for task in tasks)}")
        switch = adapters.active(model, names.get(one.name)) if folders else nullcontext()
        with switch, narrator.bars() as open_bar:
            target = targets[one.name]
            engine = LanguageModel(model, base.tokenizer, cache=cache_of(out / one.name, target))
            reports[one.name] = harness.evaluate(
                tasks,
                engine,
                target,
                out / one.name,
                progress=lambda name, total, one=one: open_bar(f"{one.name}: {name}", total),  # type: ignore[misc]
            )
    return reports


def _refuse_idle(model: Any, name: str, base: checkpoints.Base, asked: Asked) -> None:
    ids = base.tokenizer(_PROBE, add_special_tokens=False, return_tensors="pt")["input_ids"]
    if adapters.effect(model, name, ids.to(model.device)) == 0:
        raise InputError(
            f"the adapter {asked.adapter} changes no logit of its base, so its scores would be the "
            "base's; it was not trained, or its update was lost"
        )
