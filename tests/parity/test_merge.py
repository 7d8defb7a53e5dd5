"""The streaming merge against peft, to the bit, and against the arithmetic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes import functional as bnb
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from finetune import adapter as adapters
from finetune import checkpoint
from finetune.config import AdapterConfig, TrainConfig
from finetune.errors import InputError, IntegrityError
from finetune.merge import merge, write_serving_base
from finetune.proof import agreement, merge_proved
from finetune.train import train
from finetune.update import Update
from tests import tiny

pytestmark = pytest.mark.parity

# alpha / rank and alpha / sqrt(rank) are 2, a power of two
LORA = AdapterConfig(rank=4, alpha=8.0)
RSLORA = AdapterConfig(rank=4, alpha=4.0, use_rslora=True)
DORA = AdapterConfig(rank=4, alpha=8.0, use_dora=True)
TWO = AdapterConfig(rank=4, alpha=8.0, targets=("q_proj", "down_proj"))
VARIANTS = ["lora", "two targets", "rslora", "dora"]
TEXTS = ["Why card 7? It costs 12 euros.", "The fee is 3 euros. What is the fee?"]


def make_adapter(base_folder: Path, folder: Path, config: AdapterConfig, **options: Any) -> Any:
    """Save an adapter of ``base_folder`` and return its base, and the live model."""
    base = tiny.load_base(base_folder, **options)
    torch.manual_seed(0)
    model = tiny.as_if_trained(adapters.inject(base, config))
    adapters.save(model, base, folder)
    return base, model


def tensors_of(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        found |= load_file(shard)
    return found


def with_real_values(model: Any) -> Any:
    """Give an adapter factors that are no round numbers, as training does."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            noise = torch.randn(parameter.shape, generator=generator)
            is_magnitude = "magnitude" in name
            parameter.data = parameter.data * (1 + noise / 50) if is_magnitude else noise / 20
    return model


def by_peft(base_folder: Path, adapter: Path, dtype: str) -> dict[str, Tensor]:
    """Load base and adapter from their files, and merge them as peft does."""
    fresh = tiny.load_base(base_folder, dtype=dtype)
    merged = adapters.load(fresh, adapter).merge_and_unload()
    return {name: tensor.to(torch.bfloat16) for name, tensor in merged.state_dict().items()}


@pytest.mark.parametrize("config", [LORA, TWO, RSLORA, DORA], ids=VARIANTS)
def test_on_unquantised_weights_the_merge_is_pefts_bit_for_bit(
    tiny_base: Path, tmp_path: Path, config: AdapterConfig
) -> None:
    base = tiny.load_base(tiny_base)
    model = with_real_values(adapters.inject(base, config))
    adapters.save(model, base, tmp_path / "adapter")
    record = merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    found, original = tensors_of(tmp_path / "merged"), tensors_of(tiny_base)
    wanted = by_peft(tiny_base, tmp_path / "adapter", "float32")
    assert set(found) == set(original)
    for name, tensor in found.items():
        assert tensor.equal(wanted[name]), name
        is_target = config.targets == "all-linear" or name.split(".")[-2] in config.targets
        assert tensor.equal(original[name]) != ("_proj" in name and is_target)
    num_merged = 14 if config.targets == "all-linear" else 4
    assert record["tensors"] == {
        "merged": num_merged,
        "dequantised": 0,
        "copied": len(original) - num_merged,
        "head": 0,
    }


def test_peft_merges_bfloat16_weights_to_the_same_bits(tiny_base: Path, tmp_path: Path) -> None:
    """It adds the float32 update to each value and rounds once, as the streaming merge does."""
    base = tiny.load_base(tiny_base, dtype="bfloat16")
    adapters.save(with_real_values(adapters.inject(base, LORA)), base, tmp_path / "adapter")
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    wanted = by_peft(tiny_base, tmp_path / "adapter", "bfloat16")
    assert all(t.equal(wanted[n]) for n, t in tensors_of(tmp_path / "merged").items())


def test_a_trained_pissa_adapter_merges_as_peft_does_bit_for_bit(
    tiny_base: Path, tmp_path: Path
) -> None:
    base = tiny.load_base(tiny_base)
    rows = tiny.chat_examples(base.tokenizer, tiny.chat_rows(8))
    pissa = AdapterConfig(rank=4, alpha=8.0, init="pissa")
    step = TrainConfig(epochs=1, batch_size=4, learning_rate=1e-2, num_threads=1)
    train(base, rows, [], adapter=pissa, config=step, folder=tmp_path)
    record = merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    wanted = by_peft(tiny_base, tmp_path / "adapter", "float32")
    assert all(t.equal(wanted[n]) for n, t in tensors_of(tmp_path / "merged").items())
    assert {change["rank"] for change in record["changes"].values()} == {8}


