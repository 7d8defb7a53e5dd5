"""A classification head trained on whitened features, and folded back into one matrix.

Most of what a language model's last block puts out points one way: of SmolLM2's features of short
messages, 85 % of the energy lies in one direction, and the head's gradient is seventy times the
adapter's. AdamW makes up for that. A private step cannot: it clips the two together and adds as
much noise in every direction, so the adapter and the directions that tell classes apart drown.

So features are first mapped by a fixed matrix: the inverse root of their second moment, shrunk,
over texts that are public. That is preconditioning by public data, as in Li et al. 2022
(arXiv:2202.05963), section 3, and costs no privacy. It is linear, so after training it becomes part
of the head.

D width, K classes, N texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from finetune.checkpoint import Base
from finetune.encoding import collate, encode_text
from finetune.errors import InputError

_SHRINKAGE = 0.1  # of the mean energy of a direction, added to each: fewer texts than directions


@contextmanager
def whitened(model: Any, base: Base, texts: Sequence[str], max_length: int) -> Iterator[None]:
    """Train the head of ``model`` on whitened features; its weights hold the map at the end.

    If training fails inside, the head is left unfolded, and so unfit to be saved.

    Args:
        model: a peft model with a classification head that is trained, before training.
        base: what it stands on.
        texts: public ones, in any case none that is trained on.
        max_length: tokens at which they are cut, as the rows of the training are.

    Raises:
        InputError: if it is an encoder.
    """
    if base.pooling is not None:
        raise InputError(
            "adapter.whiten_head: it is for the features of language models, and an encoder's do "
            "worse with it (measured: 1 to 3 points); remove it"
        )
    [head] = [
        module
        for module in model.get_base_model().score.modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    ]
    map_DD = whitening(_features(model, head, base, texts, max_length))

    def whiten(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return ((inputs[0].float() @ map_DD).to(inputs[0].dtype), *inputs[1:])

    handle = head.register_forward_pre_hook(whiten)
    try:
        yield
    finally:
        handle.remove()
    with torch.no_grad():
        head.weight.copy_(head.weight @ map_DD)


def whitening(features_ND: Tensor) -> Tensor:
    """Return the symmetric ``(D, D)`` map under which all directions have about equal energy.

    Scaled so that the features themselves come out with a mean norm of 1.

    Args:
        features_ND: in float32; N may be smaller than D.
    """
    features_ND = features_ND.double()
    second_DD = features_ND.T @ features_ND / len(features_ND)
    energies_D, directions_DD = torch.linalg.eigh(second_DD)
    root_D = (energies_D.clamp(min=0) + _SHRINKAGE * energies_D.mean()).rsqrt()
    map_DD: Tensor = directions_DD * root_D @ directions_DD.T
    map_DD /= (features_ND @ map_DD).norm(dim=1).mean()
    return map_DD.float()


@torch.no_grad()
def _features(
    model: Any, head: nn.Module, base: Base, texts: Sequence[str], max_length: int
) -> Tensor:
    """Return what the head sees at the last token of each text, ``(N, D)``, in any order."""
    examples = [
        encode_text(base.tokenizer, text, id=f"public text {number}", max_length=max_length)
        for number, text in enumerate(texts)
    ]
    batch = collate(examples, pad_id=base.tokenizer.pad_token_id, max_tokens=1024)
    device = next(model.parameters()).device
    is_bf16 = base.quantization.compute_dtype == "bfloat16"
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
    was_training = model.training
    model.eval()
    found: list[Tensor] = []
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
            for micro_batch in batch.micro_batches:
                ids, mask = (micro_batch[n].to(device) for n in ("input_ids", "attention_mask"))
                model(input_ids=ids, attention_mask=mask)
                features_BTD = seen.pop()
                found.append(features_BTD[torch.arange(len(ids)), mask.sum(1) - 1])
    finally:
        handle.remove()
        model.train(was_training)
    return torch.cat(found)
