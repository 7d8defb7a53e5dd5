"""Files of every kind give the same rows, each with its place; what cannot be read is named."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from recipes.errors import InputError, Problem
from recipes.rows import KINDS, NO_TEXT, Row, read_rows
from tests.recipes.rows import write_bytes


def read(path: Path) -> tuple[list[tuple[str, Any]], list[str]]:
    """Return each row's place and values, and the problems, without the folder."""
    bad: list[Problem] = []
    rows = [(Path(row.place).name, dict(row.values)) for row in read_rows(path, bad)]
    return rows, [str(problem).replace(f"{path.parent}/", "") for problem in bad]


A, B = {"text": "one", "label": "x"}, {"text": "two", "label": "y"}
CSV = "text,label\none,x\ntwo,y\n"
JSONL = json.dumps(A) + "\n" + json.dumps(B) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("a.jsonl", JSONL, ("1", "2")),
        ("a.jsonl", "\n" + JSONL.replace("\n", "\r\n") + "  \n", ("2", "3")),
        ("a.JSONL.gz", JSONL, ("1", "2")),
        ("a.csv", CSV, ("2", "3")),
        ("a.csv.gz", CSV, ("2", "3")),
        ("a.csv.GZ", CSV, None),
        ("a.tsv", CSV.replace(",", "\t"), ("2", "3")),
        ("a.csv", CSV.replace("\n", "\r\n"), ("2", "3")),
        ("a.csv", CSV.replace("two", "\n\ntwo"), ("2", "5")),
        ("a.v2.csv", "\n" + CSV, ("3", "4")),
    ],
)
def test_a_text_file_is_read_with_the_line_of_every_row(
    tmp_path: Path, name: str, content: str, places: tuple[str, str] | None
) -> None:
    path = tmp_path / name
    if name.endswith(".GZ"):
        write_bytes(tmp_path / "x.gz", content.encode()).rename(path)
        places = ("2", "3")
    else:
        write_bytes(path, content.encode())
    assert places is not None
    found, bad = read(path)
    assert found == [(f"{name}:{places[0]}", A), (f"{name}:{places[1]}", B)]
    assert not bad


@pytest.mark.parametrize(("name", "content"), [("a.csv", CSV), ("a.jsonl", JSONL)])
def test_a_byte_order_mark_is_not_part_of_the_first_column(
    tmp_path: Path, name: str, content: str
) -> None:
    path = write_bytes(tmp_path / name, b"\xef\xbb\xbf" + content.encode())
    assert [values for _, values in read(path)[0]] == [A, B]


def test_a_quoted_line_break_in_a_csv_file_moves_the_lines_after_it(tmp_path: Path) -> None:
    text = 'text,label\n"one\nand ""more"", still one",x\nshort\ntwo,y\n'
    found, bad = read(write_bytes(tmp_path / "a.csv", text.encode()))
    assert found == [
        ("a.csv:2", {"text": 'one\nand "more", still one', "label": "x"}),
        ("a.csv:5", B),
    ]
    assert bad == ["a.csv:4: fewer fields than the header's 2"]


