"""Conversations in the layouts that they are kept and published in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recipes.chat import parse
from recipes.config import DataConfig
from recipes.conversations import turns_of
from recipes.data import check_rows
from recipes.errors import Problem
from recipes.rows import RowError
from tests.recipes.rows import row_of

HI = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
CALL = {"type": "function", "function": {"name": "find", "arguments": '{"city": "Köln"}'}}


def turns(columns: dict[str, str] | None = None, **values: Any) -> list[tuple[str, str]]:
    return [(t["role"], t["content"]) for t in turns_of(row_of(**values), columns or {})]


@pytest.mark.parametrize(
    "values",
    [
        {"messages": HI},
        {"messages": HI, "prompt": "as the Hub's UltraChat has it"},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, HI[1]]},
        {"prompt": "Hi", "completion": " Hello"},
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
    assert turns(**values) == [("user", "Hi"), ("assistant", "Hello")]


def test_an_input_stands_below_its_instruction_and_columns_may_have_other_names() -> None:
    columns = {"instruction": "task", "input": "text", "output": "done"}
    assert turns(columns, task="Shorten.", text="Long.", done="L.")[0] == (
        "user",
        "Shorten.\n\nLong.",
    )


def test_calls_are_said_by_the_assistant_and_results_by_the_user() -> None:
    typed = {"function": {"name": "book", "arguments": "two beds"}}
    messages = [
        {"role": "system", "content": "Book."},
        {"role": "user", "content": "A room in Köln"},
        {"role": "assistant", "content": None, "tool_calls": [CALL, typed]},
        {"role": "tool", "tool_call_id": "1", "content": "[]"},
        {"role": "tool", "tool_call_id": "2", "content": "none"},
        {"role": "assistant", "content": "There is none."},
    ]
    found = turns(messages=messages, tools=[{"name": "find"}])
    assert [role for role, _ in found] == ["system", "user", "assistant", "user", "assistant"]
    assert found[0][1].startswith("Book.\n\n# Tools")
    assert '<tools>\n{"name": "find"}\n</tools>' in found[0][1]
    assert found[2][1] == (
        '<tool_call>\n{"name": "find", "arguments": {"city": "Köln"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "book", "arguments": "two beds"}\n</tool_call>'
    )
    assert found[3][1] == (
        "<tool_response>\n[]\n</tool_response>\n<tool_response>\nnone\n</tool_response>"
    )
    assert turns(messages=messages[1:], tools=[{"name": "find"}])[0][0] == "system"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"messages": [*HI, {"role": "tool", "content": "x"}]}, "last message is not by the ass"),
        ({"messages": [{**HI[0], "tool_calls": [CALL]}, HI[1]]}, "in a turn of the assistant"),
        ({"messages": [HI[0], {**HI[1], "tool_calls": [{}]}]}, "without the name of its function"),
        ({"messages": [HI[0], {**HI[1], "tool_calls": "x"}]}, "tool_calls: wanted a list"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}, HI[1]]},
            "parts that are te",
        ),
        ({"messages": [HI[0], {**HI[1], "content": None}]}, "no content"),
        (
            {"messages": [HI[0], {**HI[1], "content": {"text": "x"}, "tool_calls": [CALL]}]},
            "a text",
        ),
        ({"messages": [HI[0], {**HI[1], "weight": 0}]}, "weight 0: every turn of the assistant is"),
        (
            {"messages": [HI[0], {**HI[1], "function_call": {"name": "f"}}]},
            "older form of tool_calls",
        ),
        ({"messages": HI, "functions": [{"name": "f"}]}, "older form of tools"),
        ({"messages": [HI[1], *HI]}, "first message is by the assistant"),
        ({"messages": HI, "system": ["s"]}, "system: wanted a text"),
        ({"messages": [{"role": "system", "content": "s"}, *HI], "system": "t"}, "keep one"),
        ({"instruction": "Hi", "output": "x", "history": ["Hi"]}, "wanted a list of pairs"),
        ({"instruction": "Hi"}, "no column 'output'"),
        ({"prompt": {"role": "prompter", "text": "Hi"}}, "nothing to learn"),
        ({"conversations": "Hi"}, "wanted list"),
    ],
)
def test_what_is_no_conversation_says_why(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RowError, match=words):
        turns(**values)


SHARED = Path(__file__).parents[3] / "shared" / "data"

PUBLISHED = [
    ("sharegpt_format/dummy_conversation.json", {}, 500, 0),
    ("self_instruct/alpaca_format.json", {}, 427, 0),
    ("oasst_trees/en_tree.jsonl", {}, 60, 0),
    ("taskmaster4/eval_messages.jsonl", {}, 100, 3),
    ("sgd_chat/tools_messages.jsonl", {}, 150, 0),
    ("e2e_nlg/devset.csv", {"prompt": "mr", "completion": "ref"}, 4672, 0),
]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public data is not beside this checkout")
@pytest.mark.parametrize(("name", "columns", "num_rows", "most_bad"), PUBLISHED)
def test_published_files_are_read_as_they_are(
    name: str, columns: dict[str, str], num_rows: int, most_bad: int
) -> None:
    """About 2 % of Taskmaster's chats end with a tool, as its README says."""
    bad: list[Problem] = []
    config = DataConfig(train=(name,), columns=columns)
    rows = check_rows([SHARED / name], config, parse, bad)
    assert len(rows) + len(bad) == num_rows
    assert len(bad) <= most_bad, json.dumps([str(problem) for problem in bad[:3]])


def test_what_some_layouts_keep_beside_the_turns_is_told_before_them() -> None:
    said = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")]
    shared = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert turns(conversations=shared, system=" Be brief. ") == said
    assert turns(messages=HI, system="") == said[1:]
    before = [["Who?", "Me."]]
    assert turns(instruction="Hi", output="Hello", system="Be brief.", history=before) == [
        said[0],
        ("user", "Who?"),
        ("assistant", "Me."),
        *said[1:],
    ]
    nothing = {"weight": None, "tool_calls": None, "function_call": None}  # as Parquet has it
    assert turns(messages=[{**turn, **nothing} for turn in HI]) == said[1:]
