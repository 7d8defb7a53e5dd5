"""NF4 to the same bits: on any number of threads, processor and setting, and for old records."""

from __future__ import annotations

import hashlib
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes import functional as bnb
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from finetune import nf4, nf4_version_1
from finetune.errors import InputError
from finetune.quantization import Quantization, layer_fingerprint, nf4_round_trip, quantize_as

THREADS = (1, 2, 3, 4, 8)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LLAMA_3 = (4096, 14336)
"""Shape of the widest layer of Llama 3 8B."""


@contextmanager
def threads(num: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    # not torch's, whose last bits are another processor's
    found = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(found).mul_(0.02).to(dtype)


def bits(weight: Tensor) -> str:
    """Hash all that is made of a weight, and what it is dequantised to in each type."""
    codes, state = nf4.quantize(weight)
    digest = hashlib.sha256(layer_fingerprint(codes, state).encode())
    for dtype in DTYPES:
        state.dtype = dtype
        digest.update(bnb.dequantize_4bit(codes, state).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def by_hand(codes: Tensor, state: Any) -> Tensor:
    """Dequantise by the definition, in plain torch."""
    scales = state.state2.code[state.absmax.long()]
    tops = state.state2.absmax.repeat_interleave(nf4.SCALES_PER_BLOCK)[: len(scales)]
    scales = scales * tops + state.offset
    found = torch.stack([codes.view(-1) >> 4, codes.view(-1) & 15], 1).view(-1).long()
    return (state.code[found].view(-1, nf4.BLOCK) * scales.unsqueeze(1)).view(state.shape)


numbers = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 0.5, 0.02, 3e-5, 1e-19, -1e-30, 1e-40, 6e-8, 240.0, -65504.0]
) | st.floats(-1, 1, width=32)


