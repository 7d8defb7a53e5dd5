"""A release mirrored into MLflow: figures with bounds, evidence without text, one champion."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from recipes.errors import InputError
from recipes.handover import registry
from recipes.release import layout

WORDS = "the customer's own words"
ESTIMATE = {"value": 0.71, "low": 0.66, "high": 0.76, "n": 143, "higher_is_better": True}
REPORT: dict[str, Any] = {
    "schema": 1,
    "target": {"kind": "merged"},
    "tasks": {
        "qa": {"family": "accuracy", "metrics": {"f1": ESTIMATE, "odd": ESTIMATE | {"low": None}}}
    },
}
RECORD = {
    "name": "support-qa",
    "recipe": "qa",
    "base": {"identity": "sha256:b"},
    "quantization": "nf4",
    "seed": 0,
    "is_private": False,
    "data": {"files": {"rows.jsonl": "sha256:" + "ab" * 32}, "fingerprint": "sha256:data"},
}


def decision(*, passed: bool, **more: Any) -> dict[str, Any]:
    return {
        "passed": passed,
        "target": {"kind": "merged", "merged": "sha256:m"},
        "checks": [],
    } | more


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    (folder / "evidence" / "samples").mkdir(parents=True)
    (folder / layout.REPORT).parent.mkdir()
    files = {"decision.json": decision(passed=True), "record.json": RECORD}
    for name, values in files.items():
        (folder / "evidence" / name).write_text(json.dumps(values))
    (folder / layout.REPORT).write_text(json.dumps(REPORT))
    for name in ("SHA256SUMS", "SERVING.md", "evidence/ledger.jsonl", "config.json"):
        (folder / name).write_text("{}")
    for name in ("report.html", "evidence/samples/qa.jsonl", "evidence/rows.jsonl", "notes.txt"):
        (folder / name).write_text(WORDS)
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).write_text("weights")
    return folder


def test_metrics_come_with_their_bounds_and_without_what_is_not_finite() -> None:
    report = json.loads(json.dumps(REPORT))
    report["tasks"]["qa"]["metrics"]["f1"]["high"] = math.nan
    assert dict(registry.metrics(report)) == {
        "qa.f1": 0.71,
        "qa.f1.low": 0.66,
        "qa.f1.n": 143.0,
        "qa.odd": 0.71,
        "qa.odd.high": 0.76,
        "qa.odd.n": 143.0,
    }


def names(files: list[Path]) -> set[str]:
    return {path.name for path in files}


def test_only_evidence_without_text_is_sent(release: Path) -> None:
    sent, left_out = registry.choose(release, with_text=False)
    assert names(sent) == {
        *("decision.json", "report.json", "record.json", "SHA256SUMS", "SERVING.md"),
        "ledger.jsonl",
    }
    assert names(left_out) == {"report.html", "qa.jsonl", "rows.jsonl", "notes.txt", "config.json"}
    assert not [path for path in sent if WORDS in path.read_text()]


def test_pages_with_examples_are_sent_when_asked_and_rows_never(release: Path) -> None:
    sent, left_out = registry.choose(release, with_text=True)
    assert {"report.html", "qa.jsonl"} <= names(sent)
    assert {"rows.jsonl", "notes.txt"} <= names(left_out)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (decision(passed=True), "PASS"),
        (decision(passed=False), "FAIL"),
        (decision(passed=True, verdict="PASS"), "PASS"),
        (decision(passed=False, verdict="PASS"), "FAIL"),
        (decision(passed=False, verdict="undecided"), "UNDECIDED"),
        (decision(passed=True, verdict="PASS BY OVERRIDE"), "PASS BY OVERRIDE"),
        ({"target": {}}, "FAIL"),
    ],
)
def test_the_word_of_the_gate_is_never_better_than_the_decision(
    values: dict[str, Any], word: str
) -> None:
    assert registry.verdict(values) == word


def test_an_approver_is_named_or_none() -> None:
    assert registry.approver(decision(passed=True)) == "none"
    given = [{"payload": "", "signatures": [{"keyid": "a1" * 32}]}]
    assert registry.approver(decision(passed=True, approvals=given)) == "a1" * 8


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "./mlruns"])
def test_a_folder_is_no_store(uri: str) -> None:
    with pytest.raises(InputError, match="sqlite:///"):
        registry.check(uri)


def test_without_mlflow_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match="pip install 'mlflow-skinny"):
        registry.check("sqlite:///m.db")


def test_mlflow_is_imported_only_when_it_is_used() -> None:
    loaded = {name for name in vars(registry) if name.startswith("mlflow")}
    assert not loaded
    assert "recipes.handover.registry" in sys.modules


def test_a_folder_without_evidence_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no decision\.json"):
        registry.mirror(tmp_path, f"sqlite:///{tmp_path}/m.db")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with MLflow's tables, which take seconds to make. Read only."""
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(migrated: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copyfile(migrated, tmp_path / 'mlflow.db')}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_a_release_is_mirrored_and_only_a_pass_moves_the_champion(
    release: Path, uri: str, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    first = registry.mirror(release, uri)
    assert (first.model, first.version, first.is_champion) == ("support-qa", "1", True)
    path = release / "evidence" / "decision.json"
    path.write_text(json.dumps(decision(passed=False)))
    second = registry.mirror(release, uri)
    assert (second.version, second.is_champion) == ("2", False)

    client = MlflowClient(uri, uri)
    champion = client.get_model_version_by_alias("support-qa", registry.CHAMPION)
    assert str(champion.version) == "1"
    assert champion.source == release.resolve().as_uri()
    assert champion.tags == {
        "digest": "sha256:m",
        "gate": "PASS",
        "approver": "none",
        "data.fingerprint": "sha256:data",
    }
    assert client.get_model_version("support-qa", "2").tags["gate"] == "FAIL"
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == dict(registry.metrics(REPORT))
    assert run.data.params["base"] == "sha256:b"
    (data_set,) = (told.dataset for told in run.inputs.dataset_inputs)
    assert (data_set.name, data_set.source) == ("rows.jsonl", "sha256:" + "ab" * 32)
    assert {a.path for a in client.list_artifacts(first.run_id, "evidence")} == {
        f"evidence/{n}" for n in ("decision.json", "eval", "record.json", "ledger.jsonl")
    }
    stored = [p for p in tmp_path.rglob("*") if p.is_file() and release not in p.parents]
    assert {"mlflow.db", "SERVING.md"} <= {p.name for p in stored}
    assert not [p for p in stored if WORDS.encode() in p.read_bytes()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_a_mirror_that_breaks_off_registers_nothing(
    release: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setattr(MlflowClient, "log_artifact", _no_space)
    with pytest.raises(OSError, match="no space"):
        registry.mirror(release, uri)
    client = MlflowClient(uri, uri)
    assert not client.search_registered_models()
    experiment = client.get_experiment_by_name("support-qa")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"


def _no_space(*_: object) -> None:
    raise OSError("no space left")
