"""Who is better on what, and by how much more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from eval.report.bars import Scale
from eval.report.cells import Cell, cell
from eval.report.judgements import FAMILIES, Judged, Judgement, Key, judge, num_comparisons
from eval.report.page import Candidate, Page
from eval.report.standings import Duel, Standing, duels, standings
from eval.report.text import interval, number
from eval.stats import Difference
from eval.task import Estimate, Family, TaskResult

_Judged = Mapping[Key, Judged]


@dataclass(frozen=True)
class WinsRow:
    """One metric, across all candidates."""

    family: Family
    task: str
    metric: str
    direction: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Tally:
    """How often one candidate is better, worse, or neither."""

    candidate: str
    index: int
    better: int
    worse: int
    perhaps: int
    undecided: int
    total: int


@dataclass(frozen=True)
class ModelRow:
    """One model's figure on one metric."""

    name: str
    index: int | None
    """None for the base."""

    value: str
    interval: str
    n: int | None
    cell: Cell | None
    """None for the base."""


@dataclass(frozen=True)
class MetricRows:
    """One metric: the base first, then each candidate."""

    name: str
    direction: str
    rows: tuple[ModelRow, ...]
    reach: str
    """Either end of the bars' scale, in the figure's unit."""


@dataclass(frozen=True)
class TaskView:
    """One task of a family section."""

    name: str
    note: str
    facts: tuple[str, ...]
    warnings: tuple[str, ...]
    metrics: tuple[MetricRows, ...]


@dataclass(frozen=True)
class Comparison:
    """All comparisons of a page."""

    wins: tuple[WinsRow, ...]
    tallies: tuple[Tally, ...]
    families: Mapping[Family, tuple[TaskView, ...]]
    num_comparisons: int
    standings: tuple[Standing, ...]
    """The base last."""

    duels: tuple[Duel, ...]


def compare(page: Page) -> Comparison:
    """Lay out all differences of a page, with a judgement on each (`judgements.judge`)."""
    judged = judge(page)
    rows = tuple(
        WinsRow(
            result.family,
            task,
            metric,
            direction(_higher_is_better(page, task, metric)),
            tuple(
                cell(judged.get((index, None, task, metric)))
                for index in range(len(page.candidates))
            ),
        )
        for task, result in tasks(page)
        for metric in _metrics(page, task)
    )
    tallies = tuple(
        _tally(candidate.name, index, [row.cells[index].judgement for row in rows])
        for index, candidate in enumerate(page.candidates)
    )
    families = {
        family: tuple(
            _task_view(page, task, result, judged)
            for task, result in tasks(page)
            if result.family == family
        )
        for family in FAMILIES
    }
    return Comparison(
        rows,
        tallies,
        families,
        num_comparisons(judged),
        standings(page, judged),
        duels(page, judged),
    )


def tasks(page: Page) -> Iterator[tuple[str, TaskResult]]:
    """Yield every task that any model answered, by family, in the order of the reports."""
    found: dict[str, TaskResult] = {}
    for report in (page.base, *(candidate.report for candidate in page.candidates)):
        for name, result in report.tasks.items():
            found.setdefault(name, result)
    for family in FAMILIES:
        yield from ((name, result) for name, result in found.items() if result.family == family)


def direction(higher_is_better: bool | None) -> str:
    """Say which way is better: ``up``, ``down`` or ``none``."""
    return {True: "up", False: "down", None: "none"}[higher_is_better]


def _difference(candidate: Candidate, task: str, metric: str) -> Difference | None:
    return candidate.differences.get(task, {}).get(metric)


def _tally(name: str, index: int, judgements: list[Judgement]) -> Tally:
    counted = [j for j in judgements if j not in ("descriptive", "not compared")]
    return Tally(
        name,
        index,
        better=counted.count("better"),
        worse=counted.count("worse"),
        perhaps=counted.count("perhaps better") + counted.count("perhaps worse"),
        undecided=counted.count("undecided") + counted.count("undefined"),
        total=len(counted),
    )


def _metrics(page: Page, task: str) -> list[str]:
    reports = (page.base, *(candidate.report for candidate in page.candidates))
    return list(
        dict.fromkeys(
            metric
            for report in reports
            if task in report.tasks
            for metric in report.tasks[task].metrics
        )
    )


def _higher_is_better(page: Page, task: str, metric: str) -> bool | None:
    for report in (page.base, *(candidate.report for candidate in page.candidates)):
        if task in report.tasks and metric in report.tasks[task].metrics:
            return report.tasks[task].metrics[metric].higher_is_better
    return None


def _task_view(page: Page, task: str, result: TaskResult, judged: _Judged) -> TaskView:
    models = [(page.base_name, page.base), *((c.name, c.report) for c in page.candidates)]
    warnings = tuple(
        f"{name} did not answer this task."
        if task not in report.tasks
        else f"{name} was asked other items (another version or other data): not comparable."
        for name, report in models
        if task not in report.tasks
        or (report.tasks[task].data, report.tasks[task].version) != (result.data, result.version)
    )
    facts = (f"{result.n:,} items", f"version {result.version}", f"data {_short(result.data)}")
    scales = _scales(page, task)
    return TaskView(
        task,
        result.note,
        facts,
        warnings,
        tuple(
            MetricRows(
                metric,
                direction(_higher_is_better(page, task, metric)),
                tuple(_model_rows(page, task, metric, judged, scales[metric])),
                number(scales[metric].high, 2),
            )
            for metric in _metrics(page, task)
        ),
    )


def _short(fingerprint: str) -> str:
    return fingerprint if len(fingerprint) <= 24 else fingerprint[:19] + "\u2026"


def _scales(page: Page, task: str) -> dict[str, Scale]:
    """Give each metric its scale: metrics that are shares have one in common within the task."""
    reports = (page.base, *(candidate.report for candidate in page.candidates))
    ends: dict[str, list[float]] = {}
    shares: list[str] = []
    for metric in _metrics(page, task):
        found = [_difference(candidate, task, metric) for candidate in page.candidates]
        ends[metric] = [end for d in found if d is not None for end in (d.low, d.high)]
        values = [
            report.tasks[task].metrics[metric].value
            for report in reports
            if task in report.tasks and metric in report.tasks[task].metrics
        ]
        if all(abs(value) <= 1 for value in values if math.isfinite(value)):
            shares.append(metric)
    common = [end for metric in shares for end in ends[metric]]
    return {m: Scale.around_zero(common if m in shares else ends[m]) for m in ends}


def _model_rows(
    page: Page, task: str, metric: str, judged: _Judged, scale: Scale
) -> Iterator[ModelRow]:
    yield _model_row(page.base_name, None, _estimate(page.base.tasks.get(task), metric), None)
    for index, candidate in enumerate(page.candidates):
        found = _estimate(candidate.report.tasks.get(task), metric)
        against_base = cell(judged.get((index, None, task, metric)), scale)
        yield _model_row(candidate.name, index, found, against_base)


def _estimate(result: TaskResult | None, metric: str) -> Estimate | None:
    return None if result is None else result.metrics.get(metric)


def _model_row(name: str, index: int | None, found: Estimate | None, cell: Cell | None) -> ModelRow:
    if found is None:
        return ModelRow(name, index, "not measured", "", None, cell)
    value, ends = interval(found.value, found.low, found.high)
    return ModelRow(name, index, value, ends, found.n, cell)
