"""What more accuracy costs: each model's accuracy against its bias, its claims, its epsilon."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.axes import Axes

from eval.report.drawing import INK, Drawing, colour, svg
from eval.report.page import Page
from eval.task import Estimate, Family, Report


@dataclass(frozen=True)
class Figure:
    """One figure that stands for a family in the trade-off."""

    task: str
    metric: str
    higher_is_better: bool


@dataclass(frozen=True)
class _Point:
    index: int | None
    x: Estimate
    y: Estimate


def tradeoffs(page: Page) -> list[Drawing]:
    """Draw accuracy against bias, against hallucination, and against epsilon where there is one.

    A family is stood for by the figure that the gate asks about, and otherwise by its first one
    that has a better side. A model without one of the two figures is not drawn.
    """
    accuracy = representative(page, "accuracy")
    if accuracy is None or not page.candidates:
        return []
    drawings = []
    for family in ("bias", "hallucination"):
        other = representative(page, family)
        points = list(_points(page, accuracy, other)) if other is not None else []
        if other is not None and len(points) > 1:
            drawings.append(_draw(points, accuracy, other, family))
    private = [
        _Point(i, _exactly(candidate.privacy.epsilon), figure)
        for i, candidate in enumerate(page.candidates)
        if candidate.privacy is not None and math.isfinite(candidate.privacy.epsilon)
        if (figure := _defined(candidate.report, accuracy)) is not None
    ]
    if private:
        plain = [
            (i, figure.value)
            for i, report in _reports(page)
            if i is None or page.candidates[i].privacy is None
            if (figure := _defined(report, accuracy)) is not None
        ]
        drawings.append(_draw_epsilon(private, plain, accuracy))
    return drawings


def representative(page: Page, family: Family) -> Figure | None:
    """Return the figure that stands for a family: the gate's, or the first with a better side."""
    asked = [
        check.metric
        for candidate in page.candidates
        if candidate.decision is not None
        for check in candidate.decision.checks
        if check.family == family
    ]
    found = [
        Figure(task, metric, estimate.higher_is_better)
        for _, report in _reports(page)
        for task, result in report.tasks.items()
        if result.family == family
        for metric, estimate in result.metrics.items()
        if estimate.higher_is_better is not None
    ]
    for one in found:
        if one.metric in asked or f"{one.task}/{one.metric}" in asked:
            return one
    return found[0] if found else None


def letter(index: int | None) -> str:
    """Return the letter that stands for a model in a figure: the base is 0, then A, B, C."""
    if index is None:
        return "0"
    return chr(ord("A") + index % 26) + (str(index // 26) if index >= 26 else "")


def _reports(page: Page) -> Iterator[tuple[int | None, Report]]:
    yield None, page.base
    yield from ((i, candidate.report) for i, candidate in enumerate(page.candidates))


def _points(page: Page, x: Figure, y: Figure) -> Iterator[_Point]:
    for index, report in _reports(page):
        first, second = _defined(report, x), _defined(report, y)
        if first is not None and second is not None:
            yield _Point(index, first, second)


def _defined(report: Report, figure: Figure) -> Estimate | None:
    found = report.tasks.get(figure.task)
    estimate = None if found is None else found.metrics.get(figure.metric)
    return estimate if estimate is not None and math.isfinite(estimate.value) else None


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value, 1)


def _draw(points: list[_Point], x: Figure, y: Figure, family: Family) -> Drawing:
    def draw(axes: Axes) -> None:
        for point in points:
            _cross(axes, point)
        axes.set(xlabel=_axis("accuracy", x), ylabel=_axis(family, y))
        axes.margins(0.12)

    side = "upper" if y.higher_is_better else "lower"
    across = "right" if x.higher_is_better else "left"
    return Drawing(
        svg(draw, f"tradeoff-{family}"),
        f"Accuracy against {family}",
        f"Across: {x.task} / {x.metric}. Up: {y.task} / {y.metric}. The {side} {across} corner is "
        "best.",
        tuple(point.index for point in points),
    )


def _draw_epsilon(
    private: list[_Point], plain: list[tuple[int | None, float]], accuracy: Figure
) -> Drawing:
    def draw(axes: Axes) -> None:
        for index, value in plain:
            axes.axhline(value, color=colour(index), linewidth=0.9, alpha=0.7)
            axes.annotate(
                letter(index),
                (1.0, value),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        for point in private:
            _cross(axes, point)
        axes.set(xlabel="epsilon (smaller protects more)", ylabel=_axis("accuracy", accuracy))
        axes.set_xlim(left=0, right=1.25 * max(point.x.value for point in private))
        axes.margins(y=0.12)

    return Drawing(
        svg(draw, "tradeoff-epsilon"),
        "Accuracy against epsilon",
        f"Up: {accuracy.task} / {accuracy.metric}. A cross is a private model at what it has "
        "spent; a line across is a model without privacy, which has no epsilon.",
        (*(index for index, _ in plain), *(point.index for point in private)),
    )


def _cross(axes: Axes, point: _Point) -> None:
    hue = colour(point.index)
    x, y = point.x, point.y
    axes.plot([x.low, x.high], [y.value, y.value], color=hue, linewidth=1.0, alpha=0.6)
    axes.plot([x.value, x.value], [y.low, y.high], color=hue, linewidth=1.0, alpha=0.6)
    axes.plot([x.value], [y.value], color=hue, marker="o", markersize=5.5)
    axes.annotate(
        letter(point.index),
        (x.value, y.value),
        xytext=(5, 5),
        textcoords="offset points",
        color=INK,
        fontsize=9,
        fontweight="bold",
    )


def _axis(name: str, figure: Figure) -> str:
    return f"{name} ({'higher' if figure.higher_is_better else 'lower'} is better)"
