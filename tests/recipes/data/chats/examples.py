"""Chats for the tests, and what is found wrong with them."""

from __future__ import annotations

from typing import Any

from finetune.encoding import Message
from recipes.data.conversations import turns_of
from recipes.data.findings import FindingKind
from recipes.data.rows import RowError
from tests.recipes.rows import row_of, settings_of

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be brief."}


def read(
    values: dict[str, Any], **settings: Any
) -> tuple[list[Message] | None, dict[FindingKind, str]]:
    """Return the messages of a row, None if it is dropped, and its findings."""
    found: dict[FindingKind, str] = {}

    def note(kind: FindingKind, detail: str) -> None:
        found[kind] = f"{found[kind]}; {detail}" if kind in found else detail

    try:
        return turns_of(row_of(**values), settings_of(**settings), note), found
    except RowError as error:
        note(error.kind, str(error))
        return None, found


def chat(*turns: Any, **settings: Any) -> tuple[list[Message] | None, dict[FindingKind, str]]:
    return read({"messages": list(turns)}, **settings)


def messages_of(*turns: Any, **settings: Any) -> list[Message]:
    """Return the messages of a chat without findings."""
    messages, found = chat(*turns, **settings)
    assert messages is not None
    assert not found
    return messages


def spoken(messages: list[Message] | None) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages or []]
