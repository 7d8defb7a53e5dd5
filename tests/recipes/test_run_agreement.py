"""Documents of a run that name one thing differently: every verb that reads them refuses them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune.merge_record import sealed
from recipes import config
from tests import tiny
from tests.cli import assay_here, flip_a_byte, state_of
from tests.recipes.finished import make_finished, moved, report_of
from tests.recipes.release.folders import edit

OTHER = "sha256:" + "1" * 64
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A run that ended. Read only."""
    return make_finished(tmp_path_factory.mktemp("finished") / "story", tiny_base)


@pytest.fixture
def run(a_run: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return moved(a_run, tmp_path / "story")


COMMANDS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "train": lambda run: ("train", run.parents[1] / "recipe.yaml"),
    "run": lambda run: ("run", run.parents[1] / "recipe.yaml"),
    "eval": lambda run: ("eval", run),
    "compare": lambda run: ("compare", run, "-o", run.parents[2] / "page.html"),
    "gate": lambda run: ("gate", run),
    "merge": lambda run: ("merge", run),
    "ship": lambda run: ("ship", run, "--unsigned", "-o", run.parents[2] / "release"),
    "audit": lambda run: ("audit", run),
}

BEGINNING = ("train", "run")
"""They read the recipe file, and make again what they find of another model."""

FINISHED = ("eval", "compare", "gate", "merge", "ship", "audit")
READING_MERGED = ("eval", "compare", "gate", "ship", "audit")
"""`merge` makes it again."""

READING_REPORTS = ("compare", "gate", "merge", "ship", "audit")
"""`eval` makes them again."""

READING_MERGED_REPORT = ("compare", "gate", "ship", "audit")
OPENING = ("ship",)


