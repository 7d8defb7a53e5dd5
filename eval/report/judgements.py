"""What each paired difference is worth, after looking at many of them at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtr, ndtri

from eval.report.page import Page
from eval.stats import Difference, holm, smallest_detectable_difference
from eval.task import Family

Judgement = Literal[
    "better",
    "worse",
    "perhaps better",
    "perhaps worse",
    "undecided",
    "descriptive",
    "undefined",
    "not compared",
]

FAMILIES: tuple[Family, ...] = ("accuracy", "bias", "hallucination")

Key = tuple[int, int | None, str, str]
"""First candidate, second candidate (None for the base), task, metric."""

MAX_P_VALUE = 0.05
"""Adjusted; above it a difference is noise as far as anyone can tell."""

_Z = float(ndtri(0.975))
_FLOORS = tuple(k / (1 + draws) for draws in (300, 1000) for k in (1, 2))


@dataclass(frozen=True)
class Judged:
    """One difference, first minus second, and what it is worth."""

    difference: Difference
    judgement: Judgement
    p_adjusted: float = math.nan
    """By Holm's method among all comparisons of its family on the page."""

    detectable: float = math.nan
    """Smallest true difference that these items would show four times in five."""


def judge(page: Page) -> dict[Key, Judged]:
    """Judge every difference on a page: of each candidate to the base, and of every pair.

    "Better" and "worse" hold after correction for all comparisons in their family of figures
    (Holm 1979): accuracy, bias and hallucination are three questions, and each is asked of every
    pair. An interval that excludes zero without surviving it is a "perhaps": of twenty comparisons
    of a model with itself, one such is to be expected.
    """
    judged: dict[Key, Judged] = {}
    decided: dict[Family, dict[Key, Difference]] = {}
    families = families_of(page)
    for key, difference in differences(page):
        if key[2] not in families:
            continue  # of a task that no report has: there is no row to show it in
        if not _is_finite(difference):
            judged[key] = Judged(difference, "undefined")
        elif difference.higher_is_better is None:
            judged[key] = Judged(difference, "descriptive")
        else:
            decided.setdefault(families[key[2]], {})[key] = difference
    for among in decided.values():
        adjusted = holm([p_value(difference) for difference in among.values()])
        for (key, difference), p_adjusted in zip(among.items(), adjusted, strict=True):
            word = _word(difference, is_sure=p_adjusted <= MAX_P_VALUE)
            judged[key] = Judged(difference, word, p_adjusted, detectable(difference))
    return judged


def num_comparisons(judged: Mapping[Key, Judged]) -> int:
    """Return how many were corrected for."""
    return sum(one.judgement not in ("descriptive", "undefined") for one in judged.values())


def differences(page: Page) -> Iterator[tuple[Key, Difference]]:
    """Yield every difference of a page, those to the base first."""
    for index, candidate in enumerate(page.candidates):
        for task, metrics in candidate.differences.items():
            for metric, difference in metrics.items():
                yield (index, None, task, metric), difference
    for pair in page.pairs:
        for task, metrics in pair.differences.items():
            for metric, difference in metrics.items():
                yield (pair.first, pair.second, task, metric), difference


def p_value(difference: Difference) -> float:
    """Return the p-value that goes into the correction.

    It is the comparison's own. A resampled one cannot be below about one in the number of
    resamples, which no correction for many comparisons survives; where it stands at that floor,
    or there is none, the normal approximation to the interval takes its place.
    """
    by_interval = 2 * float(ndtr(-standard_errors(difference)))
    own = difference.p_value
    if math.isnan(own):
        return by_interval
    is_at_floor = any(math.isclose(own, floor) for floor in _FLOORS)
    return min(own, by_interval) if is_at_floor else own


def standard_errors(difference: Difference) -> float:
    """Return how many standard errors the value is from zero, by the near side's half-width."""
    if difference.value == 0:
        return 0.0
    near = difference.low if difference.value > 0 else difference.high
    half_width = abs(difference.value - near)
    return _Z * abs(difference.value) / half_width if half_width > 0 else math.inf


def detectable(difference: Difference) -> float:
    """Return the smallest true difference that this many items would show four times in five.

    The spread of an item is read off the interval, so items that share a document count as few
    as they are worth.
    """
    if not _is_finite(difference):
        return math.nan
    half_width = (difference.high - difference.low) / 2
    spread = half_width / _Z * math.sqrt(difference.n)
    return smallest_detectable_difference(spread, difference.n)


def reverse(word: Judgement) -> Judgement:
    """Return what the other model of the pair is called."""
    swapped: dict[Judgement, Judgement] = {
        "better": "worse",
        "worse": "better",
        "perhaps better": "perhaps worse",
        "perhaps worse": "perhaps better",
    }
    return swapped.get(word, word)


def _word(difference: Difference, *, is_sure: bool) -> Judgement:
    if difference.better == "undecided":
        return "undecided"
    if difference.better == "first":
        return "better" if is_sure else "perhaps better"
    return "worse" if is_sure else "perhaps worse"


def families_of(page: Page) -> dict[str, Family]:
    """Return the family of each task that any model answered."""
    reports = (page.base, *(candidate.report for candidate in page.candidates))
    return {task: result.family for report in reports for task, result in report.tasks.items()}


def _is_finite(difference: Difference) -> bool:
    return all(map(math.isfinite, (difference.value, difference.low, difference.high)))
