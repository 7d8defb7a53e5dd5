"""Rows of the question-answering recipe."""

from __future__ import annotations

from typing import Any

import pytest

from eval.items import Question
from recipes import qa
from recipes.config import EvalConfig
from recipes.rows import RowError
from tests.recipes.rows import row_of


def parsed(*, columns: dict[str, str] | None = None, **values: Any) -> Question:
    row = row_of(**{"context": "Tea costs 2 euros.", "question": "What does tea cost?"} | values)
    return qa.parse(row, columns or {}, "q1")[0]


@pytest.mark.parametrize(
    ("values", "answers"),
    [
        ({"answers": ["2 euros", " 2 "]}, ("2 euros", "2")),
        ({"answers": []}, ()),
        ({"answers": None}, ()),
        ({"answers": ["", " "]}, ()),
        ({"answer": "2 euros"}, ("2 euros",)),
        ({"answer": ""}, ()),
        ({"answer": 2}, ("2",)),
        ({"answer": 2.5}, ("2.5",)),
        ({"answers": {"text": ["2 euros"], "answer_start": [10]}}, ("2 euros",)),  # the Hub's SQuAD
        ({"answers": {"text": [], "answer_start": []}}, ()),
        ({"answers": '["2 euros", "2"]'}, ("2 euros", "2")),  # as a table must write a list
        ({"answers": " [] "}, ()),
        ({"answers": '{"text": ["2 euros"], "answer_start": [10]}'}, ("2 euros",)),
        ({"answer": float("nan")}, ()),
        ({"answer": 3.0}, ("3",)),
    ],
)
def test_answers_come_as_a_list_as_one_text_in_squads_form_or_not_at_all(
    values: dict[str, Any], answers: tuple[str, ...]
) -> None:
    item = parsed(**values)
    assert item.answers == answers
    assert item.is_answerable == bool(answers)


def test_a_row_is_stratified_by_whether_it_has_an_answer() -> None:
    row = {"context": "c", "question": "q"}
    assert qa.parse(row_of(**row, answers=["a"]), {}, "1")[2] == "answerable"
    assert qa.parse(row_of(**row, answers=[]), {}, "1")[2] == "unanswerable"


def test_the_document_is_the_column_or_else_the_beginning_of_the_passage() -> None:
    assert parsed(answers=[], document="d1").document == "d1"
    assert parsed(answers=[]).document == "Tea costs 2 euros."
    assert parsed(answers=[], document="").document == "Tea costs 2 euros."
    assert len(parsed(answers=[], context="x" * 200).document) == 80


def test_columns_are_found_under_the_names_that_the_file_has() -> None:
    columns = {"question": "frage", "answers": "antworten", "context": "text"}
    item = parsed(columns=columns, frage="Was?", antworten=["Das"], text="Das da.", question=None)
    assert (item.context, item.question, item.answers) == ("Das da.", "Was?", ("Das",))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "no column 'answers' and no column 'answer'; an unanswerable question has an empty"),
        ({"answers": [5]}, "column 'answers': wanted a text or a list of texts"),
        ({"answers": True}, "column 'answers': wanted a text or a list of texts"),
        ({"answers": "2", "context": ""}, "column 'context' is empty"),
        ({"answers": "2", "question": None}, "column 'question' has no value"),
        ({"answers": "['2', 'two']"}, "holds a list or object that is not JSON"),
        ({"answers": "[5]"}, "wanted a text or a list of texts"),
        ({"answers": {"txt": ["2"]}}, "wanted the key 'text'"),
        ({"answers": "2", "question": ["q"]}, "wanted str, found list"),
    ],
)
def test_a_row_that_is_no_question_says_why(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RowError, match=words):
        parsed(**values)


def test_two_rows_of_one_question_on_one_passage_are_duplicates_whatever_their_answers() -> None:
    row = {"context": "c ", "question": " q"}
    first, second = (qa.parse(row_of(**row, answer=a), {}, a)[1] for a in "ab")
    assert first == second


def test_the_model_is_asked_with_the_passage_and_taught_what_to_say_when_it_is_silent() -> None:
    system, user = qa.messages(parsed(answers=[]))
    assert qa.NO_ANSWER in system["content"]
    assert user["content"] == "Passage: Tea costs 2 euros.\n\nQuestion: What does tea cost?"


def test_the_default_tasks_cover_each_family() -> None:
    tasks = qa.tasks([parsed(answers=["2 euros"])], EvalConfig())
    assert [task.family for task in tasks] == ["accuracy", "bias", "hallucination", "hallucination"]


def test_a_column_of_answers_that_was_named_is_not_another_one() -> None:
    with pytest.raises(RowError, match="no column 'gold'; an unanswerable question"):
        parsed(columns={"answers": "gold"}, answer="2 euros")
