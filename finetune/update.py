"""One layer's update: read from an adapter's files, folded into a weight, measured once stored.

A and B are the factors, W the weight (rows are outputs), all of them float32 here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from finetune.adapter_files import AdapterFiles
from finetune.errors import IntegrityError
from finetune.tensor_files import TensorFile

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_HALF_STEP = {
    torch.bfloat16: (2.0**-8, 0.0),
    torch.float16: (2.0**-11, 2.0**-25),
    # stored as it is computed: what is seen is the arithmetic of the merge and of this measurement
    torch.float32: (2.0**-20, 0.0),
}
"""Most that rounding to nearest changes a number: relative, and absolute next to zero."""


def tensor_of(file: TensorFile, name: str) -> Tensor:
    """Read one floating-point tensor.

    Raises:
        IntegrityError: if it is of another type.
    """
    entry = file.entries[name]
    if entry.dtype not in DTYPES:
        raise IntegrityError(f"{file.path}: the tensor {name} is {entry.dtype}, wanted a float")
    if entry.num_bytes == 0:
        return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    return torch.frombuffer(file.read(name), dtype=DTYPES[entry.dtype]).reshape(entry.shape)


@dataclass(frozen=True)
class Update:
    """One layer's update, scaling * B @ A, and DoRA's magnitude where it has one."""

    A: Tensor
    B: Tensor
    scaling: float
    magnitude: Tensor | None

    def product(self) -> Tensor:
        """Return scaling * B @ A, in the order of peft's own arithmetic, to the bit."""
        return (self.B @ self.A).mul_(self.scaling)

    def applied_to(self, weight: Tensor, product: Tensor) -> Tensor:
        """Return the float32 weight with the update folded in, as peft does to the bit."""
        merged = weight + product
        if self.magnitude is None:
            return merged
        # DoRA: W' = m * (W + s B A) / ||W + s B A||, one norm per output row (Liu et al. 2024, 4.1)
        return merged.mul_((self.magnitude / torch.linalg.norm(merged, dim=1)).view(-1, 1))


def read_update(adapter: AdapterFiles, layer: str) -> Update:
    """Read one layer's update.

    Raises:
        IntegrityError: if it holds NaN or infinity.
    """
    found = {}
    for part, name in adapter.names(layer).items():
        found[part] = tensor_of(adapter.weights, name).float()
        if not bool(found[part].isfinite().all()):
            raise IntegrityError(f"the adapter tensor {name} holds NaN or infinity")
    return Update(found["A"], found["B"], adapter.layers[layer].scaling, found.get("magnitude"))


@dataclass(frozen=True)
class Change:
    """What became of one layer's update when the merged weight was rounded for storage."""

    rank: int
    """Of the factors: the largest that the change may have."""

    seen_rank: int | None
    """Singular values of the stored change above the noise of rounding, within the adapter's
    directions; None for DoRA, which also scales each row."""

    outside: float | None
    """Largest singular value of the stored change outside the adapter's directions, over the most
    that rounding explains: at most 1 if nothing but the update was put in. None for DoRA."""

    cosine: float | None
    """Between stored change and update; None for an update of zero."""

    survival: float | None
    """<stored change, update> / <update, update>; 1 if all of it is there."""

    norm: float
    """Of the update (Frobenius)."""

    relative: float
    """That norm over the weight's."""


def measure(weight: Tensor, update: Update, intended: Tensor, stored: Tensor) -> Change:
    """Compare what was stored with what was meant to be.

    The change is W_stored - W. The errors of rounding, taken as uniform and independent, are a
    matrix of entries of known size, whose largest singular value is at most about its largest row
    norm plus its largest column norm (Bandeira and van Handel 2016, arXiv:1408.6185).
    What is outside the row space of A and above that is not from this adapter.

    Args:
        weight: W, float32; used up: it holds the change afterwards.
        update: of the layer.
        intended: the change that was meant, float32.
        stored: the merged weight, as it is stored.
    """
    weight_norm = weight.norm().item()
    rounded = stored.to(torch.float32, copy=True)
    change = torch.sub(rounded, weight, out=weight)
    rounded.square_()
    relative, absolute = _HALF_STEP[stored.dtype]
    row, column = (rounded.sum(dim).max().sqrt().item() for dim in (1, 0))
    num_out, num_in = stored.shape
    noise = (
        relative * (row + column) + absolute * (math.sqrt(num_out) + math.sqrt(num_in))
    ) / math.sqrt(3)
    del rounded
    norm = intended.norm().item()
    dot = torch.dot(change.flatten(), intended.flatten()).item()
    change_norm = change.norm().item()
    has_size = norm > 0 and change_norm > 0
    seen_rank, outside = None, None
    if update.magnitude is None:
        V = torch.linalg.qr(update.A.T).Q  # (in, rank): the row space of A
        inside = change @ V
        seen_rank = int((torch.linalg.svdvals(inside) > noise).sum())
        change.addmm_(inside, V.T, alpha=-1)
        outside = _largest_singular_value(change) / noise if noise else 0.0
    return Change(
        rank=min(len(update.A), *weight.shape),
        seen_rank=seen_rank,
        outside=outside,
        cosine=dot / (norm * change_norm) if has_size else None,
        survival=dot / norm**2 if norm > 0 else None,
        norm=norm,
        relative=norm / weight_norm if weight_norm > 0 else math.inf,
    )


def _largest_singular_value(matrix: Tensor, num_rounds: int = 8) -> float:
    """Return the spectral norm by power iteration, from a fixed start; a lower bound of it."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(matrix.shape[1], generator=generator)
    size = 0.0
    for _ in range(num_rounds):
        vector = matrix.T @ (matrix @ (vector / vector.norm().clamp(min=1e-30)))
        size = vector.norm().sqrt().item()
    return size
