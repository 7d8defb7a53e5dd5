"""Rows of the chat recipe."""

from __future__ import annotations

from typing import Any

import pytest

from recipes import chat
from recipes.config import EvalConfig
from recipes.rows import RowError
from tests.recipes.rows import row_of

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": " Hello "}
SYSTEM = {"role": "system", "content": "Be kind."}


def test_a_conversation_is_its_messages_without_the_space_around_them() -> None:
    item, content, label = chat.parse(row_of(messages=[SYSTEM, USER, ASSISTANT]), {}, "c1")
    assert [(m["role"], m["content"]) for m in item.messages] == [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Hello"),
    ]
    assert content == "system: Be kind.\nuser: Hi\nassistant: Hello"
    assert label == ""


def test_a_prompt_with_its_completion_is_a_conversation_too() -> None:
    item, _, _ = chat.parse(row_of(prompt="Hi", completion="Hello"), {}, "c1")
    assert [m["role"] for m in item.messages] == ["user", "assistant"]
    columns = {"prompt": "ask", "completion": "reply", "messages": "turns"}
    assert chat.parse(row_of(ask="Hi", reply="Hello"), columns, "c1")[0] == item
    turns = [USER, {"role": "assistant", "content": "Hello"}]
    assert chat.parse(row_of(turns=turns), columns, "c1")[0] == item


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "no column 'messages'"),
        ({"messages": "Hi"}, "wanted list, found str"),
        ({"messages": []}, "the last message is not by the assistant"),
        ({"messages": [USER]}, "the last message is not by the assistant"),
        ({"messages": [USER, ASSISTANT, USER]}, "the last message is not by the assistant"),
        ({"messages": [SYSTEM, ASSISTANT]}, "no message is by the user"),
        ({"messages": [USER, "Hello"]}, r"messages\[1\]: wanted a role and a content, found a str"),
        ({"messages": [{"role": "bot", "content": "x"}]}, r"messages\[0\]: role 'bot' is none of"),
        ({"messages": [{"from": "human"}]}, r"messages\[0\]: no content"),
        ({"messages": [{"said": "Hi"}]}, r"messages\[0\]: role None is none of"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, r"messages\[1\]: no content"),
        ({"messages": [USER, {"role": "assistant"}]}, r"messages\[1\]: no content"),
        ({"messages": [{"role": "user", "content": ["parts"]}]}, r"messages\[0\]: content: wanted"),
        ({"prompt": "Hi"}, "no column 'completion'"),
        ({"prompt": "Hi", "completion": "  "}, "column 'completion' is empty"),
    ],
)
def test_a_row_that_is_no_conversation_says_why(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RowError, match=words):
        chat.parse(row_of(**values), {}, "c1")


def test_the_default_tasks_are_of_all_three_families() -> None:
    item, _, _ = chat.parse(row_of(messages=[USER, ASSISTANT]), {}, "c1")
    tasks = chat.tasks([item], EvalConfig())
    assert {task.family for task in tasks} == {"accuracy", "bias", "hallucination"}
    assert len({task.name for task in tasks}) == len(tasks)
