"""Rows of the chat recipe."""

from __future__ import annotations

from typing import Any

import pytest

from eval.items import Dialogue
from finetune import encoding
from recipes import chat
from recipes.config import EvalConfig
from tests.recipes.rows import ignore, row_of, settings_of

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": " Hello "}
SYSTEM = {"role": "system", "content": "Be kind."}


def dialogue(*turns: dict[str, Any], **settings: Any) -> Dialogue:
    return chat.parse(row_of(messages=list(turns)), settings_of(**settings), "c1", ignore).item


def test_a_conversation_is_its_messages_without_the_space_around_them() -> None:
    parsed = chat.parse(row_of(messages=[SYSTEM, USER, ASSISTANT]), settings_of(), "c1", ignore)
    assert [(m["role"], m["content"]) for m in parsed.item.messages] == [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Hello"),
    ]
    assert parsed.content == "system: Be kind.\nuser: Hi\nassistant: Hello"
    assert parsed.label == ""


def test_a_turn_that_is_not_learned_is_context_for_training_and_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    item = dialogue(USER, {**ASSISTANT, "train": False}, USER, ASSISTANT)
    assert item.context_only == {1}
    assert all("learned" not in message for message in item.messages)
    given: list[Any] = []
    monkeypatch.setattr(encoding, "encode_chat", lambda _, messages, **__: given.extend(messages))
    chat.encode(item, None, max_length=8, stop_ids=frozenset())
    assert [message.get("learned", True) for message in given] == [True, False, True, True]


def test_reasoning_that_is_kept_reaches_training_in_a_field_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thought = {"role": "assistant", "content": "<think>Polite.</think>Hello"}
    item = dialogue(USER, thought, reasoning="keep")
    assert item.messages[1]["reasoning_content"] == "Polite."
    given: list[Any] = []
    monkeypatch.setattr(encoding, "encode_chat", lambda _, messages, **__: given.extend(messages))
    chat.encode(item, None, max_length=8, stop_ids=frozenset())
    assert given[1] == {"role": "assistant", "content": "Hello", "reasoning_content": "Polite."}
    assert "reasoning_content" not in dialogue(USER, thought, reasoning="drop").messages[1]


def test_chats_that_differ_in_their_reasoning_alone_are_not_duplicates() -> None:
    contents = [
        chat.parse(
            row_of(messages=[USER, {**ASSISTANT, "thought": thought}]),
            settings_of(reasoning="keep"),
            "c1",
            ignore,
        ).content
        for thought in ("a", "b")
    ]
    assert contents[0] != contents[1]


def test_the_default_tasks_are_of_all_three_families() -> None:
    tasks = chat.tasks([dialogue(USER, ASSISTANT)], EvalConfig())
    assert {task.family for task in tasks} == {"accuracy", "bias", "hallucination"}
    assert len({task.name for task in tasks}) == len(tasks)
