"""Figures of sums: the same as their plain forms, on any items and in any resampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eval.accuracy import total_perplexity
from eval.bias import bias_score
from eval.classes import calibration_error, macro_f1_of, worst_recall_of
from eval.groups import GroupTables
from eval.metrics.bbq import BbqAnswer, bbq_scores
from eval.metrics.calibration import expected_calibration_error
from eval.metrics.group import (
    GroupCounts,
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
)
from eval.metrics.macro_f1 import macro_f1
from eval.metrics.per_class_recall import per_class_recall
from eval.metrics.perplexity import perplexity
from eval.resampling import DistanceFrom
from eval.stats import estimate, mean_of, paired_difference
from eval.sums import OfSums, largest_of
from eval.task import Metric, Sample

CLASSES, GROUPS = "abcd", "uvw"
TABLES = GroupTables(tuple(CLASSES), tuple(GROUPS), is_multi_label=False)


def draw(n: int, seed: int) -> list[Sample]:
    """Draw items that have whatever any of the figures needs."""
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(n):
        wanted, given = rng.integers(len(CLASSES), size=2)
        given = wanted if rng.random() < 0.6 else given
        group = GROUPS[rng.integers(len(GROUPS))]
        scores = {
            "confidence": float(rng.random()),
            "nats": float(rng.exponential(20)),
            "tokens": float(rng.integers(1, 40)),
            "chosen": float(rng.integers(3)),
            **dict(zip(("answer", "unknown"), rng.permutation(3)[:2].tolist(), strict=True)),
            "biased": float(rng.integers(3)),
            "ambiguous": float(i % 2),
            "disambiguated": float(1 - i % 2),
            **{f"in_{name}": float(name == group) for name in GROUPS},
        }
        samples.append(
            Sample(
                id=str(i),
                prediction=CLASSES[given],
                target=CLASSES[wanted],
                scores=scores,
                correct=bool(given == wanted),
                cluster=str(i // 3),
            )
        )
    return samples


def texts(samples: Sequence[Sample]) -> tuple[list[str], list[str], list[str]]:
    groups = [next(g for g in GROUPS if s.scores[f"in_{g}"]) for s in samples]
    return [s.prediction for s in samples], [s.target for s in samples], groups


def bbq(samples: Sequence[Sample]) -> list[BbqAnswer]:
    keys = ("chosen", "answer", "biased", "unknown")
    return [
        BbqAnswer(s.scores["ambiguous"] > 0, **{key: int(s.scores[key]) for key in keys})
        for s in samples
    ]


PAIRS: dict[str, tuple[OfSums, Callable[[Sequence[Sample]], float]]] = {
    "macro F1": (macro_f1_of(CLASSES), lambda s: macro_f1(*texts(s)[:2])),
    "worst recall": (
        worst_recall_of(CLASSES),
        lambda s: min(x for x in per_class_recall(*texts(s)[:2]).values() if x == x),
    ),
    "calibration error": (
        calibration_error(),
        lambda s: expected_calibration_error(
            [x.scores["confidence"] for x in s], [bool(x.correct) for x in s]
        ),
    ),
    "perplexity": (
        total_perplexity(),
        lambda s: perplexity([-x.scores["nats"] for x in s], [int(x.scores["tokens"]) for x in s]),
    ),
    "s_AMB": (bias_score("ambiguous"), lambda s: bbq_scores(bbq(s)).bias_ambiguous),
    "s_DIS": (bias_score("disambiguated"), lambda s: bbq_scores(bbq(s)).bias_disambiguated),
    "parity": (
        TABLES.gap(GroupCounts.selection_rates),
        lambda s: demographic_parity_difference(texts(s)[0], texts(s)[2], min_n=1),
    ),
    "odds": (TABLES.gap(GroupCounts.odds), lambda s: equalized_odds_difference(*texts(s), min_n=1)),
    "opportunity": (
        TABLES.gap(GroupCounts.hit_rates),
        lambda s: equal_opportunity_difference(*texts(s), min_n=1),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_figure_of_sums_is_the_plain_figure(name: str) -> None:
    quick, plain = PAIRS[name]
    for seed in range(20):
        samples = draw(90, seed)
        assert quick(samples) == pytest.approx(plain(samples), rel=1e-12), seed


@pytest.mark.parametrize("name", ["macro F1", "perplexity", "s_AMB", "calibration error"])
def test_resampling_sums_is_resampling_items(name: str) -> None:
    """Same draws, same exchanges: the quick road leads to the same interval and p-value."""
    quick, plain = (Metric(name, compute, True) for compute in PAIRS[name])
    first, second = draw(60, 1), draw(60, 2)
    second = [replace(s, id=a.id, cluster=a.cluster) for s, a in zip(second, first, strict=True)]
    settings: Any = {"num_resamples": 60, "seed": 3}
    one, other = (estimate(metric, first, **settings) for metric in (quick, plain))
    assert [one.value, one.low, one.high] == pytest.approx([other.value, other.low, other.high])
    a, b = (paired_difference(metric, first, second, **settings) for metric in (quick, plain))
    assert [a.value, a.low, a.high, a.p_value] == pytest.approx([b.value, b.low, b.high, b.p_value])


def test_a_distance_is_resampled_like_the_figure_it_is_a_distance_of() -> None:
    first, second = draw(60, 1), draw(60, 2)
    quick = DistanceFrom(mean_of("confidence"), ideal=0.4, scale=2)
    plain = Metric("plain", lambda s: quick(s), False)
    found, wanted = (
        paired_difference(metric, first, second, num_resamples=60)
        for metric in (Metric("quick", quick, False), plain)
    )
    assert [found.low, found.high, found.p_value] == pytest.approx(
        [wanted.low, wanted.high, wanted.p_value]
    )


def test_a_rate_that_no_group_has_is_left_out_and_one_that_some_have_is_not() -> None:
    nan = math.nan
    assert largest_of(np.array([[[0.2, nan], [0.5, nan]]])).tolist() == [pytest.approx(0.3)]
    assert math.isnan(largest_of(np.array([[[0.2, 0.1], [0.5, nan]]]))[0])
    assert math.isnan(largest_of(np.full((1, 2, 2), nan))[0])
    assert math.isnan(largest_of(np.full((1, 1, 2), 0.5))[0]), "one group differs from nobody"


def test_the_interval_of_a_largest_gap_holds_zero_where_nothing_differs() -> None:
    """And does not where one group is served otherwise: no interval that holds everything."""
    samples = draw(300, 5)
    parity = Metric("parity", TABLES.gap(GroupCounts.selection_rates), False)
    assert estimate(parity, samples, num_resamples=200).low == 0
    unfair = [
        replace(s, prediction="a") if s.scores["in_u"] and int(s.id) % 3 else s for s in samples
    ]
    found = estimate(parity, unfair, num_resamples=200)
    assert 0.2 < found.low < found.value < found.high < 0.8
