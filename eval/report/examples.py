"""Items on which the base and a candidate answer differently: what a person reads first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eval.task import Sample

Kind = Literal["broken", "fixed", "changed"]

MAX_EXAMPLES = 8
"""Shown for one task and one candidate; the rest is in the run's ``samples`` folder."""


@dataclass(frozen=True)
class Example:
    """One item that two models answered differently."""

    kind: Kind
    id: str
    prompt: str
    wanted: str
    base_answer: str
    base_correct: bool | None
    candidate_answer: str
    candidate_correct: bool | None


@dataclass(frozen=True)
class Examples:
    """The examples of one task and one candidate, and how many there were to choose from."""

    candidate: str
    index: int
    shown: tuple[Example, ...]
    num_items: int
    num_broken: int
    num_fixed: int
    num_changed: int

    @property
    def num_differ(self) -> int:
        """Items on which the two differ."""
        return self.num_broken + self.num_fixed + self.num_changed


def examples(
    name: str, index: int, base: Sequence[Sample], candidate: Sequence[Sample]
) -> Examples:
    """Pair two models' samples by id and choose up to `MAX_EXAMPLES` that differ.

    Broken (right before, wrong now) and fixed ones share the room and stand before those that
    merely changed. Within a kind it is the first in the data's order, so nothing is hand-picked.
    """
    base_by_id = {sample.id: sample for sample in base}
    found: dict[Kind, list[Example]] = {"broken": [], "fixed": [], "changed": []}
    num_items = 0
    for sample in candidate:
        before = base_by_id.get(sample.id)
        if before is None:
            continue
        num_items += 1
        kind = _kind(before, sample)
        if kind is not None:
            found[kind].append(
                Example(
                    kind,
                    sample.id,
                    sample.prompt or before.prompt,
                    sample.target,
                    before.prediction,
                    before.correct,
                    sample.prediction,
                    sample.correct,
                )
            )
    num_broken = min(
        len(found["broken"]), max(MAX_EXAMPLES // 2, MAX_EXAMPLES - len(found["fixed"]))
    )
    shown = [*found["broken"][:num_broken], *found["fixed"], *found["changed"]][:MAX_EXAMPLES]
    return Examples(
        name,
        index,
        tuple(shown),
        num_items,
        len(found["broken"]),
        len(found["fixed"]),
        len(found["changed"]),
    )


def _kind(before: Sample, after: Sample) -> Kind | None:
    if before.correct is True and after.correct is False:
        return "broken"
    if before.correct is False and after.correct is True:
        return "fixed"
    return "changed" if before.prediction != after.prediction else None
