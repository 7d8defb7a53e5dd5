"""What betrays a machine, a person or a row is found in whatever form it is written."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from recipes.dsse import read_private_key, sign
from recipes.release.scan import leaks, places
from tests.recipes.test_dsse import make_key

ROW = 'She said: "the meter in the cellar of number 7 was never read" & left; naïve, wasn\'t it?'


def found(path: Path, rows: list[str] | None = None) -> list[str]:
    return leaks({path.name: path}, places([path.parent]), rows or [])


@pytest.mark.parametrize("name", ["page.html", "card.md", "values.json", "lines.jsonl"])
def test_a_row_is_found_through_every_escape(tmp_path: Path, name: str) -> None:
    import html

    path = tmp_path / name
    text = {
        ".html": f"<p>{html.escape(ROW)}</p>",
        ".md": f"| {ROW} |",
        ".json": json.dumps({"said": [ROW]}),
        ".jsonl": json.dumps({}) + "\n" + json.dumps({ROW: 1}) + "\n",
    }[path.suffix]
    path.write_text(text)
    assert found(path, ["another", ROW.upper()]) == [f"{name}: words of a row of the data"]
    assert found(path, ["a sentence of eight words that is nowhere here"]) == []


def test_a_row_inside_a_signed_statement_is_found(tmp_path: Path) -> None:
    key, _ = make_key(tmp_path)
    path = tmp_path / "statement.json"
    path.write_text(json.dumps(sign({"quoted": ROW}, read_private_key(key))))
    assert found(path, [ROW]) == ["statement.json: words of a row of the data"]


def test_part_of_a_row_and_a_short_row_are_found_and_a_turn_of_phrase_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "card.md"
    path.write_text("Of late the meter in the cellar of number 7 was dry. Why card seven fails!")
    assert found(path, [ROW]) == ["card.md: words of a row of the data"]
    assert found(path, ["why card seven, fails?"]) == ["card.md: words of a row of the data"]
    assert found(path, ["why card", "the meter", "12 euros", "the meter in the cellar then"]) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("at {here}/rows.jsonl", "a path of this machine"),
        ("/home/anna/rows.jsonl", "somebody's folder"),
        (r"C:\Users\anna\rows.csv", "somebody's folder"),
        ("hf_" + "Ab3" * 12, "a token of the Hub"),
        ("ghp_" + "Ab3" * 12, "a token of GitHub"),
        ("sk-proj-" + "Ab3" * 12, "a key of a model's provider"),
        ("AKIA" + "ABCDEFGH12345678", "a key of a cloud"),
        ("postgres://anna:secret@db/x", "a password in an address"),
        ("-----BEGIN EC PRIVATE KEY-----", "a private key"),
    ],
)
def test_paths_and_secrets_are_found_by_their_form(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "card.md"
    path.write_text(f"see {text.format(here=tmp_path)} there")
    assert f"card.md: {what}" in found(path)


def test_the_users_and_the_machines_name_are_found_as_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "annab")
    monkeypatch.setattr("socket.gethostname", lambda: "ws-4711")
    path = tmp_path / "card.md"
    path.write_text("made by annab on ws-4711")
    assert found(path) == ["card.md: the user's name", "card.md: the machine's name"]
    path.write_text("made by annabel on ws-47110")
    assert found(path) == []
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    path.write_text("the root of the chain")
    assert found(path) == []


def test_shipping_from_a_folder_that_everybody_has_betrays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/tmp")  # noqa: S108 (as in many containers)
    found = places([Path("/tmp"), Path("/root"), tmp_path])  # noqa: S108
    assert [text for text, what in found.items() if "path" in what] == [str(tmp_path)]


@pytest.mark.parametrize(
    ("row", "paper"),
    [
        (
            "我的信用卡在上海机场被人盗刷了三千元请马上冻结它",
            "他说我的信用卡在上海机场被人盗刷了三千元请马上冻结它。",
        ),
        ("บัตรเครดิตของฉันถูกขโมยที่สนามบินเมื่อวานนี้", "x บัตรเครดิตของฉันถูกขโมยที่สนามบินเมื่อวานนี้ y"),
        ("Anna Schmidt DE89370400440532013000", "as Anna Schmidt DE89370400440532013000 wrote"),
        ("anna@example.org 0711", "ask anna@example.org 0711!"),
        (
            unicodedata.normalize("NFD", "Frau Müller möchte ihr Konto für die Tochter sperren"),
            "Frau Müller möchte ihr Konto für die Tochter sperren",
        ),
    ],
    ids=range(5),
)
def test_rows_of_other_scripts_and_forms_and_short_ones_that_tell_are_found(
    tmp_path: Path, row: str, paper: str
) -> None:
    path = tmp_path / "MODEL_CARD.md"
    path.write_text(paper)
    found = leaks({path.name: path}, {}, [row])
    assert found == ["MODEL_CARD.md: words of a row of the data"]
    path.write_text("A model for questions about bank cards, on 13,083 rows in 77 classes.")
    assert leaks({path.name: path}, {}, [row]) == []


def test_a_gguf_file_is_weights_and_not_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "model-F16.gguf"
    path.write_bytes(b"see /home/anna/ and words of a row that are eight or more of them")
    row = "words of a row that are eight or more of them"
    assert leaks({"gguf/model-F16.gguf": path}, {"/home/anna": "a path"}, [row]) == []


def test_where_a_base_was_loaded_from_is_found_in_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for name, is_local in (("/srv/models/acme", True), ("~/acme", True), ("org/model", False)):
        path.write_text(json.dumps({"_name_or_path": name}))
        assert bool(leaks({path.name: path}, {}, [])) is is_local
