"""The labelled set: sentences with made-up values, and where these are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from recipes.data.personal_data.kinds import Kind, Span
from tests.recipes.data.personal_data.templates import LOOK_ALIKES, TEMPLATES
from tests.recipes.data.personal_data.values import DEVELOPMENT, HELD_OUT, LANGUAGES, values

_SLOT = re.compile(r"\{(\w+)\}")
FILLS = 4
"""Texts that are made of a template."""

PARTS = {"development": DEVELOPMENT, "held-out": HELD_OUT}


@dataclass(frozen=True)
class Labelled:
    """A text, and the personal data in it."""

    text: str
    spans: tuple[Span, ...]
    language: str


def labelled(part: int) -> list[Labelled]:
    """Return all texts of a part, look-alikes last."""
    texts = []
    used: Counter[str] = Counter()
    for language in LANGUAGES:
        for template in TEMPLATES[language][part]:
            texts += [_filled(template, language, part, used) for _ in range(FILLS)]
    for language in LANGUAGES:
        texts += [Labelled(text, (), language) for text in LOOK_ALIKES[language][part]]
    return texts


def _filled(template: str, language: str, part: int, used: Counter[str]) -> Labelled:
    text, spans, end = "", [], 0
    for slot in _SLOT.finditer(template):
        kind = slot[1]
        text += template[end : slot.start()]
        known = values(kind, language, part)
        value = known[used[kind] % len(known)]
        used[kind] += 1
        spans.append(Span(len(text), len(text) + len(value), Kind(kind)))
        text += value
        end = slot.end()
    return Labelled(text + template[end:], tuple(spans), language)


@dataclass(frozen=True)
class Score:
    """How well one kind is found."""

    num_true: int
    num_found: int
    num_right: int

    @property
    def precision(self) -> float:
        """Share of what was found that is right; 1 where nothing was found."""
        return self.num_right / self.num_found if self.num_found else 1.0

    @property
    def recall(self) -> float:
        """Share of what is there that was found."""
        return self.num_right / self.num_true if self.num_true else 1.0


Find = Callable[[str], Iterable[Span]]


def scores(texts: Iterable[Labelled], find: Find) -> dict[Kind, Score]:
    """Return the scores by kind. A span is right if it is of the kind and most of it is the label.

    Most: the overlap is at least half of their union, so that a full stop decides nothing.
    """
    true: Counter[Kind] = Counter()
    found: Counter[Kind] = Counter()
    right: Counter[Kind] = Counter()
    for one in texts:
        spans = tuple(find(one.text))
        true.update(span.kind for span in one.spans)
        found.update(span.kind for span in spans)
        right.update(span.kind for span in one.spans if any(_agree(span, s) for s in spans))
    return {kind: Score(true[kind], found[kind], right[kind]) for kind in Kind}


def _agree(one: Span, other: Span) -> bool:
    common = min(one.end, other.end) - max(one.start, other.start)
    union = max(one.end, other.end) - min(one.start, other.start)
    return one.kind == other.kind and common >= union / 2
