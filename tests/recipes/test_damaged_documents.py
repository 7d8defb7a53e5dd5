"""Files of ours that were cut, emptied or overwritten: the file, the way out, and no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recipes.errors import InputError
from recipes.files import read_json
from tests.cli import assay_here
from tests.recipes.finished import make_finished, moved
from tests.recipes.test_run_agreement import COMMANDS, FINISHED

DAMAGES: dict[str, bytes | None] = {
    "a list": b"[]",
    "an object": b"{}",
    "null": b"null",
    "brackets": b"[" * 3000,
    "no text": b"\xff\xfe\x00\x01",
    "empty": b"",
    "cut": None,
}

FILES = {
    "record.json": FINISHED,
    "data.json": FINISHED,
    "resolved.yaml": FINISHED,
    "adapter/assay.json": FINISHED[:-1],  # a torn adapter is a line of the audit
    "adapter/adapter_config.json": FINISHED,
    "adapter/adapter_model.safetensors": FINISHED,
    "merged/merge.json": ("eval", "compare", "gate", "ship", "audit"),
    "merged/config.json": ("eval", "compare", "gate", "ship", "audit"),
    "eval/base/report.json": ("gate", "ship"),
    "eval/adapter/report.json": ("gate", "ship"),
    "eval/merged/report.json": ("gate", "ship"),
    "eval/base/samples/question_answering.jsonl": ("gate", "ship"),
    "eval/adapter/samples/question_answering.jsonl": ("gate",),
    "eval/merged/samples/question_answering.jsonl": ("gate", "ship"),
    "decision.json": ("ship",),
    "eval/merged/decision.json": ("ship",),
    "eval/adapter/decision.json": ("merge",),
    "eval/merged/overrides.json": ("gate",),
    "eval/merged/approvals.json": ("gate",),
    "eval/merged/cost.json": (),
    "eval/merged/cache.jsonl": (),
    "training.jsonl": (),
}
"""By file of a run: the verbs that cannot go on without it. The others may, and end as they end."""


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A run that ended. Read only."""
    return make_finished(tmp_path_factory.mktemp("finished") / "story", tiny_base)


def damage(path: Path, how: str) -> None:
    content = DAMAGES[how]
    if content is None:
        whole = path.read_bytes() if path.is_file() else b'[{"rule": "x"'
        content = whole[: len(whole) // 2]
    path.write_bytes(content)


def check_told(run: Path, name: str, how: str, verb: str) -> None:
    damage(run / name, how)
    done = assay_here(*COMMANDS[verb](run), folder=run.parents[1])
    assert "Traceback" not in done.err, (name, how, verb, done.err)
    if verb in FILES[name] and not is_still_one(name, how):
        assert done.code in (2, 5), (name, how, verb, done.err)
        parts = name.split("/")
        assert {parts[0], parts[-1]} & set(words_of(done.said)), (name, how, verb, done.said)
        assert len(done.said) > 60
    else:
        assert done.code in (0, 2, 3, 5), (name, how, verb, done.err)


def is_still_one(name: str, how: str) -> bool:
    """Whether what stands there is a list of nobody's overrides or approvals."""
    return name.endswith(("overrides.json", "approvals.json")) and how == "a list"


def words_of(text: str) -> Iterator[str]:
    for word in text.replace(",", " ").replace(":", " ").split():
        yield from word.strip("().;'\"").split("/")


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_a_way_out(a_run: Path, tmp_path: Path, name: str) -> None:
    number = list(FILES).index(name)
    verbs = FILES[name] or FINISHED
    how = list(DAMAGES)[number % len(DAMAGES)]
    check_told(moved(a_run, tmp_path / "story"), name, how, verbs[number % len(verbs)])


@pytest.mark.slow
@pytest.mark.parametrize("verb", FINISHED)
@pytest.mark.parametrize("name", FILES)
def test_every_damage_to_every_file_is_told_by_every_verb(
    a_run: Path, tmp_path: Path, name: str, verb: str
) -> None:
    for how in DAMAGES:
        check_told(moved(a_run, tmp_path / how / "story"), name, how, verb)


def test_a_finished_run_whose_data_json_says_nothing_is_not_gated(
    a_run: Path, tmp_path: Path
) -> None:
    check_told(moved(a_run, tmp_path / "story"), "data.json", "an object", "gate")


def values_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in a JSON document, the first of each list."""
    if path:
        yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = list(enumerate(value))[:1]
    for key, inner in items:
        yield from values_in(inner, (*path, key))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [n for n in FILES if n.endswith(".json") and "overrides" not in n and "approvals" not in n],
)
def test_one_value_of_another_kind_is_no_traceback(a_run: Path, tmp_path: Path, name: str) -> None:
    run = moved(a_run, tmp_path / "story")
    whole = json.loads((run / name).read_text())
    kept = shutil.copytree(run, tmp_path / "kept")
    others: list[Any] = [None, [], {}, "x", -1, 1.5, True]
    for number, place in enumerate(values_in(whole)):
        values = json.loads(json.dumps(whole))
        inner = values
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = others[number % len(others)]
        (run / name).write_text(json.dumps(values))
        for verb in ("gate", "compare", "ship"):
            done = assay_here(*COMMANDS[verb](run), folder=run.parents[1])
            assert "Traceback" not in done.err, (name, place, verb, done.err)
            shutil.rmtree(run.parents[2] / "release", ignore_errors=True)
        shutil.rmtree(run)
        shutil.copytree(kept, run)


@pytest.mark.parametrize("how", ["brackets", "no text", "empty", "cut"])
def test_a_json_file_that_cannot_be_read_is_an_input_error(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    damage(path, how)
    with pytest.raises(InputError, match=r"x\.json cannot be read"):
        read_json(path)
