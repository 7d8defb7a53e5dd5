"""Redaction: consistent, complete, and nothing else is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data.personal_data.kinds import ALL, PLACEHOLDER, Kind
from recipes.data.personal_data.redact import Cleaned, Count, Redactor, actions_of
from recipes.data.personal_data.scan import scan
from tests.recipes.data.personal_data.test_scan import MIXED


def redactor(**actions: Any) -> Redactor:
    return Redactor(actions_of(actions or "redact"), is_searching=True)


def cleaned(values: dict[str, Any], **actions: Any) -> Cleaned:
    return redactor(**actions)(values, dict.fromkeys(values, ALL))


def redacted(text: str) -> str:
    return redactor().redact(text, ALL)[0]


@given(MIXED)
def test_redaction_is_idempotent_and_complete(text: str) -> None:
    once = redacted(text)

    assert scan(once) == ()
    assert redacted(once) == once


@given(MIXED)
def test_text_outside_of_spans_is_unchanged(text: str) -> None:
    once = redacted(text)

    rest = text
    for piece in PLACEHOLDER.split(once):
        assert piece in rest
        rest = rest[rest.index(piece) + len(piece) :]
    if not scan(text):
        assert once == text


@given(st.lists(MIXED, max_size=4))
def test_the_same_texts_give_the_same_placeholders(texts: list[str]) -> None:
    first, second = redactor(), redactor()

    assert [first.redact(t, ALL) for t in texts] == [second.redact(t, ALL) for t in texts]
    assert first.originals() == second.originals()


@given(st.lists(MIXED, max_size=4))
def test_a_placeholder_stands_for_one_value(texts: list[str]) -> None:
    one = redactor()
    for text in texts:
        one.redact(text, ALL)

    spellings = [(name.rpartition("_")[0], s) for name, of in one.originals().items() for s in of]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("anna@example.com", "ANNA@Example.com"),
        ("+49 170 1234567", "0170 1234567"),
        ("+49 (0)170 1234567", "0049 170 1234567"),
        ("DE89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        ("4111 1111 1111 1111", "4111-1111-1111-1111"),
        ("2001:db8::8a2e:370:7334", "2001:DB8:0:0:0:8A2E:370:7334"),
        ("00:00:5E:00:53:AF", "00-00-5e-00-53-af"),
    ],
)
def test_spellings_of_one_value_get_one_placeholder(first: str, second: str) -> None:
    one = redactor()
    texts = [one.redact(f"call {value} now", ALL)[0] for value in (first, second, first)]

    assert len(set(texts)) == 1
    assert one.originals()[texts[0].split(" ")[1]] == (first, second)


def test_values_are_numbered_by_first_appearance() -> None:
    one = redactor()

    assert one.redact("b@example.com, a@example.com", ALL)[0] == "<EMAIL_1>, <EMAIL_2>"
    assert one.redact("a@example.com, c@example.com", ALL)[0] == "<EMAIL_2>, <EMAIL_3>"


def test_a_word_that_comes_into_reach_is_heeded() -> None:
    text = f"telephone {'x' * 20} DE89 3704 0044 0532 0130 00 and 01701234567"

    assert scan(redacted(text)) == ()


def test_nested_texts_are_redacted_and_roles_are_not() -> None:
    values = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "mail a@example.com"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "a@example.com",
                        "function": {
                            "name": "send",
                            "arguments": json.dumps(
                                {"to": "a@example.com", "text": "1\na@example.com"}
                            ),
                        },
                    }
                ],
            },
        ]
    }

    turns = cleaned(values).values["messages"]

    assert turns[0]["content"][0]["text"] == "mail <EMAIL_1>"
    call = turns[1]["tool_calls"][0]
    assert call["id"] == "a@example.com"  # no one reads it, and the answer must match it
    assert json.loads(call["function"]["arguments"]) == {
        "to": "<EMAIL_1>",
        "text": "1\n<EMAIL_1>",
    }


def test_a_key_says_what_its_value_is() -> None:
    values = {
        "call": {"date_of_birth": "1984-03-12", "phone": "01701234567", "order": "01701234567"}
    }

    assert cleaned(values).values["call"] == {
        "date_of_birth": "<DATE_OF_BIRTH_1>",
        "phone": "<PHONE_1>",
        "order": "01701234567",
    }


def test_a_number_is_searched_as_text() -> None:
    values = {"call": {"card": 4111111111111111, "amount": 4111111111, "is_new": True}}

    assert cleaned(values).values["call"] == {
        "card": "<PAYMENT_CARD_1>",
        "amount": 4111111111,
        "is_new": True,
    }


def test_kinds_are_redacted_kept_or_counted_as_the_recipe_wants() -> None:
    one = redactor(email="redact", phone="keep")
    text = "a@example.com, +49 170 1234567, card 4111 1111 1111 1111"

    found = one({"text": text}, {"text": ALL})

    assert found.values == {"text": "<EMAIL_1>, +49 170 1234567, card 4111 1111 1111 1111"}
    assert found.redacted == {(Kind.EMAIL, "text"): 1}
    assert found.kept == {(Kind.PAYMENT_CARD, "text"): 1, (Kind.PHONE, "text"): 1}
    assert one.counts() == (
        Count(Kind.EMAIL, "text", 1, "redact"),
        Count(Kind.PAYMENT_CARD, "text", 1, "error"),
        Count(Kind.PHONE, "text", 1, "keep"),
    )


@given(MIXED)
def test_searching_for_the_other_kinds_changes_no_row(text: str) -> None:
    actions = actions_of({"email": "redact", "phone": "redact"})
    quiet, searching = Redactor(actions), Redactor(actions, is_searching=True)

    columns = {"text": ALL}
    assert quiet({"text": text}, columns).values == searching({"text": text}, columns).values
    assert quiet({"text": text}, columns).kept == {}


def test_other_columns_are_left_alone() -> None:
    one = redactor()

    found = one({"text": "a@example.com", "note": "b@example.com"}, {"text": ALL})

    assert found.values == {"text": "<EMAIL_1>", "note": "b@example.com"}


@pytest.mark.parametrize("spaces", ["", " "])
def test_a_number_redacted_in_a_json_text_leaves_it_json(spaces: str) -> None:
    arguments = '{"card":' + spaces + '4111111111111111, "days": 3}'
    found = cleaned({"messages": [{"arguments": arguments}]})
    [call] = found.values["messages"]
    assert json.loads(call["arguments"]) == {"card": "<PAYMENT_CARD_1>", "days": 3}


def test_a_key_that_is_personal_data_is_redacted() -> None:
    balances = {"ann@example.com": 12, "total": 12}
    found = cleaned({"messages": [{"arguments": balances}, {"arguments": json.dumps(balances)}]})
    first, second = (turn["arguments"] for turn in found.values["messages"])
    assert first == json.loads(second) == {"<EMAIL_1>": 12, "total": 12}
    assert found.redacted == {(Kind.EMAIL, "messages"): 2}
