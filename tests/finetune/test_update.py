"""What became of an update when the merged weight was stored: it is all there, and alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from finetune.errors import IntegrityError
from finetune.tensor_files import open_file
from finetune.update import Change, Update, measure, tensor_of

RANK = 4


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(num_out: int = 96, num_in: int = 64, *, size: float = 1.0) -> tuple[Tensor, Update]:
    """A weight of the size of a trained one, and an update about a tenth of it."""
    weight = 0.05 * random(num_out, num_in, seed=0)
    A, B = random(RANK, num_in, seed=1) / num_in**0.5, 0.05 * size * random(num_out, RANK, seed=2)
    return weight, Update(A, B, 2.0, None)


def stored(
    weight: Tensor,
    update: Update,
    more: Tensor | float = 0.0,
    *,
    dtype: torch.dtype = torch.bfloat16,
) -> Change:
    """Measure the merged weight, with something added that is not the update."""
    intended = update.product()
    merged = (weight + intended + more).to(dtype)
    return measure(weight.clone(), update, intended, merged)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_update_that_was_only_rounded_is_all_there_and_alone(dtype: torch.dtype) -> None:
    weight, update = layer()
    found = stored(weight, update, dtype=dtype)
    assert (found.rank, found.seen_rank) == (RANK, RANK)
    assert found.outside is not None
    assert 0.2 < found.outside <= 1  # the bound is near what it bounds
    assert found.cosine == pytest.approx(1, abs=1e-3)
    assert found.survival == pytest.approx(1, abs=1e-3)
    assert found.norm == pytest.approx(update.product().norm().item())
    assert found.relative == pytest.approx(found.norm / weight.norm().item())


@settings(deadline=None, max_examples=40)
@given(
    st.integers(8, 90),
    st.integers(8, 90),
    st.floats(-6, 3),
    st.integers(0, 999),
    st.sampled_from([torch.bfloat16, torch.float16]),
)
def test_rounding_alone_is_never_taken_for_a_foreign_change(
    num_out: int, num_in: int, magnitude: float, seed: int, dtype: torch.dtype
) -> None:
    weight = 10**magnitude * random(num_out, num_in, seed=seed)
    update = Update(random(2, num_in, seed=seed + 1), weight[:, :2].contiguous(), 0.1, None)
    found = stored(weight, update, dtype=dtype)
    assert found.outside is not None
    assert found.outside <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_foreign_change_in_one_direction_stands_out(dtype: torch.dtype) -> None:
    weight, update = layer()
    left, right = random(96, 1, seed=3), random(1, 64, seed=4)
    foreign = 0.05 * weight.norm() * (left / left.norm()) @ (right / right.norm())
    found = stored(weight, update, foreign, dtype=dtype)
    assert found.outside is not None
    assert found.outside > 1.5


def test_a_change_within_the_adapters_directions_shows_in_what_survived() -> None:
    weight, update = layer()
    for share in (-1.0, -0.5, 1.0):  # nothing of it, half of it, twice of it
        found = stored(weight, update, share * update.product())
        assert found.survival == pytest.approx(1 + share, abs=0.01)
        assert found.outside is not None
        assert found.outside <= 1
    assert stored(weight, update, -update.product()).seen_rank == 0


def test_an_update_of_nothing_has_no_direction() -> None:
    weight, update = layer(size=0.0)
    found = stored(weight, update)
    assert (found.cosine, found.survival, found.norm, found.relative) == (None, None, 0.0, 0.0)
    assert found.seen_rank == 0
    nothing = stored(torch.zeros_like(weight), update)
    assert (nothing.outside, nothing.relative) == (0.0, math.inf)


def test_a_change_that_rounding_swallowed_has_no_direction_and_did_not_survive() -> None:
    weight, update = layer(size=1e-6)
    weight = weight.bfloat16().float()
    found = stored(weight, update)
    assert found.norm > 0
    assert (found.cosine, found.survival) == (None, 0.0)


def test_the_rank_is_no_larger_than_the_weight_allows() -> None:
    weight, update = layer(num_out=2, num_in=3)
    assert stored(weight, update).rank == 2


def test_of_dora_no_direction_is_claimed() -> None:
    weight, update = layer()
    whole = Update(update.A, update.B, 2.0, torch.linalg.norm(weight, dim=1))
    intended = whole.applied_to(weight, whole.product()) - weight
    found = measure(weight.clone(), whole, intended, (weight + intended).bfloat16())
    assert (found.seen_rank, found.outside) == (None, None)
    assert found.survival == pytest.approx(1, abs=1e-2)


def test_a_tensor_is_read_as_it_is_and_integers_are_refused(tmp_path: Path) -> None:
    tensors = {
        "half": torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16),
        "none": torch.empty((0, 3), dtype=torch.float16),
        "codes": torch.tensor([1, 2]),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    file = open_file(tmp_path / "a.safetensors")
    for name in ("half", "none"):
        found = tensor_of(file, name)
        assert (found.dtype, found.shape) == (tensors[name].dtype, tensors[name].shape)
        assert torch.equal(found, tensors[name])
    with pytest.raises(IntegrityError, match="the tensor codes is I64, wanted a float"):
        tensor_of(file, "codes")
