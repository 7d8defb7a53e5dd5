"""`assay check --fix`: copies without what it mends, a log without texts, the source as it was."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import shlex
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipes.check import fix
from recipes.check.row_cleaner import MENDED
from recipes.data.readers import read_rows
from recipes.data.rows import Row
from tests.cli import Done, assay_here
from tests.recipes.rows import write_jsonl

WORDS = ("window", "ticket", "garden", "river", "engine", "butter", "yellow", "travel", "winter")


def write_recipe(folder: Path, recipe: str, **data: Any) -> Path:
    """Write a recipe whose base is not there: lengths are not looked at, which takes seconds."""
    values = {
        "name": "fix",
        "recipe": recipe,
        "base": {"checkpoint": "./no-base"},
        "data": data,
        "gate": {},
    }
    path = folder / "r.yaml"
    path.write_text(json.dumps(values))
    return path


def fixed(folder: Path, *more: str, into: str = "clean") -> dict[str, Any]:
    done = assay_here("check", "r.yaml", *more, "--fix", into, "--json", folder=folder)
    assert done.out, done.err
    found: dict[str, Any] = done.json()["fix"]
    return found


def run_next(folder: Path, command: str, *more: str) -> Done:
    """Run the command that `--fix` prints."""
    program, *arguments = shlex.split(command)
    assert program == "assay"
    return assay_here(*arguments, *more, "--json", folder=folder)


def codes(done: Done) -> dict[str, int]:
    return {one["code"]: one["count"] for one in done.json()["findings"]}


def assert_mended(folder: Path, command: str) -> None:
    """Assert that a check of the copies finds nothing that is mended, and that no more changes."""
    done = run_next(folder, command, "--fix", "again")
    assert codes(done).keys() & {kind.code for kind in MENDED} == set()
    again = done.json()["fix"]
    assert again["changes"] == {}
    for copy in again["files"]:
        one, two = folder / copy["path"], Path(copy["source"])
        assert one.read_bytes() == two.read_bytes()


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


def log_of(folder: Path, into: str = "clean") -> list[dict[str, str]]:
    lines = (folder / into / "changes.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def csv_rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [*csv.reader(stream)]


def semicolons(rows: Iterable[Iterable[str]]) -> str:
    return "".join(";".join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)


SOUND = [(f"Über {one} und {two}", "refund") for one in WORDS for two in WORDS[:3] if one != two]


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    """A help desk's export with every trap that is mended."""
    table = [
        ("Text", "Queue", "Note"),
        *((text, "refund", "") for text, _ in SOUND),
        ("Der Käse ist weg", " Refund ", "=SUM(A1)"),
        ("Die Tür klemmt", "REFUND", "-1"),
        ("Zeile eins\nZeile zwei", "complaint", "she said no"),
        ("Kein Strom seit gestern", "beschwerde", "@home"),
        ("Wasser läuft aus", "complaint", "a;b,c"),
        ("Wasser läuft aus", "complaint", "later copy"),
        ("Write to ann.miller@example.com soon", "complaint", ""),
        ("Ask ann.miller@example.com twice", "complaint", ""),
        ("n/a", "complaint", ""),
        ("...", "complaint", ""),
        ("Ein Text ohne Marke", "", ""),
        ("Zu viele", "complaint", "", "mehr"),
    ]
    held_out = [
        ("Text", "Queue", "Note"),
        ("Ein neuer Satz über den Mond", "refund", ""),
        ("Noch ein Satz über Brot", "complaint", ""),
        ("Die Tür klemmt", "refund", "exact"),
        ("der käse, ist weg!", "refund", "normalised"),
    ]
    bad = '"schöne Grüße aus Köln";"refund";""\r\n'.encode()
    (tmp_path / "tickets.csv").write_bytes(
        b"Report 2026;;\r\n" + semicolons(table).encode("cp1252") + bad
    )
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "tickets.csv").write_bytes(semicolons(held_out).encode("cp1252"))
    write_recipe(
        tmp_path,
        "classification",
        train="tickets.csv",
        test="new/tickets.csv",
        encoding="windows-1252",
        delimiter=";",
        columns={"text": "Text", "label": "Queue"},
        label_map={"beschwerde": "complaint"},
    )
    return tmp_path


