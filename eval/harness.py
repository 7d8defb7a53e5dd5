"""Runs tasks on a model and leaves a report: resumable, atomic, and comparable item by item."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from eval.control_tokens import plain
from eval.cost import COST, measured
from eval.errors import EvaluationError
from eval.stats import Difference, estimate, paired_difference
from eval.task import Estimate, Progress, Report, Sample, Target, Task, TaskResult

_REPORT = "report.json"
_PARTIAL = "report.partial.json"
_FILES = "files.json"
"""The hash of each file of a finished evaluation; earlier versions wrote none."""


def evaluate(
    tasks: Sequence[Task],
    model: Any,
    target: Target,
    folder: Path,
    *,
    progress: Callable[[str, int], Progress],
) -> Report:
    """Ask a model all tasks; write the samples of each, then the report.

    What the folder already holds on the same target, by the same version of a task on the same
    data, is not asked again, whether its run was finished or not. Answers within a task survive
    a kill by the model's own cache. Where nothing was known before, `eval.cost.Cost` is left
    beside the report.

    Args:
        tasks: in the order in which they are asked; each name once.
        model: what the tasks ask: an `eval.model.LanguageModel`, or one with ``probabilities``.
        target: what the model is made of, by content, so that other weights never pass for it.
        folder: for ``report.json`` and ``samples/<task>.jsonl``.
        progress: called with a task's name and number of items, to open its progress bar.

    Raises:
        EvaluationError: if a task cannot be asked or scored, or two have one name.
    """
    if len({task.name for task in tasks}) < len(tasks):
        raise EvaluationError("two tasks have one name, so their results would overwrite another")
    if done := finished(tasks, target, folder):
        return done
    known, _ = _known_results(folder, target)
    results = {
        task.name: known.tasks[task.name]
        for task in tasks
        if _is_answered(task, known.tasks.get(task.name), folder)
    }
    report = Report(target=target, tasks=results, num_seconds=known.num_seconds)
    is_in_one_go = not results and not len(getattr(model, "cache", ()))
    # first withdraw what is out of date: the samples beside it are about to change
    _write_report(folder / _PARTIAL, report)
    for name in (_REPORT, _FILES, COST):
        (folder / name).unlink(missing_ok=True)
    for task in tasks:
        if task.name in report.tasks:
            continue
        started = time.monotonic()
        samples = [
            replace(sample, prompt=plain(sample.prompt))
            for sample in task.ask(model, progress(task.name, task.num_items))
        ]
        write_samples(folder, task.name, samples)
        result = _result(task, samples)
        report = replace(
            report,
            tasks={**report.tasks, task.name: result},
            num_seconds=report.num_seconds + time.monotonic() - started,
        )
        _write_report(folder / _PARTIAL, report)
    report = _in_order(report, tasks)
    if is_in_one_go:
        cost = measured(report.num_seconds, getattr(model, "num_tokens", None))
        _write(folder / COST, json.dumps(asdict(cost)) + "\n")
    text = _text_of(report)
    hashes = {_REPORT: _sha256(text.encode())}
    for task in tasks:
        path = _samples_path(folder, task.name)
        hashes[path.relative_to(folder).as_posix()] = _sha256(path.read_bytes())
    _write(folder / _FILES, json.dumps(hashes, indent=1) + "\n")
    _write(folder / _REPORT, text)
    (folder / _PARTIAL).unlink()
    return report


def changed_files(folder: Path) -> list[str]:
    """Return the files of a finished evaluation whose bytes are not those that it wrote.

    One that is missing is not among them. None of an evaluation that is not finished, or that an
    earlier version made.

    Raises:
        EvaluationError: if their list cannot be read.
    """
    path = folder / _FILES
    if not (path.is_file() and (folder / _REPORT).is_file()):
        return []
    try:
        hashes = _HASHES.validate_json(path.read_bytes(), strict=True)
    except ValueError:
        raise EvaluationError(
            f"{path} is damaged; bring it back from a copy, or delete {folder} and evaluate again"
        ) from None
    found = {name: folder / name for name in hashes if (folder / name).is_file()}
    return [name for name, one in found.items() if _sha256(one.read_bytes()) != hashes[name]]


_HASHES = TypeAdapter(dict[str, str])


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def finished(tasks: Sequence[Task], target: Target, folder: Path) -> Report | None:
    """Return the report of an evaluation that needs no model any more, or None."""
    known, is_finished = _known_results(folder, target)
    is_same = known.tasks.keys() == {task.name for task in tasks}
    is_whole = all(_is_answered(task, known.tasks.get(task.name), folder) for task in tasks)
    return known if is_finished and is_same and is_whole else None


def read_report(folder: Path) -> Report:
    """Read the report of a finished evaluation.

    Raises:
        EvaluationError: if there is none, or it cannot be read.
    """
    report = _read_report(folder / _REPORT)
    if report is None:
        raise EvaluationError(f"{folder} holds no report that can be read; evaluate it first")
    return report


def read_samples(folder: Path, task_name: str) -> list[Sample]:
    """Read the samples of one task, in the items' order.

    Raises:
        EvaluationError: if there are none, or they cannot be read.
    """
    path = _samples_path(folder, task_name)
    try:
        with path.open(encoding="utf-8") as file:
            return [_sample(json.loads(line)) for line in file]
    except FileNotFoundError:
        raise EvaluationError(
            f"{folder} holds no samples of task {task_name}; evaluate it first"
        ) from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise EvaluationError(
            f"{path} is damaged ({error}); delete the folder and evaluate again"
        ) from error


def contradictions(tasks: Sequence[Task], folder: Path) -> list[str]:
    """Return in what a report does not follow from its samples and the tasks; empty if it does.

    Every figure, its interval and its n are computed again: the bootstrap is seeded, so a report
    that nobody edited comes out the same, to the last digits of the arithmetic.

    Args:
        tasks: those that the report may be about, on the data as they are now.
        folder: of a finished evaluation.

    Raises:
        EvaluationError: if report or samples are not there or cannot be read.
    """
    by_name, problems = {task.name: task for task in tasks}, []
    for name, said in read_report(folder).tasks.items():
        task = by_name.get(name)
        if task is None:
            problems.append(f"the report has a task {name}, which nobody asks")
            continue
        if (said.version, said.data) != (task.version, task.fingerprint):
            problems.append(
                f"task {name} was asked in version {said.version} on {said.data}, and is now in "
                f"version {task.version} on {task.fingerprint}"
            )
            continue
        samples = read_samples(folder, name)
        if len(samples) != task.num_items:
            problems.append(
                f"task {name}: {_samples_path(folder, name)} holds {len(samples)} samples, and the "
                f"task has {task.num_items} items"
            )
            continue
        seen = _result(task, samples)
        if (said.family, said.n) != (seen.family, seen.n):
            problems.append(
                f"task {name}: the report says {said.n} items of {said.family}, and there are "
                f"{seen.n} of {seen.family}"
            )
        if said.metrics.keys() != seen.metrics.keys():
            problems.append(f"task {name}: the report has other metrics than the task")
        problems += [
            f"{name}/{metric}: the report says {_shown(said.metrics[metric])}, and its items make "
            f"{_shown(found)}"
            for metric, found in seen.metrics.items()
            if metric in said.metrics and not _is_same(said.metrics[metric], found)
        ]
    return problems


def differences(
    tasks: Sequence[Task], candidate_folder: Path, base_folder: Path
) -> dict[str, dict[str, Difference]]:
    """Compare a candidate with the base, item by item: candidate minus base.

    Where the base was asked only some of a task's items, the candidate is compared on these.

    Returns:
        Metric by task. A task that one of the two was not asked is left out, which a gate that
        asks for the difference takes for a failure.

    Raises:
        EvaluationError: if either was not evaluated, a task's versions differ, or items of one
            id are not the same.
    """
    candidate, base = read_report(candidate_folder), read_report(base_folder)
    found: dict[str, dict[str, Difference]] = {}
    for task in tasks:
        if task.name not in candidate.tasks or task.name not in base.tasks:
            continue
        versions = candidate.tasks[task.name].version, base.tasks[task.name].version
        if versions != (task.version, task.version):
            raise EvaluationError(
                f"task {task.name} was asked in versions {versions[0]} (candidate) and "
                f"{versions[1]} (base), and is now in {task.version}; evaluate both again"
            )
        second = read_samples(base_folder, task.name)
        asked = {sample.id: sample.target for sample in second}
        first = [s for s in read_samples(candidate_folder, task.name) if s.id in asked]
        if changed := [s.id for s in first if s.target != asked[s.id]]:
            raise EvaluationError(
                f"task {task.name}: item {changed[0]!r} has another answer in the base's "
                "evaluation, so the data has changed; evaluate the base again"
            )
        found[task.name] = {
            metric.name: paired_difference(metric, first, second) for metric in task.metrics
        }
    return found


def _known_results(folder: Path, target: Target) -> tuple[Report, bool]:
    """Return what is known of this target, and whether it is from a run that was finished."""
    for name in (_REPORT, _PARTIAL):
        report = _read_report(folder / name)
        if report is not None and report.target == target:
            return report, name == _REPORT
    return Report(target=target, tasks={}), False


def _is_answered(task: Task, result: TaskResult | None, folder: Path) -> bool:
    return (
        result is not None
        and (result.version, result.data) == (task.version, task.fingerprint)
        and result.metrics.keys() == {metric.name for metric in task.metrics}
        and _samples_path(folder, task.name).exists()
    )


def _result(task: Task, samples: Sequence[Sample]) -> TaskResult:
    if len(samples) != task.num_items:
        raise EvaluationError(
            f"task {task.name} has {task.num_items} items and gave {len(samples)} samples"
        )
    return TaskResult(
        family=task.family,
        version=task.version,
        data=task.fingerprint,
        n=len(samples),
        metrics={metric.name: estimate(metric, samples) for metric in task.metrics},
        note=task.note,
    )


def _is_same(said: Estimate, seen: Estimate) -> bool:
    """Whether two estimates are one figure, computed on machines that may round otherwise."""
    pairs = ((said.value, seen.value), (said.low, seen.low), (said.high, seen.high))
    return (said.n, said.higher_is_better) == (seen.n, seen.higher_is_better) and all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))
        for a, b in pairs
    )


def _shown(figure: Estimate) -> str:
    return f"{figure.value:.6g} [{figure.low:.6g}, {figure.high:.6g}] on {figure.n} items"


def _in_order(report: Report, tasks: Sequence[Task]) -> Report:
    return replace(report, tasks={task.name: report.tasks[task.name] for task in tasks})


def _sample(values: Mapping[str, Any]) -> Sample:
    numbers = {key: tuple(values[key]) for key in ("loglikelihoods", "num_tokens")}
    return Sample(**{**values, **numbers})


def _samples_path(folder: Path, task_name: str) -> Path:
    return folder / "samples" / f"{task_name}.jsonl"


def _read_report(path: Path) -> Report | None:
    try:
        return Report.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_samples(folder: Path, task_name: str, samples: Sequence[Sample]) -> None:
    """Write the samples of one task, as `read_samples` reads them."""
    lines = [json.dumps(asdict(s), ensure_ascii=False, allow_nan=False) for s in samples]
    _write(_samples_path(folder, task_name), "".join(f"{line}\n" for line in lines))


def _write_report(path: Path, report: Report) -> None:
    _write(path, _text_of(report))


def _text_of(report: Report) -> str:
    return json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
