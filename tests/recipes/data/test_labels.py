"""Labels: which spellings are one, which cells hold several, and in what order classes are."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from recipes.data.labels import (
    fold,
    in_order,
    is_plain,
    list_in,
    mapping_to_paste,
    separator_in,
    spellings,
    split_cell,
    typos,
)

names = st.text(min_size=1, max_size=10).map(str.strip).filter(bool)


@pytest.mark.parametrize(
    ("rare", "frequent"),
    [
        ("Refund", "refund"),
        ("refund\u200b", "refund"),
        ("Caf\u0065\u0301", "Caf\u00e9"),
        ("late\u00a0parcel", "late parcel"),
        ("late  parcel", "late parcel"),
        ("late_parcel", "late parcel"),
        ("3.0", "3"),
        ("03", "3"),
        ("TRUE", "true"),
        ("STRASSE", "stra\u00dfe"),
    ],
)
def test_labels_that_differ_only_in_form_are_one(rare: str, frequent: str) -> None:
    assert spellings({rare: 2, frequent: 40, "other": 9}) == {rare: frequent}


@pytest.mark.parametrize(
    ("one", "other"), [("-1", "1"), ("1.5", "15"), ("C", "C++"), ("up", "down"), ("y", "n")]
)
def test_labels_that_mean_two_things_are_two(one: str, other: str) -> None:
    assert spellings({one: 5, other: 9}) == {}


def test_eight_spellings_of_yes_and_no_are_two_classes() -> None:
    counts = {"yes": 30, "Yes": 20, "YES": 4, "y": 3, "no": 25, "No": 9, "NO": 1, "n": 2}
    found = spellings(counts)
    assert set(found.values()) == {"yes", "no"}
    assert len(found) == 6


def test_a_plain_spelling_is_kept_before_a_more_frequent_one_that_hides_something() -> None:
    assert spellings({"Cafe\u0301": 26, "Caf\u00e9": 23}) == {"Cafe\u0301": "Caf\u00e9"}


@pytest.mark.parametrize(
    ("counts", "mapping"),
    [
        ({"YES": 1, "yes": 1, "Y": 1, "N": 1, "no": 1}, {"YES": "yes", "Y": "yes", "N": "no"}),
        ({"y": 4, "yes": 4, "n": 4, "NO": 4}, {"y": "yes", "n": "NO"}),
        ({"Y": 5, "yes": 4, "n": 1}, {"yes": "Y"}),
        ({"refund": 3, "re\u200bfund": 3}, {"re\u200bfund": "refund"}),
        ({"Cafe\u0301": 3, "Caf\u00e9": 3}, {"Cafe\u0301": "Caf\u00e9"}),
        ({"late  parcel": 3, "late parcel": 3}, {"late  parcel": "late parcel"}),
        ({"03": 3, "3": 3, "3.0": 3}, {"03": "3", "3.0": "3"}),
    ],
)
def test_of_spellings_that_are_as_frequent_the_long_plain_form_is_kept(
    counts: dict[str, int], mapping: dict[str, str]
) -> None:
    assert spellings(counts) == mapping


@pytest.mark.parametrize(
    ("counts", "mapping"),
    [
        ({"true": 9, "false": 9, "1": 2, "0": 2}, {"1": "true", "0": "false"}),
        ({"True": 2, "FALSE": 2, "1": 9, "0.0": 9}, {"True": "1", "FALSE": "0.0"}),
        ({"yes": 9, "n": 2, "no": 9, "0": 2}, {"n": "no", "0": "no"}),
        ({"true": 9, "no": 2, "yes": 3, "0": 1}, {"yes": "true", "0": "no"}),
        (
            {"true": 9, "false": 9, "yes": 2, "n": 1, "no": 2},
            {"yes": "true", "n": "false", "no": "false"},
        ),
        ({"true": 9, "false": 9, "unknown": 3, "1": 2}, {"1": "true"}),
        ({"true": 9, "false": 9, "1": 2, "2": 2}, {}),
        ({"yes": 9, "true": 2, "maybe": 4}, {}),
        ({"0": 9, "1": 8}, {}),
    ],
)
def test_words_and_numbers_for_true_and_false_are_one_class_each(
    counts: dict[str, int], mapping: dict[str, str]
) -> None:
    assert spellings(counts) == mapping


@given(names)
def test_unicode_forms_and_case_never_make_a_class_of_their_own(label: str) -> None:
    forms = {label, *(unicodedata.normalize(form, label) for form in ("NFC", "NFD"))}
    assert len({fold(form) for form in forms}) == 1
    assert fold(label.casefold()) == fold(label) or not label.casefold().strip()


@given(st.dictionaries(names, st.integers(1, 50), max_size=12))
def test_the_mapping_ends_with_labels_that_are_kept_and_joins_all_forms(
    counts: dict[str, int],
) -> None:
    found = spellings(counts)
    assert not set(found.values()) & set(found)
    kept = [label for label in counts if label not in found]
    assert len({fold(label) for label in kept}) == len(kept)


@given(st.dictionaries(names, names, min_size=1, max_size=5))
def test_the_mapping_to_paste_is_yaml_that_gives_the_labels_back(mapping: dict[str, str]) -> None:
    text = mapping_to_paste(mapping)
    assert all(map(str.isprintable, text.splitlines()))
    below = "".join(f"  {line}\n" for line in text.splitlines())
    assert YAML(typ="safe").load(f"data:\n  train: a.csv\n{below}") == {
        "data": {"train": "a.csv", "label_map": mapping}
    }


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("['a', 'b']", ["a", "b"]),
        ('["a","b"]', ["a", "b"]),
        ("('a',)", ["a"]),
        ("['a' 'b']", ["a", "b"]),
        ("{'b', 'a'}", ["a", "b"]),
        ("[]", []),
        ("[urgent]", None),
        ("a;b", None),
        ("__import__('os')", None),
        ("[" * 999, None),
    ],
)
def test_a_list_is_read_in_either_form(cell: str, found: list[str] | None) -> None:
    assert list_in(cell) == found


def test_a_cell_is_divided_and_empty_parts_are_left_out() -> None:
    assert split_cell(" a ;b;; ", ";") == ("a", "b")


@pytest.mark.parametrize(
    ("counts", "separator"),
    [
        ({"a": 5, "b": 5, "a;b": 2}, ";"),
        ({"a|b": 5, "b|c": 5, "a|c": 2}, "|"),
        ({"a": 5, "b": 5, "a, b": 2}, ","),
        ({"refund, exchange and returns": 9, "delivery": 7}, None),
        ({"a": 5, "b": 5}, None),
        ({"n/a": 5, "yes": 5, "no": 3}, None),
    ],
)
def test_cells_with_several_labels_are_told_from_labels_with_a_comma(
    counts: dict[str, int], separator: str | None
) -> None:
    found = separator_in(counts)
    assert (found[0] if found else None) == separator


def test_a_rare_label_like_a_frequent_one_may_be_a_slip() -> None:
    assert typos({"refnud request": 2, "refund request": 400, "delivery": 90}) == {
        "refnud request": "refund request"
    }
    assert typos({"credit": 30, "credits": 40}) == {}


def test_labels_are_in_numeric_order_if_all_are_numbers() -> None:
    assert in_order(["10", "9", "-1", "0"]) == ("-1", "0", "9", "10")
    assert in_order(["10", "9", "x"]) == ("10", "9", "x")


def test_what_cannot_be_seen_is_not_plain() -> None:
    assert is_plain("Caf\u00e9 late parcel")
    assert not is_plain("Cafe\u0301")
    assert not is_plain("a\u200b")
    assert not is_plain("a\u00a0b")
