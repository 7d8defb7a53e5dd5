"""The question-answering recipe: a passage, a question, and a short answer or none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.items import Question
from eval.task import Task
from recipes.config import DataConfig, EvalConfig
from recipes.data import catalog
from recipes.data.findings import Note
from recipes.data.normal_form import normal_form
from recipes.data.python_lists import python_value
from recipes.data.rows import (
    MissingColumn,
    Need,
    Parsed,
    Row,
    RowError,
    get_column,
    require_columns,
)

if TYPE_CHECKING:  # it imports torch, which reading rows needs not wait for
    from finetune.encoding import Example, Message

COLUMNS = ("id", "context", "question", "answers", "document")
"""Ours; `data.columns` says what the files call them."""

NO_ANSWER = "not stated"
"""What the model is taught to say when the passage does not hold the answer."""

YES_OR_NO = frozenset(
    (
        *("yes", "no", "maybe", "true", "false", "ja", "nein", "oui", "non", "sí", "si"),
        *("sim", "não", "nee", "unanswerable", "not stated", "unknown"),
    )
)
"""Answers that need not be in the passage."""

INSTRUCTION = (
    "Answer the question from the passage, in as few words as possible. "
    f"If the passage does not say, answer: {NO_ANSWER}."
)


def parse(row: Row, data: DataConfig, name: str, note: Note) -> Parsed[Question]:
    """Turn a row into a question: `context`, `question`, and `answers` (each a list or one text).

    An empty list (or no `answer` at all, or an empty text) means that the passage does not hold it.
    """
    columns = data.columns
    answer: Need = ("answers",) if "answers" in columns else ("answers", "answer")
    try:
        require_columns(row, columns, ("context",), ("question",), answer)
    except MissingColumn as error:
        if answer not in error.needs:
            raise
        hint = "; an unanswerable question has an empty list of answers"
        raise MissingColumn(f"{error}{hint}", error.needs) from None
    context, question = _asked(row, columns)
    answers = _answers(row, columns, note)
    if not answers and _is_blank_cell(row, columns):
        note(catalog.BLANK_ANSWER, "")
    document = get_column(row, "document", columns, required=False)
    item = Question(
        id=name,
        context=context.strip(),
        question=question.strip(),
        answers=answers,
        document=document if document is not None else context.strip()[:80],
    )
    label = "answerable" if answers else "unanswerable"
    _find_answer_faults(row, item, data.columns, note)
    return Parsed(item, f"{context}\n{question}", label, passage=item.context)


def parse_prompt(row: Row, data: DataConfig, note: Note) -> Question:
    """Turn a row into a question whose answer is not known: `context` and `question`.

    Raises:
        RowError: if the row cannot be used.
    """
    del note
    require_columns(row, data.columns, ("context",), ("question",))
    context, question = _asked(row, data.columns)
    return Question("", context.strip(), question.strip(), answers=(), document="")


def _asked(row: Row, columns: Mapping[str, str]) -> tuple[str, str]:
    return _context(row, columns), get_column(row, "question", columns)


def _find_answer_faults(row: Row, item: Question, columns: Mapping[str, str], note: Note) -> None:
    """Note answers that are not in their passage, and what contradicts them."""
    for number, answer in enumerate(item.answers, 1):
        if answer in item.context or normal_form(answer) in YES_OR_NO:
            continue
        near = normal_form(answer) in normal_form(item.context)
        but = ", except for case, blanks or punctuation" if near else ""
        note(catalog.ANSWER_NOT_IN_PASSAGE, f"answer {number} of {len(item.answers)}{but}")
    placed, is_impossible = _annotated(row, columns)
    if is_impossible is not None and is_impossible is bool(item.answers or placed):
        has = "there are answers" if is_impossible else "there is no answer"
        note(catalog.IMPOSSIBLE_CONTRADICTION, f"is_impossible is {is_impossible}, and {has}")
    context = str(row.values.get(columns.get("context", "context")) or "")
    seen: list[tuple[str, object]] = []  # no set: what a file has for an offset may be a list
    for answer, start in placed:
        if start is None or row.is_redacted or (answer, start) in seen:
            continue
        seen.append((answer, start))
        if not isinstance(start, int) or isinstance(start, bool):
            found = type(start).__name__
            note(catalog.WRONG_OFFSET, f"answer_start is no whole number ({found})")
        elif not (start >= 0 and context.startswith(answer, start)):
            note(catalog.WRONG_OFFSET, f"answer_start {start} {_why_wrong(context, answer, start)}")


def _annotated(
    row: Row, columns: Mapping[str, str]
) -> tuple[list[tuple[str, object]], bool | None]:
    """Return the answers with their offsets, and `is_impossible`, where the file has them."""
    if row.annotations:
        return list(row.annotations["answers"]), bool(row.annotations["is_impossible"])
    given = row.values.get(columns.get("answers", "answers"))
    placed: list[tuple[str, object]] = []
    if isinstance(given, dict):
        texts, starts = given.get("text"), given.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            placed = list(zip(map(str, texts), starts, strict=True))
    is_impossible = row.values.get("is_impossible")
    return placed, is_impossible if isinstance(is_impossible, bool) else None


def _why_wrong(context: str, answer: str, start: int) -> str:
    """Return what an offset that does not point at its answer seems to count."""
    for unit, encoding, size in (("bytes", "utf-8", 1), ("UTF-16 units", "utf-16-le", 2)):
        text, part = (one.encode(encoding, "surrogatepass") for one in (context, answer))
        if start >= 0 and text.startswith(part, start * size):
            return f"counts {unit}; characters are wanted"
    found = context.find(answer)
    return "does not point at it" + (f"; it begins at {found}" if found >= 0 else "")


def _context(row: Row, columns: Mapping[str, str]) -> str:
    """Return the passage; one that is kept as a list of paragraphs has a line for each."""
    value = row.values.get(columns.get("context", "context"))
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return "\n".join(value)
    return str(get_column(row, "context", columns))


def _is_blank_cell(row: Row, columns: Mapping[str, str]) -> bool:
    """Return whether an answer is a blank text, and nothing says that there is none."""
    value = row.values.get(columns.get("answers", "answers"), row.values.get("answer"))
    return isinstance(value, str) and not value.strip() and "is_impossible" not in row.values


def _answers(row: Row, columns: Mapping[str, str], note: Note) -> tuple[str, ...]:
    theirs = columns.get("answers", "answers")
    if theirs not in row.values and "answers" not in columns:
        theirs = "answer"
    value: Any = row.values[theirs]
    if isinstance(value, str) and (value.strip()[:1], value.strip()[-1:]) in _BRACKETS:
        value = _written_out(value, theirs, note)
    if isinstance(value, dict):  # the Hub's SQuAD form: {"text": [...], "answer_start": [...]}
        if "text" not in value:
            raise RowError(f"column {theirs!r}: wanted the key 'text' in an object of answers")
        value = value["text"]
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        is_plain = value is row.values[theirs]
        value = get_column(row, theirs, {}, required=False) if is_plain else str(value)
        value = [] if value is None else [value]
    value = [] if value is None else value
    if not isinstance(value, list) or not all(isinstance(answer, str) for answer in value):
        raise RowError(f"column {theirs!r}: wanted a text or a list of texts")
    return tuple(answer.strip() for answer in value if answer.strip())


_BRACKETS = {("[", "]"), ("{", "}")}


def _written_out(text: str, column: str, note: Note) -> Any:
    """Read a list of answers that a table holds as a text, in JSON's form or in Python's.

    Raises:
        RowError: if it is neither.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        found = python_value(text)
    except ValueError:
        raise RowError(
            f"column {column!r} holds a list or object that is not JSON; write it as "
            '["one answer", "another"], or as one text without brackets'
        ) from None
    note(catalog.PYTHON_LIST, f"column {column!r}")
    return list(found) if isinstance(found, tuple) else found


