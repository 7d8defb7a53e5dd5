"""The streaming merge against peft, against the arithmetic, and against what must not pass.

Adapters come from `tests.tiny.as_if_trained`: their factors are small multiples of powers of two,
so B @ A is exact in float32 on any machine, and equality can be asked for bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes import functional as bnb
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from finetune import adapter as adapters
from finetune import checkpoint
from finetune.config import AdapterConfig
from finetune.errors import InputError, IntegrityError
from finetune.merge import _Update, merge
from finetune.proof import Agreement, agreement, prove
from tests import tiny

pytestmark = pytest.mark.parity

# alpha / rank and alpha / sqrt(rank) are 2, a power of two
LORA = AdapterConfig(rank=4, alpha=8.0)
RSLORA = AdapterConfig(rank=4, alpha=4.0, use_rslora=True)
DORA = AdapterConfig(rank=4, alpha=8.0, use_dora=True)
TWO = AdapterConfig(rank=4, alpha=8.0, targets=("q_proj", "down_proj"))
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


@pytest.mark.parametrize("config", [LORA, TWO, RSLORA], ids=["lora", "two targets", "rslora"])
def test_on_unquantised_weights_the_merge_is_pefts_bit_for_bit(
    tiny_base: Path, tmp_path: Path, config: AdapterConfig
) -> None:
    _, model = make_adapter(tiny_base, tmp_path / "adapter", config)
    record = merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    wanted = model.merge_and_unload(safe_merge=True).state_dict()
    found = tensors_of(tmp_path / "merged")
    original = tensors_of(tiny_base)
    assert set(found) == set(original)
    for name, tensor in found.items():
        # peft merges in float32 here, so both round once
        assert tensor.equal(wanted[name].to(torch.bfloat16)), name
        is_target = config.targets == "all-linear" or name.split(".")[-2] in config.targets
        is_linear = "_proj" in name
        assert tensor.equal(original[name]) != (is_linear and is_target)
    num_merged = 14 if config.targets == "all-linear" else 4
    assert record["tensors"] == {
        "merged": num_merged,
        "dequantised": 0,
        "copied": len(original) - num_merged,
        "head": 0,
    }


def test_on_unquantised_weights_a_dora_merge_is_pefts_within_a_rounding(
    tiny_base: Path, tmp_path: Path
) -> None:
    _, model = make_adapter(tiny_base, tmp_path / "adapter", DORA)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    wanted = model.merge_and_unload(safe_merge=True).state_dict()
    for name, tensor in tensors_of(tmp_path / "merged").items():
        # a norm is a float32 sum, in another order, so a value between two bfloat16 numbers may
        # go to either: 2 ** -8 of it
        torch.testing.assert_close(
            tensor.float(), wanted[name].bfloat16().float(), rtol=2**-8, atol=0
        )


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
    found = _Update(A, B, 1.5, magnitude).applied_to(W) @ x
    # float32 sums in another order, of terms below 10, divided by norms over 0.1
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


# what must not pass


def _change(folder: Path, how: Callable[[dict[str, Tensor]], None]) -> None:
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    how(tensors)
    save_file(tensors, weights)


def _not_a_number(tensors: dict[str, Tensor]) -> None:
    tensors[min(tensors)][0, 0] = float("nan")


def _infinite(tensors: dict[str, Tensor]) -> None:
    tensors[max(tensors)][0, 0] = float("-inf")


def _extra(tensors: dict[str, Tensor]) -> None:
    tensors["base_model.model.model.norm.weight"] = torch.ones(64)


def _extra_layer(tensors: dict[str, Tensor]) -> None:
    for name in [n for n in tensors if "layers.0.self_attn.q_proj" in n]:
        tensors[name.replace("layers.0", "layers.9")] = tensors[name].clone()


def _missing_factor(tensors: dict[str, Tensor]) -> None:
    del tensors[min(n for n in tensors if "lora_B" in n)]


def _missing_pair(tensors: dict[str, Tensor]) -> None:
    for name in [n for n in tensors if "layers.0.self_attn.q_proj" in n]:
        del tensors[name]


def _other_rank(tensors: dict[str, Tensor]) -> None:
    name = min(n for n in tensors if "lora_A" in n)
    tensors[name] = tensors[name][:2].clone()


def _other_width(tensors: dict[str, Tensor]) -> None:
    name = min(n for n in tensors if "lora_A" in n)
    tensors[name] = tensors[name][:, :32].clone()


def _no_head(tensors: dict[str, Tensor]) -> None:
    del tensors["base_model.model.score.weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_not_a_number, r"lora_A\.weight holds NaN or infinity"),
        (_infinite, r"lora_B\.weight holds NaN or infinity"),
        (_extra, r"base_model\.model\.model\.norm\.weight, which is no part of a LoRA update"),
        (_extra_layer, r"disagree on 1 layers, first model\.layers\.9\.self_attn\.q_proj"),
        (_missing_factor, r"holds \['A'\] for the layer .*, wanted \['A', 'B'\]"),
        (_missing_pair, r"disagree on 1 layers, first model\.layers\.0\.self_attn\.q_proj"),
        (_other_rank, "but the adapter's rank is 4"),
        (_other_width, r"has shape \(64, 128\) in the base, and its update \(64, 32\)"),
    ],
)
def test_a_tampered_adapter_is_not_merged_and_leaves_nothing(
    tiny_base: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    _change(tmp_path / "adapter", change)
    with pytest.raises(IntegrityError, match=message):
        merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_a_dora_adapter_without_its_magnitude_is_not_merged(
    tiny_base: Path, tmp_path: Path
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", DORA)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"use_dora": true', '"use_dora": false'))
    with pytest.raises(IntegrityError, match=r"'magnitude_vector'\] for the layer"):
        merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_a_classifier_without_its_head_is_not_merged(tiny_base: Path, tmp_path: Path) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA, labels=tiny.LABELS)
    _change(tmp_path / "adapter", _no_head)
    with pytest.raises(IntegrityError, match="sequence-classification head and holds no trained"):
        merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rank_pattern", {"q_proj": 8}),
        ("alpha_pattern", {"q_proj": 8}),
        ("bias", "all"),
        ("lora_bias", True),
        ("fan_in_fan_out", True),
        ("peft_type", "IA3"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    tiny_base: Path, tmp_path: Path, key: str, value: object
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: value}))
    with pytest.raises(InputError, match="only LoRA, rsLoRA and DoRA"):
        merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_an_adapter_is_not_merged_into_another_base(tiny_base: Path, tmp_path: Path) -> None:
    base, _ = make_adapter(tiny_base, tmp_path / "adapter", LORA)
    other = tiny.make_base(tmp_path / "other", seed=1)
    with pytest.raises(IntegrityError) as refused:
        merge(other, tmp_path / "adapter", tmp_path / "merged")
    assert base.identity in str(refused.value)
    assert checkpoint.identity(other) in str(refused.value)
    assert {p.name for p in tmp_path.iterdir()} == {"adapter", "other"}


def test_an_adapter_of_other_4_bit_codes_is_not_merged(tiny_base: Path, tmp_path: Path) -> None:
    base, _ = make_adapter(tiny_base, tmp_path / "adapter", LORA, quantization="nf4")
    record = tmp_path / "adapter" / "assay.json"
    record.write_text(record.read_text().replace(base.quantization.codes, "sha256:00"))
    with pytest.raises(
        IntegrityError, match=r"gave the codes sha256:\w{64}, .* trained on sha256:00"
    ):
        merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


# the proof


@pytest.mark.parametrize("labels", [(), tiny.LABELS], ids=["causal-lm", "classification"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_right_merge_is_proved_and_the_proof_kept(
    tiny_base: Path, tmp_path: Path, dtype: str, labels: tuple[str, ...]
) -> None:
    make_adapter(
        tiny_base, tmp_path / "adapter", LORA, quantization="nf4", dtype=dtype, labels=labels
    )
    record = merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    proof = prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert proof["mean_kl_nats"] <= proof["limit_mean_kl_nats"]
    assert proof["limit_mean_kl_nats"] == max(1e-3, 2 * proof["noise_floor_mean_kl_nats"])
    assert (proof["noise_floor_mean_kl_nats"] > 0) == (dtype == "bfloat16")
    assert proof["num_positions"] == (2 if labels else sum(map(len, TEXTS)))
    kept = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert kept == record | {"proof": proof}
    assert checkpoint.identity(tmp_path / "merged") == record["identity"]


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_tampered_merge_is_not_proved_and_is_removed(
    tiny_base: Path, tmp_path: Path, quantization: Any
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA, quantization=quantization)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    weights = tmp_path / "merged" / "model.safetensors"
    tensors = load_file(weights)
    original = load_file(tiny_base / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"  # one layer without its update
    save_file(tensors | {name: original[name]}, weights, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match="answers otherwise than the evaluated one"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_a_shift_of_all_labels_is_seen_where_several_may_hold(
    tiny_base: Path, tmp_path: Path
) -> None:
    """It changes every sigmoid and no softmax."""
    make_adapter(tiny_base, tmp_path / "adapter", LORA, labels=tiny.LABELS, is_multi_label=True)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    proof = prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert proof["num_positions"] == 2 * len(tiny.LABELS)
    weights = tmp_path / "merged" / "model.safetensors"
    tensors = load_file(weights)
    tensors["score.weight"] += torch.linspace(-1, 1, 64).bfloat16()
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match="answers otherwise than the evaluated one"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert not (tmp_path / "merged").exists()


def test_a_merge_of_nonsense_is_not_proved(tiny_base: Path, tmp_path: Path) -> None:
    """NaN is above no limit, and must not pass for that."""
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    weights = tmp_path / "merged" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match="mean KL nan"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert not (tmp_path / "merged").exists()


def test_the_agreement_of_a_model_with_itself_is_perfect_and_with_another_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(n, 7, generator=generator) for n in (3, 5)]
    assert agreement(logits, [t + 2 for t in logits]).mean_kl == pytest.approx(0, abs=1e-6)
    same = agreement(logits, logits)
    assert same == Agreement(mean_kl=0.0, p99_kl=0.0, top1=1.0, num_positions=8)
    other = agreement(logits, [-t for t in logits])
    p = torch.cat(logits).softmax(-1)
    q = torch.cat([-t for t in logits]).softmax(-1)
    assert other.mean_kl == pytest.approx((p * (p / q).log()).sum(-1).mean().item(), rel=1e-5)
    assert other.top1 < 1
