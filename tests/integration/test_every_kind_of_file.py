"""`assay run` to its end on every kind of file, with two steps of training."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pytest
from pyarrow import feather, parquet

from tests import tiny
from tests.cli import assay_here, write_recipe

Write = Callable[[Path, list[dict[str, Any]]], None]


def texts() -> list[dict[str, Any]]:
    return [dict(row) for row in tiny.class_rows(60)]


def write_table(path: Path, rows: list[dict[str, Any]], encoding: str, delimiter: str) -> None:
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def windows_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    rows = [row | {"text": f"{row['text']} für Käthe, 5 €"} for row in rows]
    write_table(path, rows, "windows-1252", ";")


def utf16_tsv(path: Path, rows: list[dict[str, Any]]) -> None:
    write_table(path, rows, "utf-16", "\t")


def titled_workbook(path: Path, rows: list[dict[str, Any]]) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Tickets of the year"])
    sheet.append([])
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    book.save(path)


def array_of_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows), encoding="utf-8")


def pandas_split(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    data = [[row[name] for name in columns] for row in rows]
    whole = {"columns": columns, "index": list(range(len(rows))), "data": data}
    path.write_text(json.dumps(whole), encoding="utf-8")


def zipped_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(lines.encode("utf-8-sig")))


def parquet_file(path: Path, rows: list[dict[str, Any]]) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def feather_file(path: Path, rows: list[dict[str, Any]]) -> None:
    feather.write_feather(pyarrow.Table.from_pylist(rows), path)


def folder_of_files(path: Path, rows: list[dict[str, Any]]) -> None:
    path.mkdir()
    for number in range(3):
        write_table(path / f"part-{number}.csv", rows[number::3], "utf-8", ",")


def finish(folder: Path, kind: str, base: Path, data: dict[str, Any]) -> dict[str, Any]:
    """Run to the end and return the manifest of the data."""
    recipe = write_recipe(folder, kind, base, data=data)
    done = assay_here("run", recipe, "--set", "train.max_steps=2", folder=folder)
    assert done.code == 0, done.err
    run = folder / "runs" / "a-run"
    record = json.loads((run / "record.json").read_text())
    assert record["training"]["num_steps"] == 2
    manifest: dict[str, Any] = json.loads((run / "data.json").read_text())
    return manifest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write", "read_as"),
    [
        ("rows.csv", windows_csv, "Windows-1252"),
        ("rows.tsv", utf16_tsv, "UTF-16"),
        ("rows.xlsx", titled_workbook, None),
        ("rows.json", array_of_json, "UTF-8"),
        ("split.json", pandas_split, "UTF-8"),
        ("rows.jsonl.gz", zipped_lines, "UTF-8"),
        ("rows.parquet", parquet_file, None),
        ("rows.feather", feather_file, None),
        ("parts", folder_of_files, "UTF-8"),
    ],
)
def test_labelled_texts_of_every_kind_of_file_are_trained_on(
    tmp_path: Path, tiny_base: Path, name: str, write: Write, read_as: str | None
) -> None:
    write(tmp_path / name, texts())
    manifest = finish(tmp_path, "classification", tiny_base, {"train": name})
    assert sum(read["num_rows"] for read in manifest["reads"]) == 60
    encoding = manifest["reads"][0]["encoding"]
    assert encoding == read_as or (read_as is not None and encoding.startswith(read_as))


@pytest.mark.slow
def test_questions_in_the_squad_format_are_trained_on(tmp_path: Path, tiny_base: Path) -> None:
    paragraphs = []
    for row in tiny.qa_rows(32):
        answers = [
            {"text": one, "answer_start": row["context"].index(one)} for one in row["answers"]
        ]
        asked = {"id": row["id"], "question": row["question"], "answers": answers}
        asked["is_impossible"] = not answers
        paragraphs.append({"context": row["context"], "qas": [asked]})
    whole = {"data": [{"title": "Prices", "paragraphs": paragraphs}]}
    (tmp_path / "squad.json").write_text(json.dumps(whole), encoding="utf-8")
    manifest = finish(tmp_path, "qa", tiny_base, {"train": "squad.json"})
    assert manifest["reads"][0]["num_rows"] == 32


@pytest.mark.slow
def test_chats_of_three_conventions_in_one_folder_are_trained_on(
    tmp_path: Path, tiny_base: Path
) -> None:
    folder = tmp_path / "chats"
    folder.mkdir()
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    rows: dict[str, list[dict[str, Any]]] = {"openai": [], "sharegpt": [], "exchange": []}
    for number, messages in enumerate(tiny.chat_rows(30)):
        if number % 3 == 0:
            rows["openai"].append({"messages": messages})
        elif number % 3 == 1:
            turns = [{"from": names[m["role"]], "value": m["content"]} for m in messages]
            rows["sharegpt"].append({"conversations": turns})
        else:
            asked, answered = (m["content"] for m in messages[-2:])
            rows["exchange"].append({"prompt": asked, "completion": answered})
    for name, found in rows.items():
        lines = "".join(json.dumps(row) + "\n" for row in found)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    manifest = finish(tmp_path, "chat", tiny_base, {"train": "chats"})
    assert [read["num_rows"] for read in manifest["reads"]] == [10, 10, 10]
