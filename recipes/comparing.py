"""Several models and their base, side by side on one page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from eval.comparison import Evaluated, contradictions, every_pair, formulas
from eval.report import Page, Pair, render_html, render_markdown, to_json
from eval.task import Metric, Report, Task
from finetune import checkpoint as checkpoints
from recipes import page, sources
from recipes.console import Narrator
from recipes.contestants import Contest, Contestant, gather
from recipes.domains import Domain
from recipes.errors import InputError, RunDiffers
from recipes.evaluating import evaluate_adapter, evaluate_base, evaluate_merged
from recipes.files import is_read_only, write_json, write_text
from recipes.locks import locked_to_read
from recipes.printing import Printer
from recipes.run import Run, open_run, read_domain
from recipes.run_agreement import hold, hold_results, is_evaluated
from recipes.training import refuse_other_rows


def evaluate(folders: Sequence[Path], narrator: Narrator) -> dict[str, Any]:
    """Evaluate base, adapter and merged model of runs, as far as that is not done."""
    found: dict[str, Any] = {}
    for folder in folders:
        run = open_run(folder)
        for kind, report in _evaluate(run, narrator).items():
            found[f"{run.recipe.name}/{kind}"] = report.to_json()
    return found


def _evaluate(run: Run, narrator: Narrator) -> dict[str, Report]:
    """Evaluate what a run has, unless its base, its rows or one of its documents is another one."""
    base = checkpoints.resolve(run.recipe.base, run.source)
    with locked_to_read(run.folder):
        hold(run, kinds=(), base=base)
        domain = read_domain(run)
        refuse_other_rows(run, domain)
        kinds = ("base", "adapter", *(["merged"] if (run.folder / "merged").is_dir() else []))
        _refuse_unwritable(run, domain, kinds)
        reports = {kind: _EVALUATE[kind](run, domain, narrator) for kind in kinds}
        hold(run, base=base)
        hold_results(run, domain, kinds)
    return reports


_EVALUATE = {"base": evaluate_base, "adapter": evaluate_adapter, "merged": evaluate_merged}


def _finished(run: Run, narrator: Narrator) -> None:
    """See to it that base and adapter of a run are evaluated, and the results its own.

    A run that is finished needs neither its base nor a folder that can be written.
    """
    with locked_to_read(run.folder):
        hold(run)
        domain = read_domain(run)
        refuse_other_rows(run, domain)
        if is_done := all(is_evaluated(run, domain, kind) for kind in ("base", "adapter")):
            hold_results(run, domain, ("base", "adapter"))
    if not is_done:
        _evaluate(run, narrator)


def _refuse_unwritable(run: Run, domain: Domain, kinds: Sequence[str]) -> None:
    wanting = [kind for kind in kinds if not is_evaluated(run, domain, kind)]
    if wanting and is_read_only(run.folder):
        raise InputError(
            f"{run.folder} is read-only, and its evaluation of the {' and the '.join(wanting)} is "
            "not finished; copy it to a place that can be written, and evaluate it there"
        )


def compare(
    folders: Sequence[Path], out: Path, narrator: Narrator, tasks: Sequence[Task] = ()
) -> dict[str, Any]:
    """Write one page, as HTML, Markdown and JSON, over models on one base.

    Args:
        folders: run folders, folders of evaluations, and folders of these (`contestants.gather`).
        out: the HTML page; the others stand beside it.
        narrator: says what is going on.
        tasks: formulas of figures that are not means of what the samples hold.

    Raises:
        InputError: if they cannot be compared: other bases, quantisations or test rows.
        RunDiffers: if a run's documents name different things, or a report is not what its
            samples make.
        eval.errors.EvaluationError: if two were asked different items under one name.
    """
    contest = gather(folders, lambda run: _finished(run, narrator))
    compared = page_of(contest, tasks)
    found = to_json(compared)
    write_text(out, render_html(compared))
    write_text(out.with_suffix(".md"), render_markdown(compared))
    write_json(out.with_suffix(".json"), found)
    narrator.say(f"wrote {out}, {out.with_suffix('.md')} and {out.with_suffix('.json')}")
    between = {
        c.name: {
            task: {metric: asdict(d) for metric, d in by.items()}
            for task, by in c.differences.items()
        }
        for c in compared.candidates
    }
    return {"page": str(out), **found, "differences": between}


def page_of(contest: Contest, tasks: Sequence[Task] = ()) -> Page:
    """Compare every two models of a contest, and lay the page out."""
    own = [
        task
        for one in contest.candidates
        if one.run is not None
        for task in read_domain(one.run).tasks
    ]
    models = [contest.base.evaluated, *(one.evaluated for one in contest.candidates)]
    known = formulas(models, [*tasks, *own])
    problems: list[str] = []
    if known.unknown:
        found, problems = _read_again(
            [contest.base, *contest.candidates], {task for task, _ in known.unknown}
        )
        known = formulas(models, [*tasks, *own, *found])
    _refuse_edited([contest.base, *contest.candidates], models, known.metrics)
    pairs = every_pair(models, known.metrics)
    candidates = tuple(
        page.candidate(one.run, one.evaluated.name, "adapter", pairs[0, place])
        if one.run is not None
        else page.evaluated_alone(one.evaluated, one.folder, pairs[0, place])
        for place, one in enumerate(contest.candidates, 1)
    )
    names = [candidate.name for candidate in candidates]
    return Page(
        title=", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1],
        summary=f"{len(names)} {'model' if len(names) == 1 else 'models'} and their base, asked "
        "the same items.",
        base_name="base",
        base=contest.base.evaluated.report,
        base_samples=contest.base.evaluated.samples,
        candidates=candidates,
        provenance=_provenance(contest),
        pairs=tuple(
            Pair(j - 1, i - 1, differences)
            for (i, j), differences in sorted(pairs.items(), key=lambda item: item[0][::-1])
            if i > 0
        ),
        notes=_notes(known.unknown, problems),
    )


def _refuse_edited(
    contestants: Sequence[Contestant],
    models: Sequence[Evaluated],
    metrics: Mapping[str, Sequence[Metric]],
) -> None:
    """Refuse evaluations whose samples make other figures than their reports hold.

    Raises:
        RunDiffers: naming each.
    """
    problems = [
        f"  {one.folder}: {problem}"
        for one, model in zip(contestants, models, strict=True)
        for problem in contradictions(model, metrics)
    ]
    if problems:
        raise RunDiffers(
            "\n".join(
                [
                    "results are not what was measured:",
                    *problems,
                    "Nothing was written. Remove those folders, and evaluate again",
                ]
            )
        )


def _read_again(
    contestants: Sequence[Contestant], wanted: Collection[str]
) -> tuple[list[Task], list[str]]:
    """Read the sets that evaluations were asked, each once, and say which cannot be used."""
    tasks: dict[tuple[str, str], Task] = {}
    problems: dict[str, None] = {}
    for one in contestants:
        report = one.evaluated.report
        if all((name, r.data) in tasks for name, r in report.tasks.items() if name in wanted):
            continue
        found, said = sources.read(one.folder, report, wanted)
        tasks |= {(task.name, task.fingerprint): task for task in found}
        problems |= dict.fromkeys(said)
    return list(tasks.values()), list(problems)


def _provenance(contest: Contest) -> dict[str, str]:
    target = contest.base.evaluated.report.target
    loaded = {"quantization": target.quantization, "dtype": target.dtype}
    return {
        "base identity": target.base,
        **{f"base {what}": value for what, value in loaded.items() if value},
        **{
            one.evaluated.name: one.evaluated.report.target.merged
            or one.evaluated.report.target.adapter
            or "no identity recorded"
            for one in contest.candidates
        },
    }


def _notes(unknown: Sequence[tuple[str, str]], problems: Sequence[str]) -> tuple[str, ...]:
    if not unknown:
        return ()
    named = ", ".join(f"{task}/{metric}" for task, metric in unknown)
    return (
        f"Reported, and not compared: {named}. These figures are not means of scores that the "
        "samples hold, and the sets that say how they are computed were not at hand.",
        *problems,
    )


def show(result: Mapping[str, Any]) -> None:
    """Print reports side by side."""
    reports = result.get("reports", result)
    table = Table("task", "metric", *map(escape, reports))
    names = {
        (task, metric): None
        for report in reports.values()
        for task, result in report["tasks"].items()
        for metric in result["metrics"]
    }
    for task, metric in names:
        cells = []
        for report in reports.values():
            figure = report["tasks"].get(task, {"metrics": {}})["metrics"].get(metric)
            cells.append(_cell(figure))
        table.add_row(task, metric, *cells)
    Printer().print(table)


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "not asked"
    if figure["value"] is None:
        return "undefined"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] n={figure['n']}"
