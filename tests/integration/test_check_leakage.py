"""`assay check` and training name test rows that are nearly training rows, and probes in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.probes import truthful_questions
from tests.cli import assay_here, write_recipe, write_rows

LONG = "where is the parcel that i sent from the shop on the corner last week"


def chat(question: str, reply: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": reply},
        ]
    }


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    probe = truthful_questions()[0].question
    train = [chat(LONG, "on its way"), chat(probe, "it depends"), chat("and now", "wait")]
    write_rows(tmp_path / "rows.jsonl", train)
    write_rows(tmp_path / "test.jsonl", [chat(LONG + " again", "on its way")])
    data = {"train": "rows.jsonl", "test": "test.jsonl"}
    write_recipe(tmp_path, "chat", tiny_base, data=data)
    text = (tmp_path / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(text.replace("reference_replies", "truthful_choice"))
    return tmp_path


def test_check_names_near_leaks_and_items_of_probes_as_warnings(folder: Path) -> None:
    done = assay_here("check", "recipe.yaml", "--json", folder=folder)
    assert done.code == 0, done.err
    found = {
        one["code"]: [place["place"].rpartition("/")[2] for place in one["places"]]
        for one in done.json()["findings"]
    }
    assert found == {"near-leak": ["test.jsonl:1"], "contamination": ["rows.jsonl:2"]}
    shown = assay_here("check", "recipe.yaml", folder=folder).out
    assert "WARNING  near-leak  1 place" in shown
    assert "of truthful_choice (exact)" in shown
    assert LONG not in shown


def test_a_recipe_can_make_a_near_leak_an_error(folder: Path) -> None:
    strict = ("--set", "data.findings={near-leak: error}")
    done = assay_here("check", "recipe.yaml", *strict, folder=folder)
    assert done.code == 2
    assert "ERROR  near-leak  1 place" in done.out
    done = assay_here("train", "recipe.yaml", *strict, folder=folder)
    assert done.code == 2
    assert "near-leak (1)" in done.err


@pytest.mark.slow
def test_training_writes_down_the_test_rows_that_are_nearly_training_rows(folder: Path) -> None:
    done = assay_here("train", "recipe.yaml", folder=folder)
    assert done.code == 0, done.err
    assert "1 test rows are nearly the same as a training row" in done.err
    record = json.loads((folder / "runs" / "a-run" / "record.json").read_text())
    assert record["near_leaks"] == ["test.jsonl:1"]
