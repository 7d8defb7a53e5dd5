"""What training and test rows share is found, and named by both places."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes import chat, classification, qa
from recipes.data import catalog
from recipes.data.dataset import DataSplit, Parse, data_findings, prepare
from recipes.data.findings import DataErrors, Findings
from recipes.data.leakage import find_near_leaks
from recipes.data.normal_form import normal_form
from tests.recipes.rows import parse, settings_of, write_jsonl

LONG = "my card was charged twice for the same order in the shop on the corner last week"

CLASSIFICATION: Parse[Any] = classification.parse


def found_in(
    folder: Path,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    parser: Parse[Any] = parse,
    **changed: Any,
) -> tuple[Findings, DataSplit[Any]]:
    write_jsonl(folder / "train.jsonl", train)
    write_jsonl(folder / "test.jsonl", test)
    config = settings_of(train="train.jsonl", test="test.jsonl", **changed)
    findings = data_findings(config)
    parts = prepare(config, folder, parser, seed=0, validation_fraction=0.0, findings=findings)
    return findings, parts


def places(findings: Findings, folder: Path) -> dict[str, list[str]]:
    """Return by code what was found where, without the folder."""
    return {
        one.kind.code: [str(o).replace(f"{folder}/", "") for o in one.occurrences]
        for one in findings.all()
    }


def labelled(*rows: tuple[str, str]) -> list[dict[str, str]]:
    return [{"text": text, "label": label} for text, label in rows]


def asked(context: str, question: str, *answers: str) -> dict[str, Any]:
    return {"context": context, "question": question, "answers": list(answers)}


def chatted(*turns: str, system: str = "") -> dict[str, Any]:
    roles = ("user", "assistant") * len(turns)
    messages = [{"role": r, "content": c} for r, c in zip(roles, turns, strict=False)]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *messages]}


def test_a_test_row_in_the_training_data_is_an_error_by_both_places(tmp_path: Path) -> None:
    train = [{"text": f"Where is parcel {i}?"} for i in range(5)]
    test = [
        {"text": "What is new?"},
        {"text": "Where is parcel 3?"},
        {"text": "where  is \uff50arcel\u200b 4"},
    ]
    findings, _ = found_in(tmp_path, train, test)
    assert places(findings, tmp_path) == {
        "exact-leak": ["test.jsonl:2: the same as train.jsonl:4"],
        "normalised-leak": [
            "test.jsonl:3: but for case, blanks and punctuation the same as train.jsonl:5"
        ],
    }
    assert [one.severity for one in findings.all()] == ["error", "error"]


def test_rows_on_both_sides_can_be_allowed(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"text": "two"}, {"text": "Two."}]
    findings, parts = found_in(tmp_path, rows[:2], rows[1:], allow_duplicates_across_split=True)
    assert [one.severity for one in findings.all()] == ["warning", "warning"]
    assert len(parts.test) == 2
    assert parts.num_alike_across == 1  # what it counted before: case and white space


def test_a_group_on_both_sides_is_an_error_that_does_not_name_it(tmp_path: Path) -> None:
    train = [{"text": "1", "who": "ann"}, {"text": "2", "who": 7.0}]
    test = [{"text": "3", "who": "cy"}, {"text": "4", "who": "7 "}, {"text": "5", "who": "ann"}]
    findings, _ = found_in(tmp_path, train, test, group="who")
    shared = "its who is in the training data too, first at train.jsonl"
    assert places(findings, tmp_path) == {
        "group-leak": [f"test.jsonl:2: {shared}:2", f"test.jsonl:3: {shared}:1"],
        "id-forms-joined": [
            "train.jsonl:2: column 'who': 1 value, such as '7.0' and '7 ' at test.jsonl:2"
        ],
    }
    with pytest.raises(DataErrors) as caught:
        findings.raise_errors()
    assert "ann" not in str(caught.value)
    assert not found_in(tmp_path, train, test)[0].all()


def test_ids_that_could_be_one_are_found_by_their_places_where_they_are_not_shown(
    tmp_path: Path,
) -> None:
    train = [{"text": "1", "who": "ann@example.com"}, {"text": "2", "who": "7"}]
    test = [{"text": "3", "who": "Ann@example.com"}, {"text": "4", "who": "007"}]
    findings, _ = found_in(tmp_path, train, test, group="who")
    assert places(findings, tmp_path)["ambiguous-ids"] == [
        "train.jsonl:1: column 'who': a value (not shown) and another at test.jsonl:1, which "
        "differ in case",
        "train.jsonl:2: column 'who': '7' and '007' at test.jsonl:2, which differ in leading zeros",
    ]


def test_a_copy_within_a_part_is_a_warning(tmp_path: Path) -> None:
    train = labelled(("a", "x"), ("b", "y"), ("a", "x"), ("a", "x"))
    findings, _ = found_in(tmp_path, train, labelled(("c", "x"), ("d", "y")), CLASSIFICATION)
    assert places(findings, tmp_path) == {
        "duplicate-rows": [
            "train.jsonl:3: the same as train.jsonl:1",
            "train.jsonl:4: the same as train.jsonl:1",
        ]
    }
    assert findings.severity(catalog.DUPLICATE_ROWS) == "warning"


def test_one_text_with_two_labels_is_an_error_within_a_part_and_across(tmp_path: Path) -> None:
    train = labelled(("late", "x"), ("Late", "y"), ("late ", "x"), ("open", "x"), ("shut", "y"))
    findings, _ = found_in(tmp_path, train, labelled(("open", "y"), ("new", "x")), CLASSIFICATION)
    found = places(findings, tmp_path)
    assert found["conflicting-labels"] == [
        "train.jsonl:2: 'y', but 'x' at train.jsonl:1",
        "test.jsonl:1: 'y', but 'x' at train.jsonl:4",
    ]
    assert "duplicate-rows" not in found  # a row of another label is no copy
    assert findings.severity(catalog.CONFLICTING_LABELS) == "error"


def test_a_mark_that_can_change_the_meaning_makes_a_warning_and_no_error(tmp_path: Path) -> None:
    train = labelled(("you paid it?", "question"), ("you paid it!", "claim"), ("a", "claim"))
    test = labelled(("b", "claim"), ("c", "question"))
    findings, _ = found_in(tmp_path, train, test, CLASSIFICATION)
    assert places(findings, tmp_path) == {
        "alike-conflicting-labels": ["train.jsonl:2: 'claim', but 'question' at train.jsonl:1"]
    }
    findings.raise_errors()


def test_many_copies_of_one_text_in_two_forms_take_no_more_than_linear_time(tmp_path: Path) -> None:
    rows = [("late?", "x")] * 20_000 + [("late!", "y")] * 10_000
    findings, _ = found_in(tmp_path, labelled(*rows), labelled(("new", "x")), CLASSIFICATION)
    assert len(findings.occurrences(catalog.ALIKE_CONFLICTING_LABELS)) == 10_000


def test_texts_that_may_have_several_labels_do_not_contradict_one_another(tmp_path: Path) -> None:
    rows = [{"text": "late", "labels": ["x"]}, {"text": "late", "labels": ["x", "y"]}]
    findings, _ = found_in(tmp_path, rows, [{"text": "new", "labels": ["x", "y"]}], CLASSIFICATION)
    assert "conflicting-labels" not in places(findings, tmp_path)


def test_a_class_without_a_test_row_is_a_warning_with_its_size(tmp_path: Path) -> None:
    train = labelled(("a", "x"), ("b", "y"), ("c", "y"))
    findings, _ = found_in(tmp_path, train, labelled(("d", "x")), CLASSIFICATION)
    assert places(findings, tmp_path) == {
        "class-not-tested": [
            "train.jsonl:2: no test row has the label 'y', which 2 training rows have"
        ]
    }
    several = [{"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": ["z"]}]
    findings, _ = found_in(tmp_path, several, [{"text": "c", "labels": ["y"]}], CLASSIFICATION)
    assert [p.split("'")[1] for p in places(findings, tmp_path)["class-not-tested"]] == ["x", "z"]


def test_one_question_with_other_answers_is_a_warning(tmp_path: Path) -> None:
    train = [
        asked("Open at nine.", "When?", "at nine", "Nine"),
        asked("Open at nine.", "When?", "nine.", "At nine"),  # the same but for form
        asked("Open at nine.", "when?", "ten"),
        asked("Open at nine.", "When?", "at nine", "in the morning"),  # one answer in common
        asked("Open at ten.", "When?", "ten"),
    ]
    findings, _ = found_in(tmp_path, train, [asked("Shut.", "Who?")], qa.parse)
    found = places(findings, tmp_path)
    assert found["conflicting-answers"] == ["train.jsonl:3: not as train.jsonl:1"]
    assert findings.severity(catalog.CONFLICTING_ANSWERS) == "warning"


def test_one_conversation_with_another_reply_is_a_warning(tmp_path: Path) -> None:
    train = [
        chatted("hello", "hi", "open?", "yes"),
        chatted("hello", "hi", "open?", "no"),
        chatted("hello", "good day", "open?", "no"),  # another conversation
        chatted("hello", "hi", "open?", "Yes!"),
    ]
    findings, _ = found_in(tmp_path, train, [chatted("bye", "bye")], chat.parse)
    found = places(findings, tmp_path)
    assert found["conflicting-replies"] == ["train.jsonl:2: not as train.jsonl:1"]
    assert findings.severity(catalog.CONFLICTING_REPLIES) == "warning"


def near(
    folder: Path,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    parser: Parse[Any],
) -> dict[str, list[str]]:
    _, parts = found_in(folder, train, test, parser)
    findings = Findings()
    find_near_leaks(parts.train, parts.test, findings)
    return places(findings, folder)


def test_a_test_row_nearly_the_same_as_a_training_row_is_a_warning(tmp_path: Path) -> None:
    train = labelled(("open on saturday morning at nine", "x"), (LONG, "x"))
    test = labelled((LONG.replace(" ", ", ") + " AGAIN", "x"), (LONG + "!", "x"), ("new", "x"))
    # what is equal in normal form is a leak of another kind
    assert near(tmp_path, train, test, CLASSIFICATION) == {
        "near-leak": ["test.jsonl:1: nearly the same as train.jsonl:2"]
    }
    assert catalog.NEAR_LEAK.severity == "warning"


def test_a_recipe_that_ignores_near_leaks_does_not_look_for_them(tmp_path: Path) -> None:
    _, parts = found_in(
        tmp_path, labelled((LONG, "x")), labelled((LONG + " a", "x")), CLASSIFICATION
    )
    findings = Findings({"near-leak": "ignore"})
    find_near_leaks(parts.train, parts.test, findings)
    assert findings.all() == ()


def test_chats_are_not_alike_for_their_system_prompt(tmp_path: Path) -> None:
    system = " ".join(f"rule{i}" for i in range(200))
    train = [chatted("where is my parcel", "it is late", system=system)]
    test = [
        chatted("how do i pay", "by card", system=system),
        chatted("where is my parcel", "it is late now", system="be brief"),
    ]
    assert near(tmp_path, train, test, chat.parse) == {
        "near-leak": ["test.jsonl:2: nearly the same as train.jsonl:1"]
    }


def test_questions_are_alike_on_one_passage_only(tmp_path: Path) -> None:
    first, second = "Ann was born in 1950 in Bonn.", "Bea was born in 1960 in Rome."
    question = "In which year was the person born that the passage tells of"
    train = [asked(first, question + "?", "1950")]
    test = [
        asked(second, question + " now?", "1960"),
        asked(first, question + " now?", "1950"),
        asked(first, "In which city?", "Bonn"),
    ]
    assert near(tmp_path, train, test, qa.parse) == {
        "near-leak": ["test.jsonl:2: nearly the same as train.jsonl:1"]
    }


def test_every_near_leak_of_a_large_family_is_found(tmp_path: Path) -> None:
    rng = random.Random(0)
    train = labelled(*((f"{LONG} {rng.random()}", "x") for _ in range(300)))
    test = labelled(*((f"{LONG} {rng.random()}", "x") for _ in range(300)))
    assert len(near(tmp_path, train, test, CLASSIFICATION)["near-leak"]) == 300


def test_no_text_of_a_row_is_in_a_finding(tmp_path: Path) -> None:
    canary = "Ms Canary of the corner shop was charged twice for one order last week"
    train = [chatted(canary, "sorry"), chatted(canary, "no"), chatted(canary, "sorry")]
    findings, parts = found_in(
        tmp_path, train, [chatted(canary, "no"), chatted(canary + " too", "no")], chat.parse
    )
    find_near_leaks(parts.train, parts.test, findings)
    assert len(findings.all()) == 4
    shown = json.dumps([[str(o) for o in one.occurrences] for one in findings.all()])
    assert "Canary" not in shown


def test_our_own_split_keeps_rows_of_one_normal_form_together(tmp_path: Path) -> None:
    variants = [
        {"text": form, "label": "x"}
        for i in range(40)
        for form in (f"Where is parcel {i}?", f"where is parcel {i}", f"WHERE IS: parcel {i} !")
    ]
    write_jsonl(tmp_path / "rows.jsonl", variants)
    for seed in range(3):
        findings = Findings()
        parts = prepare(
            settings_of(),
            tmp_path,
            classification.parse,
            seed=seed,
            validation_fraction=0.2,
            findings=findings,
        )
        forms = [
            {normal_form(row.item.text) for row in part}
            for part in (parts.train, parts.validation, parts.test)
        ]
        assert sum(map(len, forms)) == 40
        assert findings.all() == ()


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_a_normal_form_is_its_own_normal_form_and_ignores_case_and_blanks(text: str) -> None:
    form = normal_form(text)
    assert normal_form(form) == form
    assert normal_form(f"  {text}\n") == form
    if any(c.isalnum() for c in form):
        assert normal_form(f"\u200b{text}\ufeff") == form


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("Don\u2019t", "dont", True),
        ("\uff21\uff22\uff23", "abc", True),
        ("Stra\u00dfe", "STRASSE", True),
        ("e\u0301", "\u00e9", True),
        ("a,b", "a b", True),
        ("zero\u200bwidth", "zerowidth", True),
        ("1.5", "15", False),
        ("good \U0001f600", "good \U0001f621", False),
        ("\u0915\u093f", "\u0915\u0940", False),  # Hindi: ki, kii
        ("$5", "5", False),
        ("?", "!", False),
    ],
)
def test_what_a_normal_form_ignores(one: str, other: str, are_same: bool) -> None:
    assert (normal_form(one) == normal_form(other)) == are_same
