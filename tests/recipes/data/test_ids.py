"""Ids: forms that mean one thing are joined, forms that could mean two never are."""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data.ids import IdForms, loose_id, normalize_id

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


def test_forms_that_could_be_either_are_listed_and_not_joined() -> None:
    forms = IdForms()
    for value in ("7", "007", "07", "100000", "1E5", "ann", "Ann", "bob", 7.0):
        forms.add(value)
    assert set(forms.ambiguous()) == {("007", "07", "7"), ("100000", "1E5"), ("Ann", "ann")}
    assert forms.joined() == {"7": ("7", "7.0")}
    assert forms.num_values == 8
    assert loose_id("1.5e1") == "15"
