"""Every pair of models on the same items, from what their evaluations left on disk.

A comparison has the reports and the samples, and often not the data that the tasks were made of.
So it finds each figure's formula again: from the tasks where they are at hand, and otherwise as
the one mean of per-item scores that gives every model's reported value back. A figure that is no
such mean and has no task beside it is left out and named, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from eval.errors import EvaluationError
from eval.stats import Difference, mean_of, paired_difference
from eval.task import Estimate, Metric, Report, Sample, Task

Differences = Mapping[str, Mapping[str, Difference]]
"""By task, then by metric."""

_Mean = tuple[str, str | None]  # the score, and the one that says which items count

_SAME = 1e-9  # a mean taken again differs by its order of summation, not by an item


@dataclass(frozen=True)
class Evaluated:
    """One model as its evaluation left it."""

    name: str
    report: Report
    samples: Mapping[str, Sequence[Sample]]
    """By task."""


@dataclass(frozen=True)
class Formulas:
    """How the figures of each task are computed, and which of them nobody knows how."""

    metrics: Mapping[str, Sequence[Metric]]
    """By task."""

    unknown: Sequence[tuple[str, str]]
    """Task and metric."""


def formulas(models: Sequence[Evaluated], tasks: Sequence[Task] = ()) -> Formulas:
    """Find how each reported figure is computed.

    Args:
        models: all that are to be compared.
        tasks: those that are at hand; they are believed before the samples are searched. One of
            another version than the reports' is not used.
    """
    known = {
        (task.name, task.version, metric.name): metric for task in tasks for metric in task.metrics
    }
    metrics: dict[str, list[Metric]] = {}
    unknown: list[tuple[str, str]] = []
    for (task_name, name), version in _reported(models).items():
        metric = known.get((task_name, version, name)) or _mean_behind(task_name, name, models)
        if metric is None:
            unknown.append((task_name, name))
        else:
            metrics.setdefault(task_name, []).append(metric)
    return Formulas(metrics, unknown)


def contradictions(model: Evaluated, metrics: Mapping[str, Sequence[Metric]]) -> list[str]:
    """Return where a report is not what its samples make, by formulas that are known apart from it.

    Args:
        model: as its evaluation left it.
        metrics: by task, those whose formulas a task gives; a mean that was found because it gives
            a report's value back says nothing against that report.
    """
    problems = []
    for task, result in model.report.tasks.items():
        samples = list(model.samples.get(task, ()))
        if len(samples) != result.n:
            problems.append(
                f"{task}: the report is on {result.n} items, and {len(samples)} lie there"
            )
            continue
        for metric in metrics.get(task, ()):
            said = result.metrics.get(metric.name)
            if said is None or not samples:
                continue
            seen = metric.compute(samples)
            is_same = math.isclose(seen, said.value, rel_tol=_SAME, abs_tol=_SAME)
            if not is_same and not (math.isnan(seen) and math.isnan(said.value)):
                problems.append(
                    f"{task}/{metric.name}: the report says {said.value:.6g}, and its items make "
                    f"{seen:.6g}"
                )
    return problems


def every_pair(
    models: Sequence[Evaluated], metrics: Mapping[str, Sequence[Metric]]
) -> dict[tuple[int, int], Differences]:
    """Compare every two models; the key ``(i, j)`` with i < j holds model j minus model i.

    Raises:
        EvaluationError: if two were asked different items under one name.
    """
    return {
        (i, j): paired(models[j], models[i], metrics)
        for i, j in combinations(range(len(models)), 2)
    }


def paired(
    first: Evaluated, second: Evaluated, metrics: Mapping[str, Sequence[Metric]]
) -> dict[str, dict[str, Difference]]:
    """Return first minus second on the same items, for every task that both were asked.

    Where one was asked only some of the other's items, both are compared on these.

    Raises:
        EvaluationError: if a task's versions, items or wanted answers differ.
    """
    found: dict[str, dict[str, Difference]] = {}
    for task, wanted in metrics.items():
        if task not in first.report.tasks or task not in second.report.tasks:
            continue
        a, b = _same_items(task, first, second)
        found[task] = {metric.name: paired_difference(metric, a, b) for metric in wanted}
    return found


def _same_items(
    task: str, first: Evaluated, second: Evaluated
) -> tuple[list[Sample], list[Sample]]:
    versions = first.report.tasks[task].version, second.report.tasks[task].version
    if versions[0] != versions[1]:
        raise EvaluationError(
            f"task {task} was asked in version {versions[0]} of {first.name} and in version "
            f"{versions[1]} of {second.name}; evaluate both again"
        )
    a, b = ({s.id: s for s in model.samples.get(task, ())} for model in (first, second))
    if not (a.keys() <= b.keys() or b.keys() <= a.keys()) or not (a and b):
        raise EvaluationError(
            f"task {task}: {first.name} and {second.name} were asked other items "
            f"({len(a.keys() & b.keys())} in common of {len(a)} and {len(b)}); evaluate both on "
            "the same file"
        )
    common = [key for key in a if key in b]
    changed = [
        key
        for key in common
        if a[key].target != b[key].target or len(a[key].num_tokens) != len(b[key].num_tokens)
    ]
    if changed:
        raise EvaluationError(
            f"task {task}: item {changed[0]!r} is not the same item for {first.name} and "
            f"{second.name}, so the data has changed; evaluate both again"
        )
    return [a[key] for key in common], [b[key] for key in common]


def _reported(models: Sequence[Evaluated]) -> dict[tuple[str, str], int]:
    """Return every task and metric that any model has, with the task's version."""
    return {
        (task, metric): result.version
        for model in models
        for task, result in model.report.tasks.items()
        for metric in result.metrics
    }


