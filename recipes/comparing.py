"""Several runs and their base, side by side on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval import harness
from eval.report import Page, render_html, render_markdown
from recipes import domains, page
from recipes.console import Narrator
from recipes.errors import InputError
from recipes.evaluating import differences, evaluate_adapter, evaluate_base, evaluate_merged
from recipes.files import locked, write_text
from recipes.run import open_run


def evaluate(folders: Sequence[Path], narrator: Narrator) -> dict[str, Any]:
    """Evaluate base, adapter and merged model of runs, as far as that is not done."""
    found: dict[str, Any] = {}
    for folder in folders:
        run = open_run(folder)
        domain = domains.read(run.recipe, run.source)
        with locked(run.folder):
            reports = {
                "base": evaluate_base(run, domain, narrator),
                "adapter": evaluate_adapter(run, domain, narrator),
            }
            if (run.folder / "merged").is_dir():
                reports["merged"] = evaluate_merged(run, domain, narrator)
        for kind, report in reports.items():
            found[f"{run.recipe.name}/{kind}"] = report.to_json()
    return found


def compare(folders: Sequence[Path], out: Path, narrator: Narrator) -> dict[str, Any]:
    """Write one page over runs that were made on the same base and the same test rows.

    Raises:
        InputError: if their bases, tasks or test rows differ, naming which.
    """
    runs = [open_run(folder) for folder in folders]
    evaluate(folders, narrator)
    first = runs[0]
    base = harness.read_report(first.folder / "eval" / "base")
    candidates = []
    for run in runs:
        own = harness.read_report(run.folder / "eval" / "base")
        if own.target != base.target:
            raise InputError(
                f"{run.folder} was trained on the base {own.target.base}, and {first.folder} on "
                f"{base.target.base}; only runs on one base can be compared"
            )
        if {n: t.data for n, t in own.tasks.items()} != {n: t.data for n, t in base.tasks.items()}:
            raise InputError(
                f"{run.folder} was evaluated on other rows or tasks than {first.folder}; give both "
                "the same recipe, data, split seed and eval settings"
            )
        domain = domains.read(run.recipe, run.source)
        against = differences(run, domain, "adapter")
        candidates.append(page.candidate(run, run.recipe.name, "adapter", against))
    compared = Page(
        title=" and ".join(run.recipe.name for run in runs),
        summary=f"{len(runs)} adapters and their base, asked the same items.",
        base_name="base",
        base=base,
        base_samples=page.samples(first, "base", base),
        candidates=tuple(candidates),
        provenance={"base identity": base.target.base},
    )
    write_text(out, render_html(compared))
    write_text(out.with_suffix(".md"), render_markdown(compared))
    narrator.say(f"wrote {out} and {out.with_suffix('.md')}")
    reports = {"base": base.to_json()} | {c.name: c.report.to_json() for c in candidates}
    between = {
        c.name: {
            task: {metric: asdict(d) for metric, d in by.items()}
            for task, by in c.differences.items()
        }
        for c in candidates
    }
    return {"page": str(out), "reports": reports, "differences": between}


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
    Console(highlight=False).print(table)


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "not asked"
    if figure["value"] is None:
        return "undefined"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] n={figure['n']}"
