"""Columns that a file lacks are one finding, with the likely ones, and the rest is judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recipes import classification, qa
from recipes.data import catalog
from recipes.data.dataset import DataSplit, Reading, prepare, read_data
from recipes.data.findings import FindingKind, Findings
from recipes.data.guesses import likely_columns
from tests.recipes.rows import checked, places, settings_of, write_bytes, write_jsonl

TEXTS = ("my order is late again", "where is my parcel", "I want my money back", "it is broken")


def classified(folder: Path, findings: Findings, **settings: Any) -> DataSplit[Any]:
    return prepare(
        settings_of(**settings),
        folder,
        classification.parse,
        seed=0,
        validation_fraction=0.0,
        findings=findings,
        guess_columns=lambda rows: likely_columns("classification", rows),
    )


def found_in(findings: Findings, kind: FindingKind, folder: Path) -> list[str]:
    return [str(one).replace(f"{folder}/", "") for one in findings.occurrences(kind)]


def write_tickets(path: Path, header: str = "Nr;Nachricht;Queue;Kunde") -> Path:
    rows = [f"{n};{TEXTS[n % 4]} {n};{'ab'[n % 2]};C{n % 7}" for n in range(40)]
    return write_bytes(path, "\n".join([header, *rows, ""]).encode())


def test_all_columns_that_a_table_lacks_are_named_at_once_with_the_likely_ones(
    tmp_path: Path,
) -> None:
    write_tickets(tmp_path / "a.csv")
    findings = Findings()

    classified(tmp_path, findings, train="a.csv", group="customer")

    assert found_in(findings, catalog.MISSING_COLUMN, tmp_path) == [
        "a.csv:1: no column 'text'; likely 'Nachricht'",
        "a.csv:1: no column 'label' or 'labels'; likely 'Queue'",
        "a.csv:1: no column 'customer' (data.group); likely 'Kunde'",
    ]
    [finding] = findings.all()
    [note] = finding.notes
    assert note.startswith("a.csv has 'Nr', 'Nachricht', 'Queue', 'Kunde' (read as UTF-8, semi")
    assert "set data.delimiter, data.header_row, data.encoding" in note
    assert finding.to_paste == ('columns:\n  text: "Nachricht"\n  label: "Queue"\ngroup: "Kunde"',)


def test_the_other_columns_and_files_are_judged_all_the_same(tmp_path: Path) -> None:
    write_tickets(tmp_path / "a.csv", "Nr;Nachricht;Queue;created")
    content = (tmp_path / "a.csv").read_text() + "40;n/a;A;2026-02-30\n"
    (tmp_path / "a.csv").write_text(content)
    (tmp_path / "empty.csv").touch()
    write_jsonl(tmp_path / "b.jsonl", [{"text": "a", "label": "x"}, {"text": "a", "label": "y"}])
    (tmp_path / "c.csv").write_text('text,label\n"open,x\nlast,y\n')
    findings = Findings()

    parts = classified(tmp_path, findings, train=["a.csv", "empty.csv", "b.jsonl", "c.csv"])

    assert {one.kind.code: one.count for one in findings.all() if one.severity == "error"} == {
        "missing-column": 2,
        "empty-file": 1,
        "unclosed-quote": 1,
        "conflicting-labels": 1,
    }
    assert found_in(findings, catalog.IMPOSSIBLE_DATE, tmp_path) == ["a.csv:42: column 'created'"]
    assert found_in(findings, catalog.MISSING_WORD_TEXT, tmp_path) == ["a.csv:42"]
    assert {row.item.label for row in (*parts.train, *parts.test)} >= {"a", "b", "A", "x", "y"}


def test_a_file_that_lacks_columns_does_not_also_leave_too_few_rows(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.csv", b"name,size\na,1\nb,2\n")
    findings = Findings()
    classified(tmp_path, findings, train="a.csv")
    assert [one.kind.code for one in findings.all()] == ["missing-column"]


def test_keys_that_no_object_has_are_one_finding_and_those_that_some_have_are_bad_rows(
    tmp_path: Path,
) -> None:
    rows = {
        str(n): {
            "QUESTION": "Is it so?",
            "CONTEXTS": [f"It is so, by {n}."],
            "final_decision": "yes",
        }
        for n in range(500)
    }
    (tmp_path / "pubmed.json").write_text(json.dumps(rows))
    findings = Findings()
    config = settings_of(train=("pubmed.json",))
    reading = Reading(findings, guess_columns=lambda given: likely_columns("qa", given))

    assert not read_data([tmp_path / "pubmed.json"], config, qa.parse, reading)

    assert found_in(findings, catalog.MISSING_COLUMN, tmp_path) == [
        "pubmed.json: no column 'context'; likely 'CONTEXTS'",
        "pubmed.json: no column 'question'; likely 'QUESTION'",
        "pubmed.json: no column 'answers' or 'answer'",
    ]
    [finding] = findings.all()
    assert finding.notes == ("pubmed.json has 'CONTEXTS', 'QUESTION', 'final_decision', 'id'",)

    some = [{"text": "a"}, {"txt": "b"}, {"text": "c"}, {"txt": "d"}]
    path = write_jsonl(tmp_path / "some.jsonl", [{"txt": "e"}, *some])
    again = Findings()
    assert len(checked(path, again)) == 2
    assert found_in(again, catalog.MISSING_COLUMN, tmp_path) == []
    assert [one.split(":")[1] for one in found_in(again, catalog.UNUSABLE_ROW, tmp_path)] == [
        *("1", "3", "5")
    ]


def test_the_group_column_that_no_object_has_is_one_finding_and_its_rows_are_judged(
    tmp_path: Path,
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"{n}", "who": "x"} for n in range(9)])
    findings = Findings()
    assert len(checked(path, findings, group="woh")) == 9
    assert places(findings) == [f"{path}: no column 'woh' (data.group)"]


@pytest.mark.parametrize("settings", [{"drop_bad_rows": True}, {}])
def test_a_table_that_lacks_a_column_is_an_error_and_little_of_it_is_quoted(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    words = "my order of the third of May is late"
    (tmp_path / "a.csv").write_text(f"{words};b\n" + "x;y\n" * 30)
    findings = Findings(drop_bad_rows="drop_bad_rows" in settings)
    reading = Reading(findings, guess_columns=lambda _: {"text": words})
    config = settings_of(**settings)

    assert not read_data([tmp_path / "a.csv"], config, classification.parse, reading)

    [finding] = findings.errors()
    assert finding.kind is catalog.MISSING_COLUMN
    shown = "\n".join([*places(findings), *finding.notes, *finding.to_paste])
    assert words not in shown
    assert "read as UTF-8, semicolons, columns named in 1" in shown


def test_a_name_in_the_recipe_that_is_nearly_a_column_is_recognised(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", b"Message,label\none,x\ntwo,y\n")
    findings = Findings()
    config = settings_of(columns={"text": "mesage"})
    rows = read_data([path], config, classification.parse, Reading(findings))
    assert found_in(findings, catalog.MISSING_COLUMN, tmp_path) == [
        "a.csv:1: no column 'mesage'; likely 'Message'"
    ]
    assert [row.item.text for row in rows] == ["one", "two"]
    assert findings.all()[0].to_paste == ('columns:\n  text: "Message"',)


def test_no_recipe_can_make_a_file_that_is_not_read_whole_less_than_an_error() -> None:
    for kind in (catalog.UNREADABLE_FILE, catalog.UNCLOSED_QUOTE, catalog.MISSING_COLUMN):
        with pytest.raises(ValueError, match="is always an error"):
            settings_of(findings={kind.code: "warning"})
