"""Items of published sets that were trained on are found, and what was not is not."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.items import Dialogue, LabelledText, Question
from eval.task import Task
from recipes.data import contamination
from recipes.data.contamination import (
    Match,
    Overlap,
    TrainingText,
    find_contamination,
    find_overlaps,
    training_texts,
)
from recipes.data.findings import Findings
from recipes.data.split import DataRow

QUESTION = (
    "Which river flows through the old town before it reaches the harbour that was built for the "
    "ferries in 1950?"
)


def task_of(*texts: str | tuple[str, ...], name: str = "rivers") -> Task:
    own = {str(i): (t,) if isinstance(t, str) else t for i, t in enumerate(texts)}
    return Task(name, "accuracy", 1, len(own), "sha256:0", lambda *_: [], (), texts=own)


def found(items: list[str], training: list[str]) -> dict[str, tuple[str, str]]:
    """Return by item how it was found, and in which row."""
    rows = [TrainingText(f"r{i}", text) for i, text in enumerate(training)]
    [overlap] = find_overlaps([task_of(*items)], rows)
    return {match.item: (match.kind, match.row) for match in overlap.matches}


def test_each_kind_is_found_and_the_strictest_counts() -> None:
    words = QUESTION.split()
    other = "Who painted the ceiling of the chapel that stands beside the market?"
    training = [
        "Something else that nobody asks about in any set",
        f"Please answer.\n{QUESTION}\nAnswer: the Alm",
        QUESTION.upper().replace("?", " ?"),
        f"{QUESTION} ",
    ]
    assert found([QUESTION, other], training) == {"0": ("exact", "r3")}
    assert found([QUESTION], training[:3]) == {"0": ("normalised", "r2")}
    assert found([QUESTION], training[:2]) == {"0": ("contained", "r1")}
    near = " ".join([*words[:10], "new", *words[10:]])  # no 13 words in a row are left
    assert found([QUESTION], [training[0], near]) == {"0": ("near", "r1")}
    assert found([QUESTION], training[:1]) == {}


def test_an_item_is_contained_from_eighty_percent_of_its_words() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices(string.ascii_lowercase, k=8)) for _ in range(100)]
    item = " ".join(words)
    around = " ".join(f"x{i}" for i in range(500))  # so that the row is not nearly the same
    assert found([item], [f"{around} {' '.join(words[:80])}"]) == {"0": ("contained", "r0")}
    assert found([item], [f"{around} {' '.join(words[:79])}"]) == {}
    halves = [" ".join(words[:45]), " ".join(words[45:90])]
    assert found([item], [f"{around} {half}" for half in halves]) == {"0": ("contained", "r0")}
    scattered = " ".join(f"{word} and" for word in words)
    assert found([item], [scattered]) == {}


@pytest.mark.parametrize(("count", "is_found"), [(7, False), (8, True), (12, True), (13, True)])
def test_a_short_item_is_contained_as_a_whole_or_not_at_all(count: int, is_found: bool) -> None:
    item = " ".join(f"word{i}" for i in range(count))
    around = " ".join(f"x{i}" for i in range(100))
    assert (found([item], [f"{around} {item}"]) != {}) == is_found
    assert found([item], [item]) == {"0": ("exact", "r0")}
    without_last = " ".join(f"word{i}" for i in range(count - 1))
    assert found([item], [f"{around} {without_last} {around}"]) == {}


def test_an_item_of_several_texts_is_found_by_any_of_them() -> None:
    first = "The nurse said that she would come back before the end of the shift"
    task = task_of((first, first.replace("she", "he")), name="pairs")
    rows = [TrainingText("r", first.replace("she", "he"))]
    assert find_overlaps([task], rows)[0].matches == (Match("0", "exact", "r"),)


def test_each_task_is_counted_by_itself_and_one_on_own_rows_is_left_out() -> None:
    own = Task("classification", "accuracy", 1, 3, "sha256:0", lambda *_: [], ())
    rows = [TrainingText("r", QUESTION)]
    overlaps = find_overlaps([own, task_of("no", QUESTION), task_of(QUESTION, name="b")], rows)
    assert [(o.task, o.num_items, sorted(o.items)) for o in overlaps] == [
        ("rivers", 2, ["1"]),
        ("b", 1, ["0"]),
    ]
    assert overlaps[0].summary() == ("1 of 2 items of rivers are in the training data (1 exact)")
    assert Overlap("x", 5, ()).summary() == "0 of 5 items of x are in the training data"
    assert find_overlaps([task_of("a b c")], []) == [Overlap("rivers", 1, ())]


def test_every_text_of_a_row_is_searched() -> None:
    items = [
        LabelledText("a", "t", "l"),
        Question("b", "c", "q", ("x",), "d"),
        Dialogue("c", ({"role": "user", "content": "u"}, {"role": "assistant", "content": "v"})),
    ]
    rows = [DataRow(item.id, "f", item, "", "", "", None, "") for item in items]
    assert training_texts(rows) == [
        TrainingText("a", "t"),
        TrainingText("b", "c"),
        TrainingText("b", "q"),
        TrainingText("c", "u"),
        TrainingText("c", "v"),
    ]


def test_a_finding_names_row_and_item_and_quotes_neither() -> None:
    row = DataRow("id", "f:3", LabelledText("id", QUESTION, "l"), "", "", "", None, "")
    findings = Findings()
    find_contamination([task_of(QUESTION)], [row], findings)
    [finding] = findings.all()
    assert (finding.kind.code, finding.severity) == ("contamination", "warning")
    assert [str(o) for o in finding.occurrences] == ["f:3: item 0 of rivers (exact)"]


vocabulary = st.sampled_from("abcde")
sentence = st.lists(vocabulary, min_size=1, max_size=30).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(items=st.lists(sentence, min_size=1, max_size=4), training=st.lists(sentence, max_size=6))
def test_what_is_contained_is_what_a_search_word_by_word_finds(
    items: list[str], training: list[str]
) -> None:
    rows = [TrainingText(str(i), text) for i, text in enumerate(training)]
    [overlap] = find_overlaps([task_of(*items)], rows)
    kinds = {match.item: match.kind for match in overlap.matches}
    for number, item in enumerate(items):
        words = item.split()
        size = min(13, len(words))
        padded = [f" {text} " for text in training]
        covered: set[int] = set()
        for k in range(len(words) - size + 1):
            if any(f" {' '.join(words[k : k + size])} " in text for text in padded):
                covered |= set(range(k, k + size))
        is_contained = len(words) >= 8 and len(covered) >= 0.8 * len(words)
        if item in training:
            assert kinds[str(number)] == "exact"
        elif is_contained:
            assert kinds[str(number)] == "contained"
        else:
            assert kinds.get(str(number)) in (None, "near")


def test_blocks_of_training_rows_are_searched_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    words = [f"w{i}" for i in range(50)]
    training = [" ".join(rng.choices(words, k=40)) for _ in range(50)]
    items = [" ".join(training[i].split()[5:25]) for i in range(0, 50, 5)]
    expected = found(items, training)
    assert len(expected) == 10
    monkeypatch.setattr(contamination, "_BLOCK", 64)
    assert found(items, training) == expected
