"""The chat recipe: conversations whose assistant turns are learned, or prompts with completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.items import Dialogue
from eval.task import Task
from recipes.config import DataConfig, EvalConfig
from recipes.data.conversations import prompt_of, turns_of
from recipes.data.findings import Note
from recipes.data.rows import Parsed, Row

if TYPE_CHECKING:  # it imports torch, which reading rows needs not wait for
    from finetune.encoding import Example, Message

COLUMNS = (
    "id",
    "messages",
    "conversations",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "system",
    "tools",
)
"""Ours; `data.columns` says what the files call them."""


def parse(row: Row, data: DataConfig, name: str, note: Note) -> Parsed[Dialogue]:
    """Turn a row into a dialogue; `recipes.data.conversations` lists the layouts.

    Raises:
        RowError: if the row cannot be used.
    """
    messages = turns_of(row, data, note)
    return Parsed(_dialogue(name, messages), "\n".join(_content(message) for message in messages))


def parse_prompt(row: Row, data: DataConfig, note: Note) -> tuple[Mapping[str, str], ...]:
    """Turn a row into the turns before the reply that is to be written.

    That is the last one of the assistant, as in the evaluation, if the chat ends with it.

    Raises:
        RowError: if the row cannot be used.
    """
    messages = prompt_of(row, data, note)
    return _dialogue("", messages).to_last_reply()[:-1]


def _dialogue(name: str, messages: Sequence[Message]) -> Dialogue:
    return Dialogue(
        id=name,
        messages=tuple(_texts(message) for message in messages),
        context_only=frozenset(
            i for i, message in enumerate(messages) if not message.get("learned", True)
        ),
    )


def _texts(message: Message) -> dict[str, str]:
    texts = {"role": message["role"], "content": message["content"]}
    if reasoning := message.get("reasoning_content"):
        texts["reasoning_content"] = reasoning
    return texts


def _content(message: Message) -> str:
    """Return what is compared to find equal chats."""
    reasoning = message.get("reasoning_content")
    thought = f"{reasoning}\n" if reasoning else ""
    return f"{message['role']}: {thought}{message['content']}"


def encode(item: Dialogue, tokenizer: Any, *, max_length: int, stop_ids: frozenset[int]) -> Example:
    """Encode a dialogue with the loss on every learned assistant turn and its stop token."""
    from finetune.encoding import encode_chat

    return encode_chat(
        tokenizer,
        [_message(item, i) for i in range(len(item.messages))],
        id=item.id,
        max_length=max_length,
        stop_ids=stop_ids,
    )


def _message(item: Dialogue, position: int) -> Message:
    given = item.messages[position]
    message: Message = {"role": given["role"], "content": given["content"]}
    if position in item.context_only:
        message["learned"] = False
    if "reasoning_content" in given:
        message["reasoning_content"] = given["reasoning_content"]
    return message


def tasks(test: Sequence[Dialogue], config: EvalConfig) -> list[Task]:
    """Return the default tasks: replies, stereotypes and names, truth and consistency."""
    from eval.accuracy import reference_replies
    from eval.bias import stereotype_pairs
    from eval.counterfactual import counterfactual_replies
    from eval.hallucination import self_consistency
    from eval.truth import knowledge_answers, truthful_choice

    return [
        reference_replies(test, max_new_tokens=config.max_new_tokens),
        stereotype_pairs(),
        counterfactual_replies(test),
        truthful_choice(),
        knowledge_answers(),
        self_consistency(test, max_items=8, max_new_tokens=min(config.max_new_tokens, 32)),
    ]
