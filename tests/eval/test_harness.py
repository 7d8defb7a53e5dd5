from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.cost import read_cost
from eval.errors import EvaluationError
from eval.harness import (
    changed_files,
    contradictions,
    differences,
    evaluate,
    finished,
    read_report,
    read_samples,
)
from eval.stats import mean_of
from eval.task import Metric, Progress, Sample, Target, Task, fingerprint

BASE = Target("base", "sha256:base")
ADAPTER = Target("adapter", "sha256:base", adapter="sha256:adapter")


def task(name: str, ids: Sequence[str], *, version: int = 1, data: str = "") -> Task:
    """A task that asks a dict for its answers, and counts how often it is asked."""

    def ask(model: dict[str, Any], progress: Progress) -> list[Sample]:
        model["asked"] = [*model.get("asked", []), name]
        if model.get("fails") == name:
            raise KeyboardInterrupt
        progress(len(ids))
        return [
            Sample(id=i, prediction=f"p{i}", target=f"t{i}", scores={"right": model.get(i, 0.0)})
            for i in ids
        ]

    metric = Metric("right", mean_of("right"), True)
    return Task(name, "accuracy", version, len(ids), fingerprint([*ids, data]), ask, (metric,))


TASKS = [task("first", ["a", "b", "c"]), task("second", ["a", "b"])]


def run(tasks: Sequence[Task], model: dict[str, Any], folder: Path, target: Target = BASE) -> Any:
    return evaluate(tasks, model, target, folder, progress=lambda *_: lambda _: None)


def test_a_report_is_written_whole_and_read_back(tmp_path: Path) -> None:
    report = run(TASKS, {"a": 1.0}, tmp_path)
    assert read_report(tmp_path) == report
    assert report.tasks["first"].metrics["right"].value == pytest.approx(1 / 3)
    assert [s.id for s in read_samples(tmp_path, "first")] == ["a", "b", "c"]
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert names == [
        "cost.json",
        "files.json",
        "report.json",
        "samples/first.jsonl",
        "samples/second.jsonl",
    ]


def test_what_is_finished_is_not_asked_again(tmp_path: Path) -> None:
    assert finished(TASKS, BASE, tmp_path) is None
    report = run(TASKS, {"a": 1.0}, tmp_path)
    assert finished(TASKS, BASE, tmp_path) == report
    assert finished(TASKS, ADAPTER, tmp_path) is None
    assert finished(TASKS[:1], BASE, tmp_path) is None
    model: dict[str, Any] = {}
    assert run(TASKS, model, tmp_path) == report
    assert model == {}


def test_a_cost_is_told_of_an_evaluation_in_one_go_and_of_no_other(tmp_path: Path) -> None:
    class Counting(dict[str, Any]):
        num_tokens = 600

    report = run(TASKS, Counting(a=1.0), tmp_path)
    cost = read_cost(tmp_path)
    assert cost is not None
    assert (cost.num_tokens, cost.num_seconds) == (600, report.num_seconds)
    assert cost.tokens_per_second == 600 / report.num_seconds
    assert 1e7 < cost.peak_memory_bytes < 1e12
    run(TASKS, Counting(a=1.0), tmp_path)
    assert read_cost(tmp_path) == cost, "nothing was asked, so nothing else was measured"
    run([*TASKS, task("third", ["a"])], Counting(a=1.0), tmp_path)
    assert read_cost(tmp_path) is None, "two tasks were known"
    with pytest.raises(KeyboardInterrupt):
        run(TASKS, {"fails": "second"}, tmp_path / "killed")
    run(TASKS, Counting(a=1.0), tmp_path / "killed")
    assert read_cost(tmp_path / "killed") is None

    class Remembering(Counting):
        cache = ("an answer",)

    run(TASKS, Remembering(a=1.0), tmp_path / "cached")
    assert read_cost(tmp_path / "cached") is None
    run(TASKS, {"a": 1.0}, tmp_path / "uncounted")
    uncounted = read_cost(tmp_path / "uncounted")
    assert uncounted is not None
    assert uncounted.tokens_per_second is None


