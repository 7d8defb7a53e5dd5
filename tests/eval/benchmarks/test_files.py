"""A mistake in a file is told by its place, what was found, and what was wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.benchmarks import load, names
from eval.benchmarks.files import Row, read_csv, read_json, read_json_lines, read_lines
from eval.errors import EvaluationError

BBQ_LINE = """{"example_id": 0, "question_index": "1", "question_polarity": "POLARITY",
"context_condition": "ambig", "category": "Age", "answer_info": {"ans0": ["grandfather", "old"],
"ans1": ["grandson", "nonOld"], "ans2": ["Unknown", "unknown"]}, "additional_metadata":
{"stereotyped_groups": ["old"]}, "context": "A man and a boy.", "question": "Who is slow?",
"ans0": "The man", "ans1": "The boy", "ans2": "UNKNOWN", "label": LABEL}""".replace("\n", " ")
SQUAD = (
    '{"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"context": "C", "qas": [QA]}]}]}'
)
STEREO = '{"data": {"intrasentence": [ITEM]}}'


def bbq(polarity: str = "neg", unknown: str = "Unknown", label: str = "2") -> str:
    line = BBQ_LINE.replace("POLARITY", polarity).replace("UNKNOWN", unknown)
    return line.replace("LABEL", label)


BAD = {
    "a file that is not there": ("crows_pairs", None, "x.csv: No such file"),
    "an empty file": ("bbq", "", "x.csv: no records"),
    "no UTF-8": ("halueval", b"\n\xff", "x.csv:2: no UTF-8"),
    "a missing column": (
        "crows_pairs",
        "sent_more,sent_less\na,b\n",
        "x.csv:1: no column 'stereo_antistereo'; found 'sent_more', 'sent_less', wanted",
    ),
    "a short record": (
        "crows_pairs",
        'sent_more,sent_less,stereo_antistereo,bias_type\n"a\nb",b,stereo,age\nc,d,stereo\n',
        "x.csv:4: the record has another number of fields",
    ),
    "an unknown direction": (
        "crows_pairs",
        "sent_more,sent_less,stereo_antistereo,bias_type\na,b,pro,age\n",
        "x.csv:2: 'stereo_antistereo' is 'pro'; wanted 'stereo' or 'antistereo'",
    ),
    "a quote that never ends": (
        "classification",
        'text,label\n"a,b\n',
        "x.csv:2: no sound CSV",
    ),
    "a broken line": ("bbq", bbq() + "\n{", "x.csv:2: no sound JSON"),
    "a line that is a list": ("halueval", "[]\n", "x.csv:1: found a list, wanted an object"),
    "a blank answer": (
        "halueval",
        '\n{"knowledge": "k", "question": "q", "right_answer": " ", "hallucinated_answer": "h"}',
        "x.csv:2: 'right_answer' is empty",
    ),
    "an unknown polarity": ("bbq", bbq("bad"), "x.csv:1: 'question_polarity' is 'bad'"),
    "a wording of unknown that is new": ("bbq", bbq(unknown="Who?"), "x.csv:1: wanted exactly"),
    "an ambiguous question with an answer": ("bbq", bbq(label="1"), "x.csv:1: the context is amb"),
    "a label that is none": ("bbq", bbq(label="7"), "x.csv:1: 'label' is 7; wanted 0, 1 or 2"),
    "a label in words": ("bbq", bbq(label='"2"'), "'label' is a text; wanted 0, 1 or 2"),
    "two questions with one id": ("bbq", f"{bbq()}\n{bbq()}", "2 items have the id 'Age/0'"),
    "a document that is broken": ("squad", '{\n"data": ]', "x.csv:2: no sound JSON"),
    "another document": ("squad", "{}", "x.csv: no 'data'; found nothing, wanted a list"),
    "a question without an answer": (
        "squad",
        SQUAD.replace("QA", '{"id": "1", "question": "Q", "answers": []}'),
        "x.csv.data[0].paragraphs[0].qas[0]: no answer, and not marked",
    ),
    "a set of two options": (
        "stereoset",
        STEREO.replace(
            "ITEM", '{"id": "1", "sentences": [{"gold_label": "unrelated"}]}'
        ),
        "x.csv.data.intrasentence[0]: options labelled unrelated; wanted one each",
    ),
    "no example at all": ("stereoset", '{"data": {"intrasentence": []}}', "no examples of either"),
    "two true choices in MC1": (
        "truthfulqa_mc1",
        '[{"question": "q", "mc1_targets": {"a": 1, "b": 1, "c": 0}}]',
        "x.csv[0].mc1_targets: 2 of 3 choices are true; wanted exactly one",
    ),
    "no list of questions": ("truthfulqa", "{}", "x.csv: wanted a list of questions"),
    "an unknown decision": (
        "pubmedqa",
        '{"17": {"QUESTION": "q", "CONTEXTS": ["c"], "final_decision": "perhaps"}}',
        "x.csv: 17: 'final_decision' is 'perhaps'; wanted 'yes' or 'no' or 'maybe'",
    ),
    "a file where a folder is wanted": ("winobias", "x", "x.csv: found no folder"),
    "no column of labels": ("classification", "text,topic\na,b\n", "x.csv:1: no column of labels"),
    "one label only": ("classification", "text,label\na,b\n", "one label only, 'b'"),
    "labels that read the same": (
        "classification",
        "text,label\na,b_c\nd,b c\n",
        "2 labels read 'b c' in words",
    ),
    "a pair that is no pair": (
        "counterfactual",
        "original,counterfactual\na,a\n",
        "x.csv:2: 'counterfactual' equals 'original'",
    ),
    "a label in some rows": (
        "counterfactual",
        "original,counterfactual,label\na,b,x\nc,d,\n",
        "x.csv:3: no 'label', and other rows have one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_place(case: str, tmp_path: Path) -> None:
    name, text, message = BAD[case]
    path = tmp_path / "x.csv"
    if isinstance(text, str):
        path.write_text(text, encoding="utf-8")
    elif text is not None:
        path.write_bytes(text)
    with pytest.raises(EvaluationError) as refusal:
        load(name, path)
    assert message in str(refusal.value)


def test_an_unknown_set_is_refused_with_those_there_are() -> None:
    with pytest.raises(EvaluationError, match=r"'mmlu'; there are bbq, bbq_3way, "):
        load("mmlu", Path("x"))
    assert len(names()) == 15


def test_records_of_a_csv_know_the_line_they_begin_on(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('\ufeffa,b\n"one\ntwo",1\nthree\u2028four,2\n', encoding="utf-8")
    rows = read_csv(path, ["a"])
    assert [row.where.rpartition(":")[2] for row in rows] == ["2", "4"]
    assert [row.values["a"] for row in rows] == ["one\ntwo", "three\u2028four"]


def test_a_line_of_json_may_hold_other_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": "b\u2028c"}\r\n\n{"a": "d"}', encoding="utf-8")
    assert [(r.where[-1], r.values["a"]) for r in read_json_lines(path)] == [
        ("1", "b\u2028c"),
        ("3", "d"),
    ]


@given(st.binary(max_size=60))
def test_no_bytes_end_in_anything_but_a_refusal(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.mktemp("files") / "x"
    path.write_bytes(data)
    readers: list[Callable[[Path], object]] = [
        read_json,
        read_json_lines,
        read_lines,
        lambda p: read_csv(p, []),
    ]
    for read in readers:
        try:
            read(path)
        except EvaluationError as refusal:
            assert "x" in str(refusal)  # noqa: PT017 (any other error is the failure)


@pytest.mark.parametrize("value", [None, 3, True, [], {}, "  "])
def test_what_is_no_text_is_not_taken_for_one(value: object) -> None:
    with pytest.raises(EvaluationError, match=r"here: 'key' is "):
        Row("here", {"key": value}).text("key")


def test_a_truth_value_is_no_number() -> None:
    with pytest.raises(EvaluationError, match="a truth value; wanted a number"):
        Row("here", {"key": True}).get("key", int, "a number")
