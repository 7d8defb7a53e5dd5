"""Parquet and Arrow give plain values, without what Arrow padded with null."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import feather, parquet

from recipes.errors import InputError
from tests.recipes.data.readers.reading import A, B, read, read_as, values


def write(path: Path, table: Any) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=2)
    elif path.suffix == ".feather":
        feather.write_feather(table, str(path))
    elif path.suffix == ".ipc":
        with (
            pyarrow.OSFile(str(path), "wb") as file,
            pyarrow.ipc.new_stream(file, table.schema) as out,
        ):
            out.write_table(table, max_chunksize=2)
    else:
        with (
            pyarrow.OSFile(str(path), "wb") as file,
            pyarrow.ipc.new_file(file, table.schema) as out,
        ):
            out.write_table(table, max_chunksize=2)
    return path


NAMES = ["a.parquet", "a.feather", "a.ipc", "a.arrow"]


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_named_by_their_index_over_all_batches(tmp_path: Path, name: str) -> None:
    rows = [{**A, "n": 1, "many": ["p", "q"]}, {**B, "n": None, "many": []}, {**A, "n": 2}]
    path = write(tmp_path / name, pyarrow.Table.from_pylist(rows))
    found, bad = read(path)
    wanted = [*rows[:2], {**rows[2], "many": None}]
    assert found == [(f"{name}[{index}]", row) for index, row in enumerate(wanted)]
    assert not bad
    assert read_as(path).num_rows == 3
    assert read_as(path).columns == ("text", "label", "n", "many")


@pytest.mark.parametrize("name", NAMES)
def test_keys_that_a_row_lacks_are_absent_again_at_any_depth(tmp_path: Path, name: str) -> None:
    calls = [
        {"name": "find", "arguments": {"order": "1"}},
        {"name": "weather", "arguments": {"city": "Ulm", "when": {"day": "mon"}}},
        {"name": "now", "arguments": {}},
    ]
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}], "note": None, "meta": {"a": 1}},
        {"messages": [{"role": "assistant", "tool_calls": calls}], "note": "x", "meta": None},
        {
            "messages": [{"role": "tool", "content": None}, None],
            "note": "x",
            "meta": {"b": [{"c": 1}]},
        },
    ]
    found = values(write(tmp_path / name, pyarrow.Table.from_pylist(rows)))
    rows[2]["messages"] = [{"role": "tool"}, None]  # a null of its own cannot be told from padding
    assert found == rows


def test_types_that_json_lacks_become_plain_values(tmp_path: Path) -> None:
    moment = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    columns: dict[str, tuple[Any, Any, Any]] = {
        "whole": (Decimal("12.00"), pyarrow.decimal128(10, 2), 12),
        "part": (Decimal("12.50"), pyarrow.decimal128(10, 2), "12.50"),
        "day": (date(2026, 3, 1), pyarrow.date32(), "2026-03-01"),
        "moment": (moment, pyarrow.timestamp("us", "UTC"), "2026-03-01T12:30:00+00:00"),
        "span": (timedelta(seconds=90), pyarrow.duration("s"), 90.0),
        "name": ("x", pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), "x"),
        "large": ("x", pyarrow.large_string(), "x"),
        "many": (["x"], pyarrow.large_list(pyarrow.large_string()), ["x"]),
        "days": ([date(2026, 3, 1)], pyarrow.list_(pyarrow.date32()), ["2026-03-01"]),
        "map": ([("a", 1)], pyarrow.map_(pyarrow.string(), pyarrow.int64()), {"a": 1}),
        "views": (
            [{"a": 1, "b": None}],
            pyarrow.list_view(pyarrow.struct({"a": pyarrow.int8(), "b": pyarrow.int8()})),
            [{"a": 1}],
        ),
        "view": ("x", pyarrow.string_view(), "x"),
        "bytes": (b"caf\xc3\xa9", pyarrow.binary(), "café"),
        "image": (b"\xff\xd8", pyarrow.binary(), b"\xff\xd8"),
        "flag": (True, pyarrow.bool_(), True),
    }
    arrays = {name: pyarrow.array([given], kind) for name, (given, kind, _) in columns.items()}
    [row] = values(write(tmp_path / "a.arrow", pyarrow.table(arrays)))
    assert row == {name: wanted for name, (_, _, wanted) in columns.items()}


def test_a_date_that_python_lacks_is_a_finding(tmp_path: Path) -> None:
    far = pyarrow.array([0, 2**60], pyarrow.timestamp("s"))
    table = pyarrow.table({"text": ["one", "two"], "day": far})
    found, bad = read(write(tmp_path / "a.arrow", table))
    assert [row["text"] for _, row in found] == ["one"]
    assert bad == ["a.arrow[1]: column 'day': a value that Python cannot hold, such as a far date"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"PAR1 not really", b"ARROW1 not really", b"not at all"])
def test_what_is_no_arrow_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"not a readable \{name[1:]} file"):
        read(tmp_path / name)


def test_of_a_column_that_is_there_twice_the_first_is_read_and_it_is_named(tmp_path: Path) -> None:
    columns = [pyarrow.array([text]) for text in ("x", "y", "z")]
    table = pyarrow.table(columns, ["text", "text", "label"])
    rows, found = read(write(tmp_path / "a.arrow", table))
    assert [row for _, row in rows] == [{"text": "x", "label": "z"}]
    assert found == ["a.arrow: columns 1, 2 are named 'text'"]
