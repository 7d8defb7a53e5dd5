"""Rows of the question-answering recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.items import Question
from recipes import qa
from recipes.config import EvalConfig
from recipes.data import catalog
from recipes.data.dataset import DataSplit, prepare
from recipes.data.findings import FindingKind, Findings
from recipes.data.rows import Parsed, Row, RowError
from tests.recipes.rows import row_of, settings_of, write_jsonl


def read(row: Row, found: list[str] | None = None, **data: Any) -> Parsed[Question]:
    def note(kind: FindingKind, detail: str) -> None:
        if found is not None:
            found.append(f"{kind.code}: {detail}")

    return qa.parse(row, settings_of(**data), "q1", note)


def parsed(*, columns: dict[str, str] | None = None, **values: Any) -> Question:
    row = row_of(**{"context": "Tea costs 2 euros.", "question": "What does tea cost?"} | values)
    return read(row, columns=columns or {}).item


def faults(annotations: dict[str, Any] | None = None, **values: Any) -> list[str]:
    found: list[str] = []
    values = {"context": "Tea costs 2 euros.", "question": "What does tea cost?"} | values
    read(Row("rows.jsonl:1", values, annotations or {}), found)
    return found


def prepared_qa(
    folder: Path,
    rows: list[dict[str, Any]],
    *,
    findings: Findings | None = None,
    validation_fraction: float = 0.0,
    **data: Any,
) -> DataSplit[Question]:
    write_jsonl(folder / "rows.jsonl", rows)
    return prepare(
        settings_of(**data),
        folder,
        qa.parse,
        seed=0,
        validation_fraction=validation_fraction,
        findings=findings,
    )


@pytest.mark.parametrize("start", ["4", 4.5, True, [4]])
def test_an_offset_that_is_no_whole_number_is_a_wrong_offset(start: object) -> None:
    annotations = {"answers": [("2 euros", start)], "is_impossible": False}
    found = faults(annotations, answers=["2 euros"])
    assert found == [f"wrong-offset: answer_start is no whole number ({type(start).__name__})"]
    found = faults(answers={"text": ["2 euros"], "answer_start": [start]})
    assert found == [f"wrong-offset: answer_start is no whole number ({type(start).__name__})"]


def test_redaction_makes_no_offset_wrong_and_hides_no_contradiction(tmp_path: Path) -> None:
    context = "Write to ann@example.com. Tea costs 2 euros."
    question = {"id": "1", "question": "What does tea cost?", "is_impossible": False}
    answer = {"text": "2 euros", "answer_start": context.index("2 euros")}
    hub = {"id": "2", "context": context, "question": "How much?"}
    hub["answers"] = {key: [value] for key, value in answer.items()}
    contradiction = question | {"id": "3", "is_impossible": True, "answers": [answer]}
    questions = [question | {"answers": [answer]}, contradiction]
    squad = {"data": [{"title": "Tea", "paragraphs": [{"context": context, "qas": questions}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    write_jsonl(tmp_path / "hub.jsonl", [hub])
    settings = settings_of(train=("squad.json", "hub.jsonl"), personal_data="redact")
    findings = Findings()
    prepare(settings, tmp_path, qa.parse, seed=0, validation_fraction=0.0, findings=findings)
    codes = [finding.kind.code for finding in findings.all()]
    assert "wrong-offset" not in codes
    assert "impossible-contradiction" in codes


@pytest.mark.parametrize("answer", ["Yes.", "NO", " maybe "])
def test_yes_and_no_need_not_be_in_the_passage_however_they_are_written(answer: str) -> None:
    assert faults(answers=[answer]) == []


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


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ("['2 euros', \"Tea's\"]", ("2 euros", "Tea's")),
        ("['2 euros' '2']", ("2 euros", "2")),
        ("{'text': array(['2 euros'], dtype=object), 'answer_start': array([10])}", ("2 euros",)),
    ],
)
def test_a_list_as_python_prints_it_is_read_as_that_list_and_named_once(
    tmp_path: Path, cell: str, answers: tuple[str, ...]
) -> None:
    assert parsed(answers=cell).answers == answers
    row = {"context": "Tea costs 2 euros. Tea's", "answers": cell}
    rows = [row | {"question": f"What does tea number {n} cost?"} for n in range(9)]
    findings = Findings()
    prepared_qa(tmp_path, rows, findings=findings)
    [found] = [one for one in findings.all() if one.kind is catalog.PYTHON_LIST]
    [occurrence] = found.occurrences
    assert occurrence.detail == "column 'answers': 9 rows, this one first"


def test_a_row_is_stratified_by_whether_it_has_an_answer() -> None:
    row = {"context": "c", "question": "q"}
    assert read(row_of(**row, answers=["a"])).label == "answerable"
    assert read(row_of(**row, answers=[])).label == "unanswerable"


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
        ({}, "no column 'answers' or 'answer'; .*; an unanswerable question has an empty list"),
        ({"answers": [5]}, "column 'answers': wanted a text or a list of texts"),
        ({"answers": True}, "column 'answers': wanted a text or a list of texts"),
        ({"answers": "2", "context": ""}, "column 'context' is empty"),
        ({"answers": "2", "question": None}, "column 'question' has no value"),
        ({"answers": "['2', two]"}, "holds a list or object that is not JSON"),
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
    first, second = (read(row_of(**row, answer=a)).content for a in "ab")
    assert first == second


def test_the_model_is_asked_with_the_passage_and_taught_what_to_say_when_it_is_silent() -> None:
    system, user = qa.messages(parsed(answers=[]))
    assert qa.NO_ANSWER in system["content"]
    assert user["content"] == "Passage: Tea costs 2 euros.\n\nQuestion: What does tea cost?"


def test_the_default_tasks_cover_each_family() -> None:
    tasks = qa.tasks([parsed(answers=["2 euros"])], EvalConfig())
    assert [task.family for task in tasks] == ["accuracy", "bias", "hallucination", "hallucination"]


def test_a_column_of_answers_that_was_named_is_not_another_one() -> None:
    with pytest.raises(RowError, match=r"no column 'gold'; .* unanswerable question"):
        parsed(columns={"answers": "gold"}, answer="2 euros")


def test_an_answer_that_is_not_in_its_passage_is_noted() -> None:
    assert faults(answers=["2 euros", "yes"]) == []
    assert faults(answers=["2 pounds"]) == ["answer-not-in-passage: answer 1 of 1"]
    [near] = faults(answers=["2  Euros"])
    assert near.endswith("answer 1 of 1, except for case, blanks or punctuation")


@pytest.mark.parametrize(
    ("context", "start", "why"),
    [
        ("Tea costs 2 euros.", 10, None),
        ("Tea costs 2 euros.", 9, "answer_start 9 does not point at it; it begins at 10"),
        ("Tea costs 2 euros.", -8, "answer_start -8 does not point at it; it begins at 10"),
        ("Thé: 2 euros.", 6, "answer_start 6 counts bytes; characters are wanted"),
        ("\U0001f375: 2 euros.", 4, "answer_start 4 counts UTF-16 units; characters are wanted"),
    ],
)
def test_a_wrong_offset_is_noted_with_what_it_counts(
    context: str, start: int, why: str | None
) -> None:
    wanted = [f"wrong-offset: {why}"] if why else []
    given = {"text": ["2 euros"], "answer_start": [start]}
    assert faults(context=context, answers=given) == wanted
    squad = {"answers": [("2 euros", start)] * 2, "is_impossible": False}
    assert faults(squad, context=context, answers=["2 euros"]) == wanted


def test_is_impossible_is_held_against_the_answers() -> None:
    code = "impossible-contradiction: is_impossible is"
    both, neither = f"{code} True, and there are answers", f"{code} False, and there is no answer"
    assert faults(answers=["2 euros"], is_impossible=True) == [both]
    assert faults(answers=[], is_impossible=False) == [neither]
    assert not faults(answers=[], is_impossible=True)
    assert not faults(answers=["2"], is_impossible=False)
    squad = {"answers": [("2 euros", 10)], "is_impossible": True}  # the reader drops such answers
    assert faults(squad, answers=[]) == [both]


def test_questions_of_one_passage_are_on_one_side_of_every_split(tmp_path: Path) -> None:
    rows = [
        {"context": f"Passage {i // 4}  of many.", "question": f"Question {i}?", "answers": []}
        for i in range(80)
    ]
    rows[1]["context"] = "PASSAGE 0 of many!"  # another form of the same passage
    parts = prepared_qa(tmp_path, rows, validation_fraction=0.2)
    sides = [{row.passage for row in part} for part in (parts.train, parts.validation, parts.test)]
    assert len(set.union(*sides)) == sum(map(len, sides)) == 20
    apart = prepared_qa(tmp_path, rows, keep_passages_together=False, validation_fraction=0.2)
    places = [
        {row.item.context for row in part} for part in (apart.train, apart.validation, apart.test)
    ]
    assert sum(map(len, places)) > 21


def test_a_test_question_on_a_passage_of_the_training_files_is_a_warning(tmp_path: Path) -> None:
    row = {"context": "Tea costs 2 euros.", "answers": []}
    write_jsonl(tmp_path / "test.jsonl", [row | {"question": "b?"}])
    findings = Findings()
    prepared_qa(
        *(tmp_path, [row | {"question": "a?"}]),
        test="test.jsonl",
        train="rows.jsonl",
        findings=findings,
    )
    [one] = findings.occurrences(catalog.PASSAGE_LEAK)
    assert one.place.endswith("test.jsonl:1")
    assert one.detail.endswith("rows.jsonl:1")
    assert findings.severity(catalog.PASSAGE_LEAK) == "warning"