def test_a_spreadsheet_export_with_every_trap_is_clean_after_one_fix(tickets: Path) -> None:
    before = hashes(tickets) | hashes(tickets / "new")

    result = fixed(tickets)

    assert hashes(tickets) | hashes(tickets / "new") == before
    assert result["changes"] == {
        "file-form": 2,
        "unusable-row": 1,
        "wrong-encoding": 1,
        "empty-label": 1,
        "missing-word-text": 1,
        "text-without-content": 1,
        "duplicate-rows": 1,
        "exact-leak": 1,
        "normalised-leak": 1,
        "label-spellings": 2,
        "label-mapped": 1,
        "personal-data": 2,
    }
    assert [copy["path"] for copy in result["files"]] == [
        "clean/tickets.csv",
        "clean/tickets-2.csv",
    ]
    rows = csv_rows(tickets / "clean" / "tickets.csv")
    assert rows[0] == ["Text", "Queue", "Note"]
    assert rows[len(SOUND) + 1 :] == [
        ["Der Käse ist weg", "refund", "=SUM(A1)"],
        ["Die Tür klemmt", "refund", "-1"],
        ["Zeile eins\nZeile zwei", "complaint", "she said no"],
        ["Kein Strom seit gestern", "complaint", "@home"],
        ["Wasser läuft aus", "complaint", "a;b,c"],
        ["Write to <EMAIL_1> soon", "complaint", ""],
        ["Ask <EMAIL_1> twice", "complaint", ""],
    ]
    assert_mended(tickets, result["next"])


def test_the_log_names_each_place_and_no_text_of_a_row(tickets: Path) -> None:
    fixed(tickets)

    log = log_of(tickets)
    text = json.dumps(log, ensure_ascii=False)

    assert {tuple(one) for one in log} == {("place", "code", "change")}
    assert "ann.miller" not in text
    assert not [word for word in ("Käse", "Wasser", "Strom", "Köln", "twice") if word in text]
    redacted = [one for one in log if one["code"] == "personal-data"]
    assert redacted[0]["change"] == "redacted: email in column 'Text'"
    copy = next(one for one in log if one["code"] == "duplicate-rows")
    lines = (tickets / "tickets.csv").read_bytes().decode("cp1252").split("\n")
    assert lines[int(copy["place"].rsplit(":", 1)[1]) - 1].startswith('"Wasser läuft aus"')


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant") * len(texts)
    return {
        "messages": [
            {"role": role, "content": text} for role, text in zip(roles, texts, strict=False)
        ],
        **more,
    }


