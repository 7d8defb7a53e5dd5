"""The main job end to end on a tiny checkpoint: run, gate, merge, ship, verify, compare, audit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from finetune import checkpoint
from tests import tiny
from tests.cli import (
    Done,
    assay,
    assay_here,
    flip_a_byte,
    rows_of,
    state_of,
    write_recipe,
    write_rows,
)
from tests.recipes.test_dsse import make_key

pytestmark = pytest.mark.slow

ALWAYS = {
    "resolved.yaml",
    "record.json",
    "data.json",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "training.jsonl",
    "eval/base/report.json",
    "eval/adapter/report.json",
    "decision.json",
    "report.html",
}


def check_folder(run: Path, kind: str, *, is_private: bool, is_merged: bool) -> None:
    """The folder holds what the design promises, no more of some, and all of it can be read."""
    files = set(state_of(run))
    assert files >= ALWAYS
    assert ("ledger.jsonl" in files) == is_private
    assert ("merged/merge.json" in files) == is_merged
    assert (run / "merged").is_dir() == is_merged
    assert not [name for name in files if name.startswith(("checkpoints/", "."))]
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl", ".tmp"))]
    record = json.loads((run / "record.json").read_text())
    assert (record["status"], record["recipe"]) == ("complete", kind)
    assert record["is_private"] == is_private
    data = json.loads((run / "data.json").read_text())
    assert data["rows"]["train"] == len(data["train"]) == record["rows"]["train"]
    steps = [json.loads(line)["step"] for line in (run / "training.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps
    for target in ("base", "adapter", *(["merged"] if is_merged else [])):
        report = json.loads((run / "eval" / target / "report.json").read_text())
        assert (report["schema"], report["target"]["kind"]) == (1, target)
        for task in report["tasks"]:
            samples = (run / "eval" / target / "samples" / f"{task}.jsonl").read_text()
            assert len(samples.splitlines()) == report["tasks"][task]["n"]
    check_page((run / "report.html").read_text())


def check_page(page: str) -> None:
    """A page is whole and asks nothing of the network."""
    assert page.lower().startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert "<script src" not in page
    assert not re.search(r'<link(?![^>]*href="data:)', page)
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert not re.search(r"url\(\s*[\"']?(?:https?:)?//|@import", page)


def copied(run: Path, to: Path) -> Path:
    shutil.copytree(run, to, copy_function=shutil.copy2)
    return to


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A folder with a question-answering run that passed, made by a process of its own."""
    folder = tmp_path_factory.mktemp("story")
    tasks = ["question_answering", "unsupported_answers"]
    write_recipe(folder, "qa", tiny_base, name="first", eval={"tasks": tasks, "max_items": 6})
    done = assay("run", "recipe.yaml", "--json", folder=folder)
    assert done.code == 0, done.err
    outcome = done.json()
    assert (outcome["passed"], outcome["epsilon"]) == (True, None)
    assert outcome["merged"] == "runs/first/merged"
    assert (folder / outcome["report"]).is_file()
    return folder


def test_a_run_that_passes_is_merged_with_its_proof(story: Path) -> None:
    run = story / "runs" / "first"
    check_folder(run, "qa", is_private=False, is_merged=True)
    decision = json.loads((run / "decision.json").read_text())
    assert (decision["passed"], decision["target"]["kind"]) == (True, "merged")
    merged = json.loads((run / "merged" / "merge.json").read_text())
    assert merged["identity"] == decision["target"]["merged"]
    proof = merged["proof"]
    assert 0 <= proof["mean_kl_nats"] <= proof["limit_mean_kl_nats"]
    assert proof["num_positions"] > 0


def test_the_same_command_again_does_nothing_again(story: Path) -> None:
    run = story / "runs" / "first"
    before = {n: h for n, h in state_of(run).items() if n not in ("record.json", "report.html")}
    done = assay_here("run", "recipe.yaml", folder=story)
    assert done.code == 0, done.err
    after = state_of(run)
    assert {name: after[name] for name in before} == before
    assert "trained already" in done.err
    for word in ("training on", "evaluating", "merging"):
        assert word not in done.err
    assert "PASSED" in done.out


def test_a_run_whose_rows_were_corrected_is_not_taken_for_the_same(
    story: Path, tmp_path: Path
) -> None:
    folder = copied(story, tmp_path / "story")
    rows = rows_of("qa")
    rows[1]["answers"] = ["another answer"]
    write_rows(folder / "rows.jsonl", rows)
    before = state_of(folder / "runs")
    done = assay_here("run", "recipe.yaml", folder=folder)
    assert done.code == 2
    assert "the rows have changed" in done.err
    assert state_of(folder / "runs") == before


