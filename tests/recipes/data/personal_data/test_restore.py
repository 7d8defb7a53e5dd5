"""`assay restore` undoes a redaction, in each format, for the eyes of the user alone."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path

import pytest

from recipes.data.personal_data import key_file
from recipes.data.personal_data.restore import restore
from tests.cli import Done, assay_here
from tests.recipes.rows import write_jsonl

KEY = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----"
ORIGINALS = {
    "<EMAIL_1>": ("ann@example.com", "Ann@example.com"),
    "<PASSWORD_1>": ('a"b, c;\\d',),
    "<PRIVATE_KEY_1>": (KEY,),
    "<STREET_ADDRESS_1>": ("care of <EMAIL_1>, 1 Long Road",),
}
REDACTED = 'Write to <EMAIL_1>: "<PASSWORD_1>", <PRIVATE_KEY_1>, <EMAIL_9>'
RESTORED = REDACTED.replace("<EMAIL_1>", "ann@example.com").replace(
    "<PASSWORD_1>", 'a"b, c;\\d'
).replace("<PRIVATE_KEY_1>", KEY)  # fmt: skip


def run(folder: Path, name: str, out: str = "out.txt") -> Done:
    key_file.write(folder / "key.json", ORIGINALS)
    return assay_here("restore", name, "--key", "key.json", "-o", out, folder=folder)


def test_json_lines_are_json_again(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": REDACTED, "n": [REDACTED]}, {"text": "none"}])

    done = run(tmp_path, "a.jsonl", "b.jsonl")

    assert (done.code, done.out) == (0, "b.jsonl: 6 placeholders replaced, 2 are not in the key\n")
    first, second = (tmp_path / "b.jsonl").read_text().splitlines()
    assert json.loads(first) == {"text": RESTORED, "n": [RESTORED]}
    assert json.loads(second) == {"text": "none"}
    assert stat.S_IMODE((tmp_path / "b.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_table_has_its_columns_again(tmp_path: Path, delimiter: str) -> None:
    rows = [["text", "label"], [REDACTED, "x"], ["two\nlines", "y"]]
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)

    assert run(tmp_path, "a.csv", "b.csv").code == 0

    with (tmp_path / "b.csv").open(newline="") as stream:
        found = list(csv.reader(stream, delimiter=delimiter))
    assert found == [rows[0], [RESTORED, "x"], rows[2]]


def test_plain_text_is_replaced_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{REDACTED}\n")
    assert run(tmp_path, "a.txt").code == 0
    assert (tmp_path / "out.txt").read_text() == f"{RESTORED}\n"


def test_a_placeholder_within_an_original_is_replaced_too() -> None:
    wanted = "care of ann@example.com, 1 Long Road"
    assert restore("<STREET_ADDRESS_1>", ORIGINALS) == wanted


def test_what_check_wrote_is_restored_to_what_it_read(tmp_path: Path) -> None:
    texts = [f"Please write to user{n}@example.com, number {n}" for n in range(12)]
    rows = [{"text": text, "label": "xy"[n % 2]} for n, text in enumerate(texts)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    recipe = {"name": "r", "recipe": "classification", "base": {"checkpoint": "./no-base"}}
    data = {"train": "a.jsonl", "personal_data": "redact", "personal_data_key": "key.json"}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe | {"data": data}))
    assay_here("check", "r.yaml", "--fix", "clean", folder=tmp_path)
    assert "example.com" not in (tmp_path / "clean" / "a.jsonl").read_text()

    done = assay_here(
        *("restore", "clean/a.jsonl", "--key", "key.json", "-o", "b.jsonl"), folder=tmp_path
    )

    assert done.code == 0
    found = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert found == rows


@pytest.mark.parametrize(
    ("name", "out", "words"),
    [
        ("a.txt", "a.txt", "exists already"),
        ("a.txt", "runs/b.txt", "where runs are kept"),
        ("a.txt", "none/b.txt", "there is no folder"),
        ("none.txt", "b.txt", "none.txt: cannot be read (No such file"),
        ("bytes.txt", "b.txt", "not UTF-8"),
        ("bad.csv", "b.csv", "not valid CSV"),
    ],
)
def test_what_cannot_be_restored_is_refused_and_leaves_nothing(
    tmp_path: Path, name: str, out: str, words: str
) -> None:
    (tmp_path / "a.txt").write_text("<EMAIL_1>")
    (tmp_path / "bytes.txt").write_bytes(b"\xff<EMAIL_1>")
    (tmp_path / "bad.csv").write_text('a,b\n"c"d,<EMAIL_1>\n')
    (tmp_path / "runs").mkdir()
    before = {path.name for path in tmp_path.rglob("*")}

    done = run(tmp_path, name, out)

    assert done.code == 2
    assert words in " ".join(done.err.split())
    assert "ann@" not in done.err
    assert {path.name for path in tmp_path.rglob("*")} == before | {"key.json"}
