"""What the columns of a file are, guessed from their content and their names."""

from __future__ import annotations

from typing import Any

import pytest

from recipes.data.guesses import guess
from recipes.errors import InputError

WORDS = ("card", "parcel", "invoice", "refund", "app", "password", "shop", "order", "size", "gift")


def sentence(n: int, end: str = ".") -> str:
    return f"My {WORDS[n % 10]} number {n} has a problem with the {WORDS[n // 10 % 10]}{end}"


def tickets(n: int = 60, **names: str) -> list[dict[str, Any]]:
    text, label, customer, number, made = (
        names.get(key, key) for key in ("text", "label", "customer", "id", "made")
    )
    return [
        {
            number: f"T{i:05}",
            made: f"2026-01-{i % 28 + 1:02}",
            customer: f"C{i // 3:04}",
            text: sentence(i),
            label: WORDS[i % 5],
        }
        for i in range(n)
    ]


def chosen(recipe: str, rows: list[dict[str, Any]]) -> dict[str, str]:
    return {one.key.removeprefix("data."): one.value for one in guess(recipe, rows).all()}


@pytest.mark.parametrize(
    ("text", "label", "customer"),
    [
        ("text", "label", "customer"),
        ("Message text", "Queue", "CustomerNo"),
        ("Nachricht", "Kategorie", "Kundennummer"),
        ("Texte", "Étiquette", "Client"),
        ("Mensaje", "Categoría", "Cliente"),
        ("Omschrijving", "Onderwerp", "Klant-nr"),
        ("a", "b", "c"),  # names that say nothing
    ],
)
def test_tickets_are_recognised_in_several_languages_and_without_names(
    text: str, label: str, customer: str
) -> None:
    rows = tickets(text=text, label=label, customer=customer, id="x1", made="x2")
    found = chosen("classification", rows)
    assert found == {"columns.text": text, "columns.label": label, "group": customer}


def test_a_guess_says_why_and_what_else_it_might_be() -> None:
    rows = [row | {"subject": f"About {row['label']} {i}"} for i, row in enumerate(tickets())]
    text, label, group = guess("classification", rows).all()
    assert text.value == "text"
    assert text.others == ("subject",)
    assert "words on average" in text.why
    assert label.why == "its name, and 5 values that repeat"
    assert group.why == "its name, and 20 values, 3.0 rows each"


def test_no_guess_holds_what_a_text_says() -> None:
    for one in guess("classification", tickets()).all():
        assert "number" not in one.why
        assert not any("My " in other for other in one.others)


def test_a_column_whose_values_never_repeat_is_no_group() -> None:
    rows = [row | {"customer": f"C{i}"} for i, row in enumerate(tickets())]
    assert "group" not in chosen("classification", rows)


def test_dates_and_prices_are_no_groups() -> None:
    rows = [
        {"text": sentence(i), "label": WORDS[i % 4], "paid": f"{i // 3}.50", "day": f"{i % 9}.1.26"}
        for i in range(60)
    ]
    assert "group" not in chosen("classification", rows)


def test_a_channel_is_no_label_where_a_queue_is_there() -> None:
    rows = [
        row | {"channel": ("mail", "phone")[i % 2], "priority": ("high", "low")[i % 2]}
        for i, row in enumerate(tickets(label="Warteschlange"))
    ]
    assert chosen("classification", rows)["columns.label"] == "Warteschlange"


@pytest.mark.parametrize(
    ("cells", "separator"),
    [(("a;b", "a", "b", "b;c", "c"), ";"), (("['a', 'b']", "['a']", "['c']"), ";")],
)
def test_labels_that_share_a_cell_are_separated(cells: tuple[str, ...], separator: str) -> None:
    rows = [{"text": sentence(i), "label": cells[i % len(cells)]} for i in range(40)]
    found = chosen("classification", rows)
    assert found["columns.label"] == "label"
    assert found["label_separator"] == separator


def test_lists_of_labels_are_labels() -> None:
    rows = [{"body": sentence(i), "tags": [WORDS[i % 3], WORDS[i % 4]]} for i in range(40)]
    assert chosen("classification", rows) == {"columns.text": "body", "columns.labels": "tags"}


