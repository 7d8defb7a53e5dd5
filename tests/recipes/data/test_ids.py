"""Ids: forms that mean one thing are joined, forms that could mean two never are."""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data.ids import IdForm, IdForms, difference, loose_id, normalize_id

ids = st.text(min_size=1, max_size=12)


@pytest.mark.parametrize(
    "forms",
    [
        (3, 3.0, "3", "3.0", " 3 ", "3.", "\u00a03", "3\u200b", "\uff13", Decimal("3.00"), "+3"),
        ("\u00c5sa", "A\u030asa", " \u00c5sa"),
        ("two words", "two  words", "two\u00a0words", "two\twords"),
        (True, "true"),
        (10**20, str(10**20)),
        (0, "0", "0.0", "-0"),
    ],
)
def test_forms_of_one_id_are_one(forms: tuple[Any, ...]) -> None:
    assert len({normalize_id(form) for form in forms}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3.5", "35"),
        ("1e5", "100000"),
        ("007", "7"),
        ("AB12", "ab12"),
        ("-3", "3"),
        ("1.10", "1.1"),
    ],
)
def test_forms_that_could_mean_two_things_are_two(one: str, other: str) -> None:
    assert normalize_id(one) != normalize_id(other)


@pytest.mark.parametrize("value", [None, "", "  ", float("nan"), "\u200b"])
def test_nothing_is_no_id(value: Any) -> None:
    assert normalize_id(value) is None


@given(ids)
def test_the_canonical_form_of_a_canonical_form_is_itself(text: str) -> None:
    canonical = normalize_id(text)
    assert canonical is None or normalize_id(canonical) == canonical


@given(ids)
def test_unicode_forms_and_outer_blanks_never_matter(text: str) -> None:
    expected = normalize_id(text)
    for form in ("NFC", "NFD"):
        assert normalize_id(f" {unicodedata.normalize(form, text)}\t") == expected


@given(st.integers(-(10**30), 10**30))
def test_a_whole_number_is_one_id_as_number_and_as_text(number: int) -> None:
    assert normalize_id(number) == normalize_id(str(number)) == normalize_id(f"{number}.0")


@given(st.lists(ids, max_size=20))
def test_ids_are_counted_once_in_whatever_form(values: list[str]) -> None:
    forms = IdForms()
    for value in (*values, *(f" {value} " for value in values)):
        forms.add(value)
    assert forms.num_values == len({normalize_id(value) for value in values} - {None})


def test_forms_that_could_be_either_are_listed_with_their_first_places_and_not_joined() -> None:
    forms = IdForms()
    values = ("7", "007", "07", "007", "100000", "1E5", "ann", "Ann", "bob", 7.0)
    for line, value in enumerate(values, 1):
        forms.add(value, f"a.csv:{line}")
    assert [[tuple(form) for form in family] for family in forms.ambiguous()] == [
        [("7", "a.csv:1"), ("007", "a.csv:2"), ("07", "a.csv:3")],
        [("100000", "a.csv:5"), ("1E5", "a.csv:6")],
        [("ann", "a.csv:7"), ("Ann", "a.csv:8")],
    ]
    assert forms.joined() == ((IdForm("7", "a.csv:1"), IdForm("7.0", "a.csv:10")),)
    assert forms.num_values == 8
    assert loose_id("1.5e1") == "15"


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        (("7", "007"), "leading zeros"),
        (("ann", "Ann"), "case"),
        (("100000", "1E5"), "exponents"),
        (("ab07", "AB07", "Ab07"), "case"),
        (("0", "00"), "leading zeros"),
        (("\ufb01n", "fin"), "the form of a character"),
    ],
)
def test_what_ids_differ_in_is_said(texts: tuple[str, ...], what: str) -> None:
    forms = IdForms()
    for text in texts:
        forms.add(text, "a.csv:1")
    assert difference(forms.ambiguous()[0]) == what