def test_fresh_begins_anew(story: Path, tmp_path: Path) -> None:
    folder = copied(story, tmp_path / "story")
    (folder / "runs" / "first" / "left.txt").write_text("from before")
    done = assay_here(
        "train", "recipe.yaml", "--fresh", "--set", "train.seed=3", "--json", folder=folder
    )
    assert done.code == 0, done.err
    assert done.json()["adapter"] == "runs/first/adapter"
    files = set(state_of(folder / "runs" / "first"))
    assert "adapter/adapter_model.safetensors" in files
    assert not files & {"left.txt", "decision.json", "report.html", "merged/merge.json"}


def test_what_is_shipped_loads_anywhere_and_is_verified_and_a_changed_bit_is_seen(
    story: Path, tmp_path: Path
) -> None:
    """All that can be wrong with a release is in tests/recipes/release; this is the real run."""
    run, release = story / "runs" / "first", tmp_path / "release"
    key, public = make_key(tmp_path)
    done = assay_here("ship", run, "-o", release, "--key", key, "--json", folder=story)
    assert done.code == 0, done.err
    assert done.json()["release"] == str(release)
    done = assay_here("verify", release, "--key", public, "--json", folder=story)
    assert done.code == 0, done.err
    decision = json.loads((release / "decision.json").read_text())
    assert done.json()["model"] == decision["target"]["merged"]
    assert done.json()["num_files"] == len(state_of(release))
    texts = [p.read_text() for p in release.rglob("*") if p.suffix in (".json", ".md", ".html")]
    assert not [text for text in texts if str(story) in text], "this machine's paths are in it"
    shipped = checkpoint.load(release, quantization="none")
    merged = checkpoint.load(run / "merged", quantization="none")
    assert shipped.identity == merged.identity == done.json()["model"]
    asked = tiny.logits(shipped, shipped.model), tiny.logits(merged, merged.model)
    assert bool((asked[0] == asked[1]).all())
    again = assay_here("ship", run, "-o", release, "--key", key, folder=story)
    assert (again.code, "exists already" in again.err) == (2, True)
    flip_a_byte(release / "model.safetensors")
    done = assay_here("verify", release, "--key", public, folder=story)
    assert (done.code, "changed: model.safetensors" in done.said) == (5, True)


def test_a_card_filled_in_after_training_trains_nothing_again(story: Path, tmp_path: Path) -> None:
    folder = copied(story, tmp_path / "story")
    settings = ["--set", "card.owner=Beispiel AG"]
    done = assay_here("run", "recipe.yaml", *settings, folder=folder)
    assert done.code == 0, done.err
    assert "trained already" in done.err
    done = assay_here("ship", "runs/first", "-o", "release", "--unsigned", folder=folder)
    assert done.code == 0, done.err
    assert "Beispiel AG" in (folder / "release" / "README.md").read_text()
    done = assay_here("run", "recipe.yaml", *settings, "--set", "train.seed=9", folder=folder)
    assert (done.code, "other settings" in done.said) == (2, True)


def test_a_second_run_is_compared_with_the_first_on_one_page(story: Path, tmp_path: Path) -> None:
    folder = copied(story, tmp_path / "story")
    settings = ["--set", "name=second", "--set", "adapter.rank=2"]
    done = assay_here("run", "recipe.yaml", *settings, folder=folder)
    assert done.code in (0, 3), done.err
    runs = ("runs/first", "runs/second")
    done = assay_here("compare", *runs, "-o", "pages/both.html", "--json", folder=folder)
    assert done.code == 0, done.err
    result = done.json()
    assert list(result["reports"]) == ["base", "first", "second"]
    assert set(result["differences"]) == {"first", "second"}
    check_page((folder / "pages" / "both.html").read_text())
    markdown = (folder / "pages" / "both.md").read_text()
    assert "first" in markdown
    assert "second" in markdown
    table = assay_here("compare", *runs, folder=folder)
    assert table.code == 0
    assert "first" in table.out
    assert (folder / "compare.html").is_file()

    other = ["--set", "name=third", "--set", "train.seed=5"]  # another split, so other test rows
    assert assay_here("run", "recipe.yaml", *other, folder=folder).code in (0, 3)
    done = assay_here("compare", "runs/first", "runs/third", folder=folder)
    assert (done.code, "other rows or tasks" in done.err) == (2, True)


