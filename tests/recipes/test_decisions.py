"""What a decision binds: one changed byte voids it, in a run folder and in a release folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from eval.gate import Override, decide
from eval.policy import GatePolicy
from eval.scores import without_text
from eval.task import Estimate, Report, Sample, Target, TaskResult
from recipes import approvals, config, decisions
from recipes.dsse import read_private_key, read_public_key, sign
from recipes.errors import DecisionVoid, GateRefused, InputError
from recipes.files import write_json, write_text
from tests.cli import flip_a_byte
from tests.recipes.test_dsse import make_key
from tests.recipes.whole import MERGE, RECORD

CANDIDATE = "sha256:" + "ca" * 32
DATA = "sha256:" + "da" * 32
TODAY = date(2026, 11, 25)


def write_results(folder: Path, kind: Any, right: int) -> Report:
    """Write what an evaluation leaves: 40 answers, the first ``right`` of them right."""
    samples = [
        Sample(f"customer-{i}", "a text", "another", {"f1": float(i < right)}, prompt="a question")
        for i in range(40)
    ]
    f1 = Estimate(right / 40, right / 40 - 0.1, right / 40 + 0.1, 40)
    target = Target(kind, "sha256:0", merged=CANDIDATE if kind == "merged" else None)
    report = Report(target, {"qa": TaskResult("accuracy", 1, DATA, 40, {"f1": f1})}, 10.0)
    write_json(folder / "report.json", report.to_json())
    write_samples(folder, samples)
    return report


def write_samples(folder: Path, samples: list[Sample]) -> None:
    lines = "".join(json.dumps(asdict(sample)) + "\n" for sample in samples)
    write_text(folder / "samples" / "qa.jsonl", lines)


def decide_on(run: Path, overrides: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """Write the decision on a run's merged model as the gate does, and return it."""
    policy = config.load(run / "resolved.yaml").gate
    bound = decisions.bound_policy(policy, run.parent)
    binds = decisions.binding(
        run, "merged", candidate=CANDIDATE, policy=bound, releases={}, evidence=()
    )
    report = Report.from_json(json.loads((run / "eval" / "merged" / "report.json").read_text()))
    given = [
        Override(**one, candidate=binds["candidate"], policy=binds["policy"])
        for one in overrides or ()
    ]
    found = decide(policy, report, {}, epsilon=None, is_private=False, overrides=given)
    values = found.to_json() | {
        "schema": 2,
        "target": asdict(report.target),
        "policy": bound,
        "binds": binds,
        "approvals": [],
    }
    write_json(run / "decision.json", values)
    return values


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with results and a decision that passes, and a ledger that it also binds."""
    return make_run(tmp_path, {"accuracy": {"metric": "f1", "at_least": 0.5, "overridable": True}})


def make_run(folder: Path, policy: dict[str, Any], *, right: int = 30) -> Path:
    run = folder / "run"
    recipe = {
        "name": "a-run",
        "recipe": "qa",
        "base": {"checkpoint": "folder"},
        "data": {"train": "a.jsonl"},
        "gate": policy,
    }
    write_json(run / "resolved.yaml", recipe)  # JSON is YAML 1.2
    write_json(run / "record.json", RECORD | {"source": str(folder)})
    write_text(run / "ledger.jsonl", '{"step":1}\n')
    write_json(run / "merged" / "merge.json", MERGE)
    write_results(run / "eval" / "base", "base", 20)
    write_results(run / "eval" / "merged", "merged", right)
    decide_on(run)
    return run


def opened(run: Path, candidate: str = CANDIDATE, **more: Any) -> dict[str, Any]:
    return decisions.require_open(run, "merged", candidate=candidate, today=TODAY, **more)


def rewrite(run: Path, change: Callable[[Any], object]) -> None:
    values = json.loads((run / "decision.json").read_text())
    change(values)
    write_json(run / "decision.json", values)


def test_a_decision_on_what_lies_there_opens(run: Path) -> None:
    decision = opened(run)
    assert (decision["outcome"], decision["binds"]["candidate"]) == ("PASS", CANDIDATE)
    assert decision["binds"]["data"] == {"qa": DATA}
    assert "customer" not in json.dumps(decision)


@pytest.mark.parametrize(
    "file",
    [
        "eval/merged/report.json",
        "eval/merged/samples/qa.jsonl",
        "eval/base/report.json",
        "eval/base/samples/qa.jsonl",
        "ledger.jsonl",
    ],
)
def test_one_changed_byte_of_what_is_bound_voids_the_decision(run: Path, file: str) -> None:
    path = run / file
    content = path.read_text()
    assert opened(run)
    path.write_text(content.rstrip("\n") + " \n")  # still the same to whoever parses it
    with pytest.raises(DecisionVoid, match=r"sha256:\w+, and the decision was made on"):
        opened(run)
    path.write_text(content)
    assert opened(run)
    path.write_text(content[: len(content) // 2])
    with pytest.raises(DecisionVoid):
        opened(run)
    path.unlink()
    with pytest.raises(DecisionVoid):
        opened(run)


def test_another_candidate_another_policy_and_an_edited_decision_are_void(run: Path) -> None:
    with pytest.raises(DecisionVoid, match="the decision is about"):
        opened(run, "sha256:" + "0" * 64)
    whole = (run / "decision.json").read_text()
    for change, words in (
        (lambda d: d["binds"].update(policy="sha256:0"), "policy"),
        (lambda d: d["policy"]["accuracy"].update(at_least=0.1), "not the one that it binds"),
        (lambda d: d["checks"][0].update(outcome="FAIL"), "its checks and overrides make FAIL"),
        (lambda d: d.update(outcome="PASS BY OVERRIDE"), "make PASS"),
        (lambda d: d["binds"]["scores"].update(qa="sha256:0"), "scores qa"),
    ):
        rewrite(run, change)
        with pytest.raises(DecisionVoid, match=words):
            opened(run)
        (run / "decision.json").write_text(whole)
    recipe = (run / "resolved.yaml").read_text()
    (run / "resolved.yaml").write_text(recipe.replace("0.5", "0.4"))
    with pytest.raises(DecisionVoid, match="policy is sha256"):
        opened(run)


def test_a_refusal_and_a_decision_that_binds_nothing_open_nothing(run: Path) -> None:
    rewrite(run, lambda d: d.update(passed=False, outcome="UNDECIDED"))
    with pytest.raises(GateRefused, match="is UNDECIDED on the merged model"):
        opened(run)
    rewrite(run, lambda d: d.update(passed=True, schema=1))
    with pytest.raises(InputError, match="binds nothing"):
        opened(run)
    (run / "decision.json").unlink()
    with pytest.raises(InputError):
        opened(run)


PLEA = {
    "rule": "accuracy/f1/at_least",
    "by": "A. Lovelace",
    "reason": "agreed with the owner of the model",
    "ticket": "QA-12",
    "expires": "2026-11-25",
}


def test_an_override_holds_to_its_last_day_and_for_its_own_model_and_policy(tmp_path: Path) -> None:
    policy = {"accuracy": {"metric": "f1", "at_least": 0.9, "overridable": True}}
    run = make_run(tmp_path, policy)
    with pytest.raises(GateRefused):
        opened(run)
    assert decide_on(run, [PLEA])["outcome"] == "PASS BY OVERRIDE"
    assert opened(run)["overrides"][0]["by"] == "A. Lovelace"
    with pytest.raises(GateRefused, match="expired on 2026-11-25"):
        decisions.require_open(run, "merged", candidate=CANDIDATE, today=date(2026, 11, 26))
    for key in ("candidate", "policy"):
        rewrite(run, lambda d, key=key: d["overrides"][0].update({key: "sha256:0"}))
        with pytest.raises(DecisionVoid, match="for another model or policy"):
            opened(run)
        decide_on(run, [PLEA])
    rewrite(run, lambda d: d["overrides"][0].update(expires="never"))
    with pytest.raises(GateRefused, match="expired"):
        opened(run)


@pytest.fixture
def approved(tmp_path: Path) -> Path:
    """A run whose policy names two keys, of which one must approve; nobody has."""
    for name in ("first", "second", "stranger"):
        make_key(tmp_path, name)
    return make_run(
        tmp_path,
        {
            "accuracy": {"metric": "f1", "at_least": 0.5},
            "approval": {"keys": ["first.pub", "second.pub"], "at_least": 1},
        },
    )


def approve(run: Path, name: str) -> dict[str, Any]:
    decision = json.loads((run / "decision.json").read_text())
    key = read_private_key(run.parent / f"{name}.pem")
    return approvals.approve(decision, key, "2026-11-25T12:00:00+00:00")


def test_a_model_goes_on_once_a_second_key_has_approved_it(approved: Path) -> None:
    with pytest.raises(GateRefused, match="0 of the 1 approvals"):
        opened(approved)
    envelope = approve(approved, "second")
    rewrite(approved, lambda d: d["approvals"].append(envelope))
    assert opened(approved)
    assert "approved with the key" in approvals.in_words(opened(approved))
    with pytest.raises(GateRefused, match="signs the release cannot approve"):
        opened(approved, signer=read_public_key(approved.parent / "second.pub"))
    assert opened(approved, signer=read_public_key(approved.parent / "first.pub"))


def test_one_key_does_not_count_twice(tmp_path: Path) -> None:
    for name in ("first", "second"):
        make_key(tmp_path, name)
    asked = {"keys": ["first.pub", "second.pub"], "at_least": 2}
    run = make_run(tmp_path, {"accuracy": {"metric": "f1", "at_least": 0.5}, "approval": asked})
    envelopes = [approve(run, "first"), approve(run, "first")]
    rewrite(run, lambda d: d.update(approvals=envelopes))
    with pytest.raises(GateRefused, match="1 of the 2"):
        opened(run)
    rewrite(run, lambda d: d["approvals"].append(approve(run, "second")))
    assert opened(run)


def test_a_forged_a_stale_and_a_stranger_s_approval_are_void(approved: Path) -> None:
    good = approve(approved, "first")
    key = read_private_key(approved.parent / "first.pem")
    decision = json.loads((approved / "decision.json").read_text())
    statement = {"predicateType": approvals.PREDICATE, "predicate": {"outcome": "PASS"}}
    stale = decision | {"binds": decision["binds"] | {"candidate": "sha256:" + "0" * 64}}
    for bad, words in (
        (good | {"payload": good["payload"][:-8] + "AAAAAAA="}, "forged"),
        (good | {"signatures": [{"keyid": good["signatures"][0]["keyid"], "sig": ""}]}, "forged"),
        (good | {"signatures": []}, "of nobody"),
        (sign(statement, read_private_key(approved.parent / "stranger.pem")), "does not name"),
        (sign(statement, key), "of another model"),
        (sign({"hello": 1}, key), "is no approval"),
        (approvals.approve(stale, key, "now"), "of another model"),
        ({}, "of nobody"),
        ("text", "of nobody"),
    ):
        rewrite(approved, lambda d, bad=bad: d.update(approvals=[bad]))
        with pytest.raises(DecisionVoid, match=words):
            opened(approved)


def test_only_a_pass_is_approved_and_only_by_a_key_that_the_policy_names(approved: Path) -> None:
    with pytest.raises(InputError, match="does not name the key"):
        approve(approved, "stranger")
    rewrite(approved, lambda d: d.update(passed=False, outcome="FAIL"))
    with pytest.raises(GateRefused, match="only a pass"):
        approve(approved, "first")


def test_a_swapped_key_file_is_another_policy(approved: Path) -> None:
    before = json.loads((approved / "decision.json").read_text())
    shutil.copy(approved.parent / "stranger.pub", approved.parent / "first.pub")
    with pytest.raises(DecisionVoid, match="policy is"):
        opened(approved)
    assert "first.pub" not in json.dumps(before)


@pytest.fixture
def release(run: Path) -> Path:
    """A release folder's evaluation, as it is shipped: the report, and scores without text."""
    folder = run.parent / "release" / "evidence" / "eval"
    shutil.copytree(run / "eval" / "merged", folder)
    lines = (run / "eval" / "merged" / "samples" / "qa.jsonl").read_text().splitlines()
    samples = [Sample(**json.loads(line)) for line in lines]
    write_samples(folder, without_text(samples))
    shutil.copy(run / "ledger.jsonl", folder.parent / "ledger.jsonl")
    shutil.copy(run / "eval" / "base" / "report.json", folder.parent / "base.json")
    return folder


