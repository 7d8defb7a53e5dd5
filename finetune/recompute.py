"""Every stored weight computed again from base and adapter, apart from the code that merged them.

A merge that leaves a layer out, swaps two of one shape or scales an update by half answers almost
as the right one does where the adapter's effect is small: no divergence of answers tells it. The
numbers do. Each is computed here in float64 from the files, and has to be what the stored one was
rounded from, but for the float32 arithmetic in between.

A and B are the factors of an update scaling * B @ A, W a weight (rows are outputs).
"""

from __future__ import annotations

import torch
from torch import Tensor

from finetune import nf4
from finetune.adapter_files import AdapterFiles
from finetune.errors import IntegrityError
from finetune.quantization import Quantization, quantize_as
from finetune.tensor_files import TensorFile
from finetune.update import tensor_of

_CHUNK = 1 << 20
"""Numbers that are held in float64 at a time."""


def check_weight(
    stored: Tensor,
    base: Tensor,
    name: str,
    *,
    held: Quantization | None,
    adapter: AdapterFiles | None,
) -> None:
    """Hold one stored weight against what base and adapter make.

    Args:
        stored: of the merged model, (out, in), in 16 bits.
        base: of the base, as its file has it.
        name: of the tensor, ``LAYER.weight``.
        held: how training quantised this layer; None if it did not.
        adapter: None where no update is put in at all.

    Raises:
        IntegrityError: naming the tensor, if a number of it was not rounded from the right one.
    """
    layer = name.removesuffix(".weight")
    if stored.shape != base.shape:
        raise IntegrityError(f"the merged tensor {name} has another shape than the base's")
    if held is not None:
        base = nf4.dequantize(*quantize_as(held, layer, base))
    factors = _factors(adapter, layer) if adapter and layer in adapter.layers else None
    num_rows = max(1, _CHUNK // max(1, base.shape[-1]))
    num_wrong = 0
    for start in range(0, len(base), num_rows):
        rows = slice(start, start + num_rows)
        wanted, slack = _wanted(base[rows].double(), factors, rows)
        low, high = ((wanted + sign * slack).to(stored.dtype) for sign in (-1, 1))
        num_wrong += int((~((stored[rows] >= low) & (stored[rows] <= high))).sum())
    if num_wrong:
        raise IntegrityError(
            f"{num_wrong} of {stored.numel()} numbers of the merged tensor {name} are not what the "
            "base and the adapter make"
        )


def check_head(stored: Tensor, adapter: AdapterFiles, name: str) -> None:
    """Hold a trained head's tensor against the adapter's own.

    Raises:
        IntegrityError: if it is not that, rounded.
    """
    wanted = tensor_of(adapter.weights, adapter.heads[name])
    if stored.shape != wanted.shape or not torch.equal(stored, wanted.to(stored.dtype)):
        raise IntegrityError(f"the merged tensor {name} is not the head that the adapter holds")


def _factors(adapter: AdapterFiles, layer: str) -> tuple[Tensor, Tensor, float, Tensor | None]:
    parts = {part: _read(adapter.weights, n) for part, n in adapter.names(layer).items()}
    return parts["A"], parts["B"], adapter.layers[layer].scaling, parts.get("magnitude")


def _read(file: TensorFile, name: str) -> Tensor:
    return tensor_of(file, name).double()


def _wanted(
    W: Tensor, factors: tuple[Tensor, Tensor, float, Tensor | None] | None, rows: slice
) -> tuple[Tensor, Tensor]:
    """Return the right numbers of some rows, and how far float32 arithmetic may be from each.

    A sum of r products in float32 is off by at most about r units of 2^-24 of the sum of their
    sizes (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1).
    """
    if factors is None:
        return W, torch.zeros_like(W)
    A, B, scaling, magnitude = factors
    size = W.abs() + abs(scaling) * (B[rows].abs() @ A.abs())
    slack = size.mul_((len(A) + 4) * 2.0**-24)
    wanted = W + scaling * (B[rows] @ A)
    if magnitude is None:
        return wanted, slack
    # DoRA: m * (W + s B A) / ||W + s B A|| by row; the norm is a float32 sum over the row
    ratio = (magnitude[rows] / wanted.norm(dim=1)).view(-1, 1)
    wanted = wanted * ratio
    return wanted, slack * ratio.abs() + wanted.abs() * (W.shape[1] ** 0.5 + 16) * 2.0**-24
