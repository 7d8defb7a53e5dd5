"""Where the head of an encoder's classifier begins: at a probe, at zero, or at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from finetune.checkpoint import Base
from finetune.encoding import Example
from finetune.errors import InputError
from finetune.features import class_inputs, class_layer
from finetune.probe import fit


def begin(
    base: Base,
    model: Any,
    examples: Sequence[Example],
    held_back: Sequence[Example],
    *,
    start: Literal["auto", "probe", "zero", "random"],
    is_private: bool,
    seed: int,
    on_rows: Callable[[int], None] = lambda _: None,
) -> None:
    """Set the layer with the classes of an untrained model.

    Args:
        base: of ``model``; a language model keeps its random head.
        model: a peft model whose adapter changes nothing yet.
        examples: what is trained on.
        held_back: rows that choose the probe's regularisation.
        start: as in `AdapterConfig`.
        is_private: whether the rows may only be seen through noise.
        seed: of the choice of rows where none are held back.
        on_rows: called with the number of rows embedded since the last call.

    Raises:
        InputError: if a probe of private rows, or of a language model, is asked for.
    """
    if base.pooling is None:
        if start not in ("auto", "random"):
            raise InputError(
                f"adapter.head_start: {start} is for encoders, and {base.folder} holds a language "
                "model; remove it"
            )
        return
    if start == "probe" and is_private:
        raise InputError(
            "adapter.head_start: a probe is fitted to the private rows without noise, so its head "
            "would release them; set it to zero, or remove it"
        )
    if start == "auto":
        start = "zero" if is_private else "probe"
    layer = class_layer(model)
    with torch.no_grad():
        if start == "zero":
            layer.weight.zero_()
            if layer.bias is not None:
                layer.bias.zero_()
        elif start == "probe":
            features = class_inputs(base, model, [*examples, *held_back], on_rows=on_rows)
            found = fit(
                features[: len(examples)],
                examples,
                features[len(examples) :],
                held_back,
                num_classes=len(base.labels),
                seed=seed,
            )
            layer.weight.copy_(found.weight)
            if layer.bias is None:
                raise InputError(f"a {type(base.model).__name__} has a head without a bias")
            layer.bias.copy_(found.bias)
