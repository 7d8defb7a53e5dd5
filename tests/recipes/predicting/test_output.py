"""One content in three kinds of files, streamed, and none that is half written."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from recipes.errors import InputError
from recipes.predicting.output import Column, OutputRow, open_output

COLUMNS = (
    Column("label", "text"),
    Column("labels", "texts"),
    Column("confidence", "number"),
    Column("abstained", "flag"),
    Column("probabilities", "by-label", ("a", 'b "c", d')),
)
ROWS = (
    OutputRow("1", "f:2", ("a", ("a", "b"), 0.1 + 0.2, False, (0.25, 1e-17))),
    OutputRow(None, "f:3", None, "no text"),
    OutputRow('x,"y"\n', "f:4", (None, (), 1.0, True, (1.0, 0.0))),
    OutputRow("ü", "f:5", ("line\nbreak, ☃", None, 0.5, None, None)),
)


def write(path: Path) -> None:
    with open_output(path, COLUMNS) as add:
        add(ROWS[:1])
        add(ROWS[1:])


def test_json_lines_hold_it_nested(tmp_path: Path) -> None:
    write(tmp_path / "o.jsonl")
    found = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text("utf-8").splitlines()]
    assert found == [row.to_json(COLUMNS) for row in ROWS]
    assert found[0]["probabilities"] == {"a": 0.25, 'b "c", d': 1e-17}
    assert found[1] == {
        **dict.fromkeys(("label", "labels", "confidence", "abstained", "probabilities")),
        **{"id": None, "place": "f:3", "problem": "no text"},
    }


def test_tables_hold_it_in_a_column_for_each_label(tmp_path: Path) -> None:
    write(tmp_path / "o.csv")
    write(tmp_path / "o.parquet")
    with (tmp_path / "o.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    rows: list[dict[str, Any]] = parquet.read_table(tmp_path / "o.parquet").to_pylist()
    assert list(table[0]) == list(rows[0])
    assert list(rows[0])[-3:] == ["probabilities:a", 'probabilities:b "c", d', "problem"]
    for row, cells, source in zip(rows, table, ROWS, strict=True):
        nested = source.to_json(COLUMNS)
        by_label = nested["probabilities"] or {}
        assert isinstance(by_label, dict)
        for name in ("id", "place", "label", "labels", "confidence", "abstained", "problem"):
            assert row[name] == nested[name]
        for label in COLUMNS[-1].labels:
            value = by_label.get(label)
            assert row[f"probabilities:{label}"] == value
            assert cells[f"probabilities:{label}"] == ("" if value is None else repr(value))
        assert cells["id"] == (source.id or "")
        assert cells["labels"] == " | ".join(nested["labels"] or ())  # type: ignore[arg-type]
        assert cells["abstained"] == {True: "true", False: "false", None: ""}[row["abstained"]]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_error_leaves_the_file_of_before(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"o.{kind}"
    path.write_text("before")

    def fail() -> None:
        with open_output(path, COLUMNS) as add:
            add(ROWS)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["o", "o.xlsx", "o.json", "o.csv.gz"])
def test_other_kinds_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"written as \.csv, \.jsonl, \.parquet"):
        write(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, kind: str) -> None:
    def peak(num_chunks: int) -> int:
        tracemalloc.start()
        with open_output(tmp_path / f"o.{kind}", COLUMNS) as add:
            for _ in range(num_chunks):
                add(ROWS * 50)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(40) < 2 * peak(4)
