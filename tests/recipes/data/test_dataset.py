"""Company files: read with the place of every row, refused row by row, split without leakage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.data import catalog
from recipes.data.dataset import Reading, fingerprint, read_data
from recipes.data.findings import Findings
from recipes.data.rows import RowError, get_column
from recipes.data.split import DataRow, split
from recipes.errors import InputError, Problems
from tests.recipes.rows import (
    checked,
    parse,
    places,
    prepared,
    row_of,
    settings_of,
    write_bytes,
    write_jsonl,
)

light = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("a.csv", b"text,label\n"), ("a.jsonl", b"\n\n"), ("a.csv.gz", b"")),
        *(("a.csv", b""), ("a.json", b""), ("a.xlsx", b""), ("a.parquet", b""), ("a.txt", b"")),
    ],
)
def test_a_file_that_holds_no_rows_is_a_problem_even_beside_another(
    tmp_path: Path, name: str, content: bytes
) -> None:
    write_bytes(tmp_path / name, content)
    findings = Findings()
    assert not checked(tmp_path / name, findings)
    assert [finding.kind for finding in findings.all()] == [catalog.EMPTY_FILE]
    assert places(findings) == [str(tmp_path / name)]


def test_bad_rows_are_all_counted_the_first_twenty_named_and_none_quoted(tmp_path: Path) -> None:
    canary = "Ms Canary"
    rows = [{"text": f"{i}"} for i in range(9)]
    rows += [{"txt": canary}, {"text": [canary]}, {"text": "  "}] * 10
    write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(Problems, match=r"unusable-row .30.") as caught:
        prepared(tmp_path)
    text = str(caught.value)
    assert len(caught.value.problems) == 30
    assert text.count("a.jsonl:") == 20
    assert "and 10 more (30 in all)" in text
    assert (
        "a.jsonl:10: no column 'text'; the row has txt (map it: data.columns: {text: THEIRS}"
        in text
    )
    assert "a.jsonl:11: column 'text': wanted str, found list" in text
    assert "a.jsonl:12: column 'text' is empty" in text
    assert "data.drop_bad_rows: true" in text
    assert canary not in text


def test_bad_rows_are_left_out_and_written_down_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}"} for i in range(10)]
    write_jsonl(tmp_path / "a.jsonl", [*rows, {"txt": "secret"}])
    parts = prepared(tmp_path, drop_bad_rows=True)
    manifest = parts.manifest()
    assert manifest["rows"]["dropped"] == 1
    assert manifest["dropped"][0]["where"].endswith("a.jsonl:11")
    assert "secret" not in json.dumps(manifest)


def test_columns_are_found_under_the_names_that_the_file_has(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", b"nachricht,art,nummer\none,x,7\n")
    [row] = checked(path, columns={"text": "nachricht", "label": "art", "id": "nummer"})
    assert (row.item, row.label, row.id) == ("one", "x", "7")


def test_every_row_has_an_id_of_its_own(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "1"},
        {"id": "a", "text": "2"},
        {"text": "3"},
        {"id": 7, "text": "4"},
    ]
    path = write_jsonl(tmp_path / "a.jsonl", [*rows, {"id": "", "text": "5"}])
    assert [row.id for row in checked(path)] == ["a", "a#2", "a.jsonl:3", "7", "a.jsonl:5"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [(["secret"], str), ({"secret": 1}, str), (True, str), ("secret", list), ("  ", str)],
)
def test_what_take_says_of_a_value_does_not_quote_it(value: Any, kind: type) -> None:
    with pytest.raises(RowError) as caught:
        get_column(row_of(text=value), "text", {}, kind=kind)
    assert "secret" not in str(caught.value)
    assert "'text'" in str(caught.value)


def test_take_reads_a_number_as_text_and_a_missing_optional_value_as_none() -> None:
    assert get_column(row_of(text=5), "text", {}) == "5"
    assert get_column(row_of(text=1.5), "text", {}) == "1.5"
    assert get_column(row_of(), "group", {}, required=False) is None
    assert get_column(row_of(group=None), "group", {}, required=False) is None
    assert get_column(row_of(group=" "), "group", {}, required=False) is None  # as csv


def some_rows(marks: list[tuple[str, str, str | None]]) -> list[DataRow[str]]:
    return [
        DataRow(
            str(i), f"a:{i}", content, content, content.lower(), label, group, f"{content}/{label}"
        )
        for i, (content, label, group) in enumerate(marks)
    ]


marks = st.lists(
    st.tuples(
        st.integers(0, 20).map(str) | st.sampled_from(["a", "A", "b", "B"]),
        st.sampled_from("abc"),
        st.none() | st.integers(0, 5).map(str),
    ),
    min_size=1,
    max_size=40,
)


@light
@given(marks=marks, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_a_split_is_disjoint_whole_repeatable_and_never_parts_what_belongs_together(
    marks: list[tuple[str, str, str | None]], fraction: float, seed: int
) -> None:
    rows = some_rows(marks)
    first, second = split(rows, fraction, seed)
    assert (first, second) == split(rows, fraction, seed)
    assert sorted([*first, *second], key=lambda row: int(row.id)) == rows
    assert not {row.id for row in first} & {row.id for row in second}
    assert not {row.loose_key for row in first} & {row.loose_key for row in second}
    assert not {row.group for row in first if row.group} & {row.group for row in second}
    for part in (first, second):
        assert [int(row.id) for row in part] == sorted(int(row.id) for row in part)


@light
@given(
    labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_a_split_of_single_rows_keeps_the_share_of_every_label_and_one_of_each(
    labels: list[str], fraction: float, seed: int
) -> None:
    rows = some_rows([(str(i), label, None) for i, label in enumerate(labels)])
    first, second = split(rows, fraction, seed)
    assert {row.label for row in first} == set(labels)
    for label in set(labels):
        count = labels.count(label)
        taken = sum(row.label == label for row in second)
        assert taken == min(count - 1, round(fraction * count)) or (
            abs(taken - fraction * count) <= 0.5  # a half may be rounded either way
        )


def test_another_seed_splits_otherwise() -> None:
    rows = some_rows([(str(i), "a", None) for i in range(40)])
    seconds = {tuple(row.id for row in split(rows, 0.3, seed)[1]) for seed in range(5)}
    assert len(seconds) == 5


def test_the_three_parts_are_disjoint_and_groups_stay_whole(tmp_path: Path) -> None:
    rows = [
        {"text": f"text {i // 2}", "label": "ab"[i % 2], "who": f"c{i // 2 % 9}"} for i in range(60)
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    parts = prepared(tmp_path, validation_fraction=0.2, group="who")
    train, validation, test = (
        {row.group for row in part} for part in (parts.train, parts.validation, parts.test)
    )
    assert len(train | validation | test) == len(train) + len(validation) + len(test) == 9
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 60
    again = prepared(tmp_path, validation_fraction=0.2, group="who")
    assert again == parts


def test_a_row_without_its_group_is_a_bad_row(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "1", "who": "x"}, {"text": "2"}])
    with pytest.raises(Problems, match=r"a\.jsonl:2: no value in column 'who'"):
        prepared(tmp_path, group="who")


def test_one_customer_is_one_group_however_a_file_writes_the_name(tmp_path: Path) -> None:
    names = ["3", 3, 3.0, " 3", "3 ", "\u0041\u030a", "\u00c5", "two  words", "two words"]
    write_jsonl(tmp_path / "a.jsonl", [{"text": f"{i}", "who": w} for i, w in enumerate(names)])
    found = [row.group for row in checked(tmp_path / "a.jsonl", group="who")]
    assert found == ["3"] * 5 + ["\u00c5"] * 2 + ["two words"] * 2
    write_jsonl(tmp_path / "b.jsonl", [{"text": "x", "who": w} for w in (float("nan"), "", " ")])
    findings = Findings()
    assert not checked(tmp_path / "b.jsonl", findings, group="who")
    details = [one.detail for one in findings.occurrences(catalog.MISSING_GROUP)]
    assert details == ["no value in column 'who'"] * 3


def test_how_each_file_was_read_is_kept_with_its_rows(tmp_path: Path) -> None:
    rows = "".join(f"Grüße {i};a\n" for i in range(6))
    (tmp_path / "a.csv").write_bytes(f"text;label\n{rows}".encode("cp1252"))
    write_jsonl(tmp_path / "b.jsonl", [{"text": f"test {i}"} for i in range(3)])
    parts = prepared(tmp_path, train="a.csv", test="b.jsonl")
    assert [read.describe() for read in parts.reads] == [
        "read as Windows-1252, semicolons",
        "read as UTF-8, one object per line",
    ]
    first, second = json.loads(json.dumps(parts.manifest()["reads"]))
    assert (first["encoding"], first["delimiter"], first["num_rows"]) == ("Windows-1252", ";", 6)
    assert (second["path"], second["num_rows"]) == (str(tmp_path / "b.jsonl"), 3)


def test_a_name_for_a_column_that_no_row_has_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "1", "gender": "f"}, {"text": "2", "gender": "m"}])
    with pytest.raises(InputError, match="group: no row has a column 'Gender'; did you mean gen"):
        prepared(tmp_path, columns={"group": "Gender"})


def test_too_few_rows_to_split_are_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "only one"}])
    with pytest.raises(InputError, match="1 rows are left to train on and 0 to test on"):
        prepared(tmp_path)


def test_the_manifest_names_rows_and_files_and_holds_no_text(tmp_path: Path) -> None:
    texts = [f"Ms Canary wrote {i}" for i in range(10)]
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text, "label": "a"} for text in texts])
    manifest = prepared(tmp_path, validation_fraction=0.2).manifest()
    assert "Canary" not in json.dumps(manifest)
    assert list(manifest["files"]) == [str(path)]
    assert manifest["files"][str(path)].startswith("sha256:")
    named = [*manifest["train"], *manifest["validation"], *manifest["test"]]
    assert sorted(named) == sorted(f"a.jsonl:{i}" for i in range(1, 11))
    assert manifest["rows"]["train"] == len(manifest["train"])


def test_the_fingerprint_is_of_the_contents_in_any_order() -> None:
    rows = some_rows([(str(i), "a", None) for i in range(5)])
    assert fingerprint(rows) == fingerprint(rows[::-1])
    assert fingerprint(rows) != fingerprint(rows[1:])
    assert fingerprint(rows) != fingerprint([*rows, rows[0]])  # how often counts too
    assert fingerprint([]).startswith("sha256:")


def test_rows_that_stand_twice_in_a_part_are_counted(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}"} for i in range(10)] + [{"text": "text 1"}] * 2
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert prepared(tmp_path).num_duplicates == 2


def test_a_text_with_nul_is_a_finding_and_its_row_is_left_out_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    rows = [{"text": f"text {n}"} for n in range(6)] + [{"text": "a\0b"}, {"text": "c", "no": "\0"}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    findings = Findings()
    config = settings_of(drop_bad_rows=True)
    found = read_data([path], config, parse, Reading(findings, texts={"text"}))
    assert len(found) == 7
    assert places(findings) == [f"{path}:7: column 'text'"]
    with pytest.raises(InputError, match=r"nul-character \(2\)"):
        prepared(tmp_path)


@pytest.mark.parametrize("value", ["31/02/2026", "31.04.2026 10:15", "2026/02/30", "13-13-2026"])
def test_a_local_date_that_exists_in_no_order_of_day_and_month_is_named(
    tmp_path: Path, value: str
) -> None:
    dates = [*("12/31/2026", "31/12/2026", "1.2.2026"), value]
    rows = [{"text": f"on 31/02/2026 {n}", "id": one, "at": one} for n, one in enumerate(dates)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    findings = Findings()
    checked(path, findings)
    assert places(findings) == [f"{path}:4: column 'id'", f"{path}:4: column 'at'"]


def test_numbers_that_only_look_like_local_dates_are_no_dates(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "account": f"{n + 30}-34-5678", "short": "31/02/26"}
            for n in range(40)]  # fmt: skip
    findings = Findings()
    checked(write_jsonl(tmp_path / "a.jsonl", rows), findings)
    assert places(findings) == []
