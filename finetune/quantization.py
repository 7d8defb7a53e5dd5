"""How a base's linear layers are held in 4-bit, and the record that travels with the adapter."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

VERSION = 2
"""Of how the numbers of a base are taken from its files; `Quantization.version`."""


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

    version: int = VERSION
    """How the base's numbers were taken from its files.

    2: NF4 of the files' own numbers, the same bits on every machine (`finetune.nf4`), and of it
    all that decides a weight is in the fingerprints. A GGUF file is dequantised in float32.
    1, and every record that does not say: NF4 of the numbers rounded to the compute type, by
    bitsandbytes (`finetune.nf4_version_1`); the fingerprints leave out the mean of the scales and
    the scales of scales. A GGUF file is dequantised in bfloat16.
    """

    def layer_code(self, layer: str) -> str:
        """Return the fingerprint of a layer's codes; empty if the record has none."""
        return dict(zip(self.modules, self.layer_codes, strict=False)).get(layer, "")


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


def record(layers: dict[str, Any], dtype: torch.dtype, version: int = VERSION) -> Quantization:
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
        codes=fingerprint_codes(layers, version),
        layer_codes=tuple(
            layer_fingerprint(layers[name].weight.data, layers[name].weight.quant_state, version)
            for name in sorted(layers)
        ),
        version=version,
    )


def fingerprint_codes(layers: dict[str, Any], version: int = VERSION) -> str:
    """Return ``sha256:...`` over the packed codes and scales of 4-bit layers, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(layers):
        weight = layers[name].weight
        digest.update(name.encode())
        add_codes(digest, weight.data, *_scales(weight.quant_state, version))
    return "sha256:" + digest.hexdigest()


def layer_fingerprint(codes: Tensor, state: Any, version: int = VERSION) -> str:
    """Return ``sha256:...`` of one layer's packed codes and block scales."""
    return f"sha256:{digest_of(codes, *_scales(state, version)).hexdigest()}"


def digest_of(*tensors: Tensor) -> Any:
    """Return a SHA-256 that has taken in the bytes of tensors, one after the other."""
    digest = hashlib.sha256()
    add_codes(digest, *tensors)
    return digest


def add_codes(digest: Any, *tensors: Tensor) -> None:
    """Let a hash take in the bytes of tensors, one after the other."""
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().numpy())


def _scales(state: Any, version: int) -> tuple[Tensor, ...]:
    """Return what a fingerprint holds beside the packed codes."""
    if version == 1:
        return (state.absmax,)
    # a mean that differs in its last bit can leave the 8-bit codes as they are, and the weights not
    return state.absmax, state.state2.absmax, state.state2.code, state.offset


def quantize_as(held: Quantization, layer: str, weight: Tensor) -> tuple[Tensor, Any]:
    """Return one layer's packed codes and the state to undo them, as a record says.

    Args:
        held: of an adapter's record, or of a base that is about to be quantised.
        layer: its name in the base model.
        weight: (out, in), the file's own numbers.

    Raises:
        InputError: if the weight holds NaN or infinity.
    """
    import torch

    from finetune import nf4, nf4_version_1

    if held.version == 1:
        rounded = weight.to(getattr(torch, held.compute_dtype))
        return nf4_version_1.quantize(rounded, held.layer_code(layer))
    return nf4.quantize(weight)


def nf4_round_trip(held: Quantization, layer: str, weight: Tensor) -> tuple[Tensor, str]:
    """Return a weight as the 4-bit base holds it, in float32, and its codes' fingerprint.

    Quantising is done as the record ``held`` says; dequantising into float32 avoids rounding twice.

    Raises:
        InputError: if the weight holds NaN or infinity.
    """
    from finetune import nf4

    codes, state = quantize_as(held, layer, weight)
    return nf4.dequantize(codes, state), layer_fingerprint(codes, state, held.version)
