"""Personal data in rows: an error or redacted, and its text in no message, page or file."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from recipes import domains
from recipes.config import load
from recipes.data.findings import DataErrors
from recipes.data.personal_data import key_file
from tests.cli import assay_here
from tests.recipes.data.personal_data.labelled import labelled
from tests.recipes.data.personal_data.values import HELD_OUT, KINDS, LANGUAGES, values
from tests.recipes.rows import write_jsonl

CANARIES = {v for kind in KINDS for lang in LANGUAGES for v in values(kind, lang, HELD_OUT)}
TEXTS = [one.text for one in labelled(HELD_OUT) if one.spans]
"""Every canary, in a text that says what it is."""


def rows_of(recipe: str) -> list[dict[str, Any]]:
    """Return rows with canaries in every column that the model reads, and in ids and groups."""
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(TEXTS):
        owner = {"id": f"mail{number}@example.com", "customer": f"group{number}@example.com"}
        if recipe == "classification":
            row: dict[str, Any] = {"text": f"{number} {text}", "label": ("a", "b")[number % 2]}
        elif recipe == "qa":
            row = {"context": text, "question": f"Question {number}?", "answers": [text[:20]]}
        else:
            call = {
                "id": "call_1",
                "type": "function",
                "function": {"name": "look", "arguments": ""},
            }
            call["function"] = {"name": "look", "arguments": json.dumps({"text": f"1\n{text}"})}
            row = {
                "messages": [
                    {"role": "user", "content": f"{number} {text}"},
                    {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "call_1", "content": text},
                    {"role": "assistant", "content": f"You wrote: {text}"},
                ]
            }
        rows.append(owner | row)
    return rows


def write_recipe(folder: Path, recipe: str, base: Path, **data: Any) -> Path:
    write_jsonl(folder / "rows.jsonl", rows_of(recipe))
    settings = {
        "name": "canary",
        "recipe": recipe,
        "base": {"checkpoint": str(base)},
        "data": {"train": "rows.jsonl", "group": "customer"} | data,
        "train": {"max_length": 4096},
        "gate": {},
    }
    path = folder / "r.yaml"
    path.write_text(json.dumps(settings))
    return path


def leaked(text: str) -> set[str]:
    """Return the canaries in a text; one that is cut off counts from 12 characters on."""
    plain = text.replace("\\n", "\n")
    owners = {f"{word}{n}@example.com" for word in ("mail", "group") for n in range(len(TEXTS))}
    cut = {one: one if len(one) <= 24 else one[:12] for one in CANARIES | owners}
    return {one for one, words in cut.items() if words in plain}


def everything_in(folder: Path) -> str:
    """Return the texts of all files but the rows and the key."""
    return "\n".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("rows.jsonl", "key.json")
    )


def test_the_canaries_would_be_seen() -> None:
    assert leaked("\n".join(TEXTS)) >= CANARIES - {v for v in CANARIES if v not in "\n".join(TEXTS)}
    assert len(leaked(json.dumps(rows_of("chat"), ensure_ascii=False))) > 100


@pytest.mark.parametrize("recipe", ["classification", "qa", "chat"])
@pytest.mark.parametrize("form", ["text", "--json", "--html"])
def test_check_prints_no_personal_data(
    tmp_path: Path, tiny_base: Path, recipe: str, form: str
) -> None:
    write_recipe(tmp_path, recipe, tiny_base)
    options = {"text": [], "--json": ["--json"], "--html": ["--html", "page.html"]}[form]

    done = assay_here("check", "r.yaml", *options, folder=tmp_path)

    assert done.code == 2
    assert "personal-data" in done.out
    assert "iban in column" in done.out
    assert leaked(done.out + done.err + everything_in(tmp_path)) == set()


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_check_prints_no_label_that_is_personal_data(
    tmp_path: Path, tiny_base: Path, form: list[str]
) -> None:
    path = write_recipe(tmp_path, "classification", tiny_base)
    mails = ("ann@example.com", "Ben@example.com", "ben@example.com")
    rows = [{"text": f"text {i}", "label": mails[i % 3], "customer": i} for i in range(30)]
    write_jsonl(tmp_path / "rows.jsonl", rows)

    done = assay_here("check", path.name, *form, folder=tmp_path)

    assert "email in column 'label'" in done.out
    assert "<EMAIL_2>" in done.out
    assert "@example.com" not in (done.out + done.err)


def test_an_error_prints_no_personal_data(tmp_path: Path, tiny_base: Path) -> None:
    recipe = load(write_recipe(tmp_path, "classification", tiny_base))

    with pytest.raises(DataErrors) as caught:
        domains.read(recipe, tmp_path, scan_personal_data=True)

    printed = "".join(traceback.format_exception(caught.value))
    assert "email in column 'text'" in printed
    assert leaked(printed) == set()


@pytest.mark.parametrize("recipe", ["classification", "qa", "chat"])
def test_nothing_of_what_is_redacted_is_left_but_in_the_key(
    tmp_path: Path, tiny_base: Path, recipe: str
) -> None:
    path = write_recipe(
        *(tmp_path, recipe, tiny_base),
        personal_data="redact",
        personal_data_key="key.json",
        findings={"answer-not-in-passage": "ignore"},  # answers here are cut in the middle
    )

    done = assay_here("check", "r.yaml", "--json", "--show", "3", folder=tmp_path)
    parts = domains.read(load(path), tmp_path).parts

    items = "\n".join(str(row) for row in (*parts.train, *parts.validation, *parts.test))
    printed = done.out + done.err + json.dumps(parts.manifest()) + everything_in(tmp_path)
    left = {one for one in leaked(items + printed) if not one.startswith("group")}
    names = {name for language in LANGUAGES for name in values("person_name", language, HELD_OUT)}
    assert left <= names  # without a model, names are found after certain words alone
    assert "personal-data" not in [one["code"] for one in done.json()["findings"]]
    key = key_file.read(tmp_path / "key.json")
    assert "mail0@example.com" in {original for of in key.values() for original in of}


def test_every_verb_reads_the_same_rows(tmp_path: Path, tiny_base: Path) -> None:
    path = write_recipe(tmp_path, "chat", tiny_base, personal_data={"email": "redact"})
    recipe = load(path, ["data.findings={personal-data: warning}"])

    quiet = domains.read(recipe, tmp_path).parts
    searching = domains.read(recipe, tmp_path, scan_personal_data=True).parts

    assert quiet.manifest() | {"personal_data": 0} == searching.manifest() | {"personal_data": 0}
    assert {one.kind for one in quiet.personal_data.counts} == {"email"}
    assert len({one.kind for one in searching.personal_data.counts}) > 10


def test_kinds_and_columns_are_counted(tmp_path: Path, tiny_base: Path) -> None:
    rows = [
        {"context": f"Write to a{n}@example.com.", "question": "Who?", "answers": []}
        | {"internal": "b@example.com"}
        for n in range(9)
    ]
    path = write_recipe(tmp_path, "qa", tiny_base, group=None)
    write_jsonl(tmp_path / "rows.jsonl", [*rows, rows[0] | {"question": "+49 170 1234567?"}])

    done = assay_here("check", str(path), "--json", folder=tmp_path)

    assert done.json()["personal_data"]["found"] == [
        {"kind": "email", "column": "context", "count": 10, "action": "error"},
        {"kind": "phone", "column": "question", "count": 1, "action": "error"},
    ]
    [finding] = [one for one in done.json()["findings"] if one["code"] == "personal-data"]
    assert finding["count"] == 11
    assert finding["to_paste"] == ["personal_data:\n  email: redact\n  phone: redact"]


@pytest.mark.parametrize(
    "sample", ["chat/support.jsonl", "classification/tickets.csv", "qa/policies.jsonl"]
)
def test_our_samples_hold_no_personal_data(tmp_path: Path, tiny_base: Path, sample: str) -> None:
    write_recipe(tmp_path, sample.partition("/")[0], tiny_base)
    recipe = load(tmp_path / "r.yaml", [f"data.train=sample:{sample}", "data.group=null"])

    parts = domains.read(recipe, tmp_path, scan_personal_data=True).parts

    assert parts.personal_data.counts == ()
    assert parts.personal_data.is_searched
