"""Customer text never reaches a log, a record or the ledger."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Done, assay_here, rows_of, write_recipe, write_rows
from tests.faults import every_verb

CANARY = "Xanthippe-4711"

KINDS = ("qa", "classification", "chat")


def marked(value: Any) -> Any:
    """Put the canary into every text of a row but its label and its id."""
    if isinstance(value, dict):
        kept = ("label", "id", "role")
        return {k: v if k in kept else marked(v) for k, v in value.items()}
    if isinstance(value, list):
        return [marked(one) for one in value]
    return f"{value} {CANARY}"


def marked_rows(kind: str) -> list[Any]:
    return [marked(row) for row in rows_of(kind)]


def is_silent(done: Done) -> bool:
    return CANARY not in done.out and CANARY not in done.err


@pytest.mark.parametrize("kind", KINDS)
def test_check_and_plan_show_no_text_unless_asked(
    tmp_path: Path, tiny_base: Path, kind: str
) -> None:
    write_rows(tmp_path / "rows.jsonl", marked_rows(kind))
    findings = {"answer-not-in-passage": "ignore"}  # of answers that are marked too
    write_recipe(tmp_path, kind, tiny_base, data={"findings": findings})
    for arguments in (("check",), ("check", "--json"), ("plan",)):
        done = assay_here(*arguments, "recipe.yaml", folder=tmp_path)
        assert done.code == 0, done.err
        assert is_silent(done)
    shown = assay_here("check", "recipe.yaml", "--show", 2, folder=tmp_path)
    assert CANARY in shown.out.replace("\n", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_is_refused_is_not_quoted(tmp_path: Path, tiny_base: Path, kind: str) -> None:
    rows = marked_rows(kind)
    bad = [{key: [row[key], 5] for key in row} for row in rows[:3]] + [
        {key: {"deep": row[key]} for key in row if key != "id"} for row in rows[3:6]
    ]
    path = write_rows(tmp_path / "rows.jsonl", [*rows, *bad])
    path.write_text(path.read_text() + f'{{"text": "{CANARY}", \n"{CANARY}"\n["{CANARY}"]\n')
    write_recipe(tmp_path, kind, tiny_base)
    done = assay_here("check", "recipe.yaml", folder=tmp_path)
    assert done.code == 2
    dropped = re.search(r"rows dropped +(\d+)", done.out)
    assert dropped is not None
    assert dropped[1] == "9"
    assert is_silent(done)


def test_a_test_row_that_stands_in_the_training_data_is_not_quoted(
    tmp_path: Path, tiny_base: Path
) -> None:
    rows = marked_rows("qa")
    write_rows(tmp_path / "rows.jsonl", rows)
    write_rows(tmp_path / "test.jsonl", rows[:5])
    write_recipe(tmp_path, "qa", tiny_base, data={"test": "test.jsonl"})
    done = assay_here("run", "recipe.yaml", folder=tmp_path)
    assert done.code == 2
    assert "exact-leak (5)" in done.err
    assert is_silent(done)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_private_run_writes_customer_text_into_no_log_and_no_record(
    tmp_path: Path, tiny_base: Path, kind: str
) -> None:
    rows = [*marked_rows(kind), {"note": CANARY}]  # the last is dropped, and written down
    write_rows(tmp_path / "rows.jsonl", rows)
    write_recipe(
        tmp_path,
        kind,
        tiny_base,
        data={"drop_bad_rows": True, "findings": {"answer-not-in-passage": "ignore"}},
        privacy={"epsilon": 8},
        train={"schedule": "constant"},
    )
    done = assay_here("run", "recipe.yaml", "--json", folder=tmp_path)
    assert done.code in (0, 3), done.err
    assert is_silent(done)
    run = tmp_path / "runs" / "a-run"
    names = ("record.json", "data.json", "training.jsonl", "ledger.jsonl", "decision.json")
    for name in (*names, "resolved.yaml", "eval/adapter/report.json"):
        assert (run / name).is_file(), name
        assert CANARY not in (run / name).read_text(), name
    in_weights = [p for p in run.rglob("*.safetensors") if CANARY.encode() in p.read_bytes()]
    assert not in_weights


WITH_TEXT = re.compile(
    r"(rows\.jsonl|cleaned/rows\.jsonl"  # what was given, and the copy that was asked for
    r"|runs/[^/]+/report\.html|compare\.html"  # pages with examples
    r"|runs/[^/]+/eval/\w+/(samples/[\w.]+\.jsonl|cache\.jsonl))"
)
"""All files that may hold text of the rows."""

WATCHED = Path(__file__).with_name("watched")


def notes_of(path: Path) -> list[list[str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_a_process_and_its_children_write_and_ask_is_seen(tmp_path: Path) -> None:
    asks = "import socket; socket.socket().connect_ex(('127.0.0.1', 9)); open('a', 'w')"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {asks!r}], check=True)"
    watched = {"WATCH": str(tmp_path / "watch.jsonl"), "PYTHONPATH": str(WATCHED)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | watched, check=True)
    noted = notes_of(tmp_path / "watch.jsonl")
    assert ["asked", "('127.0.0.1', 9)"] in noted
    assert ["written", str(tmp_path / "a")] in noted


@pytest.mark.slow
def test_no_verb_lets_customer_text_or_anything_else_out(tmp_path: Path) -> None:
    """Every verb, with nothing to keep it off the network but itself."""
    work, home, temporary = (tmp_path / name for name in ("work", "home", "tmp"))
    for folder in (work, home, temporary):
        folder.mkdir()
    every_verb.prepare(work, "qa", marked_rows("qa"))
    recipe = work / "recipe.yaml"
    values = json.loads(recipe.read_text(encoding="utf-8"))
    values["data"]["findings"] = {"answer-not-in-passage": "ignore"}  # answers are marked too
    recipe.write_text(json.dumps(values), encoding="utf-8")
    watched = {
        "WATCH": str(tmp_path / "watch.jsonl"),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "0",
        "ASSAY_CACHE": "",
        "XDG_CACHE_HOME": "",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    ended = every_verb.run_all(work, path=(WATCHED,), environment=watched)
    assert not [one for one in ended if one.done.code], ended
    assert not [one.command for one in ended if not is_silent(one.done)]
    noted = notes_of(Path(watched["WATCH"]))
    assert ["written", str(work / "runs/a-run/training.jsonl")] in noted
    assert not [where for what, where in noted if what == "asked"]
    inside = (str(work), str(home), str(temporary), "/dev/")
    outside = {where for what, where in noted if what == "written" and not where.startswith(inside)}
    assert not outside
    telling = {
        str(path.relative_to(tmp_path))
        for path in tmp_path.rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    }
    assert {name for name in telling if name.startswith("work/runs/a-run/eval/")}, "it was seen"
    assert not [name for name in telling if not WITH_TEXT.fullmatch(name.removeprefix("work/"))]
