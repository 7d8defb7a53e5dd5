"""The curves of a page: reliability, risk and coverage, training loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from eval.report.drawing import DASHES, INK, Drawing, colour, svg
from eval.stats import clopper_pearson
from eval.task import Sample

MIN_BIN_ITEMS = 5
"""A reliability point of fewer items is noise, and is left out."""

_NUM_BINS = 10


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
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, dashes=(2, 3), alpha=0.6)
        for curve in curves:
            if len(curves) <= 3:
                for (x, _), (low, high) in zip(curve.points, curve.spread, strict=True):
                    axes.plot(
                        [x, x], [low, high], color=colour(curve.index), linewidth=1.0, alpha=0.5
                    )
            _plot(axes, curve, marker="o")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="share right")

    caption = (
        "On the dotted line, confidence means what it says; below it, the model is overconfident. "
        f"Each point is a tenth of the scale with at least {MIN_BIN_ITEMS} items"
        + ("; the thin lines are 95 % intervals." if len(curves) <= 3 else ".")
    )
    models_drawn = tuple(curve.index for curve in curves)
    return Drawing(svg(draw, key), "Reliability", caption, models_drawn)


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
        svg(draw, key), "Risk and coverage", caption, tuple(curve.index for curve in curves)
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
    return Drawing(svg(draw, key, width=6.6), "Training loss", caption, drawn)


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
    (line,) = axes.plot(*zip(*curve.points, strict=True), color=colour(curve.index), marker=marker)
    if curve.is_held_out:
        line.set_linewidth(0.8)
    dashes = () if curve.index is None else DASHES[curve.index % len(DASHES)]
    if dashes:
        line.set_dashes(dashes)
