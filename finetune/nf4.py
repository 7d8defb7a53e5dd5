"""4-bit NF4 with double quantisation, to the same bits on every machine.

A weight is cut into blocks of 64 numbers, each with a scale; scales are cut into blocks of 256 and
held in 8 bits around their mean (Dettmers et al. 2023, arXiv:2305.14314, section 3). The layout is
that of bitsandbytes, whose layers compute with it. What is computed here by other means is what
its result takes from the machine (bitsandbytes 0.50.2):

- the mean of the scales is a float32 sum, whose last bit depends on the number of threads, and on
  CUDA on its own order. Here it is a sum of integers, which has no order;
- the map of 8-bit codes comes from `torch.linspace`, whose last bits depend on whether the
  processor has a fused multiply-add. Here it is computed as with one;
- numbers below the smallest normal one count as zero where denormals are flushed, which is a
  setting of each thread. Here what is smaller than `SMALLEST` is zero everywhere, and no product of
  what is left can be that small;
- its kernel for AVX-512 unpacks a layer whose width is not a multiple of 64 with the scales of
  other blocks. Such a layer is not quantised at all (`fits`).

All else is division, product and comparison of single float32 numbers, which IEEE 754 rounds alike
on all processors and on CUDA, done by one operation of torch each, so that none of them are fused.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from bitsandbytes import functional as bnb
from torch import Tensor

from finetune.errors import InputError

BLOCK = 64
SCALES_PER_BLOCK = 256

SMALLEST = 2.0**-60
"""What is closer to zero is zero: about 1e-18, next to which no weight of a model counts."""

_CHUNK = 1 << 20
"""Numbers quantised at a time, so that what is needed beside weight and codes is bounded."""

_MEAN_BITS = 38
"""Binary digits of a scale that its mean is taken over; float32 has 24."""


def fits(shape: tuple[int, ...]) -> bool:
    """Return whether a matrix (out, in) can be quantised: no block lies in two of its rows."""
    return shape[-1] % BLOCK == 0


def quantize(weight: Tensor) -> tuple[Tensor, Any]:
    """Return a weight's packed codes and bitsandbytes' state to undo it.

    Args:
        weight: (out, in) in float32, float16 or bfloat16; ``in`` is a multiple of 64.

    Returns:
        Codes ``(out * in / 2, 1)`` in uint8, two a byte, the first in the upper half; and a
        `bitsandbytes.functional.QuantState` of float32. The same bits for any number of threads,
        and for the same numbers in any of the three types.

    Raises:
        InputError: if the weight holds NaN or infinity.
        ValueError: if it is of another type, or ``in`` is no multiple of 64.
    """
    if weight.dtype not in (torch.float32, torch.float16, torch.bfloat16) or not fits(weight.shape):
        raise ValueError(f"cannot quantise {weight.dtype} of shape {tuple(weight.shape)}")
    flat = weight.detach().reshape(-1)
    code = bnb.get_4bit_type("nf4", device=flat.device)
    bounds = (code[:-1] + code[1:]) / 2
    codes = torch.empty((flat.numel() // 2, 1), dtype=torch.uint8, device=flat.device)
    scales = torch.empty(flat.numel() // BLOCK, dtype=torch.float32, device=flat.device)
    for start in range(0, flat.numel(), _CHUNK):
        blocks = _flushed(flat[start : start + _CHUNK].float()).view(-1, BLOCK)
        largest = blocks.abs().amax(1)
        if not bool(torch.isfinite(largest).all()):
            raise InputError("it holds NaN or infinity")
        # the reciprocal first, as bitsandbytes does
        inverse = 1.0 / largest.clamp(min=SMALLEST)
        found = torch.bucketize(blocks * inverse.unsqueeze(1), bounds, out_int32=True)
        found = found.to(torch.uint8)
        packed = (found[:, ::2] << 4) | found[:, 1::2]
        codes[start // 2 : (start + blocks.numel()) // 2] = packed.view(-1, 1)
        scales[start // BLOCK : (start + blocks.numel()) // BLOCK] = largest
    offset = torch.tensor(mean(scales), dtype=torch.float32, device=flat.device)
    scale_codes, scale_state = _quantize_scales(scales - offset)
    state = bnb.QuantState(
        absmax=scale_codes,
        shape=weight.shape,
        dtype=torch.float32,
        blocksize=BLOCK,
        code=code,
        quant_type="nf4",
        offset=offset,
        state2=scale_state,
    )
    return codes, state


def dequantize(codes: Tensor, state: Any) -> Tensor:
    """Return a quantised weight in float32, (out, in); the state is left as it was."""
    held = state.dtype
    state.dtype = torch.float32  # rounding to 16 bits is not for us to do
    try:
        weight: Tensor = bnb.dequantize_4bit(codes, state)
    finally:
        state.dtype = held
    return weight


def mean(scales: Tensor) -> float:
    """Return the mean of numbers that are not negative, whatever the order of summation.

    Each is cut to a whole number of steps of 2^-38 of the largest, rounded up to a power of two.
    Whole numbers add up to the same in any order, so the result does not depend on it either; it
    is below the mean by at most one step. Of more than 2^24 numbers steps are wider, so that the
    sum stays below 2^62.
    """
    if not scales.numel() or not (largest := scales.max().item()):
        return 0.0
    exponent = math.frexp(largest)[1]
    bits = min(_MEAN_BITS, 62 - scales.numel().bit_length())
    # exact: a float64 times a power of two, far from its limits
    steps = (scales.cpu().double() * 2.0 ** (bits - exponent)).to(torch.int64)
    return math.ldexp(int(steps.sum()) / scales.numel(), exponent - bits)


def _quantize_scales(centred: Tensor) -> tuple[Tensor, Any]:
    """Quantise numbers of both signs in blocks of 256 to 8 bits; the last block may be shorter."""
    code = torch.from_numpy(scale_map().copy()).to(centred.device)
    num = centred.numel()
    padded = torch.nn.functional.pad(_flushed(centred), (0, -num % SCALES_PER_BLOCK))
    blocks = padded.view(-1, SCALES_PER_BLOCK)
    largest = blocks.abs().amax(1)
    scaled = blocks / largest.clamp(min=SMALLEST).unsqueeze(1)
    found = torch.bucketize(scaled, (code[:-1] + code[1:]) / 2, out_int32=True)
    state = bnb.QuantState(
        absmax=largest, code=code, blocksize=SCALES_PER_BLOCK, dtype=torch.float32
    )
    return found.to(torch.uint8).view(-1)[:num].contiguous(), state


def _flushed(values: Tensor) -> Tensor:
    return values.masked_fill(values.abs() < SMALLEST, 0.0)


@cache
def scale_map() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the 256 float32 numbers that 8-bit codes of scales stand for, in rising order.

    They are bitsandbytes' dynamic map (Dettmers et al. 2022, arXiv:2110.02861, section 1.3) as a
    processor with a fused multiply-add computes it.
    """
    found = [0.0, 1.0]
    for exponent in range(7):
        steps = _linspace(2**exponent + 1)
        middles = (steps[:-1] + steps[1:]) / np.float32(2)
        for sign in (1, -1):
            found += (np.float32(sign * 10.0 ** (exponent - 6)) * middles).tolist()
    return np.array(sorted(found), dtype=np.float32)


def _linspace(num: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return ``torch.linspace(0.1, 1, num)``, with float64 in the place of a fused multiply-add.

    A product of two float32 numbers is exact in float64, and the sum is rounded to float32 once
    more: for these few numbers that is what rounding once gives, which a test holds.
    """
    first, last = np.float32(0.1), np.float32(1)
    step = (last - first) / np.float32(num - 1)
    wide = np.arange(num, dtype=np.float64)
    low = np.float64(first) + np.float64(step) * wide
    high = np.float64(last) - np.float64(step) * (num - 1 - wide)
    return np.where(wide < num // 2, low, high).astype(np.float32)