def differs(run: Path, release: Path, candidate: str = CANDIDATE, **more: Any) -> list[str]:
    decision = json.loads((run / "decision.json").read_text())
    ledger = release.parent / "ledger.jsonl"
    return decisions.differs_in_release(
        decision,
        release,
        more.pop("record", RECORD),
        more.pop("merge", MERGE),
        candidate=candidate,
        base=release.parent / "base.json",
        ledger=more.pop("ledger", ledger),
        today=TODAY,
        **more,
    )


def test_a_release_agrees_with_its_decision_and_holds_no_text(run: Path, release: Path) -> None:
    assert differs(run, release) == []
    kept = (release / "samples" / "qa.jsonl").read_text()
    assert not [word for word in ("customer", "a text", "another", "question") if word in kept]


def test_what_is_changed_in_a_release_is_named(run: Path, release: Path) -> None:
    [said] = differs(run, release, "sha256:" + "0" * 64)
    assert said.startswith("candidate is sha256:000")
    samples = release / "samples" / "qa.jsonl"
    whole = samples.read_text()
    samples.write_text(whole.replace('"f1": 1.0', '"f1": 0.0', 1))
    assert [s.split()[:2] for s in differs(run, release)] == [["scores", "qa"]]
    samples.write_text("\n")
    assert "cannot be read" in differs(run, release)[0]
    samples.write_text(whole)
    flip_a_byte(release.parent / "ledger.jsonl", at=2)
    assert [s.split()[0] for s in differs(run, release)] == ["ledger"]
    shutil.copy(run / "ledger.jsonl", release.parent / "ledger.jsonl")
    report = release / "report.json"
    report.write_text(report.read_text().replace("0.75", "0.95"))
    assert differs(run, release)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(schema=1), "binds nothing"),
        (lambda d: d.update(passed=False, outcome="FAIL"), "the gate said FAIL"),
        (lambda d: d["target"].update(kind="adapter"), "about the adapter"),
        (lambda d: d["policy"]["accuracy"].update(at_least=0.0), "the policy that stands"),
        (lambda d: d["checks"].clear(), "make FAIL"),
        (lambda d: d["approvals"].append({}), "an approval"),
    ],
)
def test_a_swapped_decision_is_named(
    run: Path, release: Path, change: Callable[[Any], object], words: str
) -> None:
    rewrite(run, change)
    assert any(words in said for said in differs(run, release))