def test_chats_keep_their_nested_values_and_lose_what_cannot_be_used(tmp_path: Path) -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "look", "arguments": {"n": 3, "deep": [None, True, 0.5]}},
    }
    with_tool = {
        "messages": [
            {"role": "user", "content": "Call me at ann.miller@example.com"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
            {"role": "assistant", "content": "I wrote to ann.miller@example.com"},
        ],
        "meta": {"a": [1, 2.5, False, None]},
    }
    sound = [chat(f"What is a {one}?", f"A {one} is a {one}.", n=n) for n, one in enumerate(WORDS)]
    rows = [*sound, with_tool, chat("No answer"), sound[0], chat("a", "b", "c")]
    write_jsonl(tmp_path / "chats.jsonl", rows)
    write_recipe(tmp_path, "chat", train="chats.jsonl")

    result = fixed(tmp_path)

    found = objects(tmp_path / "clean" / "chats.jsonl")
    assert found[:-1] == sound
    assert found[-1]["messages"][1] == with_tool["messages"][1]
    assert found[-1]["meta"] == with_tool["meta"]
    assert found[-1]["messages"][3]["content"] == "I wrote to <EMAIL_1>"
    assert result["changes"] == {
        "personal-data": 1,
        "last-turn-not-assistant": 2,
        "duplicate-rows": 1,
    }
    assert_mended(tmp_path, result["next"])


def test_chats_whose_reasoning_is_undecided_are_kept_and_listed(tmp_path: Path) -> None:
    rows = [chat(f"What is {one}?", f"<think>Well.</think>A {one}.") for one in WORDS]
    write_jsonl(tmp_path / "chats.jsonl", rows)
    write_recipe(tmp_path, "chat", train="chats.jsonl")

    result = fixed(tmp_path)

    assert objects(tmp_path / "clean" / "chats.jsonl") == rows
    assert result["still_to_be_decided"]["reasoning-undecided"] == len(WORDS)


def questions() -> list[dict[str, Any]]:
    return [
        {"context": f"The {one} is in room {n}.", "question": f"Where is the {one}?"}
        | {"answers": [f"room {n}"], "weight": n}
        for n, one in enumerate(WORDS)
    ]


def test_questions_keep_answers_that_are_not_in_their_passage_for_a_person(tmp_path: Path) -> None:
    wrong = {"context": "The sun is hot.", "question": "What is cold?", "answers": ["the moon"]}
    mail = {
        "context": "Write to ann.miller@example.com now.",
        "question": "Whom to write to?",
        "answers": {"text": ["ann.miller@example.com"], "answer_start": [9]},
    }
    rows = [*questions(), wrong, mail, questions()[0] | {"weight": 99}, {"context": "only"}]
    write_jsonl(tmp_path / "qa.jsonl", rows)
    write_recipe(tmp_path, "qa", train="qa.jsonl")

    result = fixed(tmp_path)

    found = objects(tmp_path / "clean" / "qa.jsonl")
    assert found[:-1] == [*questions(), wrong]
    assert found[-1]["answers"] == {"text": ["<EMAIL_1>"]}
    assert result["still_to_be_decided"]["answer-not-in-passage"] == 1
    assert result["changes"] == {"personal-data": 1, "duplicate-rows": 1, "unusable-row": 1}
    assert_mended(tmp_path, result["next"])
    assert codes(run_next(tmp_path, result["next"]))["answer-not-in-passage"] == 1


def test_squad_becomes_flat_rows_that_keep_offsets_and_contradictions(tmp_path: Path) -> None:
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "id": f"q{n}",
                    "question": row["question"],
                    "answers": [
                        {"text": text, "answer_start": row["context"].index(text)}
                        for text in row["answers"]
                    ],
                    "is_impossible": n == 3,  # against its answers
                }
            ],
        }
        for n, row in enumerate(questions())
    ]
    paragraphs += [paragraphs[0], {"context": "Mail ann.miller@example.com", "qas": [
        {"id": "m", "question": "Who?", "answers": [{"text": "Mail", "answer_start": 0}]},
        {"id": "bad", "question": "", "answers": []},
    ]}]  # fmt: skip
    squad = {"version": "2.0", "data": [{"title": "Rooms", "paragraphs": paragraphs}]}
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    write_recipe(tmp_path, "qa", train="squad.json", group="article")

    result = fixed(tmp_path)

    found = objects(tmp_path / "clean" / "squad.jsonl")
    assert [row["id"] for row in found] == [f"q{n}" for n in range(len(WORDS))] + ["m"]
    assert found[0] == {
        "id": "q0",
        "document": found[0]["document"],
        "article": "Rooms",
        "context": "The window is in room 0.",
        "question": "Where is the window?",
        "answers": {"text": ["room 0"], "answer_start": [17]},
        "is_impossible": False,
    }
    assert found[-1]["answers"] == {"text": ["Mail"]}
    assert result["still_to_be_decided"]["impossible-contradiction"] == 1
    assert_mended(tmp_path, result["next"])
    after = codes(run_next(tmp_path, result["next"]))
    assert after["impossible-contradiction"] == 1
    assert "wrong-offset" not in after