@pytest.mark.parametrize("interrupted", ["first", "second"])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, interrupted: str) -> None:
    model: dict[str, Any] = {"a": 1.0, "fails": interrupted}
    with pytest.raises(KeyboardInterrupt):
        run(TASKS, model, tmp_path)
    assert not (tmp_path / "report.json").exists()
    with pytest.raises(EvaluationError, match="no report"):
        read_report(tmp_path)
    again: dict[str, Any] = {"a": 1.0}
    report = run(TASKS, again, tmp_path)
    assert again["asked"] == (["first", "second"] if interrupted == "first" else ["second"])
    assert [*report.tasks] == ["first", "second"]
    assert not (tmp_path / "report.partial.json").exists()


@pytest.mark.parametrize(
    ("tasks", "target", "asked"),
    [
        (TASKS, ADAPTER, ["first", "second"]),
        ([TASKS[0], task("second", ["a", "b"], version=2)], BASE, ["second"]),
        ([TASKS[0], task("second", ["a", "b"], data="new")], BASE, ["second"]),
        ([*TASKS, task("third", ["a"])], BASE, ["third"]),
        (TASKS[:1], BASE, []),
    ],
)
def test_what_has_changed_is_asked_again_and_nothing_else(
    tmp_path: Path, tasks: list[Task], target: Target, asked: list[str]
) -> None:
    run(TASKS, {"a": 1.0}, tmp_path)
    model: dict[str, Any] = {"a": 1.0}
    report = run(tasks, model, tmp_path, target)
    assert model.get("asked", []) == asked
    assert read_report(tmp_path) == report
    assert report.target == target
    assert [*report.tasks] == [t.name for t in tasks]


def test_old_results_do_not_outlive_the_samples_they_came_from(tmp_path: Path) -> None:
    run(TASKS, {"a": 1.0}, tmp_path)
    changed = [task("first", ["a", "b", "c"], data="new"), TASKS[1]]
    with pytest.raises(KeyboardInterrupt):
        run(changed, {"fails": "first"}, tmp_path)
    with pytest.raises(EvaluationError, match="no report"):
        read_report(tmp_path)
    model: dict[str, Any] = {}
    run(TASKS, model, tmp_path)
    assert model["asked"] == ["first"]


def test_a_damaged_folder_is_evaluated_again_and_never_believed(tmp_path: Path) -> None:
    run(TASKS, {"a": 1.0}, tmp_path)
    (tmp_path / "report.json").write_text("{", encoding="utf-8")
    model: dict[str, Any] = {}
    run(TASKS, model, tmp_path)
    assert model["asked"] == ["first", "second"]
    (tmp_path / "samples" / "first.jsonl").write_text('{"id": "a"}\n', encoding="utf-8")
    with pytest.raises(EvaluationError, match="damaged"):
        read_samples(tmp_path, "first")
    with pytest.raises(EvaluationError, match="no samples"):
        read_samples(tmp_path, "unknown")


def test_a_task_that_loses_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="4 items and gave 3"):
        run([replace(TASKS[0], num_items=4)], {}, tmp_path)
    with pytest.raises(EvaluationError, match="one name"):
        run([TASKS[0], TASKS[0]], {}, tmp_path)


def test_a_score_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        run(TASKS, {"a": float("nan")}, tmp_path)
    assert not [*tmp_path.glob("samples/*")]


def test_differences_are_taken_on_the_items_that_both_were_asked(tmp_path: Path) -> None:
    ids = [f"i{n}" for n in range(10)]
    run([task("first", ids[:6])], {}, tmp_path / "base")
    candidate = [task("first", ids), task("only_here", ids)]
    run(candidate, dict.fromkeys(ids[:3] + ids[6:], 1.0), tmp_path / "adapter", ADAPTER)
    found = differences(candidate, tmp_path / "adapter", tmp_path / "base")
    assert found.keys() == {"first"}
    difference = found["first"]["right"]
    assert (difference.value, difference.n) == (pytest.approx(0.5), 6)
    with pytest.raises(EvaluationError, match="only in the second"):
        differences(candidate, tmp_path / "base", tmp_path / "adapter")


