"""The layouts in which chats are kept and published."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recipes.data import catalog
from recipes.data.conversations import turns_of
from recipes.data.rows import MissingColumn
from tests.recipes.data.chats.examples import ASSISTANT, SYSTEM, USER, messages_of, read, spoken
from tests.recipes.rows import ignore, row_of, settings_of

HI = [USER, ASSISTANT]


@pytest.mark.parametrize(
    "values",
    [
        {"messages": HI},
        {"messages": json.dumps(HI)},
        {"messages": HI, "prompt": "as the Hub's UltraChat has it"},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, HI[1]]},
        {"prompt": "Hi", "completion": " Hello"},
        {"Prompt": "Hi", "Completion": "Hello"},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {"prompt": [USER], "completion": "Hello"},
        {"prompt": "Hi", "completion": [ASSISTANT]},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "output": "Hello"},
        {
            "prompt": {
                "role": "prompter",
                "text": "Hi",
                "replies": [
                    {"role": "assistant", "text": "no", "rank": 1},
                    {"role": "assistant", "text": "gone", "rank": 0, "deleted": True},
                    {
                        "role": "assistant",
                        "text": "Hello",
                        "rank": 0,
                        "replies": [{"role": "prompter", "text": "and then?"}],
                    },
                    {"role": "assistant", "text": "unranked"},
                ],
            }
        },
    ],
)
def test_every_layout_gives_the_same_turns(values: dict[str, Any]) -> None:
    messages, found = read(values)
    assert messages == messages_of(*HI)
    assert {kind.code for kind in found} <= {"key-case"}


def test_an_input_is_below_its_instruction_and_columns_may_have_other_names() -> None:
    columns = {"instruction": "task", "input": "text", "output": "done"}
    messages, _ = read({"task": "Shorten.", "text": "Long.", "done": "L."}, columns=columns)
    assert spoken(messages)[0] == ("user", "Shorten.\n\nLong.")
    columns = {"messages": "turns", "tools": "functions_used"}
    messages, _ = read({"turns": HI, "functions_used": [{"name": "f"}]}, columns=columns)
    assert '{"name": "f"}' in spoken(messages)[0][1]


def test_the_system_text_and_the_history_beside_the_turns_come_before_them() -> None:
    expected = spoken(messages_of(SYSTEM, *HI))
    shared = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert spoken(read({"conversations": shared, "system": " Be brief. "})[0]) == expected
    assert spoken(read({"messages": HI, "system": ""})[0]) == expected[1:]
    before = [["Who?", "Me."]]
    alpaca = {"instruction": "Hi", "output": "Hello", "system": "Be brief.", "history": before}
    assert spoken(read(alpaca)[0]) == [
        expected[0],
        ("user", "Who?"),
        ("assistant", "Me."),
        *expected[1:],
    ]


def test_only_the_completion_is_learned_where_the_prompt_is_a_list() -> None:
    messages, found = read({"prompt": [SYSTEM, USER, ASSISTANT, USER], "completion": "Bye"})
    assert not found
    assert [message.get("learned", True) for message in messages or []] == [
        True,
        True,
        False,
        True,
        True,
    ]


def test_reasoning_beside_a_completion_belongs_to_it() -> None:
    for values in (
        {"prompt": "Hi", "completion": "Hello", "reasoning": "a"},
        {"instruction": "Hi", "output": "Hello", "reasoning": "a"},
    ):
        messages, found = read(values, reasoning="keep")
        assert not found
        assert messages is not None
        assert messages[1].get("reasoning_content") == "a"


def test_a_column_that_is_mapped_is_what_the_recipe_says_it_is() -> None:
    columns = {"completion": "thought"}
    messages, found = read({"prompt": "Hi", "thought": "Hello"}, columns=columns)
    assert (messages, found) == (messages_of(*HI), {})


@pytest.mark.parametrize(
    "values", [{"chosen": HI, "rejected": HI}, {"prompt": "Hi", "chosen": "x"}]
)
def test_a_preference_row_is_refused_with_a_way_out(values: dict[str, Any]) -> None:
    messages, found = read(values)
    assert messages is None
    assert list(found) == [catalog.PREFERENCE_ROW]
    assert "completion" in catalog.PREFERENCE_ROW.way_out


def test_settings_in_a_row_are_named_and_ordinary_columns_are_not() -> None:
    messages, found = read(
        {
            "messages": HI,
            "tool_choice": "auto",
            "chosen": "x",
            "Weight": 0,
            "loss": 0.25,
            "mask": "User",
            "id": 3,
            "scenario": "Auto",
            "date": "2024-01-01",
            "documents": [],
            "train": None,
        }
    )
    assert messages == messages_of(*HI)
    named = "column 'tool_choice'; column 'chosen'; column 'Weight'; column 'mask'"
    assert found == {catalog.ROW_KEY: named}


def test_an_attachment_in_a_column_drops_the_row() -> None:
    messages, found = read({"messages": HI, "images": ["cat.png"], "videos": []})
    assert messages is None
    assert found == {catalog.MEDIA: "column 'images' holds an attachment"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"messages": "Hi"}, "wanted list, found str"),
        ({"messages": "[Hi"}, "a list of turns that is not valid JSON"),
        ({"messages": None}, "column 'messages' has no value"),
        ({"conversations": "Hi"}, "wanted list"),
        ({"prompt": "Hi", "completion": "  "}, "column 'completion' is empty"),
        ({"prompt": "", "completion": "Hi"}, "column 'prompt' is empty"),
        ({"instruction": "Hi"}, "no column 'output'"),
        ({"instruction": "Hi", "output": "x", "history": ["Hi"]}, "wanted a list of pairs"),
        ({"prompt": {"role": "prompter", "text": "Hi"}}, "nothing to learn"),
        ({"messages": HI, "system": ["s"]}, "system: wanted a text, found a list"),
    ],
)
def test_what_is_no_chat_says_why(values: dict[str, Any], words: str) -> None:
    messages, found = read(values)
    assert messages is None
    assert any(words in detail for detail in found.values())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"text": "Hi"}, "no column 'messages', .* or 'instruction'; the row has text"),
        ({"prompt": "Hi"}, "no column 'completion'"),
    ],
)
def test_a_missing_column_says_what_the_row_has(values: dict[str, Any], words: str) -> None:
    with pytest.raises(MissingColumn, match=words):
        turns_of(row_of(**values), settings_of(), ignore)


def test_what_another_layout_holds_beside_the_messages_is_named() -> None:
    found: list[str] = []
    values = {"messages": HI, "prompt": "Hi", "completion": "Bye", "output": ""}
    turns_of(
        row_of(**values), settings_of(), lambda kind, text: found.append(f"{kind.code}: {text}")
    )
    assert found == ["second-layout: column 'completion' is not read, as the row has messages"]