def messages(item: Question) -> list[Message]:
    """Return the chat that puts the question to the model."""
    return [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": f"Passage: {item.context}\n\nQuestion: {item.question}"},
    ]


def encode(item: Question, tokenizer: Any, *, max_length: int, stop_ids: frozenset[int]) -> Example:
    """Encode a question with its first answer, or with the words for none."""
    from finetune.encoding import encode_chat

    answer = item.answers[0] if item.answers else NO_ANSWER
    return encode_chat(
        tokenizer,
        [*messages(item), {"role": "assistant", "content": answer}],
        id=item.id,
        max_length=max_length,
        stop_ids=stop_ids,
    )


def max_new_tokens(config: EvalConfig) -> int:
    """Return the longest answer in tokens."""
    return min(config.max_new_tokens, 32)


def tasks(test: Sequence[Question], config: EvalConfig) -> list[Task]:
    """Return the default tasks: answers, BBQ-form questions, support and gain by the passage."""
    from eval.accuracy import question_answering
    from eval.bias import bbq_form
    from eval.hallucination import context_gain, unsupported_answers

    asked: dict[str, Any] = {
        "to_messages": messages,
        "no_answer": NO_ANSWER,
        "max_new_tokens": max_new_tokens(config),
    }
    return [
        question_answering(test, **asked),
        bbq_form(),
        unsupported_answers(test, **asked),
        context_gain(test, **asked),
    ]
