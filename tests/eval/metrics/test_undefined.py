"""No figure out of nothing: every metric function refuses no items, and none invents a 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from eval.errors import EvaluationError
from eval.metrics import (
    abstention,
    accuracy,
    bbq,
    calibration,
    chrf,
    context_gain,
    counterfactual,
    group,
    macro_f1,
    per_class_recall,
    perplexity,
    rouge_l,
    selective,
    self_consistency,
    squad,
    stereotype,
    support,
    truthful,
)
from eval.stats import estimate, mean_of, paired_difference
from eval.task import Metric, Sample

ON_COLUMNS: list[tuple[Callable[..., Any], int]] = [
    (abstention.over_refusal_rate, 2),
    (abstention.answered_unanswerable_rate, 2),
    (abstention.abstention_error, 2),
    (accuracy.accuracy, 2),
    (bbq.bbq_scores, 1),
    (calibration.expected_calibration_error, 2),
    (calibration.adaptive_calibration_error, 2),
    (calibration.overconfidence, 2),
    (calibration.brier_score, 2),
    (calibration.negative_log_likelihood, 2),
    (chrf.corpus_chrf, 2),
    (context_gain.mean_context_gain, 3),
    (counterfactual.flip_rate, 2),
    (counterfactual.mean_absolute_gap, 2),
    (counterfactual.excess_over_noise, 2),
    (group.demographic_parity_difference, 2),
    (group.demographic_parity_ratio, 2),
    (group.equalized_odds_difference, 3),
    (group.equal_opportunity_difference, 3),
    (lambda groups: group.null_mean(lambda _: 0.0, groups), 1),
    (macro_f1.macro_f1, 2),
    (per_class_recall.per_class_recall, 2),
    (perplexity.perplexity, 2),
    (selective.aurc, 2),
    (selective.excess_aurc, 2),
    (selective.coverage_at_risk, 2),
    (selective.auroc, 2),
    (selective.false_positive_rate_at_tpr, 2),
    (self_consistency.agreement_share, 1),
    (self_consistency.semantic_entropy, 1),
    (stereotype.stereotype_share, 2),
    (stereotype.stereotype_preference, 2),
    (stereotype.likelihood_gap, 2),
    (truthful.mc1, 2),
    (truthful.mc2, 2),
]


@pytest.mark.parametrize(
    ("figure", "num_columns"), ON_COLUMNS, ids=[f.__name__ for f, _ in ON_COLUMNS]
)
def test_no_items_are_refused(figure: Callable[..., Any], num_columns: int) -> None:
    with pytest.raises(EvaluationError, match="at least one"):
        figure(*[[]] * num_columns)


def test_no_items_are_refused_by_estimates_and_comparisons_too() -> None:
    metric = Metric("accuracy", mean_of("correct"), True)
    with pytest.raises(EvaluationError, match="at least one item"):
        estimate(metric, [])
    with pytest.raises(EvaluationError, match="at least one pair"):
        paired_difference(metric, [], [])


UNKNOWN = bbq.BbqAnswer(is_ambiguous=True, chosen=2, answer=2, biased=0, unknown=2)
UNDEFINED: dict[str, Callable[[], float]] = {
    "refusals where nothing is answerable": lambda: abstention.over_refusal_rate([True], [False]),
    "answers where all is answerable": lambda: abstention.answered_unanswerable_rate(
        [True], [True]
    ),
    "abstention with one side": lambda: abstention.abstention_error([True, False], [True, True]),
    "s_AMB of a model that never commits": lambda: bbq.bbq_scores([UNKNOWN]).bias_ambiguous,
    "s_DIS without disambiguated items": lambda: bbq.bbq_scores([UNKNOWN]).bias_disambiguated,
    "accuracy without such items": lambda: bbq.bbq_scores([UNKNOWN]).accuracy_disambiguated,
    "chrF without a reference": lambda: chrf.chrf("x", [" "]),
    "corpus chrF without a reference": lambda: chrf.corpus_chrf(["x"], [[]]),
    "context gain of NaN": lambda: context_gain.mean_context_gain([math.nan], [-1.0], [2]),
    "a gap of NaN": lambda: counterfactual.mean_absolute_gap([math.nan], [0.0]),
    "parity of one group": lambda: group.demographic_parity_difference(["a"] * 40, ["g"] * 40),
    "parity of a small group": lambda: group.demographic_parity_difference(
        ["a"] * 59, ["g"] * 30 + ["h"] * 29
    ),
    "parity ratio of one group": lambda: group.demographic_parity_ratio(["a"] * 40, ["g"] * 40),
    "parity ratio of a class nobody is given": lambda: group.demographic_parity_ratio(
        ["a"] * 60, ["g", "h"] * 30, positive="b"
    ),
    "odds where a group lacks a class": lambda: group.equalized_odds_difference(
        ["a"] * 60, ["a"] * 30 + ["b"] * 30, ["g"] * 30 + ["h"] * 30
    ),
    "odds of no class": lambda: group.equalized_odds_difference(
        ["a", "b"] * 30, ["a", "b"] * 30, ["g"] * 30 + ["h"] * 30, classes=()
    ),
    "opportunity where a group lacks a class": lambda: group.equal_opportunity_difference(
        ["a"] * 60, ["a"] * 30 + ["b"] * 30, ["g"] * 30 + ["h"] * 30
    ),
    "a null mean of undefined gaps": lambda: group.null_mean(lambda _: math.nan, ["g", "h"]),
    "recall of a class that does not occur": lambda: per_class_recall.per_class_recall(
        ["b"], ["a"]
    )["b"],
    "ROUGE-L without tokens": lambda: rouge_l.rouge_l("x", "…"),
    "AUROC of right answers only": lambda: selective.auroc([0.5, 0.6], [True, True]),
    "AUROC of wrong answers only": lambda: selective.auroc([0.5, 0.6], [False, False]),
    "agreement of one answer": lambda: self_consistency.agreement_share(["x"]),
    "semantic entropy of one answer": lambda: self_consistency.semantic_entropy(["x"]),
    "the half of SQuAD that is not there": lambda: squad.SquadV2().compute(
        predictions=["x"], references=[["x"]]
    )["no_ans_f1"],
    "a preference between NaN": lambda: stereotype.stereotype_share([math.nan], [0.0]),
    "the share of what occurs, of an answer without content": lambda: (
        support.support("Yes.", "No.").share
    ),
    "MC1 of NaN": lambda: truthful.mc1([math.nan, 0.0], [True, False]),
    "MC2 of the impossible": lambda: truthful.mc2([-math.inf, -math.inf], [True, False]),
    "a mean among none": lambda: mean_of("x", among="y")([Sample("0", "", "", {"x": 0, "y": 0})]),
}


@pytest.mark.parametrize("figure", UNDEFINED.values(), ids=UNDEFINED)
def test_what_is_undefined_is_nan_and_never_0(figure: Callable[[], float]) -> None:
    assert math.isnan(figure())


REFUSED: dict[str, Callable[[], float]] = {
    "a confidence of NaN": lambda: selective.aurc([math.nan], [True]),
    "a probability above 1": lambda: calibration.adaptive_calibration_error([1.5], [True]),
    "a perplexity of no tokens": lambda: perplexity.perplexity([-1.0], [0]),
    "a gain of no tokens": lambda: context_gain.context_gain(-1.0, -2.0, 0),
    "a truthful choice without a false one": lambda: truthful.mc1([0.0], [True]),
    "columns of two lengths": lambda: accuracy.accuracy(["a"], ["a", "b"]),
}


@pytest.mark.parametrize("figure", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused(figure: Callable[[], float]) -> None:
    with pytest.raises(EvaluationError):
        figure()
