"""The gate as a release engineer meets it: overrides, approvals, releases, changed bytes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from eval import harness
from eval.scores import without_text
from recipes import config, decisions
from recipes.files import write_json
from tests import tiny
from tests.cli import Done, assay_here, write_recipe
from tests.recipes.test_dsse import make_key

pytestmark = pytest.mark.slow

FLOOR = {"metric": "f1", "at_least": 0.9, "min_items": 1, "overridable": True}
RULE = "accuracy/f1/at_least"
PLEA = ("--by", "A. Lovelace", "--ticket", "QA-12", "--expires", "2999-12-31")
REASON = ("--reason", "a pilot of ten users, see the ticket")


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that its gate refused, whose policy asks for an approval too."""
    folder = tmp_path_factory.mktemp("gate")
    make_key(folder, "approver")
    make_key(folder, "stranger")
    gate = {
        "accuracy": FLOOR,
        "approval": {"keys": ["approver.pub"]},
        "budget": {"size_gb_at_most": 1.0},
    }
    write_recipe(folder, "qa", tiny.make_base(folder / "base"), gate=gate)
    done = assay_here("run", "recipe.yaml", "--json", folder=folder)
    assert (done.code, done.json()["outcome"]) == (3, "FAIL"), done.err
    return folder


def copied(folder: Path, to: Path) -> Path:
    """Copy a folder with its run, and let its record name the copy."""
    shutil.copytree(folder, to, copy_function=shutil.copy2)
    record = to / "runs" / "a-run" / "record.json"
    record.write_text(record.read_text().replace(str(folder), str(to)))
    return to


def ask(folder: Path, *options: object) -> Done:
    return assay_here("gate", "runs/a-run", *options, folder=folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--override", "accuracy/f1/at_most", *PLEA, *REASON), "there is no such rule"),
        (("--override", "budget/size_gb_at_most", *PLEA, *REASON), "that rule holds"),
        (("--override", RULE, *PLEA, "--reason", "because"), "at least 20"),
        (("--override", RULE, *PLEA, "--reason", "because\x1b[2K of a long story"), "printable"),
        (("--override", RULE, *PLEA[2:], *REASON), "--by"),
        (("--override", RULE, *PLEA, *REASON, "--expires", "2020-01-01"), "a day after today"),
        (("--override", RULE, *PLEA, *REASON, "--expires", "soon"), "YYYY-MM-DD"),
        (("--by", "A. Lovelace"), "belongs to --override"),
        (("--approve",), "go together"),
        (("--key", "approver.pem"), "go together"),
    ],
)
def test_an_override_that_lacks_what_it_needs_is_an_input_error(
    refused: Path, options: tuple[str, ...], words: str
) -> None:
    done = ask(refused, *options)
    assert (done.code, words in done.said) == (2, True), done.err
    assert not (refused / "runs" / "a-run" / "eval" / "adapter" / "overrides.json").exists()


def test_an_override_then_an_approval_then_a_merge_that_is_gated_by_itself(
    refused: Path, tmp_path: Path
) -> None:
    folder = copied(refused, tmp_path / "story")
    run = folder / "runs" / "a-run"
    done = ask(folder, "--approve", "--key", "approver.pem")
    assert (done.code, "only a pass can be approved" in done.said) == (3, True)

    done = ask(folder, "--override", RULE, *PLEA, *REASON)
    assert (done.code, "passed, and may not go on" in done.said) == (3, True), done.err
    assert done.out.lstrip().startswith(f"OVERRIDE  {RULE} by A. Lovelace, QA-12")
    assert "PASSED BY OVERRIDE" in done.out
    page = (run / "report.html").read_text()
    assert page.index("PASSED BY OVERRIDE") < page.index("A. Lovelace") < page.index("Who wins")
    decision = json.loads((run / "decision.json").read_text())
    assert next(iter(decision)) == "overrides"
    assert (decision["schema"], decision["outcome"]) == (2, "PASS BY OVERRIDE")
    assert decision["passed"]

    done = assay_here("merge", run, folder=folder)
    assert (done.code, "0 of the 1 approvals" in done.said) == (3, True), done.err
    done = assay_here("run", "recipe.yaml", folder=folder)
    assert (done.code, "0 of the 1 approvals" in done.said) == (3, True), done.err
    assert not (run / "merged").exists()
    done = ask(folder, "--approve", "--key", "stranger.pem")
    assert (done.code, "does not name the key" in done.said) == (2, True)
    done = ask(folder, "--approve", "--key", "approver.pem")
    assert (done.code, "approved with the key" in done.out) == (0, True), done.err

    for changed in ("eval/adapter/samples/question_answering.jsonl", "eval/base/report.json"):
        whole = (run / changed).read_text()
        (run / changed).write_text(whole + " ")
        done = assay_here("merge", run, folder=folder)
        assert (done.code, "the decision" in done.said) == (5, True), done.err
        (run / changed).write_text(whole)
    weights = run / "adapter" / "adapter_config.json"
    whole = weights.read_text()
    weights.write_text(whole + " ")
    for verb in ("merge", "gate"):
        done = assay_here(verb, run, folder=folder)
        assert done.code == 5, done.err
    weights.write_text(whole)
    assert not (run / "merged").exists()

    done = assay_here("merge", run, folder=folder)
    assert (done.code, "the gate refused" in done.said) == (3, True), done.err
    assert json.loads((run / "decision.json").read_text())["target"]["kind"] == "merged"
    done = ask(folder, "--override", RULE, *PLEA, *REASON, "--json")
    assert (done.code, done.json()["outcome"]) == (3, "PASS BY OVERRIDE"), done.err
    assert "0 of the 1 approvals" in done.json()["stopped"]


