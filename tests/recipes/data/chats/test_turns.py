"""One turn: its role, its content and its keys."""

from __future__ import annotations

from typing import Any

import pytest

from recipes.data import catalog
from recipes.data.findings import FindingKind
from tests.recipes.data.chats.examples import ASSISTANT, USER, chat, messages_of, read, spoken


@pytest.mark.parametrize(
    ("system", "user", "assistant"),
    [
        ("developer", "user", "assistant"),
        ("system", "human", "gpt"),
        ("System", "Human ", "chatgpt"),
        ("system", "prompter", "bard"),
        ("system", "USER", "model"),
        ("system", "human", "ai"),
    ],
)
def test_roles_are_known_by_the_names_in_use(system: str, user: str, assistant: str) -> None:
    turns = [
        {"from": system, "value": "Be brief."},
        {"from": user, "value": "Hi"},
        {"from": assistant, "value": "Hello"},
    ]
    messages, found = read({"conversations": turns})
    assert not found
    assert [message["role"] for message in messages or []] == ["system", "user", "assistant"]
    assert messages is not None
    assert "learned" not in messages[2]


@pytest.mark.parametrize(
    ("turn", "kind", "words"),
    [
        ("Hello", catalog.TURN_MALFORMED, "messages[1]: wanted a role and a content, found a str"),
        ({"role": "bot", "content": "x"}, catalog.ROLE_UNKNOWN, "messages[1]: role 'bot' is none"),
        ({"role": 7, "content": "x"}, catalog.ROLE_UNKNOWN, "messages[1]: role a int is none of"),
        ({"said": "Hi"}, catalog.ROLE_UNKNOWN, "messages[1]: no role; wanted one of system"),
        ({"from": "human"}, catalog.TURN_EMPTY, "messages[1]: no content"),
        ({"role": "assistant", "content": " "}, catalog.TURN_EMPTY, "messages[1]: no content"),
        ({"role": "assistant", "content": []}, catalog.TURN_EMPTY, "messages[1]: no content"),
        ({"role": "tool", "content": ""}, catalog.TURN_EMPTY, "messages[1]: no content"),
        (
            {"role": "user", "content": ["parts"]},
            catalog.TURN_MALFORMED,
            "messages[1]: content: wanted a text, or parts that are texts, found a str",
        ),
        (
            {"role": "user", "content": {"text": "x"}},
            catalog.TURN_MALFORMED,
            "messages[1]: content: wanted a text, or parts that are texts, found a dict",
        ),
        (
            {"role": "user", "content": [{"type": "tool_use"}]},
            catalog.TURN_MALFORMED,
            "found a part of type 'tool_use'",
        ),
    ],
)
def test_a_turn_that_cannot_be_read_drops_the_row(turn: Any, kind: FindingKind, words: str) -> None:
    messages, found = chat(USER, turn, USER, ASSISTANT)
    assert messages is None
    assert words in found[kind]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "image_url", "text": None},
        {"type": "input_audio", "input_audio": {}},
        {"type": "image", "text": "a caption"},
        {"type": "input_file"},
    ],
)
def test_an_image_a_sound_or_a_file_drops_the_row(part: dict[str, Any]) -> None:
    asked = {"role": "user", "content": [{"type": "text", "text": "Look"}, part]}
    messages, found = chat(asked, ASSISTANT)
    assert messages is None
    assert found[catalog.MEDIA].startswith("messages[0]: a part of type")


def test_parts_that_are_texts_are_one_text() -> None:
    parts = [
        {"type": "text", "text": "Hi"},
        {"text": "there"},
        {"type": "input_text", "text": "!", "image_url": None},
    ]
    assert (
        messages_of({"role": "user", "content": parts}, ASSISTANT)[0]["content"] == "Hi\nthere\n!"
    )


def test_a_refusal_is_the_answer() -> None:
    refused = {"role": "assistant", "content": None, "refusal": "I cannot."}
    assert messages_of(USER, refused)[1]["content"] == "I cannot."
    part = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    assert messages_of(USER, part) == messages_of(USER, refused)


def test_the_result_of_a_tool_may_be_an_object() -> None:
    call = {"role": "assistant", "tool_calls": [{"name": "find"}]}
    result = {"role": "tool", "content": {"city": "Köln"}}
    content = messages_of(USER, call, result, ASSISTANT)[2]["content"]
    assert content == '<tool_response>\n{"city": "Köln"}\n</tool_response>'


def test_keys_in_another_case_are_recognised_and_noted() -> None:
    turns = [{"Role": "user", "Content": "Hi"}, {"Role": "assistant", " content ": "Hello"}]
    messages, found = read({"Messages": turns})
    assert spoken(messages) == [("user", "Hi"), ("assistant", "Hello")]
    noted = found[catalog.KEY_CASE].split("; ")
    assert noted == [
        "column 'Messages' is read as 'messages'",
        "key 'Role' of a turn is read as 'role'",
        "key 'Content' of a turn is read as 'content'",
        "key ' content ' of a turn is read as 'content'",
    ]
    assert catalog.KEY_CASE.severity == "warning"


def test_the_usual_spelling_of_a_key_goes_before_another() -> None:
    messages, found = chat({"Content": "No", **USER}, ASSISTANT)
    assert messages == messages_of(USER, ASSISTANT)
    assert found == {catalog.TURN_KEY: "key 'Content' of a turn"}


def test_unknown_keys_of_turns_are_named_once_a_row() -> None:
    messages, found = chat(
        {**USER, "mood": "good", "id": None}, {**ASSISTANT, "mood": "bad", "end_turn": True}
    )
    assert messages == messages_of(USER, ASSISTANT)
    assert found == {catalog.TURN_KEY: "key 'mood' of a turn; key 'end_turn' of a turn"}


def test_known_keys_that_mean_nothing_in_a_turn_are_named_too() -> None:
    found = chat({**USER, "name": "Ann", "thought": "hm"}, ASSISTANT)[1]
    assert found == {
        catalog.TURN_KEY: "key 'name' in a turn of the user; key 'thought' in a turn of the user"
    }


def test_keys_padded_with_nulls_are_no_keys() -> None:
    nothing = dict.fromkeys(
        ("weight", "tool_calls", "function_call", "name", "refusal", "reasoning", "mood")
    )
    assert messages_of(USER | nothing, ASSISTANT | nothing) == messages_of(USER, ASSISTANT)
