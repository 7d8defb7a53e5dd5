from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.benchmarks.choices import ask, likeliest, per_character
from tests.eval.benchmarks.hashed import HashedModel

VALUES = st.lists(st.integers(-3, 0).map(float), min_size=2, max_size=6)


@settings(max_examples=25)
@given(VALUES, st.data())
def test_a_tie_is_never_won_by_the_model(values: list[float], data: st.DataObject) -> None:
    places = st.sets(st.integers(0, len(values) - 1))
    right, biased = data.draw(places), data.draw(places)
    chosen = likeliest(values, right, biased)
    tied = [i for i, value in enumerate(values) if value == max(values)]
    assert chosen in tied
    assert chosen in biased or not biased.intersection(tied)
    if not biased.intersection(tied):
        assert chosen not in right or right.issuperset(tied)


def test_answers_come_back_item_by_item_and_are_tokenised_as_one() -> None:
    model = HashedModel(lambda _, text: -float(len(text)))
    shown: list[int] = []
    items = [[("c", " a"), ("c", " bb")], [("d", " ccc")]]
    found = ask(model, items, shown.append)  # type: ignore[arg-type]
    assert [[ll.value for ll in item] for item in found] == [[-2.0, -3.0], [-4.0]]
    assert model.was_joint == [True]
    assert sum(shown) == 2


def test_values_by_character_count_the_choice_and_not_its_space() -> None:
    assert per_character([-6.0, -2.0], ["abc", "d"]) == pytest.approx([-2.0, -2.0])
