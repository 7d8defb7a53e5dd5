"""Calls and results that a file holds as text."""

from __future__ import annotations

from typing import Any

import pytest

from recipes.data import catalog
from tests.recipes.data.chats.examples import ASSISTANT, USER, chat, messages_of

CALL = '<tool_call>\n{"name": "find", "arguments": {"n": 1}}\n</tool_call>'
RESPONSE = "<tool_response>\nr1\n</tool_response>"
PLAIN_CALL = {"name": "find", "arguments": {"n": 1}}


def said(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def called(*calls: dict[str, Any], content: str = "") -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def test_calls_and_results_in_the_text_are_what_they_are_in_keys_of_their_own() -> None:
    expected = messages_of(
        USER,
        called(PLAIN_CALL, PLAIN_CALL, content="Wait."),
        {"role": "tool", "content": "r1"},
        {"role": "tool", "content": "r1"},
        ASSISTANT,
    )
    for role in ("tool", "user"):
        results = {"role": role, "content": f"{RESPONSE}\n{RESPONSE}"}
        assert messages_of(USER, said(f"Wait.\n{CALL}{CALL}"), results, ASSISTANT) == expected


def test_what_was_read_is_read_again_as_the_same() -> None:
    messages = messages_of(USER, said(CALL), {"role": "tool", "content": RESPONSE}, ASSISTANT)
    assert messages_of(*messages) == messages


@pytest.mark.parametrize("text", ["A <tool_call> is a tag.", f"{CALL} Done.", "<tool_call>x"])
def test_tags_that_do_not_end_a_turn_as_calls_are_words(text: str) -> None:
    assert messages_of(USER, said(text))[1]["content"] == text


def test_faults_of_calls_in_the_text_are_named() -> None:
    assert catalog.CALL_UNANSWERED in chat(USER, said(CALL), USER, ASSISTANT)[1]
    assert catalog.CALL_MALFORMED in chat(USER, said("<tool_call>find(1)</tool_call>"))[1]
    result = {"role": "tool", "content": f"{RESPONSE}{RESPONSE}"}
    assert catalog.ANSWER_WITHOUT_CALL in chat(USER, said(CALL), result, ASSISTANT)[1]
