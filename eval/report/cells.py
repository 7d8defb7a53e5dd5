"""One difference as a table shows it: a word, a figure, a bar."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eval.report.bars import Bar, Scale, interval_bar
from eval.report.judgements import Judged, Judgement, standard_errors
from eval.report.text import interval, number


@dataclass(frozen=True)
class Cell:
    """One difference, ready to be shown."""

    judgement: Judgement
    value: str = ""
    interval: str = ""
    bar: Bar | None = None
    strength: float = math.nan
    """Distance from zero in standard errors, positive for the first; for sorting."""

    detectable: str = ""
    """The smallest difference that these items would have shown, where they showed none."""


def cell(judged: Judged | None, scale: Scale | None = None) -> Cell:
    """Write a judged difference; None is one that was never made."""
    if judged is None:
        return Cell("not compared")
    difference, judgement = judged.difference, judged.judgement
    value, ends = interval(difference.value, difference.low, difference.high, signed=True)
    scale = scale or Scale.around_zero([difference.low, difference.high])
    strength = math.nan
    if judgement not in ("descriptive", "undefined"):
        is_gain = (difference.value > 0) == difference.higher_is_better
        strength = min(99.0, standard_errors(difference)) * (1 if is_gain else -1)
    return Cell(
        judgement,
        value,
        ends,
        interval_bar(difference.value, difference.low, difference.high, scale),
        strength,
        number(judged.detectable, 2) if judgement == "undecided" else "",
    )
