"""What an encoder makes of texts before any class is told apart: one vector a text.

N texts, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from finetune.checkpoint import Base
from finetune.encoder_kinds import Pooling
from finetune.encoders import head_modules, pool
from finetune.encoding import Example, collate, encode_text

MAX_TOKENS = 4096
"""Padded tokens in one forward; only memory and speed."""


def embed(
    base: Base,
    texts: Sequence[str],
    *,
    max_length: int,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Return one vector a text, ``(N, D)`` in float32: pooled as the base's classifier pools.

    Where transformers' own class is used, whose vector is that of layers yet to be trained, it is
    the mean of all tokens.

    Args:
        base: an encoder with a classification head, without an adapter.
        texts: to embed; the order is kept.
        max_length: tokens at which a text is cut.
        on_rows: called with the number of texts done since the last call.
    """
    examples = [
        encode_text(base.tokenizer, text, id=f"text {number}", max_length=max_length)
        for number, text in enumerate(texts)
    ]
    encoder = getattr(base.model, base.model.base_model_prefix)
    pooling: Pooling = "cls" if base.pooling == "cls" else "mean"

    def vectors(batch: dict[str, Tensor]) -> Tensor:
        return pool(encoder(**batch).last_hidden_state, batch["attention_mask"], pooling)

    return _over(base, base.model, examples, vectors, on_rows)


def class_inputs(
    base: Base,
    model: Any,
    examples: Sequence[Example],
    *,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Return what the layer with the classes is given for each example, ``(N, D)`` in float32.

    Args:
        base: of ``model``.
        model: an encoder's classifier, perhaps with an adapter.
        examples: in any order, which is kept.
        on_rows: called with the number of examples done since the last call.
    """
    seen: list[Tensor] = []
    layer = class_layer(model)
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    def vectors(batch: dict[str, Tensor]) -> Tensor:
        model(**batch)
        return seen.pop()

    try:
        return _over(base, model, examples, vectors, on_rows)
    finally:
        handle.remove()


def class_layer(model: Any) -> nn.Linear:
    """Return the linear layer whose outputs are the classes; the trained copy, in a peft model."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = plain.get_submodule(head_modules(plain)[-1])
    found = [
        module
        for name, module in head.named_modules()
        if isinstance(module, nn.Linear) and "original_module" not in name
    ]
    return found[-1]


@torch.no_grad()
def _over(
    base: Base,
    model: Any,
    examples: Sequence[Example],
    vectors: Callable[[dict[str, Tensor]], Tensor],
    on_rows: Callable[[int], None],
) -> Tensor:
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].input_ids))
    batch = collate(
        [examples[i] for i in order], pad_id=base.tokenizer.pad_token_id, max_tokens=MAX_TOKENS
    )
    device = next(model.parameters()).device
    is_bf16 = base.quantization.compute_dtype == "bfloat16"
    was_training = model.training
    model.eval()
    found: list[Tensor] = []
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
            for micro_batch in batch.micro_batches:
                names = ("input_ids", "attention_mask")
                found.append(vectors({n: micro_batch[n].to(device) for n in names}).float().cpu())
                on_rows(len(found[-1]))
    finally:
        model.train(was_training)
    sorted_ND = torch.cat(found)
    return torch.empty_like(sorted_ND).index_copy_(0, torch.tensor(order), sorted_ND)
