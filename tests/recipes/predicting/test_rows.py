"""Every row of an input file comes out once and in its order, readable or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from recipes.config import Recipe
from recipes.errors import InputError
from recipes.predicting.rows import InputRow, RowReader
from tests.recipes.rows import write_bytes

RECIPE: dict[str, Any] = {
    "name": "a",
    "recipe": "classification",
    "base": {"checkpoint": "base"},
    "data": {"train": ["rows.csv"]},
    "gate": {},
}


def read(path: Path, kind: str = "classification", **data: Any) -> list[InputRow]:
    values = RECIPE | {"recipe": kind, "data": RECIPE["data"] | data}
    return list(RowReader(Recipe.model_validate(values)).read(path))


def places(rows: list[InputRow]) -> list[tuple[str, bool]]:
    return [(row.place, row.problem is None) for row in rows]


def test_a_row_of_several_lines_with_several_faults_is_one_row(tmp_path: Path) -> None:
    table = b'id,text\n1,fine\n2,"one \xff\ntwo \xfe\nthree"\n3,also fine\n4,a,b,c\n5\n6,last\n'
    rows = read(write_bytes(tmp_path / "new.csv", table), encoding="utf-8")
    assert places(rows) == [
        *(("new.csv:2", True), ("new.csv:3", False), ("new.csv:6", True)),
        *(("new.csv:7", False), ("new.csv:8", False), ("new.csv:9", True)),
    ]
    assert "and in 1 more lines of this row" in str(rows[1].problem)


def test_objects_under_one_key_are_two_rows(tmp_path: Path) -> None:
    twice = '{"text": "x", "text": "y"}'
    rest = f'"b": {twice}, "b": {{"text": "y"}}, "b": {twice}, "c": {{"text": "z"}}'
    document = f'{{"a": {{"text": "x"}}, {rest}}}'.encode()
    rows = read(write_bytes(tmp_path / "new.json", document))
    assert [place for place, _ in places(rows)] == [f"new.json[{n}]" for n in range(5)]
    assert [row.id for row in rows if row.problem is None][-1] == "c"


def test_cells_of_a_workbook_that_are_errors_are_rows(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for cells in (["id", "text"], [1, "one"], [2, "#N/A"], [3, None], [4, "four"]):
        book.active.append(cells)
    book.active["B3"].data_type = "e"
    book.save(tmp_path / "new.xlsx")
    rows = read(tmp_path / "new.xlsx")
    assert places(rows) == [(f"new.xlsx:{n}", n in (2, 5)) for n in (2, 3, 4, 5)]
    assert [row.id for row in rows] == ["1", None, "3", "4"]


def test_an_id_is_what_the_row_has(tmp_path: Path) -> None:
    table = pyarrow.table({"id": [7.0, None, 8.5], "text": ["a", "b", "c"]})
    parquet.write_table(table, tmp_path / "new.parquet")
    rows = read(tmp_path / "new.parquet")
    assert [row.id for row in rows] == ["7", None, "8.5"]
    assert places(rows) == [(f"new.parquet[{n}]", True) for n in range(3)]
    spaced = read(write_bytes(tmp_path / "new.csv", b"id,text\n 007 ,a\n"))
    assert spaced[0].id == " 007 "


LINES = {
    json.dumps({"text": "fine"}): True,
    json.dumps({"text": "  "}): False,
    json.dumps({"text": None}): False,
    json.dumps({"words": "none"}): False,
    "[1]": False,
    "{": False,
    "null": False,
    '{"text": "half \\ud83d"}': False,
    '{"text": 1, "text": 2}': False,
}


@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(LINES)), min_size=1, max_size=12))
def test_no_line_vanishes_and_none_is_made_up(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("lines") / "new.jsonl"
    path.write_text("\n".join(['{"text": "first"}', *lines]))
    expected = [(f"new.jsonl:{n}", LINES[line]) for n, line in enumerate(lines, 2)]
    assert places(read(path)) == [("new.jsonl:1", True), *expected]


@pytest.mark.parametrize("content", [b"id,text\n", b"id;words\n1;x\n", b'id,text\n1,"open\n'])
def test_a_file_that_cannot_be_read_as_a_whole_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"holds no rows|no column 'text'|never closed"):
        read(write_bytes(tmp_path / "new.csv", content))


USER = {"role": "user", "content": "Why?"}
SAID = {"role": "assistant", "content": "So."}


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"messages": [USER]}, [USER]),
        ({"messages": [USER, SAID]}, [USER]),
        ({"messages": [USER, SAID, USER]}, [USER, SAID, USER]),
        ({"messages": json.dumps([USER, SAID, USER])}, [USER, SAID, USER]),
        ({"conversations": [{"from": "human", "value": "Why?"}]}, [USER]),
        ({"prompt": "Why?"}, [USER]),
        ({"prompt": "Why?", "completion": ""}, [USER]),
        ({"prompt": "Why?", "completion": "So."}, [USER]),
        ({"prompt": [USER, SAID, USER]}, [USER, SAID, USER]),
        ({"instruction": "Why?", "input": "", "output": None}, [USER]),
        ({"prompt": {"role": "prompter", "text": "Why?", "replies": []}}, [USER]),
    ],
)
def test_a_chat_is_asked_up_to_the_reply_that_is_to_be_written(
    tmp_path: Path, row: dict[str, Any], asked: list[dict[str, str]]
) -> None:
    path = write_bytes(tmp_path / "new.jsonl", json.dumps(row).encode())
    [found] = read(path, "chat")
    assert found.problem is None
    assert list(found.item) == asked


def test_a_chat_without_a_user_is_a_row_with_a_problem(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "new.jsonl", b'{"messages": []}\n{"messages": [{"role": "x"}]}')
    assert places(read(path, "chat")) == [("new.jsonl:1", False), ("new.jsonl:2", False)]


def test_what_was_passed_over_in_a_file_is_noted(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "new.csv", b"Export of May,,\n\nid,text,label\n1,hello,x\n")
    reader = RowReader(Recipe.model_validate(RECIPE))
    assert [row.place for row in reader.read(path)] == ["new.csv:4"]
    assert any("new.csv" in note and "title" in note for note in reader.notes)
