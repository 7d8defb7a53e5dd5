"""From messages to token ids and a loss mask, and from examples to micro-batches.

Only what the assistant says is learned: its words and the stop token that ends its turn. The mask
is made for any chat template (`finetune.chat_rendering`), because most templates carry no markers
of their own. Pieces are tokenised one by one, so that what is trained on begins at the same token
boundary at which generation begins. Texts of rows never become control tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from finetune import chat_rendering
from finetune.chat_rendering import rendered_turns
from finetune.control_tokens import (
    control_strings_in,
    control_tokens,
    plain,
    tokenize,
    tokenize_text,
)
from finetune.errors import InputError


class Message(TypedDict):
    """One turn of a chat."""

    role: str
    content: str

    learned: NotRequired[bool]
    """Only on turns of the assistant; False keeps the turn as context. Absent means True."""

    reasoning_content: NotRequired[str]
    """Thoughts before the content, without tags; only on turns of the assistant."""


@dataclass(frozen=True)
class Example:
    """One training row as tokens."""

    id: str
    input_ids: tuple[int, ...]
    supervised: tuple[bool, ...] = ()
    """Which tokens are learned; empty for classification."""

    label: int | tuple[float, ...] | None = None
    """Class index, or one 0/1 value a class where several may hold at once."""

    weight: float = 1.0
    """Class weight."""

    num_cut: int = 0
    """Supervised tokens that `max_length` cut off; for classification, any tokens."""

    has_stop: bool = True
    """Whether every assistant turn that is left whole ends with a supervised stop token."""

    control_strings: tuple[str, ...] = ()
    """Control strings of the tokenizer that the row's texts hold; they are encoded as text."""

    @property
    def num_supervised(self) -> int:
        """Number of tokens that are learned; the first one is never predicted."""
        return sum(self.supervised[1:])

    @property
    def is_learnable(self) -> bool:
        """Whether anything is left to learn after the cut."""
        return self.label is not None or self.num_supervised > 0


def render(tokenizer: Any, messages: Sequence[Message], *, is_prompt: bool) -> str:
    """Return the chat as text to read; with ``is_prompt``, up to the assistant's next words.

    Raises:
        InputError: if the chat template refuses these messages.
    """
    return plain(chat_rendering.render(tokenizer, messages, is_prompt=is_prompt))


def encode_chat(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    id: str,  # noqa: A002 (the field's name)
    max_length: int,
    stop_ids: frozenset[int],
) -> Example:
    """Encode a chat, with the loss on assistant turns and the stop token after each.

    A turn of the assistant that opens the chat answers nothing: it is context.

    Args:
        tokenizer: with a chat template.
        messages: at least one of them by the assistant and not marked as context.
        id: of the row, for messages to the user.
        max_length: tokens beyond it are cut off and, where supervised, counted in ``num_cut``.
        stop_ids: token ids at which generation ends.

    Raises:
        InputError: if no turn is to be learned, or the template refuses the chat or rewrites more
            of earlier turns than their thoughts.
    """
    wanted = [
        number
        for number, message in enumerate(messages)
        if number and message["role"] == "assistant" and message.get("learned", True)
    ]
    if not wanted:
        raise InputError(f"row {id}: no assistant turn to learn from")
    try:
        turns = rendered_turns(tokenizer, messages, wanted)
        pieces = [
            (tokenize(tokenizer, turn.prompt), tokenize(tokenizer, turn.reply)) for turn in turns
        ]
    except InputError as error:
        raise InputError(f"row {id}: {error}") from error
    ids: list[int] = []
    supervised: list[bool] = []
    has_stop = True
    for prompt, answer in pieces:
        stops = [i for i, token in enumerate(answer) if token in stop_ids]
        num_learned = stops[-1] + 1 if stops else len(answer)
        has_stop = has_stop and bool(stops)
        ids += prompt + answer
        supervised += [False] * len(prompt)
        supervised += [i < num_learned for i in range(len(answer))]
    if not any(supervised):
        raise InputError(f"row {id}: no assistant turn to learn from")
    while not supervised[-1]:  # what follows the last stop token teaches nothing
        ids.pop()
        supervised.pop()
    return Example(
        id=id,
        input_ids=tuple(ids[:max_length]),
        supervised=tuple(supervised[:max_length]),
        num_cut=sum(supervised[max_length:]),
        has_stop=has_stop,
        control_strings=control_tokens(tokenizer).escaped_in(
            "".join(turn.prompt + turn.reply for turn in turns)
        ),
    )


def encode_text(
    tokenizer: Any,
    text: str,
    *,
    id: str,  # noqa: A002
    max_length: int,
    label: int | tuple[float, ...] | None = None,
) -> Example:
    """Encode a text for classification; tokens beyond ``max_length`` are cut and counted.

    Only the text is cut: what the tokenizer puts around it (a start token, a prompt) stays. An
    encoder cuts it at the last of its positions, if that comes first.

    Raises:
        InputError: if the text has no tokens, or what stands around it leaves it no room.
    """
    max_length = min(max_length, getattr(tokenizer, "max_positions", max_length))
    try:
        ids = tokenize_text(tokenizer, text)
    except InputError as error:
        raise InputError(f"row {id}: {error}") from error
    if not ids:
        raise InputError(f"row {id}: the text has no tokens")
    num_cut = max(0, len(ids) - max_length)
    if num_cut:
        if tokenizer.num_special_tokens_to_add() >= max_length:
            raise InputError(
                f"row {id}: train.max_length {max_length} leaves no room for a text, with "
                f"{tokenizer.num_special_tokens_to_add()} tokens put around it"
            )
        ids = tokenize_text(tokenizer, text, max_length=max_length)
    return Example(
        id=id,
        input_ids=tuple(ids),
        label=label,
        num_cut=num_cut,
        control_strings=control_strings_in(tokenizer, text),
    )


