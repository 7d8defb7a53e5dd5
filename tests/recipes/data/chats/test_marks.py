"""Turns marked as not to be learned."""

from __future__ import annotations

from typing import Any

import pytest

from recipes.data import catalog
from tests.recipes.data.chats.examples import ASSISTANT, USER, chat, messages_of

DRAFT = {"role": "assistant", "content": "Go away."}


@pytest.mark.parametrize(
    "mark",
    [
        {"weight": 0},
        {"weight": 0.0},
        {"train": False},
        {"training": False},
        {"loss": False},
        {"loss_weight": 0},
        {"loss_mask": 0},
        {"step_loss_mask": 0},
        {"trainable": False},
        {"train_on_turn": False},
        {"masked": True},
        {"train": False, "weight": 0},
    ],
)
def test_a_turn_marked_in_any_convention_is_context_and_not_learned(mark: dict[str, Any]) -> None:
    messages = messages_of(USER, DRAFT | mark, USER, ASSISTANT)
    assert messages[1] == {"role": "assistant", "content": "Go away.", "learned": False}
    assert messages[3] == ASSISTANT


@pytest.mark.parametrize(
    "mark",
    [
        {"weight": 1},
        {"train": True},
        {"loss": True},
        {"loss_mask": 1},
        {"masked": False},
        {"weight": None, "train": None, "train_detail": None},
        {"weight": float("nan")},
    ],
)
def test_a_turn_marked_as_learned_is_a_turn_like_any_other(mark: dict[str, Any]) -> None:
    assert messages_of(USER, ASSISTANT | mark) == messages_of(USER, ASSISTANT)


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ({"weight": 0.5}, "weight: 0.5 is not understood"),
        ({"weight": -1}, "weight: -1 is"),
        ({"train": "false"}, "train: a str is not understood"),
        ({"loss_mask": True}, "loss_mask: True is not"),
        ({"mask": 1}, "mask: 1 is"),
        ({"learn": False}, "learn: False is"),
        ({"train_detail": [{"begin_offset": 0}]}, "train_detail: a list is"),
        ({"train": True, "weight": 0}, "train: True and weight: 0 contradict each other"),
    ],
)
def test_a_mark_that_is_not_understood_drops_the_row(mark: dict[str, Any], words: str) -> None:
    messages, found = chat(USER, ASSISTANT | mark)
    assert messages is None
    assert words in found[catalog.TURN_MARK]
    assert found[catalog.TURN_MARK].startswith("messages[1]")


def test_a_chat_in_which_nothing_is_learned_is_dropped() -> None:
    messages, found = chat(USER, DRAFT | {"train": False})
    assert messages is None
    assert list(found) == [catalog.CHAT_NOT_LEARNED]


def test_a_mark_on_another_turn_is_named_where_it_asks_for_learning() -> None:
    messages, found = chat(USER | {"train": True}, ASSISTANT)
    assert messages == messages_of(USER | {"train": False}, ASSISTANT)
    assert found == {catalog.TURN_MARK_UNUSED: "key 'train' in a turn of the user"}
