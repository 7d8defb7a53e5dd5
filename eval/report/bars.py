"""The small bars beside a number: where its interval lies, on which side of what."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

WIDTH = 180.0
"""Of the drawing, in user units; the template draws with the same width."""

_MARGIN = 6.0


@dataclass(frozen=True)
class Scale:
    """A stretch of numbers laid over the width of a bar."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Return where a number lies, held inside the drawing and rounded to a tenth."""
        share = (value - self.low) / (self.high - self.low)
        return round(_MARGIN + min(1.0, max(0.0, share)) * (WIDTH - 2 * _MARGIN), 1)

    @staticmethod
    def over(values: Iterable[float], padding: float = 0.15) -> Scale:
        """Return the scale that shows all finite values with room around them."""
        finite = [value for value in values if math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
        room = (high - low) * padding or abs(high) * padding or 1.0
        return Scale(low - room, high + room)

    @staticmethod
    def around_zero(values: Iterable[float]) -> Scale:
        """Return the symmetric scale about zero that shows all finite values."""
        reach = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
        return Scale(-reach * 1.08, reach * 1.08)


@dataclass(frozen=True)
class Bar:
    """An interval with its point, drawn on a scale; all positions are in user units."""

    low: float
    value: float
    high: float
    zero: float | None = None
    """A thin line at zero, where the scale has it and it means something."""

    bound: float | None = None
    """A strong line at a bound of the gate."""

    allowed: tuple[float, float] | None = None
    """The side of the bound on which the check holds: start and width."""


def interval_bar(value: float, low: float, high: float, scale: Scale) -> Bar | None:
    """Return a difference's bar with the line at zero; None where it is undefined."""
    if not all(map(math.isfinite, (value, low, high))):
        return None
    return Bar(scale.x(low), scale.x(value), scale.x(high), zero=scale.x(0.0))


def bound_bar(
    value: float, low: float, high: float, bound: float, *, is_floor: bool, zero: bool
) -> Bar | None:
    """Return a check's bar with its bound and the side on which it holds; None if undefined."""
    if not all(map(math.isfinite, (value, low, high, bound))):
        return None
    scale = Scale.over([value, low, high, bound, *([0.0] if zero else [])], padding=0.25)
    at = scale.x(bound)
    allowed = (at, round(WIDTH - at, 1)) if is_floor else (0.0, at)
    return Bar(
        scale.x(low),
        scale.x(value),
        scale.x(high),
        zero=scale.x(0.0) if zero else None,
        bound=at,
        allowed=allowed,
    )
