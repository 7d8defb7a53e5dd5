"""The loss of each example, computed over its supervised rows only.

B examples, T tokens, D width, V vocabulary, N supervised rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def only_rows(head: nn.Module, rows_BT: Tensor) -> Iterator[None]:
    """Let the LM head see only the chosen rows: its input becomes ``(1, N, D)``.

    Done by a hook on the head rather than by calling the decoder and the head apart, so that what
    a model does after its head (scaling, soft caps) still happens. On a 49,152-word vocabulary the
    head is a fifth of a 135M model's work, and most rows of a batch are prompt or padding.
    """

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_BTD = inputs[0]
        return (hidden_BTD[rows_BT].unsqueeze(0), *inputs[1:])

    handle = head.register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def lm_losses(model: Any, head: nn.Module, micro_batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return each example's summed cross-entropy in nats and its number of supervised tokens.

    Args:
        model: a causal language model, possibly with an adapter, possibly wrapped.
        head: its output embeddings (the LM head).
        micro_batch: ``input_ids``, ``attention_mask`` and ``supervised``, each ``(B, T)``.

    Returns:
        Two float32 tensors of shape ``(B,)``. The first token of an example is never predicted,
        so it never counts.
    """
    ids_BT, supervised_BT = micro_batch["input_ids"], micro_batch["supervised"]
    # the row at t predicts the token at t + 1; the last row predicts nothing
    rows_BT = F.pad(supervised_BT[:, 1:], (0, 1), value=False)
    with only_rows(head, rows_BT):
        output = model(
            input_ids=ids_BT, attention_mask=micro_batch["attention_mask"], use_cache=False
        )
    logits_NV = output.logits[0].float()
    targets_N = ids_BT[:, 1:][supervised_BT[:, 1:]]
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    example_N = rows_BT.nonzero()[:, 0]
    sums_B = torch.zeros(len(ids_BT), device=losses_N.device).index_add(0, example_N, losses_N)
    return sums_B, rows_BT.sum(1).float()


def classification_losses(model: Any, micro_batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return each example's weighted cross-entropy in nats and its class weight, both ``(B,)``.

    With several labels an example (labels of shape ``(B, classes)``) the loss is the mean binary
    cross-entropy over the classes.
    """
    logits_BC = model(
        input_ids=micro_batch["input_ids"], attention_mask=micro_batch["attention_mask"]
    ).logits.float()
    labels, weights_B = micro_batch["labels"], micro_batch["weights"].float()
    if labels.dim() == 1:
        losses_B = F.cross_entropy(logits_BC, labels, reduction="none")
    else:
        losses_B = F.binary_cross_entropy_with_logits(
            logits_BC, labels.float(), reduction="none"
        ).mean(1)
    return losses_B * weights_B, weights_B