def _mean_behind(task: str, name: str, models: Sequence[Evaluated]) -> Metric | None:
    """Return the mean of per-item scores that gives back this figure of every model."""
    having = [
        (model.report.tasks[task].metrics[name], list(model.samples.get(task, ())))
        for model in models
        if task in model.report.tasks and name in model.report.tasks[task].metrics
    ]
    direction = having[0][0].higher_is_better
    keys = sorted({key for _, samples in having for s in samples for key in s.scores})
    for mean in ((name, None), (name, f"has_{name}")):
        if all(_gives(mean, *one) for one in having):
            return Metric(name, mean_of(mean[0], among=mean[1]), direction)
    fitting = [mean for mean in _means(keys) if all(_gives(mean, *one) for one in having)]
    samples = [sample for _, found in having for sample in found]
    if not fitting or not all(_same_terms(fitting[0], other, samples) for other in fitting[1:]):
        return None  # none fits, or several that are not the same
    return Metric(name, mean_of(fitting[0][0], among=fitting[0][1]), direction)


def _means(keys: Sequence[str]) -> Iterator[_Mean]:
    for key in keys:
        yield key, None
        yield from ((key, among) for among in keys if among != key)


def _gives(mean: _Mean, reported: Estimate, samples: Sequence[Sample]) -> bool:
    if not samples:
        return False
    try:
        values, counts = mean_of(mean[0], among=mean[1]).terms(samples)
    except EvaluationError:
        return False
    if not counts.any():
        return math.isnan(reported.value)
    value = float(values.sum() / counts.sum())
    is_close = math.isclose(value, reported.value, rel_tol=_SAME, abs_tol=_SAME)
    return is_close and int(counts.sum()) == reported.n


def _same_terms(one: _Mean, other: _Mean, samples: Sequence[Sample]) -> bool:
    a, a_counts = mean_of(one[0], among=one[1]).terms(samples)
    b, b_counts = mean_of(other[0], among=other[1]).terms(samples)
    return bool((a == b).all() and (a_counts == b_counts).all())