@pytest.mark.parametrize("use_dora", [False, True], ids=["lora", "dora"])
def test_ranks_and_alphas_of_their_own_are_merged_and_loaded_as_peft_does(
    tiny_base: Path, tmp_path: Path, use_dora: bool
) -> None:
    base = tiny.load_base(tiny_base)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "up_proj"],
        rank_pattern={"layers.1.self_attn.q_proj": 2, "up_proj": 8},
        alpha_pattern={"up_proj": 3.5},
        use_dora=use_dora,
        task_type=TaskType.CAUSAL_LM,
    )
    model = with_real_values(get_peft_model(base.model, config))
    adapters.save(model, base, tmp_path / "adapter")
    before = tiny.logits(base, model)
    record = merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    fresh = tiny.load_base(tiny_base)
    assert tiny.logits(fresh, adapters.load(fresh, tmp_path / "adapter")).equal(before)
    wanted = model.merge_and_unload().state_dict()
    for name, tensor in tensors_of(tmp_path / "merged").items():
        assert tensor.equal(wanted[name].bfloat16()), name
    ranks = {layer: change["rank"] for layer, change in record["changes"].items()}
    assert sorted(ranks.values()) == [2, 4, 8, 8]


@pytest.mark.parametrize("config", [LORA, TWO], ids=["lora", "two targets"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_4_bit_weights_the_merge_is_into_what_was_trained_on(
    tiny_base: Path, tmp_path: Path, dtype: str, config: AdapterConfig
) -> None:
    base, model = make_adapter(
        tiny_base, tmp_path / "adapter", config, quantization="nf4", dtype=dtype
    )
    record = merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    updates = adapters_of(model)
    found = tensors_of(tmp_path / "merged")
    original = tensors_of(tiny_base)
    live = dict(base.model.named_modules())
    for name, tensor in found.items():
        layer = name.removesuffix(".weight")
        if layer not in base.quantization.modules:
            assert tensor.equal(original[name]), name
            continue
        module = live[layer]
        held = getattr(module, "base_layer", module).weight
        held.quant_state.dtype = torch.float32
        wanted = bnb.dequantize_4bit(held.data, held.quant_state)
        if layer in updates:
            A, B = updates[layer]
            wanted = wanted + 2.0 * (B @ A)
        assert tensor.equal(wanted.to(torch.bfloat16)), name
    assert record["into"] == "dequantised nf4"
    assert record["tensors"]["merged"] == len(updates)
    assert record["tensors"]["dequantised"] == 14 - len(updates)


def adapters_of(model: Any) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        name: (module.lora_A["default"].weight.data, module.lora_B["default"].weight.data)
        for name, module in model.get_base_model().named_modules()
        if hasattr(module, "lora_A")
    }


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("config", [LORA, RSLORA, DORA], ids=["lora", "rslora", "dora"])
def test_the_merged_model_answers_as_base_and_adapter_do(
    tiny_base: Path, tmp_path: Path, config: AdapterConfig, quantization: Any
) -> None:
    base, model = make_adapter(tiny_base, tmp_path / "adapter", config, quantization=quantization)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    merged = tiny.load_base(tmp_path / "merged")
    reference = [tiny.logits(base, model, text) for text in TEXTS]
    answers = [tiny.logits(merged, merged.model, text) for text in TEXTS]
    with model.disable_adapter():
        bare = [tiny.logits(base, model, text) for text in TEXTS]
    # bfloat16 keeps 8 bits of each merged weight, and that is all that differs
    error = max((a - b).abs().max().item() for a, b in zip(reference, answers, strict=True))
    update = max((a - b).abs().max().item() for a, b in zip(reference, bare, strict=True))
    assert error < 0.03 < 0.1 * update
    assert agreement(reference, answers).mean_kl < 1e-4


def test_a_serving_base_is_for_language_models_of_this_4_bit_base_and_overwrites_nothing(
    tiny_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "serving"
    make_adapter(tiny_base, tmp_path / "plain", LORA)
    make_adapter(tiny_base, tmp_path / "head", LORA, quantization="nf4", labels=tiny.LABELS)
    for adapter, what in (("plain", "none weights"), ("head", "sequence-classification head")):
        with pytest.raises(InputError, match=what):
            write_serving_base(tiny_base, tmp_path / adapter, out)
    make_adapter(tiny_base, tmp_path / "adapter", LORA, quantization="nf4")
    other = tiny.make_base(tmp_path / "other", seed=1)
    with pytest.raises(IntegrityError, match="was trained on the base"):
        write_serving_base(other, tmp_path / "adapter", out)
    with pytest.raises(InputError, match="--storage float8: wanted auto"):
        write_serving_base(tiny_base, tmp_path / "adapter", out, storage="float8")
    assert not out.exists()
    out.mkdir()
    (out / "somebody's").write_text("work")
    with pytest.raises(InputError, match="exists already"):
        write_serving_base(tiny_base, tmp_path / "adapter", out)
    assert [path.name for path in out.iterdir()] == ["somebody's"]


def test_a_base_in_several_files_gives_the_same_merge_and_a_right_index(
    tiny_base: Path, tmp_path: Path
) -> None:
    sharded = tiny.make_base(tmp_path / "sharded", max_shard_size="60KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    make_adapter(sharded, tmp_path / "adapter", LORA)
    make_adapter(tiny_base, tmp_path / "adapter1", LORA)
    merge(sharded, tmp_path / "adapter", tmp_path / "merged")
    merge(tiny_base, tmp_path / "adapter1", tmp_path / "merged1")
    found, wanted = tensors_of(tmp_path / "merged"), tensors_of(tmp_path / "merged1")
    assert set(found) == set(wanted)
    assert all(t.equal(wanted[n]) for n, t in found.items())
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.numel() * 2 for t in found.values())
    files = json.loads((tmp_path / "merged" / "merge.json").read_text())["files"]
    assert files == {
        path.name: {"sha256": checkpoint.sha256_file(path), "bytes": path.stat().st_size}
        for path in (tmp_path / "merged").glob("*.safetensors")
    }
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / "merged" / file)
    assert not (tmp_path / "merged1" / "model.safetensors.index.json").exists()
    assert tiny.load_base(tmp_path / "merged").model is not None


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("is_multi_label", [False, True])
def test_a_merged_classifier_has_its_head_and_names_its_labels(
    tiny_base: Path, tmp_path: Path, quantization: Any, is_multi_label: bool
) -> None:
    base, model = make_adapter(
        tiny_base,
        tmp_path / "adapter",
        LORA,
        quantization=quantization,
        labels=tiny.LABELS,
        is_multi_label=is_multi_label,
    )
    record = merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert record["tensors"]["head"] == 1
    config = AutoConfig.from_pretrained(tmp_path / "merged")
    assert config.architectures == ["LlamaForSequenceClassification"]
    assert [config.id2label[i] for i in range(3)] == list(tiny.LABELS)
    kind = "multi" if is_multi_label else "single"
    assert config.problem_type == f"{kind}_label_classification"
    assert not (tmp_path / "merged" / "generation_config.json").exists()
    loaded, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "merged", dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for text in TEXTS:
        # bfloat16 keeps 8 bits of each merged weight
        torch.testing.assert_close(
            tiny.logits(base, loaded, text), tiny.logits(base, model, text), atol=0.03, rtol=0
        )


def test_the_merged_folder_is_a_whole_checkpoint_of_its_own(
    tiny_base: Path, tmp_path: Path
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    record = merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "merge.json").read_text()) == record
    assert record["base"] == checkpoint.identity(tiny_base)
    assert record["identity"] == checkpoint.identity(tmp_path / "merged") != record["base"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == tiny.CHATML
    assert (tmp_path / "merged").stat().st_mode & 0o777 == 0o755
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "merged").iterdir()} == {0o644}
    with pytest.raises(InputError, match="exists already"):
        merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")


