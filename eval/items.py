"""The items that tasks are made of, as a recipe hands them over from the company's own data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from eval.errors import EvaluationError


class Item(Protocol):
    """Anything with an identity."""

    @property
    def id(self) -> str:
        """The key on which two models are paired."""
        ...


AnyItem = TypeVar("AnyItem", bound=Item)


@dataclass(frozen=True)
class LabelledText:
    """A text with its class, or its classes where several may hold at once."""

    id: str
    text: str
    label: str | tuple[str, ...]
    group: str | None = None
    """Group of people whom the text concerns, where the data has such a column."""


@dataclass(frozen=True)
class Question:
    """A question on a passage."""

    id: str
    context: str
    question: str
    answers: tuple[str, ...]
    """Accepted answers; empty where the passage does not answer."""

    document: str
    """Questions on one document are resampled together: on one passage, where a file tells them
    apart (Miller 2024, arXiv:2411.00640, section 2.2)."""

    @property
    def is_answerable(self) -> bool:
        """Whether the passage holds an answer."""
        return any(answer.strip() for answer in self.answers)


def passage_name(title: str, number: int) -> str:
    """Return the document of a question of SQuAD: paragraph ``number`` of an article."""
    return f"{title}, paragraph {number + 1}"


@dataclass(frozen=True)
class Dialogue:
    """A chat whose assistant turns are the replies that are wanted."""

    id: str
    messages: tuple[Mapping[str, str], ...]
    """Turns of ``role`` and ``content``, and ``reasoning_content`` where it is kept."""

    context_only: frozenset[int] = frozenset()
    """Positions of assistant turns that are not learned and therefore no references."""

    def to_json(self) -> dict[str, object]:
        """Return what identifies the dialogue in a task's fingerprint."""
        values: dict[str, object] = {
            "id": self.id,
            "messages": [dict(message) for message in self.messages],
        }
        return values | ({"context_only": sorted(self.context_only)} if self.context_only else {})

    def to_last_reply(self) -> tuple[Mapping[str, str], ...]:
        """Return the chat up to the last assistant turn that is a reference.

        Raises:
            EvaluationError: if there is none.
        """
        for end in range(len(self.messages), 1, -1):
            last = self.messages[end - 1]
            is_reference = last["role"] == "assistant" and end - 1 not in self.context_only
            if is_reference and last["content"].strip():
                return self.messages[:end]
        raise EvaluationError(
            f"dialogue {self.id}: the assistant replies to nothing, so there is no reference; "
            "drop it from the evaluation data"
        )


def check_items(task: str, items: Sequence[Item]) -> None:
    """Refuse items that no figure can be computed on, or that cannot be paired.

    Raises:
        EvaluationError: if there are none, or two have one id.
    """
    if not items:
        raise EvaluationError(f"task {task} has no items; give it evaluation data")
    [(item_id, count)] = Counter(item.id for item in items).most_common(1)
    if count > 1:
        raise EvaluationError(
            f"task {task}: {count} items have the id {item_id!r}; give each item its own id"
        )


def choose(items: Sequence[AnyItem], max_items: int, *, seed: int = 0) -> list[AnyItem]:
    """Return at most so many items, drawn at random, in their order.

    Example:
        >>> texts = [LabelledText(str(i), "", "a") for i in range(9)]
        >>> [text.id for text in choose(texts, 3)]
        ['4', '5', '7']
    """
    if len(items) <= max_items:
        return list(items)
    drawn = np.random.default_rng(seed).choice(len(items), size=max_items, replace=False)
    return [items[i] for i in sorted(drawn)]
