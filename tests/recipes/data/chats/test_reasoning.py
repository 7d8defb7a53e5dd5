"""Reasoning beside and inside the content of a turn."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data import catalog
from recipes.data.chats.reasoning import take_apart
from tests.recipes.data.chats.examples import ASSISTANT, USER, chat, messages_of

PLAIN = st.text(st.characters(blacklist_characters="<>"), max_size=20)

BESIDE_AND_INSIDE = [
    {"content": "Desk 0.", "reasoning_content": "List says 0."},
    {"content": "Desk 0.", "reasoning": "List says 0."},
    {"content": "Desk 0.", "thinking": " List says 0.\n"},
    {"content": "Desk 0.", "thought": "List says 0."},
    {"content": "Desk 0.", "thinking": "List says 0.", "reasoning": "List says 0."},
    {"content": "<think>\nList says 0.\n</think>\n\nDesk 0."},
    {"content": "<Thinking>List says 0.</Thinking>Desk 0."},
    {"content": "List says 0.\n</think>\n\nDesk 0."},
    {"content": "<think>List says 0.</think>Desk 0.", "reasoning_content": "List says 0."},
    {
        "content": [
            {"type": "thinking", "thinking": "List says 0."},
            {"type": "text", "text": "Desk 0."},
        ]
    },
]


@pytest.mark.parametrize("keys", BESIDE_AND_INSIDE)
def test_reasoning_is_kept_in_a_field_of_its_own_or_dropped(keys: dict[str, Any]) -> None:
    turn = {"role": "assistant", **keys}
    kept = messages_of(USER, turn, reasoning="keep")
    assert kept[1] == {
        "role": "assistant",
        "content": "Desk 0.",
        "reasoning_content": "List says 0.",
    }
    dropped = messages_of(USER, turn, reasoning="drop")
    assert dropped[1] == {"role": "assistant", "content": "Desk 0."}


@pytest.mark.parametrize("keys", [*BESIDE_AND_INSIDE, {"content": "<think>\n\n</think>\n\nHi"}])
def test_reasoning_without_a_decision_of_the_recipe_is_an_error(keys: dict[str, Any]) -> None:
    messages, found = chat(USER, {"role": "assistant", **keys})
    assert messages is None
    assert list(found) == [catalog.REASONING_UNDECIDED]
    assert found[catalog.REASONING_UNDECIDED].startswith("messages[1]: reasoning ")
    assert "data.reasoning: keep" in catalog.REASONING_UNDECIDED.way_out


@pytest.mark.parametrize("policy", [None, "keep", "drop"])
def test_chats_without_reasoning_need_no_decision(policy: str | None) -> None:
    padded = {**ASSISTANT, "reasoning_content": None, "thinking": ""}
    assert messages_of(USER, padded, reasoning=policy) == messages_of(USER, ASSISTANT)


@pytest.mark.parametrize("policy", ["keep", "drop"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<think>Still thinking", "a thought is not closed"),
        ("<think>one</think>Hi</think>", "closes a thought that is not open"),
        ("<think>one<think>two</think>Hi", "opens a second thought"),
    ],
)
def test_a_thought_that_cannot_be_told_from_the_answer_drops_the_row(
    content: str, words: str, policy: str
) -> None:
    messages, found = chat(USER, {**ASSISTANT, "content": content}, reasoning=policy)
    assert messages is None
    assert words in found[catalog.REASONING_UNCLEAR]


@pytest.mark.parametrize(
    "keys",
    [
        {"content": "Sure.<think>really?</think> Yes."},
        {"content": "<think>a</think>Sure.<think>b</think> Yes."},
        {"content": "<think>a</think>Sure. Yes.", "reasoning": "c"},
    ],
)
def test_several_thoughts_can_be_dropped_and_not_kept(keys: dict[str, str]) -> None:
    turn = {"role": "assistant", **keys}
    assert messages_of(USER, turn, reasoning="drop")[1]["content"] == "Sure. Yes."
    assert catalog.REASONING_UNCLEAR in chat(USER, turn, reasoning="keep")[1]


@pytest.mark.parametrize("policy", [None, "keep", "drop"])
@pytest.mark.parametrize(
    "keys",
    [{"content": "<think>a</think>"}, {"content": "a</think> "}, {"content": "", "thought": "a"}],
)
def test_a_thought_without_an_answer_drops_the_row(
    keys: dict[str, str], policy: str | None
) -> None:
    messages, found = chat(USER, {"role": "assistant", **keys}, reasoning=policy)
    assert messages is None
    assert found[catalog.REASONING_WITHOUT_ANSWER] == "messages[1]"


def test_a_call_is_an_answer_to_a_thought() -> None:
    call = {"role": "assistant", "content": "<think>a</think>", "tool_calls": [{"name": "find"}]}
    assert messages_of(USER, call, reasoning="keep")[1]["reasoning_content"] == "a"


def test_tags_in_turns_of_the_user_are_words() -> None:
    asked = {"role": "user", "content": "What does <think> mean?"}
    assert messages_of(asked, ASSISTANT)[0]["content"] == "What does <think> mean?"


def test_reasoning_that_is_no_text_is_named() -> None:
    found = chat(USER, {**ASSISTANT, "thinking": {"a": 1}}, reasoning="keep")[1]
    assert "messages[1]: thinking: wanted a text" in found[catalog.TURN_MALFORMED]


@given(PLAIN, PLAIN, st.booleans())
def test_neither_the_answer_nor_the_thought_is_ever_lost(
    thought: str, answer: str, is_opened: bool
) -> None:
    split = take_apart(f"{'<think>' if is_opened else ''}{thought}</think>{answer}")
    assert (split.answer, split.thoughts) == (answer.strip(), (thought.strip(),))
    assert take_apart(answer).answer == answer.strip()
