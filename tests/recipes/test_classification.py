"""Rows and labels of the classification recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eval.items import LabelledText
from recipes import classification
from recipes.config import DataConfig
from recipes.data import Parts, prepare
from recipes.errors import InputError, Problems
from recipes.rows import RowError
from tests.recipes.rows import row_of, write_jsonl


def parts_of(folder: Path, train: list[Any], test: list[Any], **more: Any) -> Parts[LabelledText]:
    write_jsonl(folder / "train.jsonl", train)
    write_jsonl(folder / "test.jsonl", test)
    config = DataConfig(train=("train.jsonl",), test=("test.jsonl",))
    options = {"seed": 0, "validation_fraction": 0.0} | more
    return prepare(config, folder, classification.parse, **options)


def labelled(*labels: Any, start: int = 0) -> list[dict[str, Any]]:
    key = {True: "labels", False: "label"}
    return [
        {"text": f"text {start + i}", key[isinstance(label, list)]: label}
        for i, label in enumerate(labels)
    ]


def test_a_row_has_one_label_or_a_list_of_them() -> None:
    item, content, stratum = classification.parse(row_of(text=" Hi ", label=" a "), {}, "c1")
    assert (item.text, item.label, content, stratum) == ("Hi", "a", " Hi ", "a")
    item, _, stratum = classification.parse(row_of(text="Hi", labels=["b", "a", "b"]), {}, "c1")
    assert (item.label, stratum) == (("a", "b"), "a+b")
    item, _, stratum = classification.parse(row_of(text="Hi", labels=[]), {}, "c1")
    assert (item.label, stratum) == ((), "")


def test_a_label_is_one_class_however_a_file_writes_it() -> None:
    def label(**values: Any) -> Any:
        return classification.parse(row_of(text="Hi", **values), {}, "c1")[0].label

    assert [label(label=one) for one in (0, 0.0, "0", " 0 ")] == ["0"] * 4
    assert label(labels=["a ", "b", "a"]) == ("a", "b")
    assert label(label="a", labels="") == label(label="a", labels="x;y") == "a"  # a table's column
    for values, words in (
        ({"label": float("nan")}, "column 'label' has no value"),
        ({"labels": ["a", " "]}, "an empty label"),
        ({"labels": "a"}, "wanted a list of texts"),
    ):
        with pytest.raises(RowError, match=words):
            label(**values)


def test_a_label_may_be_a_number_and_a_group_may_be_missing() -> None:
    item, _, _ = classification.parse(row_of(text="Hi", label=3, group=""), {}, "c1")
    assert (item.label, item.group) == ("3", None)
    assert classification.parse(row_of(text="Hi", label="a", group="g"), {}, "c1")[0].group == "g"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"label": "a"}, "no column 'text'"),
        ({"text": "Hi"}, "no column 'label'"),
        ({"text": "Hi", "label": ""}, "column 'label' is empty"),
        ({"text": "Hi", "label": True}, "wanted str, found bool"),
        ({"text": "Hi", "labels": "a,b"}, "column 'labels': wanted a list of texts"),
        ({"text": "Hi", "labels": ["a", 1]}, "column 'labels': wanted a list of texts"),
    ],
)
def test_a_row_that_is_no_labelled_text_says_why(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RowError, match=words):
        classification.parse(row_of(**values), {}, "c1")


def test_the_labels_are_those_of_the_training_rows_in_order(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, labelled("b", "a", "c"), labelled("a", start=9))
    assert classification.labels_of(parts) == (("a", "b", "c"), False)
    parts = parts_of(tmp_path, labelled(["b", "a"], ["c"], []), labelled(["a"], [], start=9))
    assert classification.labels_of(parts) == (("a", "b", "c"), True)


def test_a_label_that_only_a_test_row_has_is_refused_with_its_place(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, labelled("a", "b"), labelled("a", "zoo", start=9))
    with pytest.raises(Problems, match="1 test rows have a label that the training rows lack") as e:
        classification.labels_of(parts)
    [problem] = e.value.problems
    assert problem.where.endswith("test.jsonl:2")
    assert problem.what == "its label 'zoo' is in no training row"
    parts = parts_of(tmp_path, labelled(["a"], ["b"]), labelled(["a", "zoo"], start=9))
    with pytest.raises(Problems, match="zoo"):
        classification.labels_of(parts)


def test_one_label_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="have 1 label; a classifier needs at least two"):
        classification.labels_of(parts_of(tmp_path, labelled("a", "a"), labelled("a", start=9)))


@pytest.mark.parametrize("fraction", [0.0, 0.4])
def test_rows_with_one_label_and_rows_with_a_list_do_not_mix(
    tmp_path: Path, fraction: float
) -> None:
    train = labelled("a", "b", ["a"], "b", ["a"], ["b"])
    parts = parts_of(tmp_path, train, labelled("a", start=9), validation_fraction=fraction)
    with pytest.raises(InputError, match="some rows have one label and some a list"):
        classification.labels_of(parts)


def test_every_label_of_a_split_is_in_the_training_part(tmp_path: Path) -> None:
    rows = labelled(*"aaabbbccd")
    write_jsonl(tmp_path / "rows.jsonl", rows)
    config = DataConfig(train=("rows.jsonl",), test_fraction=0.5)
    for seed in range(5):
        parts = prepare(config, tmp_path, classification.parse, seed=seed, validation_fraction=0.5)
        assert classification.labels_of(parts)[0] == ("a", "b", "c", "d")


def test_groups_are_compared_where_the_data_names_them() -> None:
    rows = [LabelledText(str(i), "x", "ab"[i % 2], "gh"[i // 2 % 2]) for i in range(80)]
    names = [task.name for task in classification.tasks(rows, rows[:40], ("a", "b"))]
    assert "group_gaps" in names
    plain = [LabelledText(str(i), "x", "ab"[i % 2]) for i in range(8)]
    names = [task.name for task in classification.tasks(plain, plain, ("a", "b"))]
    assert "group_gaps" not in names
