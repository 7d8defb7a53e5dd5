"""One turn of a chat, read from the keys that OpenAI, ShareGPT, ms-swift and others give it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recipes.data import catalog
from recipes.data.chats import marks, reasoning
from recipes.data.chats.calls import Call, read_call, read_calls, to_id
from recipes.data.chats.faults import Faults, named

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "claude": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
"""Name of a role in a file: what it is here."""

_CALLS = ("function_call", "tool_call")
"""Roles whose content is a call: of LLaMA-Factory and of ms-swift."""

_KEYS = frozenset(
    (
        "role",
        "from",
        "content",
        "value",
        "name",
        "refusal",
        "tool_calls",
        "tool_call_id",
        "function_call",
        *reasoning.KEYS,
        *marks.MARKS,
    )
)


@dataclass(frozen=True)
class Turn:
    """One turn of a chat."""

    role: str
    """``system``, ``user``, ``assistant`` or ``tool``."""

    content: str
    index: int
    """Its position in the row, from 0; -1 for a system text beside the turns."""

    calls: tuple[Call, ...] = ()
    call_id: str | None = None
    """Of the call that a turn of a tool answers."""

    name: str | None = None
    """Of the function that a turn of a tool answers for."""

    reasoning: str = ""
    is_learned: bool = False
    is_call: bool = False
    """Whether it is a call that the file keeps apart from the turn it belongs to."""

    def text(self) -> str:
        """Return the content with the calls below it."""
        parts = (self.content, *(call.to_text() for call in self.calls))
        return "\n".join(part for part in parts if part)


def read_turn(
    given: Any, index: int, policy: Literal["keep", "drop"] | None, faults: Faults
) -> Turn | None:
    """Read one turn; None if it is none, with a fault that says why.

    Args:
        given: the turn as the file has it.
        index: its position in the row.
        policy: `data.reasoning`.
        faults: receives what is wrong.
    """
    place = f"messages[{index}]"
    if not isinstance(given, dict):
        found = type(given).__name__
        faults.add(catalog.TURN_MALFORMED, f"{place}: wanted a role and a content, found a {found}")
        return None
    turn = _with_usual_keys(given, faults)
    written = turn.get("role") if turn.get("role") is not None else turn.get("from")
    kind = written.strip().casefold() if isinstance(written, str) else ""
    role = ROLES.get(kind)
    if role is None:
        known = ", ".join(ROLES)
        found = f"role {named(written)} is none of {known}"
        faults.add(
            catalog.ROLE_UNKNOWN,
            f"{place}: " + (f"no role; wanted one of {known}" if written is None else found),
        )
        return None
    content = _content(turn, role, place, faults)
    if content is None:
        return None
    text, parted = content
    thought = ""
    is_reasoned = False
    if role == "assistant":
        beside = _beside(turn, parted, place, faults)
        split = reasoning.take_apart(text)
        is_reasoned = beside is not None or bool(split.thoughts)
        text, thought = reasoning.decide(split, beside, policy, place, faults)
    calls = _calls(turn, role, kind, text, place, faults)
    is_call = kind in _CALLS
    if is_call:
        text = ""
    _note_unused(turn, role, faults)
    if not (text or is_call or turn.get("tool_calls") or turn.get("function_call")):
        if is_reasoned:
            faults.add(catalog.REASONING_WITHOUT_ANSWER, place)
        else:
            faults.add(catalog.TURN_EMPTY, f"{place}: no content")
    name = turn.get("name")
    return Turn(
        role=role,
        content=text,
        index=index,
        calls=calls,
        call_id=to_id(turn.get("tool_call_id")) if role == "tool" else None,
        name=name.strip() or None if role == "tool" and isinstance(name, str) else None,
        reasoning=thought,
        is_learned=marks.is_learned(turn, role, index, faults),
        is_call=is_call,
    )


def _with_usual_keys(given: Mapping[Any, Any], faults: Faults) -> dict[str, Any]:
    """Return a turn under the usual spelling of its keys; unknown keys are named and left out."""
    turn: dict[str, Any] = {}
    others: list[str] = []
    for key, value in given.items():
        if key in _KEYS:
            turn[key] = value
        elif value is not None:  # tables pad with nulls
            others.append(str(key))
    for key in others:
        usual = key.strip().casefold()
        if usual in _KEYS and usual not in turn:
            turn[usual] = given[key]
            faults.add(catalog.KEY_CASE, f"key {key!r} of a turn is read as {usual!r}")
        else:
            faults.add(catalog.TURN_KEY, f"key {key[:40]!r} of a turn")
    return turn


_ROLE_OF_KEY = {
    "name": "tool",
    "tool_call_id": "tool",
    "refusal": "assistant",
    **dict.fromkeys(reasoning.KEYS, "assistant"),
}


def _note_unused(turn: Mapping[str, Any], role: str, faults: Faults) -> None:
    """Name the known keys that mean nothing in a turn of this role."""
    for key, wanted_role in _ROLE_OF_KEY.items():
        if role != wanted_role and turn.get(key):
            faults.add(catalog.TURN_KEY, f"key {key!r} in a turn of the {role}")


def _content(
    turn: Mapping[str, Any], role: str, place: str, faults: Faults
) -> tuple[str, list[str]] | None:
    """Return a turn's text and the thoughts among its parts; None if it cannot be read."""
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    texts: list[str] = []
    thoughts: list[str] = []
    if isinstance(content, str):
        texts.append(content)
    elif role == "tool" and isinstance(content, dict):
        texts.append(json.dumps(content, ensure_ascii=False, default=str))
    elif isinstance(content, list):
        for part in content:
            if not _read_part(part, texts, thoughts, place, faults):
                return None
    elif content is not None:
        faults.add(
            catalog.TURN_MALFORMED,
            f"{place}: content: wanted a text, or parts that are texts, found a "
            f"{type(content).__name__}",
        )
        return None
    refusal = turn.get("refusal")
    if role == "assistant" and isinstance(refusal, str):
        texts.append(refusal)
    return "\n".join(text.strip() for text in texts if text.strip()), thoughts


