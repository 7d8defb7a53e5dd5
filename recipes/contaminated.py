"""What of a published set was trained on, and the scores with and without it.

Items that were trained on can be easier or harder than the others, so a difference between the two
scores is no proof; the base on the same items, which was not trained on these rows, is beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.errors import EvaluationError
from eval.harness import read_samples
from eval.stats import estimate
from eval.task import Estimate, Metric, Sample, Task
from recipes import documents, evidence
from recipes.console import Narrator
from recipes.data.contamination import KINDS, Overlap, find_overlaps, training_texts
from recipes.errors import InputError
from recipes.files import write_json
from recipes.run import open_run
from recipes.targets import Asked

CONTAMINATION = "contamination.json"

SCHEMA = 1


@dataclass(frozen=True)
class TwoScores:
    """A metric on the items that are in the training data, and on the others."""

    seen: Estimate
    unseen: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return both as JSON values, NaN as null."""
        return {"seen": _plain(self.seen), "unseen": _plain(self.unseen)}


def compare_scores(
    metrics: Sequence[Metric], samples: Sequence[Sample], overlap: Overlap
) -> dict[str, TwoScores]:
    """Compute metrics on the items that were trained on, and on the others.

    Returns:
        By metric; none where all items or no items were trained on. A metric that is undefined
        on one of the parts is left out.
    """
    seen = [sample for sample in samples if sample.id in overlap.items]
    unseen = [sample for sample in samples if sample.id not in overlap.items]
    found: dict[str, TwoScores] = {}
    if not seen or not unseen:
        return found
    for metric in metrics:
        try:
            found[metric.name] = TwoScores(estimate(metric, seen), estimate(metric, unseen))
        except EvaluationError:
            continue
    return found


def report(asked: Sequence[Asked], tasks: Sequence[Task], out: Path, narrator: Narrator) -> None:
    """Write `CONTAMINATION` beside each report whose training rows are known, and say what it has.

    Args:
        asked: models that were evaluated.
        tasks: that they were asked.
        out: folder of the results, with a folder for each model.
        narrator: says a line for each model, and each task that has items in the training data.
    """
    overlaps: dict[Path, tuple[list[Overlap], str]] = {}
    for one in asked:
        folder = _run_of(one)
        if folder is None:
            continue
        if folder not in overlaps:
            overlaps[folder] = _overlaps(folder, tasks)
        found, missing = overlaps[folder]
        path = out / one.name / CONTAMINATION
        if missing:
            narrator.say(f"{one.name}: not searched for test items in the training data: {missing}")
            write_json(path, {"schema": SCHEMA, "searched": False, "why": missing})
            continue
        base = next((o.name for o in asked if o.adapter is None and o.on == one.on), None)
        base = None if base == one.name else base
        by_name = {task.name: task for task in tasks}
        values: dict[str, Any] = {}
        for overlap in found:
            task = by_name[overlap.task]
            scores = _scores(task, out / one.name, overlap)
            values[task.name] = _values(overlap) | {
                "scores": {name: two.to_json() for name, two in scores.items()},
                "base_scores": {
                    name: two.to_json()
                    for name, two in (_scores(task, out / base, overlap) if base else {}).items()
                },
            }
            if overlap.matches:
                narrator.say(f"{one.name}: {_sentence(overlap, task.metrics, scores)}")
        if not any(overlap.matches for overlap in found):
            narrator.say(f"{one.name}: no item of these sets is in its training data")
        write_json(path, {"schema": SCHEMA, "searched": True, "tasks": values})


def _run_of(asked: Asked) -> Path | None:
    """Return the run folder that an adapter or merged model is in, if it is in one."""
    folder = (asked.adapter or asked.on.folder).resolve().parent
    return folder if (folder / "resolved.yaml").is_file() else None


def _overlaps(folder: Path, tasks: Sequence[Task]) -> tuple[list[Overlap], str]:
    """Return what the training rows of a run have of each task, or why that is not known."""
    try:
        run, record = open_run(folder), documents.record(folder)
    except InputError as error:
        return [], str(error)
    rows, missing = evidence.training_rows(run.recipe, run.source, record)
    return ([] if missing else find_overlaps(tasks, training_texts(rows))), missing


def _scores(task: Task, folder: Path, overlap: Overlap) -> Mapping[str, TwoScores]:
    if not overlap.matches:
        return {}
    return compare_scores(task.metrics, read_samples(folder, task.name), overlap)


def _values(overlap: Overlap) -> dict[str, Any]:
    return {
        "num_items": overlap.num_items,
        "num_found": len(overlap.matches),
        "items": {
            kind: {match.item: match.row for match in overlap.matches if match.kind == kind}
            for kind in KINDS
        },
    }


def _sentence(overlap: Overlap, metrics: Sequence[Metric], scores: Mapping[str, TwoScores]) -> str:
    headline = next((m.name for m in metrics if m.name in scores), None)
    if headline is None:
        return overlap.summary()
    two = scores[headline]
    return (
        f"{overlap.summary()}; {headline} {two.seen.value:.2f} on them and "
        f"{two.unseen.value:.2f} on the others"
    )


def _plain(figure: Estimate) -> dict[str, float | int | None]:
    numbers = {"value": figure.value, "low": figure.low, "high": figure.high}
    return {k: v if math.isfinite(v) else None for k, v in numbers.items()} | {"n": figure.n}