@pytest.mark.parametrize("kind", ["qa", "classification", "chat"])
def test_a_private_run_of_each_recipe_ends_with_its_ledger(
    tmp_path: Path, tiny_base: Path, kind: str
) -> None:
    write_recipe(
        tmp_path,
        kind,
        tiny_base,
        privacy={"epsilon": 8},
        gate={"privacy": {"epsilon_at_most": 8}},
    )
    done = assay_here("run", "recipe.yaml", "--json", folder=tmp_path)
    assert done.code in (0, 3), done.err
    outcome = done.json()
    assert 0 < outcome["epsilon"] <= 8
    assert [c["passed"] for c in outcome["decision"]["checks"] if c["family"] == "privacy"] == [
        True
    ]
    run = tmp_path / "runs" / "a-run"
    check_folder(run, kind, is_private=True, is_merged=outcome["passed"])
    assert "seed" not in (run / "ledger.jsonl").read_text()
    for target in ("recipe.yaml", run):
        audited = assay_here("audit", target, "--json", folder=tmp_path)
        assert audited.code == 0, audited.err
        found = audited.json()
        assert found["is_private"]
        assert not [f for f in found["findings"] if f["status"] == "fail"]
    assert found["statement"]["epsilon"] == pytest.approx(outcome["epsilon"])
    assert "steps charged" in assay_here("audit", run, folder=tmp_path).out

    ledger = (run / "ledger.jsonl").read_text()
    (run / "ledger.jsonl").write_text(ledger.replace('"charge":1', '"charge":2', 1))
    assert assay_here("audit", run, folder=tmp_path).code == 5
    assert assay_here("gate", run, folder=tmp_path).code == 5
    (run / "ledger.jsonl").unlink()
    assert assay_here("audit", run, folder=tmp_path).code == 5
    assert assay_here("gate", run, folder=tmp_path).code == 5


@pytest.mark.parametrize("kind", ["classification", "chat"])
def test_a_strict_gate_refuses_and_nothing_is_merged_or_shipped(
    tmp_path: Path, tiny_base: Path, kind: str
) -> None:
    metric = {"classification": "accuracy", "chat": "rouge_l"}[kind]
    rule = {"metric": metric, "at_least": 0.999, "min_items": 1}
    write_recipe(tmp_path, kind, tiny_base, gate={"accuracy": rule})
    run = tmp_path / "runs" / "a-run"
    done = assay_here("run", "recipe.yaml", "--json", folder=tmp_path)
    check_gate_refused(done, metric)
    assert done.json()["passed"] is False
    check_folder(run, kind, is_private=False, is_merged=False)
    for verb in ("merge", "gate"):
        check_gate_refused(assay_here(verb, run, folder=tmp_path), "the gate refused")
    assert not (run / "merged").exists()
    done = assay_here("ship", run, "-o", "release", "--unsigned", folder=tmp_path)
    assert done.code in (2, 3)
    assert not (tmp_path / "release").exists()
    again = assay_here("run", "recipe.yaml", folder=tmp_path)
    check_gate_refused(again, metric)
    assert "evaluating" not in again.err
    audited = assay_here("audit", run, "--json", folder=tmp_path)
    assert (audited.code, audited.json()["is_private"]) == (0, False)


def check_gate_refused(done: Done, *words: str) -> None:
    assert done.code == 3, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.said