def _read_part(
    part: Any, texts: list[str], thoughts: list[str], place: str, faults: Faults
) -> bool:
    """Add a part of a content to the texts or the thoughts; False if it is neither."""
    kind = str(part.get("type") or "text").casefold() if isinstance(part, dict) else ""
    if kind in ("thinking", "reasoning"):
        thought = part.get("thinking") or part.get("reasoning") or part.get("text")
        if isinstance(thought, str):
            thoughts.append(thought)
            return True
    if kind in ("text", "input_text", "output_text", "refusal"):
        given = [part[key] for key in ("text", "content", "refusal") if part.get(key) is not None]
        if given and isinstance(given[0], str):
            texts.append(given[0])
            return True
    if any(word in kind for word in ("image", "audio", "video", "file", "document")):
        faults.add(catalog.MEDIA, f"{place}: a part of type {named(kind)}")
    else:
        shown = f"a part of type {named(kind)}" if kind else f"a {type(part).__name__}"
        faults.add(
            catalog.TURN_MALFORMED,
            f"{place}: content: wanted a text, or parts that are texts, found {shown}",
        )
    return False


def _beside(turn: Mapping[str, Any], parted: list[str], place: str, faults: Faults) -> str | None:
    """Return the reasoning beside the content: in a key of its own, or in a part."""
    found = [*parted]
    for key in reasoning.KEYS:
        value = turn.get(key)
        if isinstance(value, str):
            found.append(value)
        elif value is not None and value == value:
            faults.add(
                catalog.TURN_MALFORMED,
                f"{place}: {key}: wanted a text, found a {type(value).__name__}",
            )
    thoughts = list(dict.fromkeys(text.strip() for text in found if text.strip()))
    return "\n\n".join(thoughts) if thoughts else None


def _calls(
    turn: Mapping[str, Any], role: str, kind: str, text: str, place: str, faults: Faults
) -> tuple[Call, ...]:
    """Return the calls of a turn, in whichever of the three forms they are written."""
    listed, legacy = turn.get("tool_calls") or None, turn.get("function_call") or None
    if (listed or legacy) and role != "assistant":
        faults.add(catalog.CALL_MALFORMED, f"{place}: tool calls in a turn of the {role}")
        return ()
    if kind in _CALLS:
        return read_calls(text, place, faults)
    calls = read_calls(listed, place, faults) if listed is not None else ()
    if legacy is not None and (call := read_call(legacy, place, faults)) is not None:
        calls = (*calls, call)
    return calls