def test_a_report_that_its_own_items_contradict_decides_nothing(
    refused: Path, tmp_path: Path
) -> None:
    folder = copied(refused, tmp_path / "story")
    run = folder / "runs" / "a-run"
    before = (run / "decision.json").read_bytes()
    for kind, task, key, value in (
        ("adapter", "question_answering", "value", 0.99),
        ("adapter", "question_answering", "low", 0.95),
        ("base", "question_answering", "n", 5000),
    ):
        path = run / "eval" / kind / "report.json"
        whole = path.read_text()
        report = json.loads(whole)
        figure = report["tasks"][task]["metrics"]["f1"]
        figure |= {"value": 0.99, "high": 1.0} if key == "low" else {"high": 1.0}
        figure[key] = value
        path.write_text(json.dumps(report))
        done = ask(folder)
        assert (done.code, f"{kind}: {task}/f1: the report says" in done.said) == (5, True), (
            done.said
        )
        assert (run / "decision.json").read_bytes() == before
        path.write_text(whole)
    assert ask(folder).code == 3


def with_gate(folder: Path, gate: dict[str, Any]) -> None:
    """Give a run another policy."""
    path = folder / "runs" / "a-run" / "resolved.yaml"
    recipe = config.load(path)
    values = json.loads(recipe.model_dump_json()) | {"gate": gate}
    path.write_text(json.dumps(values))


def make_release(run: Path, to: Path) -> Path:
    """Write the evaluation of a run as a release carries it: without a word of its items."""
    folder = to / "evidence" / "eval"
    (folder / "samples").mkdir(parents=True)
    shutil.copy(run / "eval" / "adapter" / "report.json", folder / "report.json")
    for task in harness.read_report(folder).tasks:
        samples = harness.read_samples(run / "eval" / "adapter", task)
        lines = [json.dumps(asdict(s)) + "\n" for s in without_text(samples)]
        (folder / "samples" / f"{task}.jsonl").write_text("".join(lines))
    decide_release(folder)
    return folder


def decide_release(evaluation: Path) -> None:
    """Write the decision of a release on its results as they are now."""
    tasks = harness.read_report(evaluation).tasks
    results = {f"merged/{k}": v for k, v in decisions.results_digests(evaluation).items()}
    scores = {
        task: decisions.scores_digest(harness.read_samples(evaluation, task)) for task in tasks
    }
    write_json(
        evaluation.parents[1] / "decision.json", {"binds": {"results": results, "scores": scores}}
    )


def test_an_earlier_release_is_compared_on_the_same_items_or_not_at_all(
    refused: Path, tmp_path: Path
) -> None:
    folder = copied(refused, tmp_path / "story")
    run = folder / "runs" / "a-run"
    shutil.copytree(run, folder / "january")
    released = make_release(run, folder / "march")
    rule = {"metric": "f1", "min_items": 1, "not_worse_than_release_by": 0.9}

    def outcome(release: str) -> dict[str, Any]:
        with_gate(folder, {"accuracy": [rule | {"release": release}]})
        done = ask(folder, "--json")
        assert done.code in (0, 3), done.err
        decision = json.loads((run / "decision.json").read_text())
        assert str(tmp_path) not in json.dumps(decision)
        found: dict[str, Any] = decision["checks"][0] | {"binds": decision["binds"]}
        return found

    for release in ("march", "january", str(folder / "march")):
        check = outcome(release)
        assert (check["outcome"], check["value"], check["n"]) == ("PASS", 0.0, 6), check["reason"]
        assert list(check["binds"]["releases"]) == [Path(release).name]
    assert "no report of it was found" in outcome("april")["reason"]

    report = json.loads((released / "report.json").read_text())
    for key, value, words in (
        ("data", "sha256:" + "0" * 64, "was asked in version"),
        ("version", 99, "was asked in version 99"),
    ):
        changed = json.loads(json.dumps(report))
        changed["tasks"]["question_answering"][key] = value
        (released / "report.json").write_text(json.dumps(changed))
        check = outcome("march")
        assert (check["outcome"], words in check["reason"]) == ("FAIL", True), check["reason"]
    changed = json.loads(json.dumps(report))
    changed["tasks"]["question_answering"]["metrics"]["f1"] |= {"value": 0.99, "high": 1.0}
    (released / "report.json").write_text(json.dumps(changed))
    assert "not those that its own decision was made on" in outcome("march")["reason"]
    decide_release(released)
    assert "from its items' scores" in outcome("march")["reason"]
    (folder / "march" / "decision.json").unlink()
    assert "not those that its own decision was made on" in outcome("march")["reason"]