def test_what_is_not_the_same_is_not_compared(tmp_path: Path) -> None:
    run(TASKS, {}, tmp_path / "base")
    run([task("first", ["a", "b", "c"], version=2)], {}, tmp_path / "adapter", ADAPTER)
    with pytest.raises(EvaluationError, match="versions"):
        differences(TASKS, tmp_path / "adapter", tmp_path / "base")
    run(TASKS, {}, tmp_path / "adapter", ADAPTER)
    path = tmp_path / "adapter" / "samples" / "first.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[1]["target"] = "edited"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(EvaluationError, match="'b' has another answer"):
        differences(TASKS, tmp_path / "adapter", tmp_path / "base")


def test_a_report_follows_from_its_samples_or_says_where_it_does_not(tmp_path: Path) -> None:
    run(TASKS, {"a": 1.0}, tmp_path)
    assert contradictions(TASKS, tmp_path) == []
    whole = json.loads((tmp_path / "report.json").read_text())

    def edited(**changes: Any) -> str:
        report = json.loads(json.dumps(whole))
        first = report["tasks"]["first"]
        figure = first["metrics"]["right"]
        for key, value in changes.items():
            (figure if key in figure and key != "n" else first)[key] = value
        (tmp_path / "report.json").write_text(json.dumps(report))
        return "; ".join(contradictions(TASKS, tmp_path))

    assert edited() == ""
    assert "first/right: the report says" in edited(value=0.5)
    assert "first/right: the report says" in edited(low=0.2)
    assert "first/right: the report says" in edited(high=0.99)
    assert "first/right: the report says" in edited(higher_is_better=False)
    assert "first/right: the report says" in edited(metrics={"right": {**_right(whole), "n": 9}})
    assert "9 items of accuracy, and there are 3" in edited(n=9)
    assert "of bias" in edited(family="bias")
    assert "asked in version 9" in edited(version=9)
    assert "other metrics" in edited(metrics={})
    assert "other metrics" in edited(metrics={"right": _right(whole), "wrong": _right(whole)})
    assert "nobody asks" in "; ".join(contradictions(TASKS[1:], tmp_path))
    (tmp_path / "report.json").write_text(json.dumps(whole))
    samples = tmp_path / "samples" / "first.jsonl"
    lines = samples.read_text().splitlines(keepends=True)
    samples.write_text(lines[0] + lines[1] + lines[2].replace('"right": 0.0', '"right": 1.0'))
    assert "first/right: the report says 0.333333" in "; ".join(contradictions(TASKS, tmp_path))
    samples.write_text(lines[0])
    assert "first.jsonl holds 1 samples, and the task has 3 items" in "; ".join(
        contradictions(TASKS, tmp_path)
    )


def _right(report: Any) -> dict[str, Any]:
    found: dict[str, Any] = report["tasks"]["first"]["metrics"]["right"]
    return found


def test_a_file_that_changed_after_its_evaluation_is_named(tmp_path: Path) -> None:
    run(TASKS, {"a": 1.0}, tmp_path)
    assert changed_files(tmp_path) == []
    path = tmp_path / "samples" / "first.jsonl"
    path.write_text(path.read_text().replace('"id":', '"id" :'))  # the same values
    assert changed_files(tmp_path) == ["samples/first.jsonl"]
    (tmp_path / "files.json").write_text("{")
    with pytest.raises(EvaluationError, match=r"files\.json is damaged"):
        changed_files(tmp_path)
    (tmp_path / "files.json").unlink()  # as of an earlier version
    assert changed_files(tmp_path) == []


@pytest.mark.parametrize("value", [None, [], {}, "x", True])
def test_a_report_with_a_value_of_another_type_cannot_be_read(tmp_path: Path, value: Any) -> None:
    run(TASKS, {"a": 1.0}, tmp_path)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_seconds": value}))
    with pytest.raises(EvaluationError, match="no report that can be read"):
        read_report(tmp_path)