small = st.integers(-64, 64).map(lambda k: k / 64)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_the_updated_weight_does_what_the_layer_and_its_adapter_do(
    data: st.DataObject, num_out: int, num_in: int, rank: int, has_magnitude: bool
) -> None:
    def matrix(rows: int, columns: int) -> Tensor:
        size = rows * columns
        return torch.tensor(data.draw(st.lists(small, min_size=size, max_size=size))).reshape(
            rows, columns
        )

    W, A, B = matrix(num_out, num_in), matrix(rank, num_in), matrix(num_out, rank)
    x = matrix(1, num_in)[0]
    magnitude = matrix(1, num_out)[0] + 2 if has_magnitude else None
    wanted = W @ x + 1.5 * (B @ (A @ x))
    if magnitude is not None:
        norms = (W + 1.5 * B @ A).norm(dim=1)
        if norms.min() < 0.1:  # an empty row has no direction
            return
        wanted = wanted * magnitude / norms
    update = Update(A, B, 1.5, magnitude)
    found = update.applied_to(W, update.product()) @ x
    # float32 sums in another order, of terms below 10, divided by norms over 0.1
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_where_the_base_was_loaded_from_is_not_merged_into_the_configuration(
    tiny_base: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    values = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(values | {"_name_or_path": "/home/anna/base"}))
    make_adapter(base, tmp_path / "adapter", LORA)
    merge_proved(base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert "anna" not in (tmp_path / "merged" / "config.json").read_text()
