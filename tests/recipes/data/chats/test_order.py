"""The order of turns, and what the recipe does about an unusual one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data import catalog
from tests.recipes.data.chats.examples import ASSISTANT, SYSTEM, USER, chat, read, spoken

MERGE = {"repeated": "merge", "late_system": "merge"}
KEEP = {"repeated": "keep", "late_system": "keep", "assistant_first": "keep"}
AGAIN = {"role": "user", "content": "Anyone?"}


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([USER, AGAIN, ASSISTANT], "messages[0] and messages[1] are both by the user"),
        ([USER, ASSISTANT, ASSISTANT], "messages[1] and messages[2] are both by the assistant"),
        (
            [USER, AGAIN, AGAIN, ASSISTANT],
            "messages[0] and messages[1] are both by the user (and 1 more in this chat)",
        ),
    ],
)
def test_repeated_turns_are_an_error_until_the_recipe_says_otherwise(
    turns: list[Any], words: str
) -> None:
    messages, found = chat(*turns)
    assert messages is None
    assert found == {catalog.REPEATED_TURNS: words}


def test_repeated_turns_are_joined_or_kept_and_counted() -> None:
    messages, found = chat(USER, AGAIN, ASSISTANT, turns=MERGE)
    assert spoken(messages) == [("user", "Hi\nAnyone?"), ("assistant", "Hello")]
    assert "joined" in found[catalog.TURN_ORDER_ACCEPTED]
    messages, found = chat(USER, AGAIN, ASSISTANT, turns=KEEP)
    assert [role for role, _ in spoken(messages)] == ["user", "user", "assistant"]
    assert "kept" in found[catalog.TURN_ORDER_ACCEPTED]


def test_a_learned_turn_is_never_joined_with_one_that_is_not() -> None:
    messages, found = chat(USER, ASSISTANT | {"train": False}, ASSISTANT, turns=MERGE)
    assert messages is None
    assert "only one is learned" in found[catalog.REPEATED_TURNS]


def test_reasoning_of_joined_turns_is_kept() -> None:
    first = ASSISTANT | {"thought": "a"}
    messages, _ = chat(USER, first, ASSISTANT | {"thought": "b"}, turns=MERGE, reasoning="keep")
    assert messages is not None
    assert messages[1]["reasoning_content"] == "a\n\nb"


@pytest.mark.parametrize("values", [{"system": "One."}, {}])
def test_a_late_system_turn_is_an_error_is_moved_to_the_start_or_is_kept(
    values: dict[str, str],
) -> None:
    late = turn("system", "Two.")
    turns = [USER, ASSISTANT, late, USER, ASSISTANT]
    messages, found = read({"messages": turns, **values})
    assert messages is None
    assert found[catalog.LATE_SYSTEM].startswith("messages[2]: a system turn")
    messages, _ = read({"messages": turns, **values}, turns=MERGE)
    expected = "One.\nTwo." if values else "Two."
    assert spoken(messages) == [("system", expected), *spoken([USER, ASSISTANT] * 2)]  # type: ignore[list-item]
    messages, _ = read({"messages": turns, **values}, turns=KEEP)
    assert ("system", "Two.") in spoken(messages)[2:]


def test_a_system_text_beside_the_same_system_turn_is_one() -> None:
    messages, found = read({"messages": [SYSTEM, USER, ASSISTANT], "system": SYSTEM["content"]})
    assert not found
    assert len(messages or []) == 3


def test_a_chat_that_begins_with_the_assistant_is_an_error_until_it_is_kept() -> None:
    greeting = [SYSTEM, ASSISTANT, USER, ASSISTANT]
    messages, found = chat(*greeting)
    assert messages is None
    assert found[catalog.ASSISTANT_FIRST].startswith("messages[1]: the first message")
    messages, found = chat(*greeting, turns=KEEP)
    assert len(messages or []) == 4
    assert list(found) == [catalog.TURN_ORDER_ACCEPTED]


def test_a_chat_must_end_with_the_assistant_and_have_a_question() -> None:
    assert list(chat(USER, ASSISTANT, USER)[1]) == [catalog.LAST_TURN]
    assert list(chat(SYSTEM, ASSISTANT)[1]) == [catalog.NO_USER_TURN]
    assert list(chat()[1]) == [catalog.LAST_TURN, catalog.NO_USER_TURN]


def test_all_faults_of_a_chat_are_found_at_once() -> None:
    thought = ASSISTANT | {"thought": "a"}
    found = chat(ASSISTANT, USER, USER, SYSTEM, thought, USER)[1]
    assert set(found) == {
        catalog.REASONING_UNDECIDED,
        catalog.LATE_SYSTEM,
        catalog.REPEATED_TURNS,
        catalog.LAST_TURN,
        catalog.ASSISTANT_FIRST,
    }


@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant"]), st.integers(0, 99)), max_size=9
    )
)
def test_merging_loses_no_text_and_leaves_turns_that_alternate(
    given: list[tuple[str, int]],
) -> None:
    turns = [USER, *(turn(role, f"t{number}.") for role, number in given), USER, ASSISTANT]
    messages, _ = chat(*turns, turns=MERGE)
    assert messages is not None
    for role in ("system", "user", "assistant"):
        written = [one["content"] for one in turns if one["role"] == role]
        assert "\n".join(m["content"] for m in messages if m["role"] == role) == "\n".join(written)
    roles = [message["role"] for message in messages]
    assert "system" not in roles[1:]
    assert all(a != b for a, b in pairwise(roles))
