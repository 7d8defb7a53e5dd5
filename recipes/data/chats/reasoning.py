"""Reasoning of an assistant: found beside the content or in it, and kept or dropped.

Beside it are the keys ``reasoning_content`` (DeepSeek, Qwen, vLLM), ``reasoning`` (OpenRouter),
``thinking`` (Ollama, gpt-oss) and ``thought``. In it are ``<think>...</think>``, ``<thinking>`` and
``<thought>``; a closing tag alone ends a thought whose opening tag the chat template wrote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from recipes.data import catalog
from recipes.data.chats.faults import Faults

KEYS = ("reasoning_content", "reasoning", "thinking", "thought")

_TAG = re.compile(r"<(/?)(?:think|thinking|thought)>", re.IGNORECASE)


@dataclass(frozen=True)
class Reasoned:
    """What an assistant wrote, taken apart. Thoughts are those in the order of the text."""

    answer: str
    thoughts: tuple[str, ...] = ()
    """Some may be empty, as templates write them where nothing was thought."""

    is_first: bool = True
    """Whether all thoughts are before the answer."""

    fault: str = ""
    """Why thoughts and answer cannot be told apart; empty if they can."""


def take_apart(text: str) -> Reasoned:
    """Separate the thoughts in a text from its answer, in one pass.

    Example:
        >>> take_apart("<think>12 x 2</think> 24")
        Reasoned(answer='24', thoughts=('12 x 2',), is_first=True, fault='')
    """
    tags = list(_TAG.finditer(text))
    if not tags:
        return Reasoned(text.strip())
    outside: list[str] = []
    thoughts: list[str] = []
    is_open = bool(tags[0][1])  # it begins inside a thought if the first tag closes one
    start = 0
    for tag in tags:
        is_closing = bool(tag[1])
        if is_closing != is_open:
            fault = "closes a thought that is not open" if is_closing else "opens a second thought"
            return Reasoned(text.strip(), ("",), fault=f"a tag {fault}")
        (thoughts if is_open else outside).append(text[start : tag.start()])
        is_open, start = not is_open, tag.end()
    if is_open:
        return Reasoned(text.strip(), ("",), fault="a thought is not closed")
    before, last = "".join(outside), text[start:]
    return Reasoned(
        f"{before}{last}".strip(),
        tuple(thought.strip() for thought in thoughts),
        is_first=not before.strip(),
    )


def decide(
    text: Reasoned,
    beside: str | None,
    policy: Literal["keep", "drop"] | None,
    place: str,
    faults: Faults,
) -> tuple[str, str]:
    """Return the answer and the reasoning of a turn after the recipe's decision.

    Args:
        text: the content.
        beside: reasoning in a key of its own; None if there is none.
        policy: `data.reasoning`.
        place: of the turn, for messages.
        faults: receives what is unclear or undecided.
    """
    if text.fault:
        faults.add(catalog.REASONING_UNCLEAR, f"{place}: {text.fault}")
        return text.answer, ""
    if beside is None and not text.thoughts:
        return text.answer, ""
    if policy is None:
        where = "in the content" if text.thoughts else "beside the content"
        faults.add(catalog.REASONING_UNDECIDED, f"{place}: reasoning {where}")
        return text.answer, ""
    if policy == "drop":
        return text.answer, ""
    thoughts = list(dict.fromkeys(one for one in (beside, *text.thoughts) if one))
    if not text.is_first or len(thoughts) > 1:
        faults.add(
            catalog.REASONING_UNCLEAR,
            f"{place}: several thoughts, or text before a thought, cannot be kept apart",
        )
    return text.answer, "\n\n".join(thoughts)
