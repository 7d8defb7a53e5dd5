"""Thoughts of an assistant: apart from its answer, and as a chat template takes them.

A thought is what a reasoning model writes before its answer, between ``<think>`` and ``</think>``.
Templates for such models drop the thoughts of earlier turns, and put an empty one before an answer
that has none.

The pillars import nothing of each other: `finetune.thoughts` and `eval.thoughts` are the same
text, which a test holds.
"""

from __future__ import annotations

import re
from typing import Any

OPEN, CLOSE = "<think>", "</think>"

_BLOCK = re.compile(rf"{OPEN}.*?{CLOSE}\s*", re.DOTALL)


def takes_thoughts(tokenizer: Any) -> bool:
    """Return whether the chat template tells thoughts from answers."""
    template = tokenizer.chat_template
    return isinstance(template, str) and (CLOSE in template or takes_key(tokenizer))


def takes_key(tokenizer: Any) -> bool:
    """Return whether the chat template reads thoughts from ``reasoning_content`` of a message."""
    template = tokenizer.chat_template
    return isinstance(template, str) and "reasoning_content" in template


def split_thought(text: str) -> tuple[str | None, str]:
    """Return the thought at the beginning of a text, None if there is none, and the rest.

    A thought whose opening tag is missing (because a generation prompt wrote it) counts too. One
    that does not end is no thought here.

    Example:
        >>> split_thought("<think>12 x 2</think> 24")
        ('12 x 2', '24')
    """
    head, end, rest = text.partition(CLOSE)
    start = head.lstrip()
    if not end or (OPEN in head and not start.startswith(OPEN)):
        return None, text
    return start.removeprefix(OPEN).strip(), rest.lstrip()


def with_thought(thought: str, content: str) -> str:
    """Return an answer with its thought before it."""
    return f"{OPEN}\n{thought}\n{CLOSE}\n\n{content}"


def without_thoughts(text: str) -> str:
    """Return a text without any blocks of thought, and without the white space after each."""
    return _BLOCK.sub("", text)


def opens_thought(prompt: str) -> bool:
    """Return whether a generation prompt ends in a thought that the model is to go on with."""
    return prompt.rstrip().endswith(OPEN)


def answer_of(reply: str, *, prompt: str = "") -> str:
    """Return a model's reply without its thought.

    Args:
        reply: as it was generated.
        prompt: that it was generated after; it may open the thought.

    Returns:
        The reply itself if it has no thought; empty if its thought does not end.
    """
    is_open = opens_thought(prompt)
    if not is_open and not reply.lstrip().startswith(OPEN):
        return reply
    thought, answer = split_thought(reply)
    return "" if thought is None else answer
