"""Calls and results that a file holds as text already, in the tags of Hermes and Qwen models."""

from __future__ import annotations

from dataclasses import replace

from recipes.data.chats.calls import read_call
from recipes.data.chats.faults import Faults
from recipes.data.chats.turns import Turn


def expand(turn: Turn, faults: Faults) -> list[Turn]:
    """Return a turn with the calls at the end of its text read, or one turn per result in it.

    Text that is followed by a call is kept; a turn with text after its calls stays as it is.
    """
    if turn.role == "assistant" and not turn.calls:
        start = turn.content.find("<tool_call>")
        written = _blocks(turn.content[start:], "tool_call") if start >= 0 else []
        calls = [read_call(text, f"messages[{turn.index}]", faults) for text in written]
        if calls:
            content = turn.content[:start].strip()
            read = tuple(call for call in calls if call is not None)
            return [replace(turn, content=content, calls=read)]
    if turn.role in ("user", "tool"):
        results = _blocks(turn.content, "tool_response")
        if results:
            return [replace(turn, role="tool", content=result) for result in results]
    return [turn]


def _blocks(text: str, tag: str) -> list[str]:
    """Return what is between the tags of a text that consists of such blocks; else nothing."""
    before, *parts = text.split(f"<{tag}>")
    blocks = [part.split(f"</{tag}>") for part in parts]
    if before.strip() or any(len(block) != 2 or block[1].strip() for block in blocks):
        return []
    return [block[0].strip() for block in blocks]