def questions(n: int = 30, answer: Any = None) -> list[dict[str, Any]]:
    passage = "The office in {} opens at {} in the morning. " + "It is a nice building. " * 8
    return [
        {
            "Abschnitt": passage.format(WORDS[i // 3 % 10], i % 12),
            "Frage": f"When does the office in {WORDS[i // 3 % 10]} open?",
            "Antwort": f"at {i % 12}" if answer is None else answer(f"at {i % 12}"),
            "Falsch": f"office {i}",
        }
        for i in range(n)
    ]


@pytest.mark.parametrize(
    "answer",
    [None, lambda text: [text], lambda text: {"text": [text], "answer_start": [3]}],
    ids=["text", "list", "squad"],
)
def test_passages_questions_and_answers_are_recognised(answer: Any) -> None:
    found = chosen("qa", questions(answer=answer))
    assert found == {
        "columns.context": "Abschnitt",
        "columns.question": "Frage",
        "columns.answers": "Antwort",
    }


def test_questions_and_answers_are_recognised_by_their_content_alone() -> None:
    names = {"Abschnitt": "c1", "Frage": "c2", "Antwort": "c3", "Falsch": "c4"}
    rows = [{names[key]: value for key, value in row.items()} for row in questions()]
    found = chosen("qa", rows)
    assert [*found.values()] == ["c1", "c2", "c3"]


TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"messages": TURNS}, {"messages": "messages"}),
        ({"dialog": TURNS, "tools": [{}]}, {"messages": "dialog", "tools": "tools"}),
        ({"chat": str(TURNS).replace("'", '"')}, {"messages": "chat"}),
        ({"conversations": SHARED}, {"conversations": "conversations"}),
        ({"gespräch": SHARED, "system": "Be kind"}, {"conversations": "gespräch",
                                                     "system": "system"}),
        ({"prompt": "Who is it?", "completion": "It is me."}, {"prompt": "prompt",
                                                               "completion": "completion"}),
        ({"Anfrage": "Wer ist da?", "Antwort": "Ich bin da."}, {"prompt": "Anfrage",
                                                                "completion": "Antwort"}),
        ({"instruction": "Say hi", "input": "", "output": "Hi you"},
         {"instruction": "instruction", "input": "input", "output": "output"}),
        ({"prompt": {"role": "prompter", "text": "Hi", "replies": []}}, {"prompt": "prompt"}),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, {"prompt": "prompt",
                                                          "completion": "completion"}),
        ({"mr": "Some words to start", "ref": "Some words to end with"}, {"prompt": "mr",
                                                                           "completion": "ref"}),
    ],
)  # fmt: skip
def test_layouts_of_chats_are_recognised(row: dict[str, Any], columns: dict[str, str]) -> None:
    rows = [row | {"id": f"r{i}"} for i in range(10)]
    assert chosen("chat", rows) == {f"columns.{ours}": theirs for ours, theirs in columns.items()}


@pytest.mark.parametrize(
    ("asked", "rows", "fits"),
    [
        ("classification", [{"messages": TURNS, "id": i} for i in range(9)], "the chat recipe"),
        ("qa", tickets(), "the classification recipe"),
        ("chat", tickets(), "the classification recipe"),
        ("qa", [{"prompt": "Hi you", "completion": "Yes I am"}] * 5, "the chat recipe"),
    ],
)
def test_a_file_that_lacks_a_column_is_refused_with_its_columns_and_what_it_fits(
    asked: str, rows: list[dict[str, Any]], fits: str
) -> None:
    with pytest.raises(InputError, match=f"the {asked} recipe needs .* fits {fits}") as caught:
        guess(asked, rows)
    assert all(repr(name) in str(caught.value) for name in rows[0])


def test_a_file_that_fits_another_recipe_better_is_called_so() -> None:
    assert guess("qa", questions()).better == ""
    rows = [row | {"Kategorie": WORDS[i % 3]} for i, row in enumerate(questions())]
    assert guess("classification", rows).better.startswith("qa (")


@pytest.mark.parametrize(
    "rows",
    [
        [{}],
        [{"a": None}],
        [{"a": []}, {"a": [[]]}, {"a": {}}],
        [{"a": float("nan"), "b": True}],
        [{"a": "[" * 5000}, {"a": "x"}],
        [{"messages": [None]}, {"messages": ["x"]}, {"messages": [{}]}],
        [{"text": "", "label": ""}],
        [{"context": [1, None], "question": {}, "answers": [[]]}],
    ],
)
@pytest.mark.parametrize("recipe", ["chat", "classification", "qa"])
def test_rows_of_any_form_are_guessed_or_refused(recipe: str, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"needs a column of .*; the columns are "):
        guess(recipe, rows)