def json_file(name: str, *keys: str, value: object = OTHER) -> Change:
    """Return a change of one value in a JSON file of a run."""

    def change(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    def change_it_unnoticed(values: Any) -> None:
        values.pop("digest", None)  # as of a merge by an earlier version
        change(values)

    return lambda run: edit(run / name, change_it_unnoticed)


def recipe(key: str, value: object) -> Change:
    """Return a change of one setting in a run's resolved recipe."""

    def change(run: Path) -> None:
        path = run / "resolved.yaml"
        values = json.loads(config.load(path).model_dump_json())
        section, _, last = key.rpartition(".")
        (values[section] if section else values)[last] = value
        path.write_text(json.dumps(values))

    return change


def flip(name: str) -> Change:
    return lambda run: flip_a_byte(run / name)


def rename_base(run: Path) -> None:
    base = run.parents[1] / "base"
    base.rename(base.with_name("another"))
    recipe("base.checkpoint", str(base.with_name("another")))(run)


def right_answers(kind: str) -> Change:
    """Return a change of the samples of a model: all of them are right now."""

    def change(run: Path) -> None:
        path = run / "eval" / kind / "samples" / "question_answering.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["scores"] |= {"f1": 1.0, "exact_match": 1.0}
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (run / "eval" / kind / "files.json").unlink(missing_ok=True)  # as of an earlier version

    return change


def another_note(run: Path) -> None:
    merge = json.loads((run / MERGE).read_text())
    (run / MERGE).write_text(json.dumps(sealed(merge) | {"note": "another"}))


def another_second(run: Path) -> None:
    report = run / REPORT.format("base")
    digest = hashlib.sha256(report.read_bytes()).hexdigest()
    report.with_name("files.json").write_text(json.dumps({report.name: f"sha256:{digest}"}))
    report.write_text(report.read_text() + "\n")


def template_of_merged(run: Path) -> None:
    path = run / "merged" / "chat_template.jinja"
    path.write_text(path.read_text() + "{# another #}")


REPORT = "eval/{}/report.json"
MERGE = "merged/merge.json"
PAIRS: dict[str, tuple[Change, str, tuple[str, ...]]] = {
    # base
    "base / record": (flip("../../base/model.safetensors"), "base", (*BEGINNING, *FINISHED)),
    "record / base": (
        json_file("record.json", "base", "identity"),
        "base",
        (*BEGINNING, *FINISHED),
    ),
    "adapter's record / base": (
        json_file("adapter/assay.json", "base"),
        "base",
        (*BEGINNING, *FINISHED),
    ),
    "merge / base": (json_file(MERGE, "base"), "base: merged/merge.json", READING_MERGED),
    **{
        f"report of {kind} / base": (
            json_file(REPORT.format(kind), "target", "base"),
            f"base: eval/{kind}/report.json",
            READING_MERGED_REPORT if kind == "merged" else READING_REPORTS,
        )
        for kind in ("base", "adapter", "merged")
    },
    "a further report / base": (
        lambda run: (
            (run / "eval" / "probe").mkdir(),
            (run / "eval/probe/report.json").write_text(
                (run / "eval/base/report.json").read_text().replace('"base": "', '"base": "x')
            ),
        ),
        "base: eval/probe/report.json",
        READING_REPORTS,
    ),
    # how the base is held
    "recipe / quantization": (recipe("base.quantization", "none"), "base.quantization", FINISHED),
    "record / quantization": (
        json_file("record.json", "quantization", value="none"),
        "base.quantization",
        FINISHED,
    ),
    "report / quantization": (
        json_file(REPORT.format("adapter"), "target", "quantization", value="none"),
        "base.quantization: eval/adapter/report.json",
        READING_REPORTS,
    ),
    "report / its place": (
        json_file(REPORT.format("base"), "target", "kind", value="merged"),
        "kind of model: eval/base/report.json",
        READING_REPORTS,
    ),
    # adapter
    "adapter / record": (
        flip("adapter/adapter_model.safetensors"),
        "adapter",
        (*BEGINNING, *FINISHED),
    ),
    "record / adapter": (
        json_file("record.json", "training", "adapter"),
        "adapter: adapter/, its files",
        (*BEGINNING, *FINISHED),
    ),
    "merge / adapter": (json_file(MERGE, "adapter"), "adapter: merged/merge.json", READING_MERGED),
    "report of adapter / adapter": (
        json_file(REPORT.format("adapter"), "target", "adapter"),
        "adapter: eval/adapter/report.json",
        READING_REPORTS,
    ),
    "report of merged / adapter": (
        json_file(REPORT.format("merged"), "target", "adapter"),
        "adapter: eval/merged/report.json",
        READING_MERGED_REPORT,
    ),
    # merged model
    "merged / merge": (flip("merged/model.safetensors"), "merged", (*FINISHED, "run")),
    "merge / merged": (json_file(MERGE, "identity"), "merged", (*FINISHED, "run")),
    "report of merged / merged": (
        json_file(REPORT.format("merged"), "target", "merged"),
        "merged",
        READING_MERGED_REPORT,
    ),
    "merge / its digest": (
        another_note,
        "merged/merge.json has changed since it was written",
        READING_MERGED,
    ),
    "report / its evaluation": (
        another_second,
        "eval/base/report.json is not what its evaluation wrote",
        (*READING_REPORTS, "eval"),
    ),
    "merge / files": (
        json_file(MERGE, "files", "model.safetensors", "sha256", value="0" * 64),
        "merge.json",
        OPENING,
    ),
    # rows
    "data / record": (
        json_file("data.json", "fingerprint"),
        "training rows: data.json",
        FINISHED,
    ),
    "record / data": (
        json_file("record.json", "data", "fingerprint"),
        "training rows: data.json",
        FINISHED,
    ),
    "files of data / record": (
        lambda run: edit(
            run / "data.json", lambda d: d.update(files=dict.fromkeys(d["files"], OTHER))
        ),
        "files of the rows",
        FINISHED,
    ),
    "number of rows": (
        lambda run: edit(run / "data.json", lambda d: d["test"].pop()),
        "rows in test: data.json",
        FINISHED,
    ),
    # recipe
    "recipe / name": (recipe("name", "another"), "name: resolved.yaml", FINISHED),
    "recipe / seed": (recipe("train.seed", 7), "train.seed", FINISHED),
    "recipe / settings": (recipe("train.epochs", 9), "train.epochs", FINISHED),
    "recipe / privacy": (recipe("privacy", {"epsilon": 8.0}), "private", FINISHED),
    "recipe / name of the base": (rename_base, "base.checkpoint", FINISHED),
    # template
    "merge / template": (
        json_file(MERGE, "chat_template"),
        "chat template of the merged model",
        READING_MERGED,
    ),
    "merged / template": (
        template_of_merged,
        "merged",
        FINISHED,
    ),
    "record / template": (
        json_file("record.json", "base", "chat_template"),
        "chat template",
        FINISHED,
    ),
    # figures
    **{
        f"samples / report of {kind}": (
            right_answers(kind),
            f"{kind}: question_answering/f1",
            ("eval", "compare", "gate", "merge", "ship"),
        )
        for kind in ("base", "adapter")
    },
    "samples / report of merged": (
        right_answers("merged"),
        "merged: question_answering/f1",
        ("eval", "gate"),
    ),
    "cost / report": (
        json_file("eval/adapter/cost.json", "num_seconds", value=0.001),
        "seconds of the evaluation",
        READING_REPORTS,
    ),
    # decision
    "decision / report": (
        json_file("decision.json", "target", "base"),
        "the decision is about the base",
        OPENING,
    ),
    "decision / decision of merged": (
        json_file("eval/merged/decision.json", "binds", "candidate"),
        "two decisions",
        OPENING,
    ),
    "decision / model": (json_file("decision.json", "binds", "candidate"), "the decision", OPENING),
    "decision of adapter / adapter": (
        json_file("eval/adapter/decision.json", "binds", "candidate"),
        "the decision is about",
        ("merge",),
    ),
    "decision / policy": (
        recipe("gate", {"accuracy": {"metric": "f1", "at_least": 0.1, "min_items": 1}}),
        "policy is",
        ("ship", "merge"),
    ),
}


def check_refused(run: Path, pair: str, verbs: Sequence[str]) -> None:
    change, words, _ = PAIRS[pair]
    change(run)
    story = run.parents[2]
    before = state_of(story)
    for verb in verbs:
        done = assay_here(*COMMANDS[verb](run), folder=run.parents[1])
        # what opens a decision finds first that it binds other bytes
        is_told = words in done.said or (verb in ("merge", "ship") and "decision" in done.said)
        assert (done.code, is_told) == (5, True), (verb, done.err)
        assert state_of(story) == before, verb


@pytest.mark.parametrize("pair", PAIRS)
def test_documents_that_disagree_are_refused_by_a_verb(run: Path, pair: str) -> None:
    verbs = PAIRS[pair][2]
    check_refused(run, pair, [verbs[list(PAIRS).index(pair) % len(verbs)]])


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_documents_that_disagree_are_refused_by_every_verb_that_reads_them(
    run: Path, pair: str
) -> None:
    check_refused(run, pair, PAIRS[pair][2])


@pytest.mark.slow
def test_a_run_in_which_nothing_differs_is_refused_by_no_verb(run: Path) -> None:
    for verb in (*BEGINNING, *FINISHED):
        done = assay_here(*COMMANDS[verb](run), folder=run.parents[1])
        assert done.code == 0, (verb, done.err)


@pytest.mark.slow
def test_a_run_whose_base_is_gone_is_compared_gated_shipped_and_audited(run: Path) -> None:
    base = run.parents[1] / "base"
    base.rename(base.with_name("elsewhere"))
    for verb in ("compare", "gate", "ship", "audit"):
        done = assay_here(*COMMANDS[verb](run), folder=run.parents[1])
        assert done.code == 0, (verb, done.err)


def test_an_interrupted_run_goes_on_on_no_other_base(run: Path) -> None:
    for part in ("adapter", "eval", "merged"):
        (run / part).rename(run.parents[2] / part)
    tiny.make_base(run.parents[1] / "base", seed=5)
    before = state_of(run)
    for verb in BEGINNING:
        done = assay_here(*COMMANDS[verb](run), folder=run.parents[1])
        assert (done.code, "was begun on the base" in done.said) == (5, True), done.err
        assert state_of(run) == before


def test_an_evaluation_of_another_base_is_made_again_once_its_folder_is_removed(run: Path) -> None:
    json_file("eval/base/report.json", "target", "base")(run)
    done = assay_here(*COMMANDS["gate"](run), folder=run.parents[1])
    assert (done.code, "removing its folder" in done.said) == (5, True)
    shutil.rmtree(run / "eval" / "base")
    assert assay_here(*COMMANDS["eval"](run), folder=run.parents[1]).code == 0
    assert report_of(run, "base").target.base == report_of(run, "adapter").target.base