def test_workbooks_become_csv_and_what_is_no_table_jsonl(tmp_path: Path) -> None:
    import openpyxl
    import pyarrow as pa
    from pyarrow import parquet

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for cells in (
        ["All tickets"],
        ["n", "text", "label", "done"],
        [1, "The window", True, None],
        [2.5, "A garden", False, "=x"],
        [3, "A river", None, "no label"],
        [4, "An engine", True, "last"],
    ):
        sheet.append(cells)
    sheet["D4"].data_type = "s"
    book.save(tmp_path / "rows.xlsx")
    rows = [
        {"text": f"{one} {n}", "label": ("true", "false")[n % 2], "meta": {"n": n, "more": [0.5]}}
        for n, one in enumerate(WORDS)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    tsv = 'text\tlabel\na "quoted" word\ttrue\n-1+1\tfalse\n'.encode("utf-16")
    (tmp_path / "rows.tsv.gz").write_bytes(gzip.compress(tsv))
    write_recipe(
        tmp_path,
        "classification",
        train=["rows.xlsx", "rows.parquet", "rows.tsv.gz"],
        header_row=None,
        sheet="Sheet",
    )

    result = fixed(tmp_path)

    names = [Path(copy["path"]).name for copy in result["files"]]
    assert names == ["rows.csv", "rows.jsonl", "rows-2.csv"]
    assert csv_rows(tmp_path / "clean" / "rows.csv") == [
        ["n", "text", "label", "done"],
        ["1", "The window", "true", ""],
        ["2.5", "A garden", "false", "=x"],
        ["4", "An engine", "true", "last"],
    ]
    assert objects(tmp_path / "clean" / "rows.jsonl") == rows
    assert csv_rows(tmp_path / "clean" / "rows-2.csv")[1:] == [
        ['a "quoted" word', "true"],
        ["-1+1", "false"],
    ]
    assert "data.sheet=null" in result["next"]
    assert_mended(tmp_path, result["next"])


def test_a_label_that_is_personal_data_is_redacted_in_the_copy_and_the_log(tmp_path: Path) -> None:
    rows = [
        {"text": f"The {one} of {n} is here", "label": ("to ann.miller@example.com", "no")[n % 2]}
        for n, one in enumerate(WORDS)
    ]
    rows.append({"text": "Another text", "label": "TO Ann.Miller@example.com "})
    write_jsonl(tmp_path / "rows.jsonl", rows)
    write_recipe(tmp_path, "classification", train="rows.jsonl")

    result = fixed(tmp_path)

    written = "".join(path.read_text() for path in (tmp_path / "clean").iterdir())
    assert "iller" not in written
    assert {row["label"] for row in objects(tmp_path / "clean" / "rows.jsonl")} == {
        "to <EMAIL_1>",
        "no",
    }
    assert_mended(tmp_path, result["next"])


def test_findings_that_the_recipe_ignores_are_not_mended(tmp_path: Path) -> None:
    rows = [{"text": f"The {one}", "label": ("a", "b")[n % 2]} for n, one in enumerate(WORDS)]
    rows += [
        rows[0],
        {"text": "Mail ann.miller@example.com", "label": "A"},
        {"text": "-", "label": "a"},
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    ignored = ("duplicate-rows", "personal-data", "label-spellings", "missing-word-text")
    write_recipe(
        tmp_path, "classification", train="rows.jsonl", findings=dict.fromkeys(ignored, "ignore")
    )

    result = fixed(tmp_path)

    assert result["changes"] == {}
    assert objects(tmp_path / "clean" / "rows.jsonl") == rows


def test_a_key_file_that_the_recipe_names_has_the_originals_of_the_copies(tmp_path: Path) -> None:
    rows = [{"text": f"The {one}", "label": ("a", "b")[n % 2]} for n, one in enumerate(WORDS)]
    rows.append({"text": "Mail ann.miller@example.com", "label": "a"})
    write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "safe").mkdir()
    write_recipe(tmp_path, "classification", train="rows.jsonl", personal_data_key="safe/key.json")

    fixed(tmp_path)

    key = (tmp_path / "safe" / "key.json").read_text()
    assert "EMAIL_1" in key
    assert "ann.miller@example.com" in key


@pytest.mark.parametrize("into", [".", "rows", "rows/clean", "full", "r.yaml"])
def test_a_folder_that_holds_files_or_is_the_source_is_refused(tmp_path: Path, into: str) -> None:
    for name in ("rows", "full"):
        (tmp_path / name).mkdir()
    write_jsonl(tmp_path / "rows" / "rows.jsonl", [{"text": "a", "label": "b"}])
    (tmp_path / "full" / "x").write_text("x")
    write_recipe(tmp_path, "classification", train="rows")
    before = sorted(tmp_path.rglob("*"))

    done = assay_here("check", "r.yaml", "--fix", into, folder=tmp_path)

    assert done.code == 2
    assert f"--fix {into}" in done.said
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_written_where_no_row_would_be_left(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"text": "...", "label": "b"}] * 3)
    write_recipe(tmp_path, "classification", train="rows.jsonl")
    before = sorted(tmp_path.rglob("*"))

    done = assay_here("check", "r.yaml", "--fix", "clean", folder=tmp_path)

    assert done.code == 2
    assert "no row of data.train would be left" in done.said
    assert sorted(tmp_path.rglob("*")) == before


def test_the_terminal_names_files_changes_and_the_next_command(tickets: Path) -> None:
    done = assay_here("check", "r.yaml", "--fix", "clean", folder=tickets)

    assert "clean/tickets.csv: " in done.out
    assert "clean/changes.jsonl: " in done.out
    assert "  duplicate-rows: 1\n" in done.out
    last = done.out.strip().splitlines()[-1]
    assert last.startswith("next: assay check r.yaml --set ")
    assert "data.label_map={}" in last


def test_of_the_rows_only_a_few_are_in_memory_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"text": f"The {one} is in {n}", "label": ("a", "b", "A")[n % 3]}
        for n in range(20)
        for one in WORDS
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    write_recipe(tmp_path, "classification", train="rows.jsonl")
    alive: weakref.WeakSet[Watched] = weakref.WeakSet()
    most = []

    def watched(*arguments: Any) -> Iterator[Row]:
        for row in read_rows(*arguments):
            text = Watched(row.values["text"])
            alive.add(text)
            most.append(len(alive))
            yield Row(row.place, {**row.values, "text": text})
            del row, text

    monkeypatch.setattr(fix, "read_rows", watched)

    fixed(tmp_path)

    assert len(most) == 2 * len(rows)  # once for the spellings, once for the copy
    assert max(most) < 10