def test_several_labels_are_trained_evaluated_and_merged(tmp_path: Path, tiny_base: Path) -> None:
    rows: list[Any] = [
        {"text": row["text"], "labels": [row["label"], "short"][: 1 + i % 2]}
        for i, row in enumerate(tiny.class_rows(36))
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    write_recipe(tmp_path, "classification", tiny_base)
    done = assay_here("run", "recipe.yaml", "--json", folder=tmp_path)
    assert done.code in (0, 3), done.err
    check_folder(
        tmp_path / "runs" / "a-run",
        "classification",
        is_private=False,
        is_merged=done.json()["passed"],
    )


def test_every_verb_prints_json_that_parses(story: Path, tmp_path: Path) -> None:
    """Those that the other tests have not: and nothing else is on standard output."""
    run = "runs/first"
    for arguments, keys in (
        (("check", "recipe.yaml"), {"rows", "median_tokens"}),
        (("plan", "recipe.yaml"), {"steps", "tasks"}),
        (("plan", "recipe.yaml", "--set", "privacy.epsilon=8"), {"steps", "privacy"}),
        (("train", "recipe.yaml"), {"run", "adapter"}),
        (("eval", run), {"first/base", "first/adapter", "first/merged"}),
        (("gate", run), {"passed", "decision"}),
        (("merge", run), {"passed", "merged"}),
        (("audit", run), {"is_private", "findings"}),
        (("doctor",), {"machine", "problems"}),
        (("init", "qa", "-o", tmp_path / "qa.yaml"), {"file"}),
    ):
        done = assay_here(*arguments, "--json", folder=story)
        assert done.code == 0, done.err
        assert done.json().keys() >= keys, arguments
    assert assay_here("schema", folder=story).json()["title"] == "Recipe"
    for verb in ("check", "plan"):  # and for a person
        assert assay_here(verb, "recipe.yaml", folder=story).out
    for verb in ("eval", "gate", "audit"):
        assert assay_here(verb, run, folder=story).out
    assert assay_here("doctor", folder=story).out


def test_runs_on_one_account_compose_and_the_one_too_many_is_refused(
    tiny_base: Path, tmp_path: Path
) -> None:
    privacy = {
        "epsilon": 4.0,
        "budget": {"file": "people.budget.jsonl", "epsilon": 5.0, "delta": 1e-5},
    }
    recipe = write_recipe(tmp_path, "qa", tiny_base, privacy=privacy)
    first = assay_here("train", recipe, folder=tmp_path)
    assert first.code == 0, first.err
    assert "account people.budget.jsonl: 1 runs" in first.err
    again = assay_here("train", recipe, folder=tmp_path)
    assert again.code == 0, again.err
    refused = assay_here("train", recipe, "--set", "name=another", folder=tmp_path)
    assert refused.code == 4
    assert "1 runs have spent" in refused.said
    assert not (tmp_path / "runs" / "another" / "adapter").exists()
    account = assay_here("audit", "people.budget.jsonl", "--json", folder=tmp_path).json()
    assert [run["name"] for run in account["runs"]] == ["a-run"]
    assert 3.5 < account["epsilon_spent"] <= 4.0


def test_of_a_copied_run_folder_one_goes_on_and_the_account_refuses_the_other(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    privacy = {"epsilon": 4.0, "budget": {"file": "people.jsonl", "epsilon": 5.0, "delta": 1e-5}}
    recipe = write_recipe(tmp_path, "qa", tiny_base, privacy=privacy)

    class PowerCut(Exception):
        pass

    def cut(*_: object) -> list[Any]:
        raise PowerCut  # charged, and the noise never used

    with monkeypatch.context() as patch:
        patch.setattr("privacy.trainer.noisy_mean", cut)
        assert "PowerCut" in assay_here("train", recipe, folder=tmp_path).err
    shutil.copytree(tmp_path / "runs", tmp_path / "copies")
    done = assay_here("train", recipe, folder=tmp_path)
    assert done.code == 0, done.err
    before = (tmp_path / "people.jsonl").read_bytes()
    refused = assay_here("train", recipe, "--runs", "copies", folder=tmp_path)
    assert refused.code == 5
    assert "people.jsonl has noted a charge of this run that its ledger does not hold" in (
        refused.said.replace("\n", " ")
    )
    assert (tmp_path / "people.jsonl").read_bytes() == before
    copied = tmp_path / "copies" / "a-run"
    assert not (copied / "adapter").exists()
    findings = assay_here("audit", copied, "--json", folder=tmp_path).json()["findings"]
    assert [f["status"] for f in findings if f["id"] == "A5"] == ["fail"]


def test_a_column_as_the_unit_of_privacy_counts_its_values_and_stands_in_every_paper(
    tiny_base: Path, tmp_path: Path
) -> None:
    rows = [row | {"customer": f"c{i // 2}"} for i, row in enumerate(rows_of("qa"))]
    write_rows(tmp_path / "rows.jsonl", rows)
    recipe = write_recipe(
        tmp_path,
        "qa",
        tiny_base,
        privacy={"epsilon": 8.0, "unit": "customer"},
        data={"group": "customer"},
        train={"batch_size": 4},
    )
    done = assay_here("train", recipe, folder=tmp_path)
    assert done.code == 0, done.err
    run = tmp_path / "runs" / "a-run"
    header = json.loads((run / "ledger.jsonl").read_text().splitlines()[0])
    num_rows = json.loads((run / "data.json").read_text())["rows"]["train"]
    assert header["plan"]["unit"] == "customer"
    assert header["plan"]["num_examples"] == num_rows // 2
    audited = assay_here("audit", run, "--json", folder=tmp_path).json()
    assert "one customer" in audited["statement"]["in_words"]
    other = assay_here("train", recipe, "--set", "data.group=null", "--set", "name=b",
                       folder=tmp_path)  # fmt: skip
    assert other.code == 2
    assert "must also be data.group" in other.said
    plain = assay_here(
        "train", recipe, "--set", "privacy.unit=example", "--set", "name=c", folder=tmp_path
    )
    assert plain.code == 0, plain.err
    audited = assay_here("audit", run.parent / "c", "--json", folder=tmp_path).json()
    [group] = [f for f in audited["findings"] if f["id"] == "U4"]
    assert group["status"] == "warn"
    assert "the customer with the most rows has 2" in group["evidence"]
    [of_both] = audited["epsilon_of_groups"]
    assert of_both["size"] == 2
    assert of_both["epsilon"] > audited["statement"]["epsilon"]
