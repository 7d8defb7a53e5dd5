"""The scores on items that were trained on stand beside those on the others."""

from __future__ import annotations

import pytest

from eval.resampling import mean_of
from eval.task import Metric, Sample
from recipes.contaminated import compare_scores
from recipes.data.contamination import Match, Overlap

ACCURACY = Metric("accuracy", mean_of("correct"), True)


def sample(number: int, correct: bool) -> Sample:
    return Sample(str(number), "", "", {"correct": float(correct)}, correct)


def test_scores_are_of_the_items_that_were_trained_on_and_of_the_others() -> None:
    samples = [sample(i, i < 9 or i % 2 == 0) for i in range(30)]
    overlap = Overlap("t", 30, tuple(Match(str(i), "exact", "r") for i in range(10)))
    two = compare_scores([ACCURACY], samples, overlap)["accuracy"]
    assert (two.seen.n, two.seen.value) == (10, 0.9)
    assert (two.unseen.n, two.unseen.value) == (20, 0.5)
    assert two.to_json()["unseen"]["value"] == 0.5


@pytest.mark.parametrize("num_found", [0, 5])
def test_without_two_parts_there_is_nothing_to_compare(num_found: int) -> None:
    overlap = Overlap("t", 5, tuple(Match(str(i), "near", "r") for i in range(num_found)))
    assert compare_scores([ACCURACY], [sample(i, True) for i in range(5)], overlap) == {}


def test_a_metric_that_is_undefined_on_a_part_is_null() -> None:
    metric = Metric("rate", mean_of("correct", among="rare"), True)
    samples = [
        Sample(str(i), "", "", {"correct": 1.0, "rare": float(i == 4)}, True) for i in range(5)
    ]
    found = compare_scores([metric], samples, Overlap("t", 5, (Match("0", "near", "r"),)))
    assert all(two.to_json()["seen"]["value"] is None for two in found.values())
