"""Populations of per-item results, from which two models that are equal in law are drawn.

A population is a list of units (an item, or a cluster of items), each with the results of two
models. A draw takes units with replacement and, in each, hands the results out to the two sides
by the toss of a coin: both sides then have one law, whatever the models are, and keep the
dependence between models that real results have.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.accuracy import total_perplexity
from eval.bias import bias_score
from eval.classes import calibration_error, macro_f1_of
from eval.groups import GroupTables
from eval.metrics.group import GroupCounts
from eval.metrics.selective import aurc, auroc
from eval.resampling import DistanceFrom
from eval.stats import mean_of
from eval.task import Metric, Sample

SHARED = Path(__file__).parents[3] / "shared" / "data"

Unit = list[tuple[Sample, Sample]]


@dataclass(frozen=True)
class Population:
    """Results of two models on units that stand for all that could be drawn."""

    metric: Metric
    units: Sequence[Unit]

    def truth(self) -> float:
        """Return the figure of the first model on everything."""
        return self.metric.compute([first for unit in self.units for first, _ in unit])

    def draw(
        self, num_units: int, rng: np.random.Generator, *, is_null: bool = True
    ) -> tuple[list[Sample], list[Sample]]:
        """Draw units with replacement; under the null, a coin says which model is the first."""
        first, second = [], []
        for number, drawn in enumerate(rng.integers(len(self.units), size=num_units)):
            is_swapped = is_null and rng.random() < 0.5
            for place, pair in enumerate(self.units[drawn]):
                a, b = (
                    replace(
                        sample,
                        id=f"{number}/{place}",
                        cluster=None if sample.cluster is None else str(number),
                    )
                    for sample in (pair[::-1] if is_swapped else pair)
                )
                first.append(a)
                second.append(b)
        return first, second


def sample(
    scores: dict[str, float],
    *,
    name: str = "",
    prediction: str = "",
    target: str = "",
    cluster: str | None = None,
) -> Sample:
    """Return the answer to an item, of which little but its scores matters."""
    correct = bool(scores["correct"]) if "correct" in scores else None
    return Sample(name, prediction, target, scores, correct, cluster)


def _singles(pairs: Sequence[tuple[Sample, Sample]]) -> list[Unit]:
    return [[pair] for pair in pairs]


def _two(make: Callable[[float, np.random.Generator], Sample], n: int, seed: int) -> list[Unit]:
    """Make two models' results on n items, each item with a difficulty that both feel."""
    rng = np.random.default_rng(seed)
    return _singles([(make(d, rng), make(d, rng)) for d in rng.normal(size=n)])


CLASS_SHARES = (0.4, 0.25, 0.15, 0.1, 0.06, 0.04)


def in_groups(shares: NDArray[np.float64], n: int, rng: np.random.Generator) -> list[Sample]:
    """Draw classes given to n people of groups u and v, by each group's shares of the classes."""
    groups = rng.integers(2, size=n)
    return [
        sample(
            {"in_u": float(group == 0), "in_v": float(group == 1)},
            name=str(i),
            prediction="abcdef"[rng.choice(6, p=shares[group])],
            target="a",
        )
        for i, group in enumerate(groups)
    ]


def classification(metric: Metric, *, n: int = 4000, seed: int = 0) -> Population:
    """Make two classifiers of six unequal classes, somewhat over-confident, of about 80 %."""
    names, frequency = "abcdef", np.array(CLASS_SHARES)
    rng = np.random.default_rng(seed)
    pairs = []
    for difficulty in rng.normal(size=n):
        label = int(rng.choice(6, p=frequency))
        group = "uv"[int(rng.random() < 0.4)]
        both = []
        for _ in range(2):
            p_right = 1 / (1 + np.exp(difficulty + 0.5 * rng.normal() - 1.6))
            is_right = rng.random() < p_right
            predicted = label if is_right else int(rng.choice(np.delete(np.arange(6), label)))
            both.append(
                Sample(
                    "",
                    names[predicted],
                    names[label],
                    {
                        "correct": float(is_right),
                        "confidence": float(np.clip(0.2 + 0.8 * p_right**0.7, 0, 1)),
                        **{f"in_{name}": float(name == group) for name in "uv"},
                    },
                    bool(is_right),
                )
            )
        pairs.append((both[0], both[1]))
    return Population(metric, _singles(pairs))


ACCURACY = Metric("accuracy", mean_of("correct"), True)
MACRO_F1 = Metric("macro_f1", macro_f1_of("abcdef"), True)
ECE = Metric("ece", calibration_error(), False)
AURC = Metric(
    "aurc", lambda s: aurc([x.scores["confidence"] for x in s], [bool(x.correct) for x in s]), False
)
AUROC = Metric(
    "auroc",
    lambda s: auroc([x.scores["confidence"] for x in s], [bool(x.correct) for x in s]),
    True,
)
TABLES = GroupTables(tuple("abcdef"), ("u", "v"), is_multi_label=False)
PARITY = Metric("parity", TABLES.gap(GroupCounts.selection_rates), False)


