"""Tool calls, their results and the list of tools."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data import catalog
from recipes.data.findings import FindingKind
from tests.recipes.data.chats.examples import ASSISTANT, USER, chat, messages_of, read, spoken


def call(name: str, id: str | None = None, **arguments: Any) -> dict[str, Any]:  # noqa: A002
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"type": "function", "function": function} | ({"id": id} if id else {})


def calls(*given: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(given)}


def result(content: str, id: str | None = None, **keys: str) -> dict[str, Any]:  # noqa: A002
    return {"role": "tool", "content": content} | keys | ({"tool_call_id": id} if id else {})


TWO = calls(call("find", "a", city="Köln"), call("book", "b", beds=2))


def responses(*contents: str) -> str:
    return "\n".join(f"<tool_response>\n{content}\n</tool_response>" for content in contents)


def test_calls_are_words_of_the_assistant_and_results_are_turns_of_the_user() -> None:
    messages = messages_of(USER, TWO, result("r1", "a"), result("r2", "b"), ASSISTANT)
    assert spoken(messages)[1:3] == [
        (
            "assistant",
            '<tool_call>\n{"name": "find", "arguments": {"city": "Köln"}}\n</tool_call>\n'
            '<tool_call>\n{"name": "book", "arguments": {"beds": 2}}\n</tool_call>',
        ),
        ("user", responses("r1", "r2")),
    ]


@given(st.permutations(range(6)), st.integers(min_value=0, max_value=2))
def test_results_come_in_the_order_of_their_calls_whatever_order_they_are_given_in(
    order: list[int], matched_by: int
) -> None:
    given = calls(*(call(f"tool{i}", f"id{i}" if matched_by < 2 else None) for i in range(6)))
    results = [
        result(f"r{i}", f"id{i}")
        if matched_by == 0 or (matched_by == 1 and i % 2)
        else result(f"r{i}", name=f"tool{i}")
        for i in order
    ]
    messages = messages_of(USER, given, *results, ASSISTANT)
    assert messages[2]["content"] == responses(*(f"r{i}" for i in range(6)))


def test_results_without_id_or_name_are_matched_by_position() -> None:
    given = calls(call("find"), call("find"))
    messages = messages_of(USER, given, result("r1"), result("r2"), ASSISTANT)
    assert messages[2]["content"] == responses("r1", "r2")
    mixed = calls(call("find", "a"), call("find"))
    messages = messages_of(USER, mixed, result("r2"), result("r1", "a"), ASSISTANT)
    assert messages[2]["content"] == responses("r1", "r2")


def test_a_call_that_ends_the_chat_needs_no_result() -> None:
    assert messages_of(USER, TWO)[-1]["role"] == "assistant"


@pytest.mark.parametrize(
    ("turns", "kind", "words"),
    [
        ([USER, TWO, result("r", "a"), ASSISTANT], catalog.CALL_UNANSWERED, "messages[1]: the cal"),
        (
            [USER, calls(call("f", "a")), USER, ASSISTANT],
            catalog.CALL_UNANSWERED,
            "the call of 'f'",
        ),
        (
            [USER, ASSISTANT, result("r"), ASSISTANT],
            catalog.ANSWER_WITHOUT_CALL,
            "messages[2]: no call before it",
        ),
        (
            [USER, calls(call("f", "a")), result("r", "z"), ASSISTANT],
            catalog.ANSWER_WITHOUT_CALL,
            "messages[2]: its tool_call_id is of no call in messages[1]",
        ),
        (
            [USER, calls(call("f")), result("r"), result("s"), ASSISTANT],
            catalog.ANSWER_WITHOUT_CALL,
            "messages[3]: messages[1] has no open call",
        ),
        (
            [USER, calls(call("f")), result("r", name="g"), ASSISTANT],
            catalog.ANSWER_WITHOUT_CALL,
            "messages[2]: its name is of no open call",
        ),
        (
            [USER, calls(call("f", "a"), call("g", "a")), result("r", "a"), ASSISTANT],
            catalog.CALL_ID_DUPLICATE,
            "messages[1]: a call's id",
        ),
        (
            [USER, calls(call("f", "a")), result("r", "a"), calls(call("f", "a"))],
            catalog.CALL_ID_DUPLICATE,
            "messages[3]: a call's id is used before",
        ),
        (
            [USER, calls(call("f", "a")), result("r", "a"), result("s", "a"), ASSISTANT],
            catalog.CALL_ID_DUPLICATE,
            "messages[3]: a second result",
        ),
        ([{**USER, "tool_calls": [call("f")]}, ASSISTANT], catalog.CALL_MALFORMED, "of the user"),
        ([USER, calls({})], catalog.CALL_MALFORMED, "messages[1]: a tool call without the name"),
        ([USER, {**ASSISTANT, "tool_calls": "x"}], catalog.CALL_MALFORMED, "wanted a list"),
        (
            [USER, calls({"function": {"name": "find", "arguments": "two beds"}})],
            catalog.CALL_ARGUMENTS,
            "messages[1]: the arguments of 'find' are not a JSON object",
        ),
        (
            [USER, calls({"function": {"name": "find", "arguments": '{"n": NaN}'}})],
            catalog.CALL_ARGUMENTS,
            "the arguments of 'find'",
        ),
        ([USER, calls({"name": "find", "arguments": [1]})], catalog.CALL_ARGUMENTS, "find"),
    ],
)
def test_each_fault_of_calls_is_a_finding_of_its_own(
    turns: list[Any], kind: FindingKind, words: str
) -> None:
    messages, found = chat(*turns)
    assert messages is None
    assert words in found[kind]
    assert kind.drops_row


def test_a_call_without_arguments_has_an_empty_object() -> None:
    for arguments in ("", None, {}):
        given = calls({"function": {"name": "now", "arguments": arguments}})
        assert '"arguments": {}' in messages_of(USER, given)[1]["content"]


def test_the_older_forms_of_openai_are_calls_too() -> None:
    function_call = {"name": "find", "arguments": '{"n": 1}'}
    old = [
        USER,
        {"role": "assistant", "content": None, "function_call": function_call},
        {"role": "function", "name": "find", "content": "r"},
        ASSISTANT,
    ]
    functions = [{"name": "find", "parameters": {}}]
    new = [USER, calls(call("find", "a", n=1)), result("r", "a"), ASSISTANT]
    tools = [{"type": "function", "function": functions[0]}]
    assert read({"messages": old, "functions": functions}) == read(
        {"messages": new, "tools": tools}
    )
    both = {"messages": old, "functions": functions, "tools": tools}
    assert "keep one" in read(both)[1][catalog.CALL_MALFORMED]


@pytest.mark.parametrize(
    ("called", "answered"), [("function_call", "observation"), ("tool_call", "tool_response")]
)
def test_calls_in_turns_of_their_own_join_the_turn_before(called: str, answered: str) -> None:
    turns = [
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "One moment."},
        {"from": called, "value": '{"name": "find", "arguments": {}}'},
        {"from": called, "value": '{"name": "book", "arguments": {}}'},
        {"from": answered, "value": "r1"},
        {"from": answered, "value": "r2"},
        {"from": "gpt", "value": "Hello"},
    ]
    messages, found = read({"conversations": turns})
    assert not found
    parallel = {**calls(call("find"), call("book")), "content": "One moment."}
    assert messages == messages_of(USER, parallel, result("r1"), result("r2"), ASSISTANT)


def test_a_call_in_a_turn_of_its_own_must_be_json() -> None:
    turns = [
        {"from": "human", "value": "Hi"},
        {"from": "function_call", "value": "find(city)"},
    ]
    assert "messages[1]" in read({"conversations": turns})[1][catalog.CALL_MALFORMED]


@pytest.mark.parametrize("tools", [[{"name": "find"}], '[{"name": "find"}]', ['{"name": "find"}']])
def test_tools_are_written_into_the_system_turn_also_when_they_are_a_text(tools: Any) -> None:
    messages, found = read({"messages": [USER, ASSISTANT], "tools": tools, "system": "Be brief."})
    assert not found
    assert messages is not None
    assert messages[0]["content"].startswith("Be brief.\n\n# Tools")
    assert '<tools>\n{"name": "find"}\n</tools>' in messages[0]["content"]


@pytest.mark.parametrize("tools", [None, "", "[]", [], float("nan")])
def test_no_tools_leave_the_chat_as_it_is(tools: Any) -> None:
    assert read({"messages": [USER, ASSISTANT], "tools": tools}) == chat(USER, ASSISTANT)


@pytest.mark.parametrize("tools", ["find, book", [1], 3, "[1]"])
def test_tools_that_are_no_list_of_objects_are_a_finding(tools: Any) -> None:
    found = read({"messages": [USER, ASSISTANT], "tools": tools})[1]
    assert "tools: wanted" in found[catalog.CALL_MALFORMED]
