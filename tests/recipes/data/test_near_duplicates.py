"""Texts that stand in several units are counted, and never told."""

from __future__ import annotations

import json
import random

import pytest

from eval.items import Dialogue, LabelledText, Question
from recipes.data.near_duplicates import near_duplicates, text_of
from recipes.data.split import DataRow


def row(name: str, text: str, group: str | None = None) -> DataRow[LabelledText]:
    loose = " ".join(text.casefold().split())
    item = LabelledText(id=name, text=text, label="a")
    return DataRow(name, f"f:{name}", item, text, loose, "a", group, f"{name}{text}")


def alone(rows: list[DataRow[LabelledText]]) -> list[list[int]]:
    return [[i] for i in range(len(rows))]


LONG = "my card was charged twice for the same order in the shop on the corner last week"


def test_copies_and_near_copies_across_units_are_counted() -> None:
    rows = [
        row("a", LONG),
        row("b", LONG.upper() + " "),  # the same but for case and white space
        row("c", LONG + " again"),
        row("d", "where is the nearest branch and when does it open on a saturday morning"),
        row("e", "how do i change the name on my account after a marriage please"),
    ]
    found = near_duplicates(rows, alone(rows))
    assert (found.num_exact, found.num_near, found.largest_family) == (2, 3, 3)
    assert found.families == (("a", "b", "c"),)
    assert "charged" not in json.dumps(found.to_json())


def test_the_largest_family_is_listed_first_wherever_it_is() -> None:
    other = "where is the nearest branch and when does it open on a saturday morning"
    rows = [row("x", "alone"), row("a", LONG), row("b", LONG), *(row(f"{i}", other) for i in "cde")]
    assert near_duplicates(rows, alone(rows)).families == (("c", "d", "e"), ("a", "b"))


def test_copies_within_one_unit_are_that_units_own_affair() -> None:
    rows = [row("a", LONG), row("b", LONG), row("c", LONG + " again"), row("d", "something else")]
    found = near_duplicates(rows, [[0, 1, 2], [3]])
    assert (found.num_exact, found.num_near, found.largest_family) == (0, 0, 1)
    assert found.families == ()


def test_a_pair_below_the_threshold_is_none() -> None:
    words = LONG.split()
    rows = [row("a", LONG), row("b", " ".join([*words[:9], "no", "longer", "like", "it"]))]
    assert near_duplicates(rows, alone(rows)).num_near == 0


def test_most_pairs_well_above_the_threshold_are_found_and_none_below_it() -> None:
    rng = random.Random(0)
    words = [f"w{i}" for i in range(500)]
    rows = []
    for i in range(60):
        text = rng.choices(words, k=40)
        rows.append(row(f"{i}", " ".join(text)))
        text[39] = "other"  # one word of forty at the end: 37 of 39 shingles are left
        rows.append(row(f"{i}'", " ".join(text)))
    found = near_duplicates(rows, alone(rows))
    assert found.num_near >= 0.95 * len(rows)
    assert found.largest_family == 2
    assert len([i for ids in found.families for i in ids]) == 100  # listed; all are counted


def test_a_text_like_one_that_two_units_have_is_near_whichever_of_them_has_it() -> None:
    rows = [row("a", LONG), row("b", LONG), row("c", LONG + " again")]
    found = near_duplicates(rows, [[0, 2], [1]])  # c is in the unit of a, and like b
    assert (found.num_exact, found.num_near) == (2, 3)


def test_units_behind_the_rows_are_counted_and_own_no_text() -> None:
    rows = [row("a", LONG), row("b", LONG)]
    found = near_duplicates(rows, [[0], [1], [2], [3]])
    assert (found.num_units, found.num_exact) == (4, 2)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (LabelledText("i", "t", "l"), "t"),
        (Question("i", "c", "q", ("x", "y"), "d"), "c\nq\nx\ny"),
        (Dialogue("i", ({"role": "user", "content": "u"},)), "u"),
    ],
)
def test_all_of_a_row_that_is_learned_from_counts(item: object, text: str) -> None:
    assert text_of(DataRow("i", "f", item, "", "", "", None, "")) == text
