"""How a base's linear layers are held in 4-bit, and the record that travels with the adapter."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Quantization:
    """How the base's linear layers were held while the adapter was trained.

    An adapter is right only on the weights it was trained on, so this record travels with it and
    the merge is made from it.
    """

    kind: Literal["nf4", "none"]
    block_size: int = 64
    is_double: bool = True
    compute_dtype: str = "bfloat16"
    modules: tuple[str, ...] = ()
    """Names of the quantised linear layers in the base model, sorted."""

    library: str = ""
    codes: str = ""
    """``sha256:...`` over all packed 4-bit codes and block scales, in the order of ``modules``."""

    layer_codes: tuple[str, ...] = ()
    """``sha256:...`` of each module's codes and scales, by which a merge checks one at a time."""


def dtype_name(dtype: torch.dtype) -> str:
    """Return ``bfloat16`` for `torch.bfloat16`, and so on."""
    return str(dtype).removeprefix("torch.")


def guard_linear4bit(model: Any) -> dict[str, Any]:
    """Stop bitsandbytes from repacking 4-bit weights in place; return the quantised layers by name.

    On CPUs with avx512_bf16, bitsandbytes 0.50.2 repacks a `Linear4bit` weight at the first
    forward in `eval()` mode without gradient. Whatever dequantises or differentiates that weight
    later in the same process is then wrong without a word: measured, the cosine of the gradients
    with the right ones falls to 0.06. One attribute per layer prevents it.
    """
    from bitsandbytes.nn import Linear4bit

    found = {n: m for n, m in model.named_modules() if isinstance(m, Linear4bit)}
    for module in found.values():
        module.support_avx512bf16_for_cpu = False
    return found


def compute_in_float32(model: Any) -> None:
    """Let a model with 4-bit layers compute in float32, its weights being what they are.

    Loading it in float32 would quantise other numbers: those before they were rounded to 16 bits.
    """
    import torch
    from bitsandbytes.nn import Linear4bit

    torch.nn.Module.float(model)  # transformers' own refuses for a quantised model
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.weight.quant_state.dtype = torch.float32
            module.compute_dtype = torch.float32


def record(layers: dict[str, Any], dtype: torch.dtype) -> Quantization:
    """Return the record of a loaded base's 4-bit layers, by name, computed in ``dtype``."""
    import bitsandbytes

    state = next(iter(layers.values())).weight.quant_state
    return Quantization(
        kind="nf4",
        block_size=state.blocksize,
        is_double=state.nested,
        compute_dtype=dtype_name(dtype),
        modules=tuple(sorted(layers)),
        library=f"bitsandbytes {bitsandbytes.__version__}",
        codes=fingerprint_codes(layers),
        layer_codes=tuple(
            layer_fingerprint(layers[name].weight.data, layers[name].weight.quant_state)
            for name in sorted(layers)
        ),
    )


def fingerprint_codes(layers: dict[str, Any]) -> str:
    """Return ``sha256:...`` over the packed codes and scales of 4-bit layers, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(layers):
        weight = layers[name].weight
        digest.update(name.encode())
        _add_codes(digest, weight.data, weight.quant_state)
    return "sha256:" + digest.hexdigest()


def layer_fingerprint(codes: Tensor, state: Any) -> str:
    """Return ``sha256:...`` of one layer's packed codes and block scales."""
    digest = hashlib.sha256()
    _add_codes(digest, codes, state)
    return "sha256:" + digest.hexdigest()


def _add_codes(digest: Any, codes: Tensor, state: Any) -> None:
    digest.update(codes.cpu().contiguous().numpy())
    digest.update(state.absmax.cpu().contiguous().numpy())


def nf4_round_trip(weight: Tensor) -> tuple[Tensor, str]:
    """Return the weight as the 4-bit base holds it, in float32, and its codes' fingerprint.

    Quantising is done as at loading (from the compute type, blocks of 64, double quantisation);
    dequantising into float32 avoids rounding twice.
    """
    import torch
    from bitsandbytes import functional as bnb

    codes, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    state.dtype = torch.float32
    dequantized: Tensor = bnb.dequantize_4bit(codes, state)
    return dequantized, layer_fingerprint(codes, state)