def test_a_quote_in_a_tsv_file_is_a_plain_character(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.tsv", b'text\tlabel\n5" screen\tx\ntwo\ty\n')
    assert read(path)[0] == [("a.tsv:2", {"text": '5" screen', "label": "x"}), ("a.tsv:3", B)]


def test_bad_lines_of_a_csv_file_are_named_and_those_after_them_are_read(tmp_path: Path) -> None:
    text = 'text,label\none,x,more\n"a"b,x\ntwo,y\n'
    found, bad = read(write_bytes(tmp_path / "a.csv", text.encode()))
    assert found == [("a.csv:4", B)]
    assert bad[0] == "a.csv:2: more fields than the header's 2"
    assert bad[1].startswith("a.csv:3: not valid CSV")


def test_a_quote_that_is_never_closed_is_refused_and_never_a_short_file(tmp_path: Path) -> None:
    text = 'text,label\none,x\n"two,y\n' + "three,z\n" * 30_000  # over csv's own limit of a field
    with pytest.raises(InputError, match=r"a\.csv:3: a quote is opened .* never closed"):
        read(write_bytes(tmp_path / "a.csv", text.encode()))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv:1: the header names \['text'\] more than once"):
        read(write_bytes(tmp_path / "a.csv", b"text,text,,\none,two,,\n"))


def test_a_json_array_and_a_parquet_file_name_a_row_by_its_index(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    array = write_bytes(tmp_path / "a.json", json.dumps([A, 5, B]).encode())
    assert read(array) == (
        [("a.json[0]", A), ("a.json[2]", B)],
        ["a.json[1]: wanted a JSON object"],
    )
    rows = [{**A, "n": 1, "many": ["p", "q"]}, {**B, "n": None, "many": []}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found, bad = read(tmp_path / "a.parquet")
    assert found == [("a.parquet[0]", rows[0]), ("a.parquet[1]", rows[1])]
    assert not bad


def test_a_line_that_is_no_json_object_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "one",\n[1, 2]\n"word"\n{json.dumps(B)}\n')
    found, bad = read(path)
    assert found == [("a.jsonl:4", B)]
    assert [line.partition(" ")[0] for line in bad] == ["a.jsonl:1:", "a.jsonl:2:", "a.jsonl:3:"]
    assert "not valid JSON at column" in bad[0]
    assert "found a list" in bad[1]


def test_half_a_character_is_no_text(tmp_path: Path) -> None:
    texts = [r'{"text": "cut \ud83d"}', r'{"a": [{"b": "\udc00"}]}', r'{"text": "\ud83d\ude00"}']
    lines = "\n".join(texts)
    found, bad = read(write_bytes(tmp_path / "a.jsonl", lines.encode()))
    assert found == [("a.jsonl:3", {"text": "\U0001f600"})]
    assert [problem.partition(": ")[2] for problem in bad] == [NO_TEXT] * 2
    array = f"[{','.join(texts)}]".encode()
    found, bad = read(write_bytes(tmp_path / "a.json", array))
    assert (len(found), len(bad)) == (1, 2)


SQUAD_V1 = {"id": "q1", "question": "Who?", "answers": [{"text": "Ann"}, {"text": "Ann"}]}
SQUAD_V2 = {"id": "q2", "question": "When?", "is_impossible": True, "answers": []}


def squad(*questions: Any) -> dict[str, Any]:
    return {"data": [{"title": "T", "paragraphs": [{"context": "Ann did.", "qas": questions}]}]}


@pytest.mark.parametrize("name", ["squad.json", "squad.json.gz"])
def test_squad_files_of_both_versions_give_a_row_a_question(tmp_path: Path, name: str) -> None:
    path = write_bytes(tmp_path / name, json.dumps(squad(SQUAD_V1, SQUAD_V2)).encode())
    found, bad = read(path)
    shared = {"document": "T, paragraph 1", "article": "T", "context": "Ann did."}
    assert [values for _, values in found] == [
        {"id": "q1", "question": "Who?", "answers": ["Ann"], **shared},
        {"id": "q2", "question": "When?", "answers": [], **shared},
    ]
    assert found[1][0] == f"{name}[0].paragraphs[0].qas[1]"
    assert not bad


@pytest.mark.parametrize(
    "document",
    [
        squad({"id": "q", "question": "Who?"}),
        squad("a text"),
        {"data": [{"text": "one"}]},
        {"data": ["a text"]},
    ],
)
def test_what_is_not_quite_squad_is_named(tmp_path: Path, document: Any) -> None:
    found, [problem] = read(write_bytes(tmp_path / "a.json", json.dumps(document).encode()))
    assert not found
    assert problem.startswith("a.json[0]: not in the SQuAD format")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"{", r"a\.json:1: not valid JSON"),
        ("a.json", b'{"rows": []}', "wanted a JSON array"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', "not UTF-8 at byte"),
        ("a.csv", "text\nä\n".encode("utf-16"), "not UTF-8"),
        ("a.parquet", b"PAR1 not really", "not a readable Parquet file"),
        ("a.xlsx", b"PK not really", "not a readable Excel workbook"),
        ("a.txt", b"one\n", r"a\.txt is of no known kind; wanted one of \.jsonl"),
        ("a", b"one\n", "of no known kind"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_refused(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read(write_bytes(tmp_path / name, content))


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    whole = write_bytes(tmp_path / "a.jsonl.gz", os.urandom(500).hex().encode()).read_bytes()
    for content in (whole[: len(whole) // 2], b"not gzip at all", whole[:20] + b"\xff" * 200):
        (tmp_path / "a.jsonl.gz").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read(tmp_path / "a.jsonl.gz")


def test_a_workbook_gives_the_rows_of_its_first_sheet_with_their_lines(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    assert sheet is not None
    day = datetime(2026, 3, 1)
    for cells in ([None], ["text", "n", None, "day"], ["one", 3.0, "lost", day], [None], ["two"]):
        sheet.append(cells)
    sheet.append(["long", 1, None, None, "beyond"])
    book.create_sheet("notes").append(["text"])
    book.save(tmp_path / "a.xlsx")
    found, bad = read(tmp_path / "a.xlsx")
    assert found == [
        ("a.xlsx:3", {"text": "one", "n": 3, "day": "2026-03-01T00:00:00"}),
        ("a.xlsx:5", {"text": "two", "n": None, "day": None}),
    ]
    assert bad == ["a.xlsx:6: more cells than the header's 4"]


def test_objects_a_line_are_read_under_the_name_json_too(tmp_path: Path) -> None:
    found, bad = read(write_bytes(tmp_path / "a.json", (JSONL + "[1]\n").encode()))
    assert found == [("a.json:1", A), ("a.json:2", B)]
    assert bad == ["a.json:3: wanted a JSON object, found a list"]


def test_objects_by_their_id_are_rows_of_that_id(tmp_path: Path) -> None:
    document = {"17": A, "18": B | {"id": "own"}}
    found, bad = read(write_bytes(tmp_path / "a.json", json.dumps(document).encode()))
    assert [values for _, values in found] == [{"id": "17", **A}, {**B, "id": "own"}]
    assert not bad


def test_the_place_of_a_row_is_its_file_and_line() -> None:
    assert str(Problem(Row("a.csv:3", {}).place, "is empty")) == "a.csv:3: is empty"
    assert KINDS == ("jsonl", "json", "csv", "tsv", "parquet", "xlsx")


def test_what_json_allows_and_nobody_means_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"a": 1, "a": 2}\n{"a": '
        + "9" * 5000
        + "}\n"
        + "[" * 100_000
        + '\n{"a": {"b": 1, "b": 1}}\n'
    )
    found, bad = read(path)
    assert not found
    assert [one.partition(": ")[2] for one in bad] == [
        "the key 'a' stands twice in one object",
        "JSON beyond reason: a number too long, or nested too deep",
        "JSON beyond reason: a number too long, or nested too deep",
        "the key 'b' stands twice in one object",
    ]
    for text, words in (
        ('[{"a": 1, "a": 2}]', "stands twice"),
        ("[" * 100_000, "nested too deep"),
        ('[{"a": ' + "9" * 5000 + "}]", "thousands of digits"),
    ):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(InputError, match=words):
            read(tmp_path / "b.json")


def test_text_that_is_not_utf8_is_named_by_its_line_and_byte_in_the_file(tmp_path: Path) -> None:
    lines = b"text,label\n" + b"hello,a\n" * 9000
    for name in ("a.csv", "a.csv.gz"):
        write_bytes(tmp_path / name, lines + b"M\xfcller,b\n")
        with pytest.raises(InputError, match=r":9002: not UTF-8 at byte 72,012 of the file"):
            read(tmp_path / name)


def test_a_tsv_field_that_a_program_quoted_is_not_taken_with_its_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\n"he said ""hi"" 0"\n"hi" he said\n"hi"\n')
    found, bad = read(tmp_path / "a.tsv")
    assert bad == ["a.tsv:2: a field is quoted as in CSV, and TSV has no quotes"]
    assert [values["text"] for _, values in found] == ['"hi" he said', '"hi"']


def test_a_workbook_is_read_to_its_end_and_a_cell_with_an_error_is_a_bad_row(
    tmp_path: Path,
) -> None:
    import zipfile

    from openpyxl import Workbook

    book = Workbook()
    for line in (["text", "label"], ["one", "a"], ["two", "#N/A"], ["three", "b"], ["four"]):
        book.worksheets[0].append(line)
    book.save(tmp_path / "whole.xlsx")
    with (
        zipfile.ZipFile(tmp_path / "whole.xlsx") as whole,
        zipfile.ZipFile(tmp_path / "a.xlsx", "w") as stale,
    ):
        for name in whole.namelist():
            content = whole.read(name)
            stale.writestr(
                name, content.replace(b'<dimension ref="A1:B5"', b'<dimension ref="A1:B2"')
            )
    found, bad = read(tmp_path / "a.xlsx")
    assert [values for _, values in found] == [
        {"text": "one", "label": "a"},
        {"text": "three", "label": "b"},
        {"text": "four", "label": None},
    ]
    assert bad == ["a.xlsx:3: a cell holds an error, such as #N/A"]
    with (
        zipfile.ZipFile(tmp_path / "whole.xlsx") as whole,
        zipfile.ZipFile(tmp_path / "b.xlsx", "w") as torn,
    ):
        for name in whole.namelist():
            content = whole.read(name)
            torn.writestr(name, content[: len(content) // 2] if "sheet1" in name else content)
    with pytest.raises(InputError, match="not a readable Excel workbook"):
        read(tmp_path / "b.xlsx")
