"""What Python and NumPy print is read as what it is, and nothing of it is run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data.python_lists import python_value

texts = st.lists(st.text(max_size=8), max_size=6)


@given(texts)
def test_what_python_prints_of_a_list_is_read_back(values: list[str]) -> None:
    assert python_value(repr(values)) == values
    assert python_value(repr({"text": values})) == {"text": values}


@given(st.lists(st.text(st.characters(categories=["L", "P", "Zs"]), min_size=1, max_size=40),
                min_size=1, max_size=9))  # fmt: skip
def test_what_numpy_prints_of_texts_is_read_back(values: list[str]) -> None:
    array = np.array(values, dtype=object)
    assert python_value(str(array)) == values
    assert python_value(repr(array)) == values


@pytest.mark.parametrize(
    "text",
    [
        "['it''s']",
        "[urgent]",
        "['a'",
        "__import__('os')",
        "[print('a')]",
        "[" * 9999,
        "",
        "['a\n']",
    ],
)
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        python_value(text)


def test_words_within_a_text_are_left_as_they_are() -> None:
    assert python_value("['use array([1]) here', 'a', \"b 'c' 'd'\"]") == [
        *("use array([1]) here", "a", "b 'c' 'd'")
    ]
