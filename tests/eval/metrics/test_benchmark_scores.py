"""StereoSet's figures, and SQuAD's threshold, against their definitions written out."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.errors import EvaluationError
from eval.metrics.no_answer import NoAnswer, best_threshold, score_at_threshold
from eval.metrics.squad import exact_match, token_f1
from eval.metrics.stereoset import StereoSet, stereoset_scores

SCORES = st.integers(0, 3).map(float)  # few values, so that there are ties
EXAMPLES = st.lists(
    st.tuples(st.sampled_from("abc"), st.tuples(SCORES, SCORES, SCORES)), min_size=1, max_size=12
)
QUESTIONS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1), st.booleans()),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25)
@given(EXAMPLES)
def test_stereoset_is_a_mean_of_the_terms_means(
    examples: list[tuple[str, tuple[float, float, float]]],
) -> None:
    by_term = defaultdict(list)
    for term, scores in examples:
        by_term[term].append(scores)
    ss = [sum(p > a for p, a, _ in rows) / len(rows) for rows in by_term.values()]
    lms = [
        sum((p > u) + (a > u) for p, a, u in rows) / (2 * len(rows)) for rows in by_term.values()
    ]
    seen = stereoset_scores([term for term, _ in examples], [scores for _, scores in examples])
    assert seen.stereotype == pytest.approx(sum(ss) / len(ss))
    assert seen.language_modeling == pytest.approx(sum(lms) / len(lms))
    assert seen.icat == pytest.approx(
        seen.language_modeling * min(seen.stereotype, 1 - seen.stereotype) / 0.5
    )


def test_stereoset_of_an_unreadable_score_is_undefined() -> None:
    assert math.isnan(stereoset_scores(["a"], [(1.0, math.nan, 0.0)]).icat)
    with pytest.raises(EvaluationError, match="at least one"):
        stereoset_scores([], [])


def test_stereoset_as_a_module() -> None:
    found = StereoSet().compute(predictions=[[3, 2, 1], [1, 2, 3]], references=["a", "b"])
    assert found == {"language_modeling": 0.5, "stereotype": 0.5, "icat": 0.5}


def script_best(questions: list[tuple[float, float, bool]]) -> float:
    """``find_best_thresh`` of evaluate-v2.0.py; a score of 1 where there is no answer is a none."""
    current = best = sum(not has_answer for _, _, has_answer in questions)
    for score, _, has_answer in sorted(questions, key=lambda q: q[1]):
        current += score if has_answer else (0 if score == 1 else -1)  # type: ignore[assignment]
        best = max(best, current)
    return best / len(questions)


@settings(max_examples=25)
@given(QUESTIONS)
def test_the_best_threshold_is_the_scripts_where_no_two_questions_tie(
    questions: list[tuple[float, float, bool]],
) -> None:
    # an answer to a question without one scores 0 or 1
    questions = [(s if has else round(s), na, has) for s, na, has in questions]
    questions = list({na: (s, na, has) for s, na, has in questions}.values())
    scores, na, has_answer = (list(column) for column in zip(*questions, strict=True))
    best, threshold = best_threshold(scores, na, has_answer)
    assert best == pytest.approx(script_best(questions))
    assert score_at_threshold(scores, na, has_answer, threshold) == pytest.approx(best)


@settings(max_examples=25)
@given(QUESTIONS)
def test_the_best_threshold_is_attained_and_none_is_better(
    questions: list[tuple[float, float, bool]],
) -> None:
    scores, na, has_answer = (list(column) for column in zip(*questions, strict=True))
    best, threshold = best_threshold(scores, na, has_answer)
    assert score_at_threshold(scores, na, has_answer, threshold) == pytest.approx(best)
    for other in [-1.0, *na]:
        assert score_at_threshold(scores, na, has_answer, other) <= best + 1e-9


def test_a_withdrawn_answer_is_right_where_there_is_none() -> None:
    columns = ([1.0, 0.0, 0.5], [0.2, 0.9, 0.9], [True, False, True])
    assert score_at_threshold(*columns, 1.0) == pytest.approx(0.5)
    assert score_at_threshold(*columns, 0.9) == pytest.approx(0.5)  # withdrawn above, not at
    assert score_at_threshold(*columns, 0.5) == pytest.approx(2 / 3)
    assert score_at_threshold(*columns, -1.0) == pytest.approx(1 / 3)


def test_no_answer_as_a_module() -> None:
    predictions = [{"score": 1.0, "na_probability": 0.2}, {"score": 0.0, "na_probability": 0.9}]
    found = NoAnswer().compute(predictions=predictions, references=[True, False])
    assert found == {"best": 1.0, "best_threshold": 0.2}


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("", [], 1, 1),
        ("", [""], 1, 1),
        ("the", [], 1, 1),  # an article alone is nothing, as the script has it
        ("The.", ["a"], 1, 1),  # and so is a gold that is one
        ("Paris", [], 0, 0),
        ("", ["Paris"], 0, 0),
        ("the city of Paris", ["Paris"], 0, 0.5),
        ("Paris, Paris", ["Paris"], 0, 2 / 3),
        ("paris!", ["London", "The Paris"], 1, 1),
        ("1,000", ["1000"], 1, 1),
    ],
)
def test_edge_cases_score_as_in_the_squad_script(
    prediction: str, golds: list[str], exact: float, f1: float
) -> None:
    assert exact_match(prediction, golds) == exact
    assert token_f1(prediction, golds) == pytest.approx(f1)
