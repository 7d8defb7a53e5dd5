"""An inspection as one self-contained HTML page, in the style of the evaluation report."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes

from eval.report import drawing
from eval.report.text import clean
from recipes.check.inspection import Inspection
from recipes.check.lengths import Lengths
from recipes.data.findings import MOST_PLACES
from recipes.files import write_text

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""No script and no connection; matplotlib's drawings carry their styles in attributes."""

MOST_BARS = 40
"""Labels that are drawn; the table has all."""


def write(found: Inspection, name: str, path: Path) -> None:
    """Write the page of an inspection.

    Args:
        found: what was found.
        name: of the recipe.
        path: of the page.
    """
    write_text(path, render(found, name))


def render(found: Inspection, name: str) -> str:
    """Return the page; the same inspection gives the same bytes."""
    style = (resources.files("recipes") / "templates" / "check.css").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("check.html.jinja")
        .render(
            found=found,
            name=name,
            policy=POLICY,
            style=Markup(style),  # noqa: S704 (our own file)
            most_places=MOST_PLACES,
            figures=_figures(found),
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("recipes", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalize(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _figures(found: Inspection) -> list[tuple[str, Markup]]:
    """Return the plots, each with its caption. No text of the data is in them."""
    figures = []
    for part, lengths in (("train", found.train_lengths), ("test", found.test_lengths)):
        if lengths is not None:
            svg = drawing.svg(_histogram(lengths), f"lengths-{part}")
            caption = (
                f"Lengths of the {part} rows in tokens: median {lengths.median}, 95 % up to "
                f"{lengths.p95}, longest {lengths.longest}."
            )
            figures.append((caption, Markup(svg)))  # noqa: S704 (our own drawing)
    if found.labels:
        counts = sorted((parts["train"] for parts in found.labels.values()), reverse=True)
        svg = drawing.svg(_ranked(counts[:MOST_BARS]), "labels")
        caption = "Training rows by label, most frequent first; the table names them."
        figures.append((caption, Markup(svg)))  # noqa: S704 (our own drawing)
    return figures


def _histogram(lengths: Lengths) -> drawing.Draw:
    def draw(axes: Axes) -> None:
        ends = [end for end, _ in lengths.bins]
        width = ends[0]
        axes.bar(
            [end - width / 2 for end in ends],
            [count for _, count in lengths.bins],
            width=width * 0.92,
            color=drawing.colour(0),
        )
        axes.set_xlabel("tokens")
        axes.set_ylabel("rows")

    return draw


def _ranked(counts: list[int]) -> drawing.Draw:
    def draw(axes: Axes) -> None:
        axes.bar(range(1, len(counts) + 1), counts, color=drawing.colour(1))
        axes.set_xlabel("label, by frequency")
        axes.set_ylabel("training rows")

    return draw
