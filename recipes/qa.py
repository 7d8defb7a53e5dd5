"""The question-answering recipe: a passage, a question, and a short answer or none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from eval.accuracy import question_answering
from eval.bias import bbq_form
from eval.hallucination import context_gain, unsupported_answers
from eval.items import Question
from eval.task import Task
from finetune.encoding import Example, Message, encode_chat
from recipes.config import EvalConfig
from recipes.rows import MissingColumn, Row, RowError, take

COLUMNS = ("id", "context", "question", "answers", "document")
"""Ours; `data.columns` says what the files call them."""

NO_ANSWER = "not stated"
"""What the model is taught to say when the passage does not hold the answer."""

INSTRUCTION = (
    "Answer the question from the passage, in as few words as possible. "
    f"If the passage does not say, answer: {NO_ANSWER}."
)


def parse(row: Row, columns: Mapping[str, str], name: str) -> tuple[Question, str, str]:
    """Turn a row into a question: `context`, `question`, and `answers` (each a list or one text).

    An empty list (or no `answer` at all, or an empty text) means that the passage does not hold it.
    """
    context, question = _context(row, columns), take(row, "question", columns)
    answers = _answers(row, columns)
    document = take(row, "document", columns, required=False)
    item = Question(
        id=name,
        context=context.strip(),
        question=question.strip(),
        answers=answers,
        document=document if document is not None else context.strip()[:80],
    )
    label = "answerable" if answers else "unanswerable"
    return item, f"{context}\n{question}", label


def _context(row: Row, columns: Mapping[str, str]) -> str:
    """Return the passage; one that is kept as a list of paragraphs has a line for each."""
    value = row.values.get(columns.get("context", "context"))
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return "\n".join(value)
    return str(take(row, "context", columns))


def _answers(row: Row, columns: Mapping[str, str]) -> tuple[str, ...]:
    theirs = columns.get("answers", "answers")
    if theirs not in row.values and "answers" not in columns:
        theirs = "answer"
    if theirs not in row.values:
        names = repr(theirs) if "answers" in columns else "'answers' and no column 'answer'"
        raise MissingColumn(
            f"no column {names}; an unanswerable question has an empty list (map it: "
            "data.columns: {answers: THEIRS})"
        )
    value: Any = row.values[theirs]
    if isinstance(value, str) and (value.strip()[:1], value.strip()[-1:]) in _BRACKETS:
        value = _written_out(value, theirs)
    if isinstance(value, dict):  # the Hub's SQuAD form: {"text": [...], "answer_start": [...]}
        if "text" not in value:
            raise RowError(f"column {theirs!r}: wanted the key 'text' in an object of answers")
        value = value["text"]
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        value = take(row, theirs, {}, required=False) if value is row.values[theirs] else str(value)
        value = [] if value is None else [value]
    value = [] if value is None else value
    if not isinstance(value, list) or not all(isinstance(answer, str) for answer in value):
        raise RowError(f"column {theirs!r}: wanted a text or a list of texts")
    return tuple(answer.strip() for answer in value if answer.strip())


_BRACKETS = {("[", "]"), ("{", "}")}


def _written_out(text: str, column: str) -> Any:
    """Read a list of answers that a table holds as a text.

    Raises:
        RowError: if it is not JSON, such as Python's own way of writing a list.
    """
    try:
        return json.loads(text)
    except ValueError:
        raise RowError(
            f"column {column!r} holds a list or object that is not JSON; write it as "
            '["one answer", "another"], or as one text without brackets'
        ) from None


def messages(item: Question) -> list[Message]:
    """Return the chat that puts the question to the model."""
    return [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": f"Passage: {item.context}\n\nQuestion: {item.question}"},
    ]


def encode(item: Question, tokenizer: Any, *, max_length: int, stop_ids: frozenset[int]) -> Example:
    """Encode a question with its first answer, or with the words for none."""
    answer = item.answers[0] if item.answers else NO_ANSWER
    return encode_chat(
        tokenizer,
        [*messages(item), {"role": "assistant", "content": answer}],
        id=item.id,
        max_length=max_length,
        stop_ids=stop_ids,
    )


def tasks(test: Sequence[Question], config: EvalConfig) -> list[Task]:
    """Return the default tasks: answers, BBQ-form questions, support and gain by the passage."""
    asked: dict[str, Any] = {
        "to_messages": messages,
        "no_answer": NO_ANSWER,
        "max_new_tokens": min(config.max_new_tokens, 32),
    }
    return [
        question_answering(test, **asked),
        bbq_form(),
        unsupported_answers(test, **asked),
        context_gain(test, **asked),
    ]
