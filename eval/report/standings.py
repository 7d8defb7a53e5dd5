"""Where each model stands among all: what a person who must choose reads first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.report.cells import Cell, cell
from eval.report.judgements import FAMILIES, Judged, Judgement, Key, families_of, reverse
from eval.report.page import Page
from eval.task import Family


@dataclass(frozen=True)
class Score:
    """How often one model is better and worse than another, beyond noise."""

    better: int = 0
    worse: int = 0
    undecided: int = 0
    """Perhaps, undecided or undefined."""

    @property
    def total(self) -> int:
        """Figures that were compared."""
        return self.better + self.worse + self.undecided

    @property
    def beats(self) -> bool:
        """Whether it is better on something and worse on nothing."""
        return self.better > 0 and self.worse == 0


@dataclass(frozen=True)
class Standing:
    """One model among all."""

    name: str
    index: int | None
    """None for the base."""

    families: Mapping[Family, Score]
    """Against the base; empty for the base itself."""

    others: Mapping[int | None, Score]
    """Against every other model with which it was compared."""

    beaten_by: tuple[int | None, ...]
    """Models that are better on something and worse on nothing."""

    @property
    def beats(self) -> int:
        """How many models it beats."""
        return sum(score.beats for score in self.others.values())


@dataclass(frozen=True)
class Duel:
    """Two candidates on one figure."""

    first: int
    second: int
    family: Family
    task: str
    metric: str
    cell: Cell
    n: int


def standings(page: Page, judged: Mapping[Key, Judged]) -> tuple[Standing, ...]:
    """Return where each model stands: the candidates in the page's order, then the base."""
    places: list[int | None] = [*range(len(page.candidates)), None]
    family_of = families_of(page)
    words: dict[tuple[int | None, int | None], list[tuple[Family, Judgement]]] = {}
    for (first, second, task, _), one in judged.items():
        words.setdefault((first, second), []).append((family_of[task], one.judgement))
        words.setdefault((second, first), []).append((family_of[task], reverse(one.judgement)))
    found = []
    for place in places:
        others = {
            other: _score([word for _, word in words[place, other]])
            for other in places
            if (place, other) in words
        }
        against_base = words.get((place, None), [])
        found.append(
            Standing(
                page.base_name if place is None else page.candidates[place].name,
                place,
                {f: _score([w for g, w in against_base if g == f]) for f in FAMILIES},
                others,
                tuple(o for o in others if _score([w for _, w in words[o, place]]).beats),
            )
        )
    return tuple(found)


def duels(page: Page, judged: Mapping[Key, Judged]) -> tuple[Duel, ...]:
    """Return every figure of every two candidates, in the order of the pairs."""
    family_of = families_of(page)
    order = {family: place for place, family in enumerate(FAMILIES)}
    found = [
        Duel(first, second, family_of[task], task, metric, cell(one), one.difference.n)
        for (first, second, task, metric), one in judged.items()
        if second is not None and one.judgement != "descriptive"
    ]
    return tuple(sorted(found, key=lambda duel: (duel.first, duel.second, order[duel.family])))


def _score(words: Sequence[Judgement]) -> Score:
    counted = [word for word in words if word not in ("descriptive", "not compared")]
    better, worse = counted.count("better"), counted.count("worse")
    return Score(better, worse, len(counted) - better - worse)
