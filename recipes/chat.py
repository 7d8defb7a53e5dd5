"""The chat recipe: conversations whose assistant turns are learned, or prompts with completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.accuracy import reference_replies
from eval.bias import stereotype_pairs
from eval.counterfactual import counterfactual_replies
from eval.hallucination import self_consistency
from eval.items import Dialogue
from eval.task import Task
from eval.truth import knowledge_answers, truthful_choice
from finetune.encoding import Example, encode_chat
from recipes.config import EvalConfig
from recipes.conversations import turns_of
from recipes.rows import Row

COLUMNS = ("id", "messages", "prompt", "completion", "instruction", "input", "output", "tools")
"""Ours; `data.columns` says what the files call them."""


def parse(row: Row, columns: Mapping[str, str], name: str) -> tuple[Dialogue, str, str]:
    """Turn a row into a dialogue; `recipes.conversations` lists the layouts."""
    turns = turns_of(row, columns)
    item = Dialogue(
        id=name, messages=tuple({"role": t["role"], "content": t["content"]} for t in turns)
    )
    return item, "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns), ""


def encode(item: Dialogue, tokenizer: Any, *, max_length: int, stop_ids: frozenset[int]) -> Example:
    """Encode a dialogue with the loss on every assistant turn and its stop token."""
    return encode_chat(
        tokenizer,
        [{"role": m["role"], "content": m["content"]} for m in item.messages],
        id=item.id,
        max_length=max_length,
        stop_ids=stop_ids,
    )


def tasks(test: Sequence[Dialogue], config: EvalConfig) -> list[Task]:
    """Return the default tasks: replies, stereotypes and names, truth and consistency."""
    return [
        reference_replies(test, max_new_tokens=config.max_new_tokens),
        stereotype_pairs(),
        counterfactual_replies(test),
        truthful_choice(),
        knowledge_answers(),
        self_consistency(test, max_items=8, max_new_tokens=min(config.max_new_tokens, 32)),
    ]
