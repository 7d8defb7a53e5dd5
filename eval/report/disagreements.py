"""Items that several models answered differently, each with all answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from eval.task import Sample

MAX_PER_PAIR = 2
"""Of each kind (one right, the other right, neither settled) that every pair is given."""

MAX_ITEMS = 40
"""Shown for one task; the rest is in the ``samples`` folders."""

Place = int | None  # among the candidates; None is the base


@dataclass(frozen=True)
class Answer:
    """One answer and all models that gave it."""

    text: str
    correct: bool | None
    models: tuple[Place, ...]


@dataclass(frozen=True)
class Disagreement:
    """One item on which not all agree."""

    id: str
    prompt: str
    wanted: str
    answers: tuple[Answer, ...]
    """The right ones first."""


@dataclass(frozen=True)
class Disagreements:
    """The items of one task that are shown, and how many there were to choose from."""

    shown: tuple[Disagreement, ...]
    models: tuple[Place, ...]
    num_items: int
    num_differ: int


def disagreements(samples: Mapping[Place, Sequence[Sample]]) -> Disagreements | None:
    """Choose items on which models differ, so that every pair finds some of its own.

    Each pair is given up to `MAX_PER_PAIR` items of each kind, the first in the data's order, so
    nothing is hand-picked. An item that serves several pairs counts for all of them.

    Returns:
        None if fewer than two models have samples.
    """
    answered = {place: {s.id: s for s in found} for place, found in samples.items() if found}
    if len(answered) < 2:
        return None
    ids = list(dict.fromkeys(key for found in answered.values() for key in found))
    differing = [key for key in ids if len(_answers(key, answered)) > 1]
    chosen: dict[str, None] = {}
    for pair in combinations(answered, 2):
        _give(pair, differing, answered, chosen)
    kept = [key for key in differing if key in chosen][:MAX_ITEMS]
    return Disagreements(
        tuple(_disagreement(key, answered) for key in kept),
        tuple(answered),
        len(ids),
        len(differing),
    )


def _give(
    pair: tuple[Place, Place],
    differing: Sequence[str],
    answered: Mapping[Place, Mapping[str, Sample]],
    chosen: dict[str, None],
) -> None:
    """Add items to the chosen until the pair has its share of each kind, or none is left."""
    kinds: dict[tuple[bool | None, bool | None], list[str]] = {}
    for key in differing:
        first, second = (answered[place].get(key) for place in pair)
        if first is None or second is None or _said(first) == _said(second):
            continue
        is_settled = first.correct is not None and first.correct is not second.correct
        kind = (first.correct, second.correct) if is_settled else (None, None)
        kinds.setdefault(kind, []).append(key)
    for found in kinds.values():
        num_missing = MAX_PER_PAIR - sum(key in chosen for key in found)
        fresh = [key for key in found if key not in chosen]
        chosen.update(dict.fromkeys(fresh[: max(0, num_missing)]))


def _said(sample: Sample) -> tuple[str, bool | None]:
    return sample.prediction, sample.correct


def _answers(key: str, answered: Mapping[Place, Mapping[str, Sample]]) -> tuple[Answer, ...]:
    groups: dict[tuple[str, bool | None], list[Place]] = {}
    for place, found in answered.items():
        if key in found:
            groups.setdefault(_said(found[key]), []).append(place)
    answers = [Answer(text, correct, tuple(who)) for (text, correct), who in groups.items()]
    return tuple(sorted(answers, key=lambda answer: answer.correct is not True))


def _disagreement(key: str, answered: Mapping[Place, Mapping[str, Sample]]) -> Disagreement:
    sample = next(found[key] for found in answered.values() if key in found)
    return Disagreement(key, sample.prompt, sample.target, _answers(key, answered))
