"""Curves as inline SVG, drawn by matplotlib, that follow the page's colours in light and dark.

No text from outside enters a figure: curves are told apart by the colour and the dash that the
page's legend shows beside each name. So nothing here needs to be escaped.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.stats import clopper_pearson
from eval.task import Sample

NUM_SERIES = 6
"""Colours before they repeat."""

MIN_BIN_ITEMS = 5
"""A reliability point of fewer items is noise, and is left out."""

_NUM_BINS = 10
_INK, _RULE = "#010203", "#040506"
_SERIES = ["#0a0b0c", *(f"#0d0e{i:02x}" for i in range(NUM_SERIES))]
_COLOURS = {
    _INK: "currentColor",
    _RULE: "var(--rule)",
    _SERIES[0]: "var(--series-base)",
    **{_SERIES[i + 1]: f"var(--series-{i})" for i in range(NUM_SERIES)},
}
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1, 1.5), (6, 2, 1, 2), (3, 1), (8, 3))
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.0,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Drawing:
    """One figure: SVG made by us alone, with words for those who do not see it."""

    svg: str
    title: str
    caption: str
    models: tuple[int | None, ...]
    """Whose curves it holds, for the legend; None is the base."""


@dataclass(frozen=True)
class Curve:
    """One model's samples or losses, with its place in the page's colours."""

    index: int | None
    points: Sequence[tuple[float, float]]
    spread: Sequence[tuple[float, float]] = ()
    """The interval of each point; empty where none is drawn."""

    is_held_out: bool = False


def reliability(models: Sequence[tuple[int | None, Sequence[Sample]]], key: str) -> Drawing | None:
    """Draw how often answers given with some confidence were right (DeGroot and Fienberg 1983).

    Args:
        models: each model's place in the page's colours, and its samples.
        key: unique within the page; prefixes the ids inside the figure.

    Returns:
        The figure; None if no bin of any model holds `MIN_BIN_ITEMS` items with a confidence.
    """
    curves = [_reliability_curve(index, samples) for index, samples in models]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, dashes=(2, 3), alpha=0.6)
        for curve in curves:
            if len(curves) <= 3:
                for (x, _), (low, high) in zip(curve.points, curve.spread, strict=True):
                    axes.plot([x, x], [low, high], color=_colour(curve), linewidth=1.0, alpha=0.5)
            _plot(axes, curve, marker="o")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="share right")

    caption = (
        "On the dotted line, confidence means what it says; below it, the model is overconfident. "
        f"Each point is a tenth of the scale with at least {MIN_BIN_ITEMS} items"
        + ("; the thin lines are 95 % intervals." if len(curves) <= 3 else ".")
    )
    models_drawn = tuple(curve.index for curve in curves)
    return Drawing(_svg(draw, key), "Reliability", caption, models_drawn)


def risk_coverage(
    models: Sequence[tuple[int | None, Sequence[Sample]]], key: str
) -> Drawing | None:
    """Draw the share of wrong answers among the most confident ones (El-Yaniv and Wiener 2010).

    Items of equal confidence are answered together, so the curve does not depend on their order.
    """
    curves = [Curve(index, _risk_points(samples)) for index, samples in models]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return None

    def draw(axes: Axes) -> None:
        for curve in curves:
            _plot(axes, curve, marker="o" if len(curve.points) < 3 else "")
        axes.set(xlim=(0, 1), xlabel="share of items answered", ylabel="share wrong")
        axes.set_ylim(bottom=0)

    caption = (
        "If the model answers only where it is most confident, this share of its answers is "
        "wrong. Lower is better; a curve that rises to the right shows a useful confidence."
    )
    return Drawing(
        _svg(draw, key), "Risk and coverage", caption, tuple(curve.index for curve in curves)
    )


def training_loss(
    runs: Sequence[tuple[int, Sequence[tuple[int, float]], Sequence[tuple[int, float]]]], key: str
) -> Drawing | None:
    """Draw each candidate's training loss, and its loss on held-out rows as dots, by step."""
    curves = []
    num_not_finite = 0
    for index, losses, eval_losses in runs:
        for series, is_held_out in ((losses, False), (eval_losses, True)):
            points = [(float(step), loss) for step, loss in series if math.isfinite(loss)]
            num_not_finite += len(series) - len(points)
            if points:
                curves.append(Curve(index, points, is_held_out=is_held_out))
    if not curves:
        return None

    def draw(axes: Axes) -> None:
        for curve in curves:
            _plot(axes, curve, marker="o" if curve.is_held_out or len(curve.points) < 3 else "")
        axes.set(xlabel="step", ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))

    caption = "Loss by optimizer step."
    if any(curve.is_held_out for curve in curves):
        caption += " Dots: held-out rows."
    if num_not_finite:
        caption += f" {num_not_finite} logged values were not finite and are not drawn."
    drawn = tuple(dict.fromkeys(curve.index for curve in curves))
    return Drawing(_svg(draw, key, width=6.6), "Training loss", caption, drawn)


