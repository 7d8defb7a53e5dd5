"""NF4 as records of version 1 have it: bitsandbytes' own, whose last bits depend on the machine.

The scales are centred on their float32 mean, which comes out one or a few units in the last place
apart with another number of threads, and then some 8-bit codes differ. A record holds the codes'
fingerprint, so the mean that training used can be found again: it is one of a few dozen numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from bitsandbytes import functional as bnb
from torch import Tensor

from finetune import nf4
from finetune.quantization import add_codes, digest_of

_MOST_STEPS = 64
"""Units in the last place, on either side, within which the mean of training is looked for."""


def quantize(weight: Tensor, wanted: str = "") -> tuple[Tensor, Any]:
    """Return a weight's packed codes and bitsandbytes' state to undo it.

    Args:
        weight: (out, in), in the type that training computed in.
        wanted: ``sha256:...``, the fingerprint that the record has for the layer; without it, or
            if no mean near this machine's gives it, the scales are this machine's.
    """
    codes, scales = torch.ops.bitsandbytes.quantize_4bit(weight, nf4.BLOCK, "nf4", torch.uint8)
    mean = scales.mean()
    first = _state(weight, scales, mean)
    if not wanted:
        return codes, first
    packed = digest_of(codes)
    for offset in (mean, *_near(nf4.mean(scales), mean)):
        state = first if offset is mean else _state(weight, scales, offset)
        digest = packed.copy()
        add_codes(digest, state.absmax)
        if f"sha256:{digest.hexdigest()}" == wanted:
            return codes, state
    return codes, first


def _state(weight: Tensor, scales: Tensor, offset: Tensor) -> Any:
    # not the library's map, which differs where a processor has no fused multiply-add; a copy
    # for each layer, because states are moved and changed in place
    code = torch.from_numpy(nf4.scale_map().copy()).to(weight.device)
    scale_codes, scale_state = bnb.quantize_blockwise(
        scales - offset, code=code, blocksize=nf4.SCALES_PER_BLOCK
    )
    return bnb.QuantState(
        absmax=scale_codes,
        shape=weight.shape,
        dtype=weight.dtype,
        blocksize=nf4.BLOCK,
        code=bnb.get_4bit_type("nf4", device=weight.device),
        quant_type="nf4",
        offset=offset,
        state2=scale_state,
    )


def _near(value: float, like: Tensor) -> Iterator[Tensor]:
    """Yield the float32 numbers around a positive value, the nearest first."""
    bits = torch.tensor(value, dtype=torch.float32).view(torch.int32)
    for step in range(_MOST_STEPS + 1):
        for sign in (1, -1) if step else (1,):
            yield (bits + sign * step).view(torch.float32).to(like)