def test_a_policy_s_digest_can_be_stated_in_the_policy_itself(tmp_path: Path) -> None:
    plain = {"accuracy": {"metric": "f1", "at_least": 0.5}}
    bound = decisions.bound_policy(GatePolicy.model_validate(plain | {"equal": {}}), tmp_path)
    stated = decisions.stated_policy_digest(bound)
    pinned = GatePolicy.model_validate(plain | {"equal": {"policy": stated}})
    assert decisions.stated_policy_digest(decisions.bound_policy(pinned, tmp_path)) == stated
    plain["accuracy"]["at_least"] = 0.4
    other = GatePolicy.model_validate(plain | {"equal": {"policy": stated}})
    assert decisions.stated_policy_digest(decisions.bound_policy(other, tmp_path)) != stated


def test_no_path_of_a_policy_is_bound_and_a_missing_key_is_an_input_error(tmp_path: Path) -> None:
    rule = {"metric": "f1", "release": "/home/x/march", "not_worse_than_release_by": 0.1}
    policy = GatePolicy.model_validate({"accuracy": [rule]})
    assert decisions.bound_policy(policy, tmp_path)["accuracy"][0]["release"] == "march"
    keyed = GatePolicy.model_validate({"approval": {"keys": ["none.pub"]}})
    with pytest.raises(InputError, match="public key"):
        decisions.bound_policy(keyed, tmp_path)


def test_reading_a_decision_needs_no_torch() -> None:
    code = (
        "import sys, recipes.decisions, recipes.approvals; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'peft')))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
