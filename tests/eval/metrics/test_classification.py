"""Accuracy, macro F1, recall, calibration, selective prediction and group gaps."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, f1_score, log_loss, recall_score, roc_auc_score

from eval.errors import EvaluationError
from eval.metrics.accuracy import accuracy
from eval.metrics.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    overconfidence,
)
from eval.metrics.group import demographic_parity_difference, equalized_odds_difference
from eval.metrics.macro_f1 import macro_f1
from eval.metrics.per_class_recall import per_class_recall
from eval.metrics.selective import (
    aurc,
    auroc,
    coverage_at_risk,
    excess_aurc,
    false_positive_rate_at_tpr,
)

light = settings(max_examples=25, deadline=None)
labels = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1)


@light
@given(pairs=labels)
def test_macro_f1_is_scikit_learn_s(pairs: list[tuple[str, str]]) -> None:
    predictions, references = [p for p, _ in pairs], [r for _, r in pairs]
    wanted = f1_score(references, predictions, average="macro", zero_division=0)
    assert macro_f1(predictions, references) == pytest.approx(wanted)


def test_a_class_that_is_never_predicted_right_lowers_macro_f1() -> None:
    assert accuracy(["a"] * 9 + ["a"], ["a"] * 9 + ["b"]) == 0.9
    assert macro_f1(["a"] * 9 + ["a"], ["a"] * 9 + ["b"]) == pytest.approx(18 / 19 / 2)


@light
@given(pairs=labels)
def test_recall_is_scikit_learn_s_where_the_class_occurs(pairs: list[tuple[str, str]]) -> None:
    predictions, references = [p for p, _ in pairs], [r for _, r in pairs]
    for label, recall in per_class_recall(predictions, references).items():
        if label in references:
            wanted = recall_score(references, predictions, labels=[label], average="macro")
            assert recall == pytest.approx(wanted)
        else:
            assert math.isnan(recall)


def test_ece_by_hand() -> None:
    # bins (0.8, 0.867] and (0.933, 1]: 2/4 * |1/2 - 0.85| + 2/4 * |1 - 0.95|
    confidences, correct = [0.84, 0.86, 0.94, 0.96], [True, False, True, True]
    assert expected_calibration_error(confidences, correct) == pytest.approx(0.2)
    assert overconfidence(confidences, correct) == pytest.approx(0.15)


def test_the_bins_of_ece_are_closed_on_the_right() -> None:
    # 0.5 belongs to the first of two bins, with 0: |1 - 0.25|; the other to the second
    value = expected_calibration_error([0.0, 0.5, 1.0], [True, True, False], num_bins=2)
    assert value == pytest.approx((1.5 + 1) / 3)


def test_perfect_calibration_has_no_error() -> None:
    assert expected_calibration_error([0.75] * 4, [True, True, True, False]) == 0.0


def test_brier_by_hand_and_by_scikit_learn() -> None:
    rows, right = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], [0, 1]
    assert brier_score(rows, right) == pytest.approx((0.14 + 0.86) / 2)
    two = [0.1, 0.4, 0.8]
    wanted = 2 * brier_score_loss([0, 1, 1], two)  # over both classes, each error counts twice
    assert brier_score([[1 - p, p] for p in two], [0, 1, 1]) == pytest.approx(wanted)


def test_log_likelihood_is_scikit_learn_s() -> None:
    rows, right = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], [0, 1]
    wanted = log_loss(right, rows, labels=[0, 1, 2])
    assert negative_log_likelihood(rows, right) == pytest.approx(wanted)
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == math.inf
    assert negative_log_likelihood([[1.0, 0.0]], [0]) == 0.0


@pytest.mark.parametrize("rows", [[[0.7, 0.7]], [[1.5, -0.5]], [[math.nan, 1.0]]])
def test_what_is_no_distribution_is_refused(rows: list[list[float]]) -> None:
    with pytest.raises(EvaluationError):
        brier_score(rows, [0])


def test_a_label_without_a_column_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"labels in 0\.\.1"):
        brier_score([[0.5, 0.5]], [-1])
    with pytest.raises(EvaluationError, match="as many probabilities"):
        brier_score([[0.5, 0.5], [1.0]], [0, 0])


def test_aurc_by_hand() -> None:
    # risks at coverage 1/4 .. 4/4: 0, 1/2, 1/3, 1/2
    assert aurc([0.9, 0.8, 0.7, 0.6], [True, False, True, False]) == pytest.approx(1 / 3)
    # the best order has risks 0, 0, 1/3, 1/2
    excess = excess_aurc([0.9, 0.8, 0.7, 0.6], [True, False, True, False])
    assert excess == pytest.approx(1 / 3 - 5 / 24)


def test_equal_confidences_count_with_their_expected_value() -> None:
    # one right, one wrong, in either order: (0 + 1/2) / 2 and (1 + 1/2) / 2
    assert aurc([0.5, 0.5], [True, False]) == pytest.approx(0.5)
    assert aurc([0.5] * 5, [True, False, True, True, False]) == pytest.approx(0.4)


@light
@given(items=st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans()), min_size=1))
def test_aurc_does_not_depend_on_the_order(items: list[tuple[float, bool]]) -> None:
    shuffled = [items[i] for i in np.random.default_rng(0).permutation(len(items))]
    one, other = [aurc([c for c, _ in x], [r for _, r in x]) for x in (items, shuffled)]
    assert one == pytest.approx(other)
    assert excess_aurc([c for c, _ in items], [r for _, r in items]) >= -1e-12


@pytest.mark.parametrize("right", [True, False])
def test_nothing_is_in_excess_where_all_answers_are_alike(right: bool) -> None:
    assert excess_aurc([0.1, 0.9, 0.5], [right] * 3) == pytest.approx(0.0)
    assert math.isnan(auroc([0.1, 0.9, 0.5], [right] * 3))


@light
@given(
    items=st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans()), min_size=2).filter(
        lambda items: len({right for _, right in items}) == 2
    )
)
def test_auroc_is_scikit_learn_s(items: list[tuple[float, bool]]) -> None:
    confidences, correct = [c for c, _ in items], [r for _, r in items]
    assert auroc(confidences, correct) == pytest.approx(roc_auc_score(correct, confidences))


def test_coverage_at_risk_by_hand() -> None:
    confidences, correct = [0.9, 0.8, 0.7, 0.6, 0.5], [True, True, False, True, False]
    assert coverage_at_risk(confidences, correct, risk=0.0) == 0.4
    assert coverage_at_risk(confidences, correct, risk=0.25) == 0.8  # past a worse stretch
    assert coverage_at_risk(confidences, correct, risk=0.4) == 1.0
    assert coverage_at_risk([0.9], [False], risk=0.1) == 0.0
    assert coverage_at_risk([0.5, 0.5], [True, False], risk=0.1) == 0.0  # equals go together


def test_false_positive_rate_at_tpr_by_hand() -> None:
    in_scope = [i / 20 for i in range(1, 21)]  # keeping 19 of 20 puts the threshold at 0.10
    assert false_positive_rate_at_tpr(in_scope, [0.05, 0.10, 0.5, 0.0]) == 0.5
    assert false_positive_rate_at_tpr(in_scope, [0.5, 0.49], tpr=0.55) == 0.5  # 11 of 20
    assert false_positive_rate_at_tpr(in_scope, [0.05], tpr=1.0) == 1.0
    assert false_positive_rate_at_tpr([0.9, 0.9], [0.8, 0.2]) == 0.0


def test_selective_metrics_refuse_nan_and_nothing() -> None:
    with pytest.raises(EvaluationError, match="1 of 2 confidences are NaN"):
        aurc([math.nan, 0.5], [True, False])
    with pytest.raises(EvaluationError, match="at least one"):
        false_positive_rate_at_tpr([0.5], [])
    with pytest.raises(ValueError, match="tpr"):
        false_positive_rate_at_tpr([0.5], [0.5], tpr=0.0)


def test_group_gaps_by_hand() -> None:
    predictions = [1, 1, 0, 0, 1, 0, 0, 0]
    references = [1, 1, 1, 0, 1, 1, 0, 0]
    groups = ["a"] * 4 + ["b"] * 4
    assert demographic_parity_difference(predictions, groups, min_n=4) == 0.25
    # hit rates 2/3 and 1/2; false alarms 0 and 0
    value = equalized_odds_difference(predictions, references, groups, min_n=4)
    assert value == pytest.approx(1 / 6)


def test_the_worst_of_many_classes_counts() -> None:
    predictions = ["x", "x", "y", "z", "x", "y", "y", "z"]
    groups = ["a"] * 4 + ["b"] * 4
    assert demographic_parity_difference(predictions, groups, min_n=1) == 0.25
    # class y: false alarms 1 of 3 in group b, none in a; class x: hits 2 of 2 and 1 of 2
    references = ["x", "x", "y", "z"] * 2
    assert equalized_odds_difference(predictions, references, groups, min_n=1) == 0.5


def test_a_small_group_makes_the_gap_undefined() -> None:
    predictions, groups = [1, 0] * 45, ["a"] * 61 + ["b"] * 29
    assert math.isnan(demographic_parity_difference(predictions, groups))
    assert math.isnan(equalized_odds_difference(predictions, predictions, groups))
    assert not math.isnan(demographic_parity_difference(predictions, groups, min_n=29))
    assert math.isnan(demographic_parity_difference(predictions, ["a"] * 90))


def test_a_group_without_a_class_makes_equal_odds_undefined() -> None:
    assert math.isnan(equalized_odds_difference([1, 0, 0, 0], [1, 0, 0, 0], list("aabb"), min_n=1))


def test_a_class_that_is_only_predicted_still_counts_as_false_alarm() -> None:
    predictions, references = ["x", "y", "z", "y"], ["x", "y", "x", "y"]
    value = equalized_odds_difference(predictions, references, list("aabb"), min_n=1)
    assert value == 1.0  # class x: hit rate 1 and 0


@pytest.mark.parametrize("seed", range(5))
def test_group_gaps_are_fairlearn_s(seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fairlearn: Any = pytest.importorskip("fairlearn.metrics")
    rng = np.random.default_rng(seed)
    y, p, groups = (rng.integers(k, size=200).tolist() for k in (2, 2, 3))
    wanted = fairlearn.demographic_parity_difference(y, p, sensitive_features=groups)
    assert demographic_parity_difference(p, groups) == pytest.approx(wanted)
    wanted = fairlearn.equalized_odds_difference(y, p, sensitive_features=groups)
    assert equalized_odds_difference(p, y, groups) == pytest.approx(wanted)
