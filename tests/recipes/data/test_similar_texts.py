"""Similar texts are found at the rate that the docstring states, and every pair is verified."""

from __future__ import annotations

import itertools
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.data import similar_texts, word_hashes
from recipes.data.components import connected_components
from recipes.data.similar_texts import THRESHOLD, similar_pairs


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = text.casefold().split()
    return frozenset(tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2)))


def similarity(a: str, b: str) -> float:
    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def brute_force(texts: list[str]) -> set[tuple[int, int]]:
    return {
        (i, j)
        for i, j in itertools.combinations(range(len(texts)), 2)
        if similarity(texts[i], texts[j]) >= THRESHOLD
    }


def words(rng: random.Random, count: int) -> list[str]:
    return [f"w{rng.randrange(10**9)}" for _ in range(count)]


def pair_at(rng: random.Random, share: float) -> tuple[str, str]:
    """Make two texts of which this share of all shingles is in both."""
    num_shared = 70
    num_own = round((num_shared / share - num_shared) / 2)
    first = words(rng, num_shared + 2)
    second = [*first, *words(rng, num_own)]
    return " ".join([*words(rng, num_own), *first]), " ".join(second)


@pytest.mark.parametrize(("share", "least"), [(0.7, 0.97), (0.8, 0.999), (0.9, 0.999)])
def test_similar_pairs_are_found_at_the_rate_stated(share: float, least: float) -> None:
    rng = random.Random(0)
    pairs = [pair_at(rng, share) for _ in range(1000)]
    assert min(similarity(a, b) for a, b in pairs) >= THRESHOLD
    texts = [text for pair in pairs for text in pair]
    found = similar_pairs(texts, range(len(texts)))
    assert set(found) <= {(2 * i, 2 * i + 1) for i in range(len(pairs))}
    assert len(found) >= least * len(pairs)


alphabet = st.sampled_from(["a", "b", "c", "d"])
short = st.lists(alphabet, max_size=7).map(" ".join)


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(short, max_size=12), data=st.data())
def test_every_pair_returned_is_similar_and_equal_texts_are_always_joined(
    texts: list[str], data: st.DataObject
) -> None:
    owner = st.integers(0, 2)
    owners = data.draw(st.lists(owner, min_size=len(texts), max_size=len(texts)))
    found = similar_pairs(texts, owners)
    assert set(found) <= brute_force(texts)
    assert found == sorted(set(found))
    families = connected_components(len(texts), found)
    of = {i: k for k, family in enumerate(families) for i in family}
    for i, j in itertools.combinations(range(len(texts)), 2):
        if shingles(texts[i]) == shingles(texts[j]):
            assert of[i] == of[j]


def test_a_text_that_another_owner_has_too_is_paired_with_another_owner() -> None:
    text = "the parcel came late and the box was open"
    owners = [0] * 50 + [1] + [0] * 50
    found = similar_pairs([text] * len(owners), owners)
    crossing = {i for pair in found if {owners[i] for i in pair} == {0, 1} for i in pair}
    assert crossing == set(range(len(owners)))


def test_order_of_texts_and_case_and_blanks_make_no_difference() -> None:
    rng = random.Random(1)
    texts = [text for _ in range(50) for text in pair_at(rng, 0.72)]
    order = rng.sample(range(len(texts)), len(texts))
    changed = [f"  {texts[i].upper()}\n\n" for i in order]
    found = similar_pairs(changed, range(len(order)))
    back = sorted(tuple(sorted((order[i], order[j]))) for i, j in found)
    assert back == similar_pairs(texts, range(len(texts)))


def test_texts_of_other_scopes_are_not_compared() -> None:
    texts = ["what year was she born"] * 4
    assert similar_pairs(texts, range(4), scopes=["x", "y", "x", "z"]) == [(0, 2)]


def test_texts_of_no_words_and_of_many_are_compared_too() -> None:
    long = " ".join(f"w{i}" for i in range(10**5))
    texts = ["", " ", "one", "one", "two words", "\ud800 half", long, long]
    assert similar_pairs(texts, range(8)) == [(0, 1), (2, 3), (6, 7)]
    assert similar_pairs([], []) == []


def test_hashes_do_not_depend_on_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(2)
    texts = [text for _ in range(40) for text in pair_at(rng, 0.75)]
    scopes = [f"{i // 4}" for i in range(len(texts))]
    expected = similar_pairs(texts, range(len(texts)), scopes=scopes)
    for name in ("_BLOCK", "_CHUNK", "_BATCH"):
        monkeypatch.setattr(similar_texts, name, 100)
    monkeypatch.setattr(word_hashes, "MOST_WORDS", 100)
    assert similar_pairs(texts, range(len(texts)), scopes=scopes) == expected


def test_a_template_filled_in_many_times_takes_linear_time() -> None:
    rng = random.Random(3)
    form = " ".join(words(rng, 20))
    durations = []
    for count in (2_000, 16_000):
        texts = [f"{form} {' '.join(words(rng, 5))}" for _ in range(count)]  # similarity 0.64
        began = time.process_time()
        similar_pairs(texts, range(count))
        durations.append(time.process_time() - began)
    assert durations[1] < 24 * durations[0]  # quadratic would be 64 times


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    similar_pairs(["a b c"] * 10, range(10), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert np.all((np.array(shares) >= 0) & (np.array(shares) <= 1))
