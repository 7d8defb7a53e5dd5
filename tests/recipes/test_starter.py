"""`assay init`: a recipe for a file of one's own, that loads and reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from typer.testing import CliRunner

from recipes import config, domains, starter
from recipes.cli import app
from recipes.data.dataset import new_findings
from recipes.errors import InputError
from recipes.yaml_text import parse, plain, quoted_if_needed
from tests.recipes.data.test_guesses import TURNS, questions, tickets
from tests.recipes.rows import write_jsonl

SHARED_CASE = Path(__file__).parents[3] / "shared/cases/16-exported-tickets/tickets.csv"


def table(rows: list[dict[str, Any]], delimiter: str) -> str:
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "".join(delimiter.join(line) + "\r\n" for line in lines)


def rows_read(recipe_file: Path) -> int:
    """Return how many rows `check` can use."""
    recipe = config.load(recipe_file)
    findings = new_findings(recipe)
    parts = domains.read(recipe, recipe_file.parent, findings).parts
    return len(parts.train) + len(parts.validation) + len(parts.test)


def test_an_export_with_semicolons_in_windows_1252_gets_a_recipe_that_reads_it(
    tmp_path: Path,
) -> None:
    rows = tickets(text="Mängelbeschreibung", label="Kategorie", customer="Kundennr")
    data = tmp_path / "data" / "März [1].csv"
    data.parent.mkdir()
    data.write_bytes(table(rows, ";").replace("problem", "Schaden für").encode("windows-1252"))
    out = tmp_path / "recipes" / "t.yaml"
    out.parent.mkdir()
    starter.write_for("classification", out, data)
    read = config.load(out).data
    assert read.train == ("../data/März [1].csv",)
    assert (read.encoding, read.delimiter) == ("Windows-1252", ";")
    assert read.columns == {"text": "Mängelbeschreibung", "label": "Kategorie"}
    assert read.group == "Kundennr"
    assert rows_read(out) == len(rows)


def test_a_workbook_with_a_title_gets_its_sheet_and_header_row(tmp_path: Path) -> None:
    book = Workbook()
    assert book.active is not None
    book.active.title = "Read me"
    sheet = book.create_sheet("2")  # a number to YAML, unless it is quoted
    sheet.append(["Tickets of 2026"])
    rows = tickets()
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    data, out = tmp_path / "t.xlsx", tmp_path / "t.yaml"
    book.save(data)
    starter.write_for("classification", out, data)
    read = config.load(out).data
    assert (read.sheet, read.header_row, read.group) == ("2", 2, "customer")
    assert rows_read(out) == len(rows)


def test_chats_under_another_name_get_a_recipe_that_reads_them(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "c.jsonl", ({"dialog": TURNS, "user": i // 2} for i in range(20)))
    out = tmp_path / "c.yaml"
    starter.write_for("chat", out, data)
    read = config.load(out).data
    assert (read.columns, read.group) == ({"messages": "dialog"}, "user")
    assert (read.encoding, read.delimiter) == (None, None)
    assert rows_read(out) == 20


def test_questions_get_a_recipe_that_reads_them(tmp_path: Path) -> None:
    data, out = write_jsonl(tmp_path / "q.jsonl", questions()), tmp_path / "q.yaml"
    starter.write_for("qa", out, data)
    wanted = {"context": "Abschnitt", "question": "Frage", "answers": "Antwort"}
    assert config.load(out).data.columns == wanted
    assert rows_read(out) == 30


@pytest.mark.parametrize("recipe", starter.RECIPES)
def test_a_written_recipe_keeps_the_comments_of_its_preset(recipe: str, tmp_path: Path) -> None:
    rows = {"chat": [{"messages": TURNS}] * 4, "classification": tickets(), "qa": questions()}
    data, out = write_jsonl(tmp_path / "d.jsonl", rows[recipe]), tmp_path / "r.yaml"
    starter.write_for(recipe, out, data)
    written = out.read_text(encoding="utf-8")
    for line in starter.preset(recipe).splitlines():
        replaced = ("name: ", "# Run it as it is", "  train: ", "  group: ", "  # columns: ")
        assert line.startswith(replaced) or line in written
    assert "# guess: " in written
    assert "sample:" not in written


def test_names_that_yaml_takes_for_something_else_come_back_as_they_are(tmp_path: Path) -> None:
    names = {"text": "no: #1", "label": "2026-13-45", "customer": "kunde\u2028'\"{"}
    data, out = write_jsonl(tmp_path / "t.jsonl", tickets(**names)), tmp_path / "t.yaml"
    starter.write_for("classification", out, data)
    read = config.load(out).data
    assert (*read.columns.values(), read.group) == (*names.values(),)


@pytest.mark.parametrize(
    "text",
    ["", " a", "a ", "~", "null", "1", "1e3", "- a", "a: b", "a #b", "*a", "&a", "!a", "%", "@",
     "\t", "\n", "\x07", "\x85", "\ufeff", "\u2028", "é", "😀", "a, b", "}", "'", '"', "\\", "<<",
     "=", "yes", "true", "2026-01-01", "x" * 500],
)  # fmt: skip
def test_a_quoted_scalar_is_read_as_its_text(text: str) -> None:
    scalar = quoted_if_needed(text)
    assert "\n" not in scalar
    assert plain(parse(f"a: {scalar}\nb: [{{c: {scalar}}}]")) == {"a": text, "b": [{"c": text}]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,day\n1,2026-01-01\n2,2026-01-02\n", "the columns are 'id', 'day'"),
        (b"text,label\n", "has no row that can be read"),
        (b"", ""),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_nothing_is_written(
    tmp_path: Path, content: bytes, words: str
) -> None:
    data, out = tmp_path / "t.csv", tmp_path / "t.yaml"
    data.write_bytes(content)
    with pytest.raises(InputError, match=r"t\.csv") as caught:
        starter.write_for("classification", out, data)
    assert words in str(caught.value)
    assert not out.exists()


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for data, words in ((tmp_path / "no.csv", "is not there"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=words):
            starter.write_for("qa", tmp_path / "q.yaml", data)


def test_init_prints_its_guesses_for_people_and_as_json(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "t.jsonl", tickets())
    command = ["init", "classification", "--data", str(data), "-o", str(tmp_path / "a.yaml")]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0
    assert "data.columns.label: 'label'  (its name, and 5 values that repeat)" in said.output
    command[-1] = str(tmp_path / "b.yaml")
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert [one["value"] for one in found["guesses"]] == ["text", "label", "customer"]
    assert found["columns"] == ["id", "made", "customer", "text", "label"]
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()


@pytest.mark.skipif(not SHARED_CASE.is_file(), reason="needs ../shared/cases beside the repository")
def test_the_exported_tickets_get_the_recipe_that_a_person_would_write(tmp_path: Path) -> None:
    out = tmp_path / "r.yaml"
    starter.write_for("classification", out, SHARED_CASE)
    read = config.load(out).data
    assert read.columns == {"text": "Message text", "label": "Queue"}
    assert (read.group, read.encoding, read.delimiter) == ("CustomerNo", "Windows-1252", ";")
