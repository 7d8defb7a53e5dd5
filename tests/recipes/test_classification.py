"""Rows and labels of the classification recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eval.items import LabelledText
from recipes import classification
from recipes.config import DataConfig
from recipes.data import catalog
from recipes.data.dataset import DataSplit, prepare
from recipes.data.findings import FindingKind, Findings
from recipes.data.label_faults import find_label_faults
from recipes.data.rows import Parsed, RowError
from tests.recipes.rows import row_of, settings_of, write_jsonl


def parts_of(
    folder: Path, train: list[Any], test: list[Any], **more: Any
) -> DataSplit[LabelledText]:
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


def parsed(findings: list[str] | None = None, /, **values: Any) -> Parsed[LabelledText]:
    settings = values.pop("data", {})
    row = row_of(**({"text": "Hi"} | values))

    def note(kind: FindingKind, detail: str) -> None:
        if findings is not None:
            findings.append(f"{kind.code} {detail}".strip())

    return classification.parse(row, settings_of(**settings), "c1", note)


def label_of(**values: Any) -> Any:
    return parsed(**values).item.label


def test_a_row_has_one_label_or_a_list_of_them() -> None:
    found = parsed(text=" Hi ", label=" a ")
    assert (found.item.text, found.item.label, found.content, found.label) == (
        "Hi",
        "a",
        " Hi ",
        "a",
    )
    found = parsed(labels=["b", "a", "b"])
    assert (found.item.label, found.label) == (("a", "b"), "a+b")
    assert (parsed(labels=[]).item.label, parsed(labels=[]).label) == ((), "")


def test_a_label_is_one_class_however_a_file_writes_it() -> None:
    assert [label_of(label=one) for one in (0, 0.0, "0", " 0 ")] == ["0"] * 4
    assert [label_of(label=one) for one in (True, False)] == ["true", "false"]
    assert label_of(labels=["a ", 1, "a"]) == ("1", "a")
    assert label_of(label="a", labels="") == label_of(label="a", labels="x;y") == "a"


def test_a_cell_is_divided_where_the_recipe_names_the_separator() -> None:
    divided = {"label_separator": ";"}
    assert label_of(labels="a; b", data=divided) == ("a", "b")
    assert label_of(label="b", data=divided) == ("b",)
    assert label_of(label="['b', 'a']", data=divided) == ("a", "b")


@pytest.mark.parametrize("cell", [";", " ; ", ";;"])
def test_a_cell_with_separators_alone_has_no_label(cell: str) -> None:
    with pytest.raises(RowError, match="no label") as caught:
        label_of(label=cell, data={"label_separator": ";"})
    assert caught.value.kind is catalog.EMPTY_LABEL
    assert label_of(label="[]", data={"label_separator": ";"}) == ()


@pytest.mark.parametrize("target", ["", " "])
def test_no_label_is_mapped_to_an_empty_one(target: str) -> None:
    with pytest.raises(ValueError, match="'a' becomes an empty label"):
        settings_of(label_map={"a": target})


def test_labels_are_mapped_and_that_is_recorded() -> None:
    found: list[str] = []
    mapped = {"label_map": {"Refunds": "refund"}}
    assert parsed(found, label="Refunds", data=mapped).item.label == "refund"
    assert found == ["label-mapped Refunds"]
    assert label_of(labels=["Refunds", "refund"], data=mapped) == ("refund",)


def test_words_for_missing_values_and_texts_without_content_are_noted() -> None:
    for text, code in (
        ("N/A", "missing-word-text"),
        ("????", "text-without-content"),
        ("[attachment]", "text-without-content"),
        ("Sent from my iPhone", "text-without-content"),
        ("Von meinem iPad gesendet", "text-without-content"),
    ):
        found: list[str] = []
        parsed(found, text=text, label="a")
        assert found == [code], text
    found = []
    parsed(found, text="ok?", label="NaN")
    assert found == ['missing-word-label label "NaN"']


def test_a_label_may_be_a_number_and_a_group_may_be_missing() -> None:
    item = parsed(label=3, group="").item
    assert (item.label, item.group) == ("3", None)
    assert parsed(label="a", group="g").item.group == "g"


@pytest.mark.parametrize(
    ("values", "words", "kind"),
    [
        ({"label": "a", "text": None}, "column 'text' has no value", catalog.UNUSABLE_ROW),
        ({}, "no column 'label'", catalog.UNUSABLE_ROW),
        ({"label": ""}, "no label", catalog.EMPTY_LABEL),
        ({"label": None}, "no label", catalog.EMPTY_LABEL),
        ({"label": float("nan")}, "no label", catalog.EMPTY_LABEL),
        ({"labels": ["a", " "]}, "an empty label", catalog.EMPTY_LABEL),
        ({"label": ["a"]}, "column 'label' holds a list", catalog.UNUSABLE_ROW),
        ({"label": {"a": 1}}, "found dict", catalog.UNUSABLE_ROW),
    ],
)
def test_a_row_that_is_no_labelled_text_says_why(
    values: dict[str, Any], words: str, kind: FindingKind
) -> None:
    with pytest.raises(RowError, match=words) as caught:
        parsed(**values)
    assert caught.value.kind == kind


def test_the_labels_are_those_of_the_training_rows_in_order(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, labelled("b", "a", "c"), labelled("a", start=9))
    assert classification.labels_of(parts) == (("a", "b", "c"), False)
    parts = parts_of(tmp_path, labelled(["b", "a"], ["c"], []), labelled(["a"], [], start=9))
    assert classification.labels_of(parts) == (("a", "b", "c"), True)


def faults_of(parts: DataSplit[LabelledText], **settings: Any) -> Findings:
    findings = Findings()
    find_label_faults(parts, settings_of(**settings), findings)
    return findings


def test_a_label_that_only_a_test_row_has_is_an_error_with_its_place(tmp_path: Path) -> None:
    for train, test in (("ab", ["a", "zoo"]), ([["a"], ["b"]], [["a"], ["a", "zoo"]])):
        parts = parts_of(tmp_path, labelled(*train), labelled(*test, start=9))
        [one] = faults_of(parts).occurrences(catalog.LABEL_NOT_LEARNED)
        assert one.place.endswith("test.jsonl:2")
        assert one.detail == 'its label "zoo" is in no training row'


def test_one_label_is_not_enough(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, labelled("a", "a"), labelled("a", start=9))
    [one] = faults_of(parts).occurrences(catalog.ONE_CLASS)
    assert one.detail == "the training rows have 1 label"


@pytest.mark.parametrize("fraction", [0.0, 0.4])
def test_rows_with_one_label_and_rows_with_a_list_do_not_mix(
    tmp_path: Path, fraction: float
) -> None:
    train = labelled("a", "b", ["a"], "b", ["a"], ["b"])
    parts = parts_of(tmp_path, train, labelled("a", start=9), validation_fraction=fraction)
    [one] = faults_of(parts).occurrences(catalog.MIXED_LABEL_FORMS)
    assert one.detail == "3 rows have a list, 4 one label"


def test_numbers_are_in_numeric_order_in_the_head(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, labelled(*range(12)), labelled(0, start=99))
    assert classification.labels_of(parts)[0] == tuple(map(str, range(12)))


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
