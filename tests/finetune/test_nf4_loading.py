"""A base in 4 bits is the same on every machine, and that of an old adapter is found again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from finetune import adapter as adapters
from finetune import checkpoint, nf4, nf4_version_1
from finetune.config import AdapterConfig
from finetune.errors import InputError, IntegrityError
from finetune.merge import merge
from finetune.proof import merge_proved
from finetune.quantization import VERSION, Quantization, guard_linear4bit
from tests import tiny

LORA = AdapterConfig(rank=4, alpha=8.0, targets=["q_proj", "v_proj", "down_proj"])
OLD = Quantization("nf4", compute_dtype="bfloat16", version=1)
TEXTS = ["Why card 7? It costs 12 euros.", "The loan is paid."]


def edited(base: Path, to: Path, edit: Any) -> Path:
    folder = Path(shutil.copytree(base, to))
    weights = {name: edit(name, t) for name, t in load_file(base / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def finer(_: str, tensor: Tensor) -> Tensor:
    """Return numbers with digits that bfloat16 has not."""
    generator = torch.Generator().manual_seed(0)
    return tensor.float() * (1 + 1e-3 * torch.rand(tensor.shape, generator=generator))


def load(base: Path, dtype: str = "bfloat16", held_as: Quantization | None = None) -> Any:
    return checkpoint.load(base, quantization="nf4", dtype=getattr(torch, dtype), held_as=held_as)


def adapter_on(base: Any, folder: Path) -> Path:
    adapters.save(tiny.as_if_trained(adapters.inject(base, LORA)), base, folder)
    return folder


def as_version_1_wrote_it(adapter: Path) -> None:
    path = adapter / "assay.json"
    record = json.loads(path.read_text())
    assert record["quantization"].pop("version") == 1
    path.write_text(json.dumps(record))


def weights_of(model: Any) -> dict[str, Tensor]:
    """Return every weight in float32, 4-bit ones dequantised."""
    found = {}
    for name, parameter in model.state_dict().items():
        if parameter.is_floating_point() and ".weight." not in name:
            found[name] = parameter.float()
    for name, layer in guard_linear4bit(model).items():
        found[f"{name}.weight"] = nf4.dequantize(layer.weight.data, layer.weight.quant_state)
    return found


def test_the_codes_are_of_the_file_s_numbers_whatever_is_computed_in(
    tiny_base: Path, tmp_path: Path
) -> None:
    base = edited(tiny_base, tmp_path / "base", finer)
    exact, rounded = load(base, "float32"), load(base, "bfloat16")
    assert exact.quantization.layer_codes == rounded.quantization.layer_codes
    assert exact.quantization.codes == rounded.quantization.codes
    assert rounded.quantization.version == VERSION
    original = load_file(base / "model.safetensors")
    for name, layer in guard_linear4bit(rounded.model).items():
        codes, state = nf4.quantize(original[f"{name}.weight"])
        assert torch.equal(codes, layer.weight.data)
        assert torch.equal(state.offset, layer.weight.quant_state.offset)
        assert layer.weight.quant_state.dtype == torch.bfloat16
    # what is not quantised is in the type that is computed in
    assert rounded.model.model.embed_tokens.weight.dtype == torch.bfloat16
    assert exact.model.model.embed_tokens.weight.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loaded_base_is_to_the_libraries_what_they_load_themselves(
    tiny_base: Path, dtype: str
) -> None:
    ours = load(tiny_base, dtype).model
    theirs = AutoModelForCausalLM.from_pretrained(
        tiny_base,
        dtype=getattr(torch, dtype),
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        ),
    )
    for name in ("quantization_method", "is_quantized", "is_loaded_in_4bit", "dtype"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours._keep_in_fp32_modules_strict == theirs._keep_in_fp32_modules_strict
    assert ours.config.quantization_config.to_dict() == theirs.config.quantization_config.to_dict()
    assert [(n, type(m)) for n, m in ours.named_modules()] == [
        (n, type(m)) for n, m in theirs.named_modules()
    ]
    layers = [[m for m in model.modules() if isinstance(m, Linear4bit)] for model in (ours, theirs)]
    for first, second in zip(*layers, strict=True):
        assert first.weight.data.equal(second.weight.data)
        assert first.quant_state is first.weight.quant_state
        for name in ("blocksize", "quant_type", "quant_storage", "bnb_quantized"):
            assert getattr(first.weight, name) == getattr(second.weight, name), name
        for name in ("dtype", "shape", "blocksize", "quant_type", "nested"):
            assert getattr(first.quant_state, name) == getattr(second.quant_state, name), name
        assert first.compute_dtype == second.compute_dtype


def test_an_adapter_trained_on_many_threads_is_loaded_and_merged_on_one(
    tiny_base: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    found = []
    for num in (3, 1, 8):
        torch.set_num_threads(num)
        base = load(tiny_base)
        if not found:
            adapter_on(base, adapter)
            base = load(tiny_base)
        found.append(weights_of(base.model))
        adapters.load(base, adapter)
        merge(tiny_base, adapter, tmp_path / f"merged{num}")
    for other in found[1:]:
        assert all(torch.equal(other[name], tensor) for name, tensor in found[0].items())
    assert len({checkpoint.identity(one) for one in tmp_path.glob("merged*")}) == 1


def test_a_layer_whose_width_nf4_s_blocks_do_not_fit_stays_as_it_is(tmp_path: Path) -> None:
    """On a processor with AVX-512 the library would unpack it with the scales of other blocks."""
    base_folder = tiny.make_base(tmp_path / "base", intermediate_size=80)
    base = load(base_folder)
    assert len(base.quantization.modules) == 12
    assert not any("down_proj" in name for name in base.quantization.modules)
    original = load_file(base_folder / "model.safetensors")
    held = weights_of(base.model)
    for name, tensor in original.items():
        if name.removesuffix(".weight") in base.quantization.modules:
            tensor = nf4.dequantize(*nf4.quantize(tensor))
        assert torch.equal(held[name], tensor.float()), name
    adapter = adapter_on(base, tmp_path / "adapter")
    made = merge(base_folder, adapter, tmp_path / "merged")
    assert (made["tensors"]["merged"], made["tensors"]["dequantised"]) == (6, 8)


def test_a_base_of_which_no_layer_fits_is_refused(tmp_path: Path) -> None:
    base = tiny.make_base(tmp_path / "base", hidden_size=48, intermediate_size=80)
    with pytest.raises(InputError, match=r"multiple of 64, .* set base\.quantization: none"):
        load(base)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_by_its_layer_s_name(
    tiny_base: Path, tmp_path: Path, value: float
) -> None:
    layer = "model.layers.1.mlp.up_proj"

    def edit(name: str, tensor: Tensor) -> Tensor:
        return tensor.index_fill(0, torch.tensor([3]), value) if layer in name else tensor

    with pytest.raises(InputError, match=rf"{layer} cannot be quantised: it holds NaN or infinity"):
        load(edited(tiny_base, tmp_path / "base", edit))


def test_an_adapter_of_version_1_is_used_as_it_was_trained(tiny_base: Path, tmp_path: Path) -> None:
    adapter = adapter_on(load(tiny_base, held_as=OLD), tmp_path / "adapter")
    as_version_1_wrote_it(adapter)
    record = adapters.read_record(adapter)
    assert record.quantization.version == 1
    with pytest.raises(IntegrityError, match=r"was trained on nf4 .*held_as="):
        adapters.load(load(tiny_base), adapter)
    base = load(tiny_base, held_as=record.quantization)
    assert base.quantization == record.quantization
    answer = tiny.logits(base, adapters.load(base, adapter))
    merge(tiny_base, adapter, tmp_path / "merged")
    merged = checkpoint.load(tmp_path / "merged", quantization="none", dtype=torch.bfloat16)
    assert torch.allclose(tiny.logits(merged, merged.model), answer, atol=0.2)
    original, found = (
        load_file(folder / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
        for folder in (tiny_base, tmp_path / "merged")
    )
    codes, state = functional.quantize_4bit(original, quant_type="nf4", compress_statistics=True)
    assert torch.equal(found, functional.dequantize_4bit(codes, state))


@pytest.mark.slow
@pytest.mark.parametrize("held_as", [None, OLD], ids=["now", "version 1"])
@pytest.mark.parametrize("width", [80, 128])
def test_merges_into_either_version_are_proved(
    tmp_path: Path, held_as: Quantization | None, width: int
) -> None:
    base = tiny.make_base(tmp_path / "base", intermediate_size=width)
    adapter = adapter_on(load(base, held_as=held_as), tmp_path / "adapter")
    proof = merge_proved(base, adapter, tmp_path / "merged", TEXTS)
    assert proof["mean_kl_nats"] <= proof["limit_mean_kl_nats"]


def test_codes_of_version_1_that_no_machine_makes_are_refused_with_the_way_out(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapter_on(load(tiny_base, held_as=OLD), tmp_path / "adapter")
    as_version_1_wrote_it(adapter)
    right = nf4_version_1._state

    def elsewhere(weight: Tensor, scales: Tensor, offset: Tensor) -> Any:
        return right(weight, scales, offset * 1.01)

    monkeypatch.setattr(nf4_version_1, "_state", elsewhere)
    held = adapters.read_record(adapter).quantization
    with pytest.raises(
        IntegrityError, match=r"the layer model\.layers\.0\.\S+ gives .* is of version 1, .* again"
    ):
        load(tiny_base, held_as=held)


def test_codes_of_this_version_that_differ_are_refused(tiny_base: Path) -> None:
    held = load(tiny_base).quantization
    wrong = replace(held, layer_codes=("sha256:0", *held.layer_codes[1:]))
    with pytest.raises(IntegrityError, match=r"gives the 4-bit codes .* files were changed"):
        load(tiny_base, held_as=wrong)
