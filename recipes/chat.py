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
from finetune.encoding import Example, Message, encode_chat
from recipes.config import EvalConfig
from recipes.data import Row, RowError, take

ROLES = ("system", "user", "assistant")


def parse(row: Row, columns: Mapping[str, str], name: str) -> tuple[Dialogue, str, str]:
    """Turn a row into a dialogue: `messages`, or `prompt` and `completion` for plain text."""
    if columns.get("prompt", "prompt") in row.values:
        prompt, completion = take(row, "prompt", columns), take(row, "completion", columns)
        turns: list[Message] = [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": completion},
        ]
    else:
        turns = [_turn(turn, i) for i, turn in enumerate(take(row, "messages", columns, kind=list))]
    if not turns or turns[-1]["role"] != "assistant":
        raise RowError("the last message is not by the assistant, so there is nothing to learn")
    if not any(turn["role"] == "user" for turn in turns):
        raise RowError("no message is by the user")
    item = Dialogue(
        id=name, messages=tuple({"role": t["role"], "content": t["content"]} for t in turns)
    )
    return item, "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns), ""


def _turn(turn: Any, index: int) -> Message:
    if not isinstance(turn, dict) or turn.get("role") not in ROLES:
        role = turn.get("role") if isinstance(turn, dict) else type(turn).__name__
        raise RowError(f"messages[{index}]: role {role!r} is none of {', '.join(ROLES)}")
    content = turn.get("content")
    if not isinstance(content, str) or not content.strip():
        raise RowError(f"messages[{index}]: no content")
    return {"role": turn["role"], "content": content.strip()}


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
