"""Blocks below the first adapted one, run once for each row instead of once for each step.

With `adapter.last_layers` the blocks below never change, and neither does what they make of a row.
It is computed before the first step, in an order that depends on the rows alone, and kept; a step
then runs the adapted blocks and nothing else. The arithmetic is the same, to the rounding of
batches that are padded otherwise. A private run, whose noise wants many passes over large batches,
gains most: each pass costs what the adapted blocks cost.

B examples, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

MAX_BYTES = 4 * 2**30
"""More than this is not kept; training then runs all blocks at every step."""


class _Reached(Exception):
    """What arrived at the first adapted block: how a forward is ended there, and no error."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__("the first adapted block")
        self.hidden = hidden


def num_frozen(model: Any) -> int:
    """Return how many blocks at the beginning of a model hold nothing that is trained.

    Zero where this cannot be relied on: the input embeddings are trained, something below would
    draw dropout, or the model does not keep its blocks in ``layers`` or has a changed forward.

    Args:
        model: a peft model on a transformers model.
    """
    decoder = _decoder(model)
    blocks = getattr(decoder, "layers", None)
    if not isinstance(blocks, nn.ModuleList):
        return 0
    if "forward" in vars(decoder):  # somebody else's, which would have to be put back
        return 0
    if any(p.requires_grad for p in decoder.get_input_embeddings().parameters()):
        return 0
    count = 0
    for block in blocks:
        if any(p.requires_grad for p in block.parameters()):
            break
        count += 1
    below = [m for block in blocks[:count] for m in block.modules() if isinstance(m, nn.Dropout)]
    draws = getattr(decoder.config, "attention_dropout", 0.0) or any(m.p for m in below)
    return 0 if draws or count == len(blocks) else count


@contextmanager
def run_once(
    model: Any,
    micro_batches: Sequence[dict[str, Tensor]],
    *,
    dtype: torch.dtype | None = None,
    max_bytes: int = MAX_BYTES,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Iterator[int]:
    """Within this, rows of these micro-batches skip the blocks that are not trained.

    Other rows, and all rows once it is left, go through the whole model as before.

    Args:
        model: a peft model on a transformers model.
        micro_batches: all rows of the training, padded on the right: ``input_ids`` and
            ``attention_mask``, each ``(B, T)``.
        dtype: of autocast in training; None without it.
        max_bytes: where what is to be kept is larger, nothing is.
        on_rows: called with the number of rows done since the last call.

    Yields:
        How many blocks are skipped. Zero, and no difference at all, where `num_frozen` is zero,
        too much would have to be kept, or the model then answers otherwise on the micro-batch
        with the longest rows, as one does that scales what its embeddings give, or that counts
        its blocks to tell which of them see a window only.
    """
    count = num_frozen(model)
    decoder = _decoder(model)
    num_tokens = sum(int(batch["attention_mask"].sum()) for batch in micro_batches)
    width = decoder.config.get_text_config().hidden_size
    if not count or num_tokens * width * (dtype or model.dtype).itemsize > max_bytes:
        yield 0
        return
    was_training = model.training
    model.eval()
    kept: dict[bytes, Tensor] = {}
    with torch.no_grad(), _autocast(decoder.device.type, dtype):
        for batch in micro_batches:
            hidden_BTD = _up_to(decoder, count, batch)
            for key, row_TD in zip(_keys(batch), hidden_BTD, strict=True):
                kept[key] = row_TD[: len(key) // 8].clone()
            on_rows(len(hidden_BTD))
        tried = max(micro_batches, key=lambda batch: batch["input_ids"].shape[1])
        wanted = decoder(**_inputs(decoder, tried)).last_hidden_state
    with _answering(decoder, kept, count):
        with torch.no_grad(), _autocast(decoder.device.type, dtype):
            seen = decoder(**_inputs(decoder, tried)).last_hidden_state
        mask = tried["attention_mask"].bool()
        model.train(was_training)
        if _is_close(seen[mask], wanted[mask]):
            yield count
            return
    yield 0


@contextmanager
def _answering(decoder: Any, kept: dict[bytes, Tensor], count: int) -> Iterator[None]:
    """Let a decoder begin at block number ``count`` with what is kept, where all of it is."""
    whole, blocks = decoder.forward, decoder.layers
    rest = blocks[count:]

    def forward(
        input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **options: Any
    ) -> Any:
        found: list[Tensor] = []
        if input_ids is not None and attention_mask is not None:
            batch = {"input_ids": input_ids, "attention_mask": attention_mask}
            found = [kept[key] for key in _keys(batch) if key in kept]
        if input_ids is None or len(found) < len(input_ids):
            return whole(input_ids=input_ids, attention_mask=attention_mask, **options)
        hidden_BTD = found[0].new_zeros((*input_ids.shape, found[0].shape[-1]))
        for i, row_TD in enumerate(found):
            hidden_BTD[i, : len(row_TD)] = row_TD
        decoder.layers = rest
        try:
            options |= {"inputs_embeds": hidden_BTD.to(input_ids.device)}
            return whole(attention_mask=attention_mask, **options)
        finally:
            decoder.layers = blocks

    decoder.forward = forward
    try:
        yield
    finally:
        del decoder.forward


def _decoder(model: Any) -> Any:
    """Return the transformers model below its head."""
    return model.get_base_model().base_model


def _inputs(decoder: Any, batch: dict[str, Tensor]) -> dict[str, Any]:
    names = ("input_ids", "attention_mask")
    return {name: batch[name].to(decoder.device) for name in names} | {"use_cache": False}


def _up_to(decoder: Any, count: int, batch: dict[str, Tensor]) -> Tensor:
    """Return what block number ``count`` is given, ``(B, T, D)``, on the CPU."""

    def stop(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        raise _Reached(args[0] if args else options["hidden_states"])

    handle = decoder.layers[count].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        decoder(**_inputs(decoder, batch))
    except _Reached as reached:
        return reached.hidden.cpu()
    finally:
        handle.remove()
    raise AssertionError("a forward passed the first adapted block without calling it")


def _keys(batch: dict[str, Tensor]) -> list[bytes]:
    """Return each row's token ids without padding, 8 bytes each."""
    rows = zip(batch["input_ids"].cpu(), batch["attention_mask"].sum(1).tolist(), strict=True)
    return [ids[:n].numpy().tobytes() for ids, n in rows]


def _autocast(kind: str, dtype: torch.dtype | None) -> Any:
    return torch.autocast(kind, dtype or torch.bfloat16, enabled=dtype is not None)


def _is_close(seen: Tensor, wanted: Tensor) -> bool:
    """Whether two outputs are one but for rounding: a hundredth of their largest value."""
    return bool((seen - wanted).abs().max() <= 0.01 * wanted.abs().max())