@st.composite
def weights(draw: st.DrawFn) -> Tensor:
    """Matrices of few rows with ties, zeros, whole blocks of zeros, tiny and large numbers."""
    num_rows, width = draw(st.integers(1, 5)), 64 * draw(st.integers(1, 7))
    pool = draw(st.lists(numbers, min_size=1, max_size=8))
    generator = random.Random(draw(st.integers(0, 2**32)))
    values = [generator.choice(pool) for _ in range(num_rows * width)]
    weight = torch.tensor(values, dtype=torch.float64).view(num_rows, width)
    if draw(st.booleans()):
        weight.view(-1, 64)[draw(st.integers(0, num_rows * width // 64 - 1))] = 0.0
    return weight.to(draw(st.sampled_from(DTYPES)))


@settings(max_examples=30)
@given(weights())
def test_a_weight_s_bits_depend_on_no_type_or_flushing(weight: Tensor) -> None:
    wanted = bits(weight)
    assert bits(weight.float()) == wanted  # which holds the same numbers
    torch.set_flush_denormal(True)
    try:
        assert bits(weight) == wanted
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_layer_large_enough_for_threads_to_share_has_the_same_bits(dtype: torch.dtype) -> None:
    weight = normal(256, 1024, dtype=dtype)
    found = set()
    for num in THREADS:
        with threads(num):
            found.add(bits(weight))
    assert len(found) == 1


@pytest.mark.slow
def test_a_layer_of_llama_3_has_the_same_bits_where_the_library_s_differ() -> None:
    weight = normal(*LLAMA_3, seed=1)
    ours, theirs = set(), set()
    for num in THREADS:
        with threads(num):
            codes, state = nf4.quantize(weight)
            ours.add(layer_fingerprint(codes, state))
            codes, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
            theirs.add(layer_fingerprint(codes, state))
            old = nf4_version_1.quantize(weight)
            assert layer_fingerprint(*old) == layer_fingerprint(codes, state)
    assert len(ours) == 1
    assert len(theirs) > 1


@given(st.lists(st.floats(0, 1e6, width=32).map(lambda x: x if x > 1e-18 else 0.0)), st.randoms())
def test_a_mean_is_the_same_in_any_order_and_near_the_true_one(
    values: list[float], order: random.Random
) -> None:
    found = nf4.mean(torch.tensor(values))
    true = math.fsum(values) / len(values) if values else 0.0
    assert true - max(values, default=0.0) * 2.0**-37 <= found <= true
    shuffled = order.sample(values, len(values))
    assert nf4.mean(torch.tensor(shuffled)) == found


def test_a_mean_of_many_large_numbers_does_not_overflow() -> None:
    for num in (1, 1000, 1 << 22):
        assert nf4.mean(torch.full((num,), 3.0e38)) == pytest.approx(3.0e38, rel=1e-6)


@settings(max_examples=30)
@given(weights())
def test_each_number_gets_the_nearest_code_and_is_dequantised_by_the_definition(
    weight: Tensor,
) -> None:
    codes, state = nf4.quantize(weight)
    assert torch.equal(nf4.dequantize(codes, state), by_hand(codes, state))
    blocks = weight.double().view(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    scaled = torch.where(scale >= nf4.SMALLEST, blocks / scale, 0.0)
    found = torch.stack([codes.view(-1) >> 4, codes.view(-1) & 15], 1).view(-1, 64).long()
    table = state.code.double()
    nearest = (scaled.unsqueeze(-1) - table).abs().amin(-1)
    assert ((scaled - table[found]).abs() <= nearest + 1e-6).all()


def test_the_4_bit_codes_are_bitsandbytes_own_and_the_scales_within_a_step_of_its() -> None:
    for dtype in DTYPES:
        weight = normal(256, 1536, dtype=dtype)
        codes, state = nf4.quantize(weight)
        theirs, other = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
        assert torch.equal(codes, theirs)
        assert (state.absmax.int() - other.absmax.int()).abs().max() <= 1
        assert torch.equal(state.code, other.code)
        assert float(state.offset) == pytest.approx(float(other.offset), rel=1e-6)
        assert (state.blocksize, state.quant_type, state.shape, state.nested) == (
            *(other.blocksize, other.quant_type, other.shape, other.nested),
        )


def test_the_map_of_scales_is_pinned() -> None:
    found = nf4.scale_map()
    assert hashlib.sha256(found.tobytes()).hexdigest() == (
        "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c"
    )
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert torch.equal(torch.from_numpy(found), bnb.create_dynamic_map())


@pytest.mark.parametrize("width", [8, 192])
def test_both_kernels_of_the_library_dequantise_by_the_definition(width: int) -> None:
    """That for AVX-512 takes rows of a multiple of 16; others go to the one of all machines."""
    codes, state = nf4.quantize(normal(96, 192))
    scales = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    shape = (96 * 192 // width, width)
    for dtype in DTYPES:
        found = torch.ops.bitsandbytes.dequantize_4bit(codes, scales, 64, "nf4", shape, dtype)
        assert torch.equal(found.view(96, 192), by_hand(codes, state).to(dtype))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    weight = normal(3, 128)
    weight[1, 70] = value
    with pytest.raises(InputError, match="NaN or infinity"):
        nf4.quantize(weight)


def test_what_does_not_fit_is_refused() -> None:
    for weight in (normal(4, 80), normal(4, 64, dtype=torch.float64), torch.zeros(4, 64).int()):
        with pytest.raises(ValueError, match="cannot quantise"):
            nf4.quantize(weight)


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_a_processor_with_less_gives_the_same_bits(capability: str) -> None:
    """What torch would run on one: the library's own map of scales is another there."""
    code = (
        "from tests.finetune.test_nf4 import bits, normal, DTYPES\n"
        "print([bits(normal(256, 1024, dtype=dtype)) for dtype in DTYPES])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ATEN_CPU_CAPABILITY": capability},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = [bits(normal(256, 1024, dtype=dtype)) for dtype in DTYPES]
    assert done.stdout.strip().splitlines()[-1] == str(wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_gpu_gives_the_same_bits(dtype: torch.dtype) -> None:
    weight = normal(1024, 4096, dtype=dtype)
    codes, state = nf4.quantize(weight.cuda())
    assert layer_fingerprint(codes, state) == layer_fingerprint(*nf4.quantize(weight))
    assert torch.equal(nf4.dequantize(codes, state).cpu(), by_hand(*nf4.quantize(weight)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(64, 576), (3, 64), (512, 1536), (5, 48)], ids=str)
def test_version_1_is_what_the_library_makes(shape: tuple[int, int], dtype: torch.dtype) -> None:
    weight = normal(*shape, dtype=dtype)
    codes, state = nf4_version_1.quantize(weight)
    theirs, other = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    for ours, its in (
        (codes, theirs),
        (state.absmax, other.absmax),
        (state.offset, other.offset),
        (state.state2.absmax, other.state2.absmax),
        (state.state2.code, other.state2.code),
    ):
        assert torch.equal(ours, its)
    assert (state.shape, state.dtype) == (other.shape, other.dtype)


def trained_elsewhere(weight: Tensor) -> tuple[Tensor, Any]:
    """Quantise as a machine whose mean of the scales is a few units in the last place apart."""
    codes, scales = torch.ops.bitsandbytes.quantize_4bit(weight, 64, "nf4", torch.uint8)
    here = nf4_version_1._state(weight, scales, scales.mean())
    for step in range(1, 40):
        mean = (scales.mean().view(torch.int32) - step).view(torch.float32)
        state = nf4_version_1._state(weight, scales, mean)
        if not torch.equal(state.absmax, here.absmax):
            return codes, state
    raise AssertionError("no other mean gives other codes; take another weight")


def test_codes_of_version_1_from_another_machine_are_found_again() -> None:
    weight = normal(1024, 1024)
    codes, state = trained_elsewhere(weight)
    wanted = layer_fingerprint(codes, state, 1)
    held = Quantization(
        "nf4", compute_dtype="bfloat16", modules=("layer",), layer_codes=(wanted,), version=1
    )
    assert layer_fingerprint(*nf4_version_1.quantize(weight), 1) != wanted
    assert layer_fingerprint(*quantize_as(held, "layer", weight.float()), 1) == wanted
    found, fingerprint = nf4_round_trip(held, "layer", weight)
    assert fingerprint == wanted
    # the mean itself may be a neighbour's, of which the fingerprint knows nothing
    assert torch.allclose(found, nf4.dequantize(codes, state), rtol=1e-5)


def test_a_fingerprint_holds_the_mean_of_the_scales_too() -> None:
    codes, state = nf4.quantize(normal(64, 64))
    before = [layer_fingerprint(codes, state, version) for version in (1, 2)]
    state.offset = torch.nextafter(state.offset, torch.tensor(1.0))
    after = [layer_fingerprint(codes, state, version) for version in (1, 2)]
    assert before[0] == after[0]
    assert before[1] != after[1]