def dash(index: int | None) -> str:
    """Return a model's dash as an SVG ``stroke-dasharray``, for the legend."""
    dashes = () if index is None else _DASHES[index % len(_DASHES)]
    return " ".join(f"{length * 2:g}" for length in dashes) or "none"


def _confident(samples: Sequence[Sample]) -> list[tuple[float, bool]]:
    return [
        (sample.scores["confidence"], sample.correct)
        for sample in samples
        if sample.correct is not None and math.isfinite(sample.scores.get("confidence", math.nan))
    ]


def _reliability_curve(index: int | None, samples: Sequence[Sample]) -> Curve:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_NUM_BINS)]
    for confidence, correct in _confident(samples):
        place = min(_NUM_BINS - 1, max(0, int(confidence * _NUM_BINS)))
        bins[place].append((confidence, correct))
    filled = [found for found in bins if len(found) >= MIN_BIN_ITEMS]
    points, spread = [], []
    for found in filled:
        num_right = sum(correct for _, correct in found)
        points.append((sum(c for c, _ in found) / len(found), num_right / len(found)))
        spread.append(clopper_pearson(num_right, len(found)))
    return Curve(index, points, spread)


def _risk_points(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    found = sorted(_confident(samples), key=lambda item: -item[0])
    points, num_wrong = [], 0
    for i, (confidence, correct) in enumerate(found):
        num_wrong += not correct
        is_last_of_its_confidence = i + 1 == len(found) or found[i + 1][0] != confidence
        if is_last_of_its_confidence:
            points.append(((i + 1) / len(found), num_wrong / (i + 1)))
    return points


def _plot(axes: Axes, curve: Curve, marker: str) -> None:
    (line,) = axes.plot(*zip(*curve.points, strict=True), color=_colour(curve), marker=marker)
    if curve.is_held_out:
        line.set_linewidth(0.8)
    dashes = () if curve.index is None else _DASHES[curve.index % len(_DASHES)]
    if dashes:
        line.set_dashes(dashes)


def _colour(curve: Curve) -> str:
    return _SERIES[0 if curve.index is None else 1 + curve.index % NUM_SERIES]


def _svg(draw: Callable[[Axes], None], key: str, width: float = 4.3) -> str:
    """Return the figure as an ``svg`` element that stands in an HTML page.

    Deterministic (salted ids, no date), without XML prologue, metadata and namespace addresses,
    with ids and references under the figure's own key.
    """
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": key}):
        figure = Figure(figsize=(width, 3.0), layout="constrained")
        draw(figure.subplots())
        output = io.StringIO()
        figure.savefig(output, format="svg", metadata={"Date": None})
    svg = output.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # nothing refers to a group
    svg = re.sub(r"""\sxmlns(:\w+)?="[^"]*\"""", "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{key}-', svg)
    svg = re.sub(r'href="#', f'href="#{key}-', svg).replace("url(#", f"url(#{key}-")
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)  # the page's own
    for sentinel, colour in _COLOURS.items():
        svg = svg.replace(sentinel, colour)
    head, _, body = svg.partition(">")
    head = re.sub(r' (width|height|version)="[^"]*"', "", head)
    return f'{head} aria-hidden="true" focusable="false">{body}'