def answers(metric: Metric, *, seed: int = 1) -> Population:
    """Make token F1 of questions in 400 documents of 1 to 9, which share a difficulty."""
    rng = np.random.default_rng(seed)
    units = []
    for document in range(400):
        shared = rng.normal()
        unit = []
        for _ in range(int(rng.integers(1, 10))):
            difficulty = shared + rng.normal()
            is_answerable = rng.random() < 0.65
            both = []
            for _ in range(2):
                level = 1 / (1 + np.exp(difficulty + rng.normal()))
                f1 = float(np.round(np.clip(level * 2 - 0.5, 0, 1) * 6) / 6)
                if not is_answerable:
                    f1 = float(level > 0.4)
                both.append(
                    sample(
                        {
                            "f1": f1,
                            "answerable": float(is_answerable),
                            "unanswerable": float(not is_answerable),
                            "answered": float(f1 < 1),
                        },
                        cluster=str(document),
                    )
                )
            unit.append((both[0], both[1]))
        units.append(unit)
    return Population(metric, units)


F1 = Metric("f1", mean_of("f1"), True)
ANSWERED = Metric("answered", mean_of("answered", among="unanswerable"), False)


def perplexities(*, seed: int = 2) -> Population:
    """Make summed nats and token counts of replies of very unequal length."""

    def make(difficulty: float, rng: np.random.Generator) -> Sample:
        tokens = int(np.exp(3 + 0.7 * np.sin(9e3 * difficulty)))  # one length for both models
        nats = tokens * float(np.exp(0.3 * difficulty + 0.1 * rng.normal()))
        return sample({"nats": nats, "tokens": tokens})

    return Population(Metric("perplexity", total_perplexity(), False), _two(make, 3000, seed))


def flips(*, seed: int = 3) -> Population:
    """Make excess flip rates: shares of few pairs, mostly zero, above and below."""

    def make(difficulty: float, rng: np.random.Generator) -> Sample:
        chance = 0.25 / (1 + np.exp(-3 * difficulty))
        excess = rng.binomial(12, chance) / 12 - rng.binomial(3, 0.8 * chance) / 3
        return sample({"excess": float(excess)})

    return Population(Metric("excess", mean_of("excess"), False), _two(make, 3000, seed))


def preferences(*, seed: int = 4) -> Population:
    """Make preferences in sentence pairs: the stereotype is preferred 62 times in 100."""

    def make(difficulty: float, rng: np.random.Generator) -> Sample:
        gap = difficulty + 0.35 + 0.3 * rng.normal()
        return sample({"stereotype": float(gap > 0)})

    compute = DistanceFrom(mean_of("stereotype"), ideal=0.5, scale=2)
    return Population(Metric("preference", compute, False), _two(make, 3000, seed))


BBQ = Metric("s_AMB", bias_score("ambiguous"), None)
BBQ_ACCURACY = Metric("accuracy", mean_of("correct", among="ambiguous"), True)


def bbq(metric: Metric, *, per_template: int = 12) -> Population:
    """Read UnifiedQA's published answers in two prompt forms; a template is a unit.

    So many ambiguous questions of a template are kept, spread evenly, for the sake of time.
    """
    with (SHARED / "bbq" / "additional_metadata.csv").open(encoding="utf-8") as file:
        biased = {(r["category"], r["example_id"]): r["target_loc"] for r in csv.DictReader(file)}
    with (SHARED / "bbq" / "unifiedqa_predictions.csv").open(encoding="utf-8") as file:
        given = {(r["category"], r["example_id"]): r for r in csv.DictReader(file)}
    units: dict[str, Unit] = defaultdict(list)
    for name in ("Age", "Religion", "Sexual_orientation"):
        for line in (SHARED / "bbq" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            key = (name, str(row["example_id"]))
            if row["context_condition"] != "ambig" or not biased[key]:
                continue
            choices = [row[f"ans{i}"].strip().rstrip(".").casefold() for i in range(3)]
            unknown = next(i for i in range(3) if row["answer_info"][f"ans{i}"][1] == "unknown")
            both = []
            for form in ("pred_race", "pred_arc"):
                text = given[key][form].strip().rstrip(".").casefold()
                chosen = choices.index(text) if text in choices else unknown
                both.append(
                    sample(
                        {
                            "ambiguous": 1.0,
                            "correct": float(chosen == row["label"]),
                            "chosen": chosen,
                            "answer": row["label"],
                            "biased": int(biased[key]),
                            "unknown": unknown,
                        },
                        cluster=f"{name}/{row['question_index']}",
                    )
                )
            units[f"{name}/{row['question_index']}"].append((both[0], both[1]))
    thinned = [unit[:: max(1, len(unit) // per_template)] for unit in units.values()]
    return Population(metric, thinned)


def stereoset() -> Population:
    """Read GPT-2's published sentence scores; a target term is a unit, of any size.

    The second model is GPT-2 with noise on the logarithm of its scores.
    """
    folder = SHARED / "stereoset"
    scores = {
        row["id"]: row["score"]
        for row in json.loads((folder / "predictions_gpt2.json").read_text())["intrasentence"]
    }
    data = json.loads((folder / "dev_intrasentence_subset.json").read_text(encoding="utf-8"))
    rng = np.random.default_rng(0)
    units: dict[str, Unit] = defaultdict(list)
    for row in data["data"]["intrasentence"]:
        of = {s["gold_label"]: float(np.log(scores[s["id"]])) for s in row["sentences"]}
        gap = of["stereotype"] - of["anti-stereotype"]
        pair = [
            sample({"stereotype": float(x > 0)}, cluster=row["target"])
            for x in (gap, gap + 0.3 * rng.normal())
        ]
        units[row["target"]].append((pair[0], pair[1]))
    return Population(Metric("SS", mean_of("stereotype"), None), list(units.values()))
