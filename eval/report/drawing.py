"""A figure as inline SVG, drawn by matplotlib, that follows the page's colours in light and dark.

No text from outside enters a figure: models are told apart by colour, dash and letter, which the
page's legend shows beside each name. So nothing here needs to be escaped.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

NUM_SERIES = 6
"""Colours before they repeat."""

INK, RULE = "#010203", "#040506"
_SERIES = ["#0a0b0c", *(f"#0d0e{i:02x}" for i in range(NUM_SERIES))]
_COLOURS = {
    INK: "currentColor",
    RULE: "var(--rule)",
    _SERIES[0]: "var(--series-base)",
    **{_SERIES[i + 1]: f"var(--series-{i})" for i in range(NUM_SERIES)},
}
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1, 1.5), (6, 2, 1, 2), (3, 1), (8, 3))
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


Draw = Callable[[Axes], None]
"""Draws into one pair of axes."""


@dataclass(frozen=True)
class Drawing:
    """One figure: SVG made by us alone, with words for those who do not see it."""

    svg: str
    title: str
    caption: str
    models: tuple[int | None, ...]
    """Whose curves it holds, for the legend; None is the base."""


def dash(index: int | None) -> str:
    """Return a model's dash as an SVG ``stroke-dasharray``, for the legend."""
    dashes = () if index is None else DASHES[index % len(DASHES)]
    return " ".join(f"{length * 2:g}" for length in dashes) or "none"


def colour(index: int | None) -> str:
    """Return what stands for a model's colour until the page's own takes its place."""
    return _SERIES[0 if index is None else 1 + index % NUM_SERIES]


def svg(draw: Draw, key: str, width: float = 4.3) -> str:
    """Return the figure as an ``svg`` element that stands in an HTML page.

    Deterministic (salted ids, no date), without XML prologue, metadata and namespace addresses,
    with ids and references under the figure's own key.
    """
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": key}):
        figure = Figure(figsize=(width, 3.0), layout="constrained")
        draw(figure.subplots())
        output = io.StringIO()
        figure.savefig(output, format="svg", metadata={"Date": None})
    text = output.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # nothing refers to a group
    text = re.sub(r"""\sxmlns(:\w+)?="[^"]*\"""", "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r'href="#', f'href="#{key}-', text).replace("url(#", f"url(#{key}-")
    text = re.sub(r" font-family: [^;\"]*;", "", text)  # the page's own
    for sentinel, own in _COLOURS.items():
        text = text.replace(sentinel, own)
    head, _, body = text.partition(">")
    head = re.sub(r' (width|height|version)="[^"]*"', "", head)
    return f'{head} aria-hidden="true" focusable="false">{body}'