class Watched(str):
    """A text that can be watched."""


CELLS = st.text(st.sampled_from("ab ,;\"'\n\r\t=|[]éß.\u200b\u2028\x85\x1c\ufeff"), max_size=8)
TEXTS = st.one_of(CELLS, st.sampled_from(["n/a", "one two", "One  two!", "mail a.b@example.com"]))
LABELS = st.sampled_from(
    ["yes", "Yes ", "y", "NO", "no", " no", "3", "3.0", "maybe;no", "", "é", "e\u0301"]
)


@given(
    rows=st.lists(st.tuples(TEXTS, LABELS, CELLS), min_size=1, max_size=8),
    held_out=st.lists(st.tuples(TEXTS, LABELS, CELLS), max_size=4),
    separator=st.sampled_from([None, ";"]),
)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_fixing_what_is_fixed_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    held_out: list[tuple[str, str, str]],
    separator: str | None,
) -> None:
    folder = tmp_path_factory.mktemp("fix")
    sure = [("a first sure text", "yes", ""), ("a second sure text", "no", "")]
    new = [("a third sure text", "yes", "")]
    for name, found in (("train", [*sure, *rows]), ("test", [*new, *held_out])):
        with (folder / f"{name}.csv").open("w", encoding="utf-16", newline="") as stream:
            csv.writer(stream, delimiter=";", quoting=csv.QUOTE_ALL).writerows(
                [("text", "label", "note"), *found]
            )
    write_recipe(
        folder,
        "classification",
        train="train.csv",
        test="test.csv",
        **({"label_separator": separator} if separator else {}),
    )

    assert_mended(folder, fixed(folder)["next"])


def test_columns_that_do_not_reach_the_model_are_named_as_left_in_log_and_terminal(
    tmp_path: Path,
) -> None:
    mail = "ann.miller@example.com"
    rows = [f"a{n} {word},{'xy'[n % 2]},{mail},{mail}" for n, word in enumerate(WORDS)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label,agent,id", *rows, ""]))
    write_recipe(tmp_path, "classification", train="a.csv")

    done = assay_here("check", "r.yaml", "--fix", "clean", folder=tmp_path)

    said = "personal data was not searched for, and is as it was, in the columns that do not reach"
    assert said in " ".join(done.out.split())
    assert "\n  a.csv: 'agent'\n" in done.out
    assert log_of(tmp_path)[-1] == {
        "place": str(tmp_path / "a.csv"),
        "code": "columns-not-searched",
        "change": "not searched for personal data: columns 'agent'",
    }
    assert mail in (tmp_path / "clean" / "a.csv").read_text()  # of the column agent, as it is said
    again = fixed(tmp_path, into="again")
    assert again["columns_not_searched"] == {"again/a.csv": ["agent"]}
    assert "columns-not-searched" not in again["changes"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ('text,label\n"open,x\nlast,y\n', "unclosed-quote at a.csv:2"),
        ("body,label\none,x\ntwo,y\n", "missing-column at a.csv:1"),
    ],
)
def test_a_file_that_is_not_read_whole_is_not_copied_and_the_findings_are_printed_first(
    tmp_path: Path, content: str, code: str
) -> None:
    (tmp_path / "a.csv").write_text(content)
    write_recipe(tmp_path, "classification", train="a.csv")

    done = assay_here("check", "r.yaml", "--fix", "clean", folder=tmp_path)

    assert done.code == 2
    assert f"ERROR  {code.split()[0]}" in done.out
    assert f"nothing was written, because of {code}" in done.err.replace(f"{tmp_path}/", "")
    assert not (tmp_path / "clean").exists()


def test_of_a_doubled_column_the_first_is_copied_and_a_row_with_nul_is_left_out(
    tmp_path: Path,
) -> None:
    rows = [f"{word} and more,{'xy'[n % 2]},old" for n, word in enumerate(WORDS)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label,text", *rows, "a\0b,x,old", ""]))
    write_recipe(tmp_path, "classification", train="a.csv")

    found = fixed(tmp_path)

    assert csv_rows(tmp_path / "clean" / "a.csv")[0] == ["text", "label"]
    assert found["changes"] == {"doubled-column": 1, "nul-character": 1}
    assert "a\0b" not in (tmp_path / "clean" / "a.csv").read_text()
