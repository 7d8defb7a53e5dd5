from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from eval.batching import quiet
from eval.cost import COST, Cost
from eval.harness import evaluate
from eval.model import Loglikelihood
from eval.task import Report, Target
from recipes import sources
from recipes.comparing import compare
from recipes.console import Narrator
from recipes.errors import InputError
from tests.eval.report import fake_page

BASE = Target("base", base="sha256:aa", quantization="nf4", dtype="bfloat16")
ADAPTER = replace(BASE, kind="adapter", adapter="sha256:bb")


def leave(folder: Path, target: Target, skill: float, seed: int) -> Path:
    """Write the folder of a finished evaluation."""
    samples = {task: fake_page.make_samples(task, skill, seed, n=60) for task in fake_page.METRICS}
    report = Report(target, fake_page.make_report("base", samples).tasks, num_seconds=12.5)
    (folder / "samples").mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report.to_json()))
    for task, found in samples.items():
        lines = "".join(json.dumps(asdict(sample)) + "\n" for sample in found)
        (folder / "samples" / f"{task}.jsonl").write_text(lines)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    leave(tmp_path / "scores" / "base", BASE, 0.38, 0)
    leave(tmp_path / "scores" / "good", ADAPTER, 0.85, 1)
    leave(tmp_path / "scores" / "bad", replace(ADAPTER, adapter="sha256:cc"), 0.1, 2)
    return tmp_path


def test_folders_of_evaluations_are_compared_pair_by_pair(folder: Path) -> None:
    result = compare([folder / "scores"], folder / "page.html", Narrator())
    assert list(result["reports"]) == ["base", "bad", "good"]
    pairs = {(pair["first"], pair["second"]) for pair in result["pairs"]}
    assert pairs == {("bad", "base"), ("good", "base"), ("good", "bad")}
    beaten = {one["name"]: one["beaten_by"] for one in result["standings"]}
    assert beaten["good"] == []
    assert "good" in beaten["bad"]
    shown = [pair for pair in result["pairs"] if pair["judgement"] == "undecided"]
    assert all(pair["smallest_detectable_difference"] > 0 for pair in shown)
    assert "No other model beats" in (folder / "page.html").read_text()
    assert "good" in (folder / "page.md").read_text()
    assert json.loads((folder / "page.json").read_text())["pairs"] == result["pairs"]


def test_folders_may_be_named_one_by_one_and_the_base_need_not_be_the_first(folder: Path) -> None:
    named = [folder / "scores" / name for name in ("good", "base")]
    result = compare(named, folder / "page.html", Narrator())
    assert list(result["differences"]) == ["good"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base": "sha256:dd"}, "only models on one base"),
        ({"quantization": "none"}, "quantization none, and .* with nf4"),
        ({"dtype": "float32"}, "dtype float32, and .* with bfloat16"),
    ],
)
def test_another_base_or_one_loaded_otherwise_is_refused(
    folder: Path, change: dict[str, str], said: str
) -> None:
    leave(folder / "scores" / "other", replace(ADAPTER, **change), 0.5, 3)
    with pytest.raises(InputError, match=said):
        compare([folder / "scores"], folder / "page.html", Narrator())


def test_a_merged_model_stands_on_a_quantised_base_unquantised(folder: Path) -> None:
    merged = replace(ADAPTER, kind="merged", merged="sha256:ee", quantization="none")
    leave(folder / "scores" / "merged", merged, 0.85, 1)
    result = compare([folder / "scores"], folder / "page.html", Narrator())
    assert "merged" in result["reports"]


def test_without_a_base_or_anything_beside_it_nothing_is_compared(folder: Path) -> None:
    for name, said in (("good", "nothing to hold them against"), ("base", "no adapter")):
        with pytest.raises(InputError, match=said):
            compare([folder / "scores" / name], folder / "p.html", Narrator())
    with pytest.raises(InputError, match="none of the things that can be compared"):
        compare([folder / "scores" / "base" / "samples"], folder / "p.html", Narrator())


def leave_classified(folder: Path, target: Target, source: Path, seed: int) -> Path:
    """Evaluate a set with figures that are no means, by a model of chance."""
    [task, *_] = sources.read_tasks([f"classification={source}"])
    rng = random.Random(seed)

    class Chance:
        def loglikelihoods(self, pairs: Any, *_: object, **__: object) -> list[Loglikelihood]:
            return [Loglikelihood(-10 * rng.random(), 1, False) for _ in pairs]

    evaluate([task], Chance(), target, folder, progress=lambda *_: quiet)
    sources.write(folder, [f"classification={source}"], None)
    return folder


def test_figures_that_are_no_means_are_compared_from_what_an_evaluation_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "texts.csv"
    rows = [f"text number {i},{'abc'[i % 3]}" for i in range(60)]
    table.write_text("\n".join(["text,label", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    leave_classified(tmp_path / "scores" / "base", BASE, Path("texts.csv"), 0)
    leave_classified(tmp_path / "scores" / "one", ADAPTER, Path("texts.csv"), 1)
    monkeypatch.chdir("/")

    def compared() -> tuple[set[str], str]:
        result = compare([tmp_path / "scores"], tmp_path / "page.html", Narrator())
        return set(result["differences"]["one"]["classification"]), (
            tmp_path / "page.html"
        ).read_text()

    figures, page = compared()
    assert {"acc", "macro_f1", "worst_class_recall", "ece"} <= figures
    assert "Reported, and not compared" not in page
    table.write_text(table.read_text().replace("number 5,c", "number five,c"))
    figures, page = compared()
    assert "acc" in figures
    assert not {"macro_f1", "ece"} & figures
    assert "texts.csv has changed since" in page
    table.unlink()
    figures, page = compared()
    assert not {"macro_f1", "ece"} & figures
    assert "cannot be read again" in page


def test_the_page_says_what_asking_cost_and_where_it_was_not_measured(folder: Path) -> None:
    cost = Cost(12.5, 25_000, 2_000_000_000, None)
    (folder / "scores" / "good" / COST).write_text(json.dumps(asdict(cost)))
    compare([folder / "scores"], folder / "page.html", Narrator())
    page = (folder / "page.html").read_text()
    assert "2,000 tokens/s" in page
    assert "2.00 GB" in page
    assert "not measured: it was answered in several goes" in page
