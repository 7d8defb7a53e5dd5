"""The report as one HTML file: no network, no outside resource, nothing of the model's runs.

Three walls stand between a model's answer and the reader's browser. Every expression of every
template passes `text.clean` (by the environment's ``finalize``) and autoescape; no outside text
enters a script, a style, an address or a figure; and the content security policy allows the one
script whose hash it names, and no connection at all.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from eval.report import figures
from eval.report.bars import WIDTH
from eval.report.checks import verdict
from eval.report.comparison import compare, tasks
from eval.report.disagreements import Disagreements, disagreements
from eval.report.drawing import NUM_SERIES, Drawing, dash
from eval.report.examples import Examples, examples
from eval.report.judgements import FAMILIES
from eval.report.page import Candidate, Page
from eval.report.text import clean, clip, epsilon, number, scientific
from eval.report.tradeoff import letter, tradeoffs
from eval.task import Sample

_FAMILY_TITLES = {
    "accuracy": ("Accuracy", "How often the answers are right."),
    "bias": ("Bias", "Whether answers change with who is spoken of."),
    "hallucination": ("Hallucination", "Whether the model claims what nothing supports."),
}


@dataclass(frozen=True)
class Table:
    """Keys down, candidates across."""

    keys: tuple[str, ...]
    columns: tuple[tuple[str, int, tuple[str, ...]], ...]
    """Each candidate's name, index and values, in the keys' order."""


def render_html(page: Page) -> str:
    """Return the whole report as one self-contained HTML file.

    The same page gives the same bytes: no clock and no random identifier enters it.
    """
    script = _read("script.js")
    comparison = compare(page)
    verdicts = [verdict(candidate, index) for index, candidate in enumerate(page.candidates)]
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            page=page,
            policy=_policy(script),
            style=Markup(_read("style.css")),  # noqa: S704 (our own file)
            script=Markup(script),  # noqa: S704 (our own file)
            verdicts=verdicts,
            is_gated=any(v.word != "not asked" for v in verdicts),
            comparison=comparison,
            families=[(f, *_FAMILY_TITLES[f], comparison.families[f]) for f in FAMILIES],
            examples={} if page.pairs else {t: _examples(page, t) for t, _ in tasks(page)},
            curves={
                task: _curves(page, task, f"curve-{i}") for i, (task, _) in enumerate(tasks(page))
            },
            disagreements={task: _disagreements(page, task) for task, _ in tasks(page)},
            tradeoffs=tradeoffs(page) if page.pairs else [],
            is_private=any(candidate.privacy is not None for candidate in page.candidates),
            losses=figures.training_loss(
                [(i, c.losses, c.eval_losses) for i, c in enumerate(page.candidates)], "loss"
            ),
            settings=_settings(page.candidates),
            cost=_table(page.candidates, [c.cost for c in page.candidates]),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("eval.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clean": clean,
        "clip": clip,
        "epsilon": epsilon,
        "number": number,
        "scientific": scientific,
        "sort_key": _sort_key,
        "svg": _svg,
    }
    environment.globals |= {
        "bar_width": WIDTH,
        "num_series": NUM_SERIES,
        "dash": dash,
        "letter": letter,
    }
    return environment


def _finalize(value: object) -> object:
    """Clean every text that a template prints; what is markup already was cleaned before."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _svg(drawing: Drawing) -> Markup:
    return Markup(drawing.svg)  # noqa: S704 (drawn by us, without any outside text)


def _sort_key(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (resources.files("eval.report") / "templates" / name).read_text(encoding="utf-8").strip()


def _examples(page: Page, task: str) -> list[Examples]:
    base = page.base_samples.get(task, ())
    return [
        examples(candidate.name, index, base, candidate.samples[task])
        for index, candidate in enumerate(page.candidates)
        if base and candidate.samples.get(task)
    ]


def _disagreements(page: Page, task: str) -> Disagreements | None:
    if not page.pairs:
        return None
    samples: dict[int | None, Sequence[Sample]] = {None: page.base_samples.get(task, ())}
    samples |= {i: candidate.samples.get(task, ()) for i, candidate in enumerate(page.candidates)}
    return disagreements(samples)


def _curves(page: Page, task: str, key: str) -> list[Drawing]:
    models: list[tuple[int | None, Sequence[Sample]]] = [(None, page.base_samples.get(task, ()))]
    models += [(i, candidate.samples.get(task, ())) for i, candidate in enumerate(page.candidates)]
    drawings = [
        figures.reliability(models, f"{key}-reliability"),
        figures.risk_coverage(models, f"{key}-risk"),
    ]
    return [drawing for drawing in drawings if drawing is not None]


def _settings(candidates: Sequence[Candidate]) -> Table:
    """Keep the keys on which the candidates differ."""
    table = _table(candidates, [candidate.settings for candidate in candidates])
    kept = [
        i for i in range(len(table.keys)) if len({values[i] for _, _, values in table.columns}) > 1
    ]
    return Table(
        tuple(table.keys[i] for i in kept),
        tuple((name, j, tuple(values[i] for i in kept)) for name, j, values in table.columns),
    )


def _table(candidates: Sequence[Candidate], rows: Sequence[Mapping[str, str]]) -> Table:
    keys = tuple(dict.fromkeys(key for row in rows for key in row))
    return Table(
        keys,
        tuple(
            (candidate.name, i, tuple(row.get(key, "not set") for key in keys))
            for i, (candidate, row) in enumerate(zip(candidates, rows, strict=True))
        ),
    )