def weigh_classes(examples: Sequence[Example], num_labels: int) -> list[Example]:
    """Return single-label examples with weight n / (classes * rows of the class)."""
    counts = [0] * num_labels
    for example in examples:
        assert isinstance(example.label, int)  # noqa: S101 (single-label rows only)
        counts[example.label] += 1
    return [
        replace(e, weight=len(examples) / (num_labels * counts[e.label]))
        for e in examples
        if isinstance(e.label, int)
    ]


@dataclass(frozen=True)
class Run:
    """Tokens that follow one another and are all learned, or none of them, as text to read."""

    text: str
    is_learned: bool
    control_texts: tuple[tuple[int, int], ...] = ()
    """Start and end of each control string in the text that is text of the row, and no token."""


def marked(tokenizer: Any, example: Example) -> list[Run]:
    """Return the example's text in runs of learned and not learned tokens, for a person to see."""
    runs: list[tuple[list[int], bool]] = []
    supervised = example.supervised or (False,) * len(example.input_ids)
    for token, is_learned in zip(example.input_ids, supervised, strict=True):
        if not runs or runs[-1][1] != is_learned:
            runs.append(([], is_learned))
        runs[-1][0].append(token)
    return [_run(tokenizer, tokens, is_learned) for tokens, is_learned in runs]


def _run(tokenizer: Any, tokens: list[int], is_learned: bool) -> Run:
    text = tokenizer.decode(tokens)
    found = list(control_tokens(tokenizer).matches(text))
    are_texts = _are_texts(tokenizer, tokens) if found else []
    if [match[0] for match in found] != [string for string, _ in are_texts]:
        return Run(text, is_learned)  # the pieces read otherwise than the whole
    pairs = zip(found, are_texts, strict=True)
    return Run(text, is_learned, tuple(match.span() for match, (_, is_text) in pairs if is_text))


def _are_texts(tokenizer: Any, tokens: Sequence[int]) -> list[tuple[str, bool]]:
    """Return the control strings that tokens spell, in order, and whether each is only text."""
    controls = control_tokens(tokenizer)
    known = {
        number: str(token.content)
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.content in controls.strings
    }
    found: list[tuple[str, bool]] = []
    for is_control, group in groupby(tokens, known.__contains__):
        if is_control:
            found += [(known[token], False) for token in group]
        else:
            found += [(match[0], True) for match in controls.matches(tokenizer.decode([*group]))]
    return found


@dataclass(frozen=True)
class Batch:
    """The examples of one optimizer step, in micro-batches of bounded size. May be empty."""

    micro_batches: tuple[dict[str, Tensor], ...]
    num_examples: int
    num_tokens: int
    """Tokens without padding."""

    total_weight: float
    """What a plain step divides by: supervised tokens, or the sum of class weights."""

    examples: tuple[Example, ...]
    """In the order of the rows of all micro-batches."""

    @property
    def largest_to_cut(self) -> int | None:
        """Padded tokens of the largest micro-batch of several examples; None if there is none."""
        sizes = [m["input_ids"].shape for m in self.micro_batches]
        return max((num * length for num, length in sizes if num > 1), default=None)


MAX_PADDING = 128
"""Padding tokens in a micro-batch beyond which another one is cheaper. Measured on two cores, the
fixed cost of a micro-batch (dequantising the base) is that of about a hundred tokens."""


def collate(
    examples: Sequence[Example],
    *,
    pad_id: int,
    max_tokens: int,
    max_examples: int | None = None,
) -> Batch:
    """Pad examples of similar length into micro-batches of at most ``max_tokens`` padded tokens.

    A single example longer than ``max_tokens`` is a micro-batch of its own. How a batch is cut
    does not change the gradient, only the memory.
    """
    ordered = sorted(examples, key=lambda e: len(e.input_ids))
    groups: list[list[Example]] = []
    for example in ordered:  # ascending, so the example at hand is the longest of its group
        group = [*groups[-1], example] if groups else []
        padded = len(group) * len(example.input_ids)
        padding = padded - sum(len(e.input_ids) for e in group)
        is_full = max_examples is not None and len(group) > max_examples
        if not groups or is_full or padded > max_tokens or padding > MAX_PADDING:
            groups.append([])
        groups[-1].append(example)
    return Batch(
        micro_batches=tuple(_pad(group, pad_id) for group in groups),
        num_examples=len(examples),
        num_tokens=sum(len(e.input_ids) for e in examples),
        total_weight=sum(e.weight if e.label is not None else e.num_supervised for e in examples),
        examples=tuple(ordered),
    )


def _pad(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """Pad on the right. The mask is by position, so a padding id that is a real token is safe."""
    B, T = len(examples), max(len(e.input_ids) for e in examples)
    input_ids = torch.full((B, T), pad_id)
    attention_mask = torch.zeros((B, T), dtype=torch.long)
    supervised = torch.zeros((B, T), dtype=torch.bool)
    for row, example in enumerate(examples):
        n = len(example.input_ids)
        input_ids[row, :n] = torch.tensor(example.input_ids)
        attention_mask[row, :n] = 1
        if example.supervised:
            supervised[row, :n] = torch.tensor(example.supervised)
    padded = {"input_ids": input_ids, "attention_mask": attention_mask}
    if examples[0].label is None:
        return padded | {"supervised": supervised}
    return padded | {
        "labels": torch.tensor([e.label for e in examples]),
        "weights": torch.tensor([e.weight for e in examples]),
    }
