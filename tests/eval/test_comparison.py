from __future__ import annotations

import math
from dataclasses import replace

import pytest

from eval.comparison import Evaluated, every_pair, formulas, paired
from eval.errors import EvaluationError
from eval.stats import estimate, mean_of
from eval.task import Estimate, Metric, Report, Sample, Target, Task, TaskResult

RIGHT = Metric("accuracy", mean_of("correct"), True)
SURE = Metric("sure", mean_of("correct", among="is_sure"), True)
ODD = Metric("odd", lambda samples: len(samples) / 7, True)


def evaluated(name: str, seed: int, metrics: list[Metric], n: int = 40) -> Evaluated:
    samples = [
        Sample(str(i), "a", "b", {"correct": float(i * seed % 3 > 0), "is_sure": float(i % 5 > 0)})
        for i in range(n)
    ]
    figures = {metric.name: estimate(metric, samples, num_resamples=50) for metric in metrics}
    result = TaskResult("accuracy", 1, "sha256:0", n, figures)
    return Evaluated(name, Report(Target("adapter", "b"), {"t": result}), {"t": samples})


def test_a_mean_is_found_again_by_the_values_it_gives() -> None:
    models = [evaluated(str(seed), seed, [RIGHT, SURE]) for seed in (1, 2, 4)]
    found = formulas(models)
    assert not found.unknown
    assert [metric.name for metric in found.metrics["t"]] == ["accuracy", "sure"]
    for model in models:
        for metric in found.metrics["t"]:
            reported = model.report.tasks["t"].metrics[metric.name].value
            assert math.isclose(metric.compute(model.samples["t"]), reported)


def test_what_is_no_mean_is_named_and_never_guessed() -> None:
    found = formulas([evaluated("a", 1, [RIGHT, ODD]), evaluated("b", 2, [RIGHT, ODD])])
    assert found.unknown == [("t", "odd")]
    assert [metric.name for metric in found.metrics["t"]] == ["accuracy"]


def test_two_means_that_give_one_value_and_differ_by_item_are_not_told_apart() -> None:
    samples = [Sample(str(i), "a", "b", {"p": float(i % 2), "q": 1.0 - i % 2}) for i in range(4)]
    result = TaskResult("accuracy", 1, "d", 4, {"m": Estimate(0.5, 0.1, 0.9, 4)})
    model = Evaluated("a", Report(Target("base", "b"), {"t": result}), {"t": samples})
    assert formulas([model]).unknown == [("t", "m")]


def test_a_task_at_hand_is_believed_unless_its_version_is_another() -> None:
    models = [evaluated("a", 1, [ODD]), evaluated("b", 2, [ODD])]
    task = Task("t", "accuracy", 1, 40, "sha256:0", lambda *_: [], (ODD,))
    assert formulas(models, [task]).metrics["t"] == [ODD]
    assert formulas(models, [replace(task, version=2)]).unknown == [("t", "odd")]


def test_every_pair_is_compared_the_later_minus_the_earlier() -> None:
    models = [evaluated(str(seed), seed, [RIGHT]) for seed in (3, 1, 2)]
    pairs = every_pair(models, {"t": [RIGHT]})
    assert set(pairs) == {(0, 1), (0, 2), (1, 2)}
    value = {m.name: m.report.tasks["t"].metrics["accuracy"].value for m in models}
    assert pairs[0, 1]["t"]["accuracy"].value == pytest.approx(value["1"] - value["3"])


def test_one_that_was_asked_fewer_items_is_compared_on_these() -> None:
    few, many = evaluated("few", 1, [RIGHT], n=20), evaluated("many", 2, [RIGHT])
    assert paired(many, few, {"t": [RIGHT]})["t"]["accuracy"].n == 20


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: replace(s, id=s.id + "x"), "were asked other items"),
        (lambda s: replace(s, target="c"), "is not the same item"),
    ],
)
def test_other_items_are_refused(change: object, said: str) -> None:
    one, other = evaluated("one", 1, [RIGHT]), evaluated("other", 2, [RIGHT])
    changed = replace(other, samples={"t": [change(s) for s in other.samples["t"]]})  # type: ignore[operator]
    with pytest.raises(EvaluationError, match=said):
        paired(one, changed, {"t": [RIGHT]})


def test_another_version_is_refused() -> None:
    one, other = evaluated("one", 1, [RIGHT]), evaluated("other", 2, [RIGHT])
    result = replace(other.report.tasks["t"], version=2)
    other = replace(other, report=replace(other.report, tasks={"t": result}))
    with pytest.raises(EvaluationError, match="version 1 of one and in version 2 of other"):
        paired(one, other, {"t": [RIGHT]})
