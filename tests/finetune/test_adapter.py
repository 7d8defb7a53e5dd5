from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune import adapter as adapters
from finetune.config import AdapterConfig, TrainConfig
from finetune.errors import InputError, IntegrityError
from finetune.train import train
from tests import tiny

VARIANTS = {
    "lora": AdapterConfig(rank=4, alpha=8.0),
    "two targets": AdapterConfig(rank=4, alpha=8.0, targets=("q_proj", "down_proj")),
    "rslora": AdapterConfig(rank=4, alpha=4.0, use_rslora=True),
    "dora": AdapterConfig(rank=4, alpha=8.0, use_dora=True),
    "last layer": AdapterConfig(rank=4, last_layers=1),
}
ONE_STEP = TrainConfig(epochs=1, batch_size=4, learning_rate=1e-2, num_threads=1)


def adapted(base: Any, config: AdapterConfig = VARIANTS["lora"]) -> Any:
    torch.manual_seed(0)
    return tiny.as_if_trained(adapters.inject(base, config))


@pytest.fixture
def saved(tiny_base: Path, tmp_path: Path) -> Path:
    base = tiny.load_base(tiny_base)
    adapters.save(adapted(base), base, tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_unknown_target_is_refused_with_the_layers_there_are(tiny_base: Path) -> None:
    base = tiny.load_base(tiny_base)
    with pytest.raises(InputError, match=r"query matches no linear layer.*down_proj.*v_proj"):
        adapters.inject(base, AdapterConfig(targets=("q_proj", "query")))
    with pytest.raises(InputError, match="nothing matches no linear layer"):
        adapters.inject(base, AdapterConfig(targets=()))
    with pytest.raises(InputError, match="lm_head matches no linear layer"):
        adapters.inject(base, AdapterConfig(targets=("lm_head",)))


def test_only_the_last_blocks_are_adapted_where_asked(tiny_base: Path) -> None:
    base = tiny.load_base(tiny_base)
    model = adapters.inject(base, AdapterConfig(last_layers=1))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 7 * 2
    assert all(".layers.1." in name for name in trained)
    with pytest.raises(InputError, match=r"last_layers: 3 is more than the base's 2 blocks"):
        adapters.inject(tiny.load_base(tiny_base), AdapterConfig(last_layers=3))


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_only_the_adapter_is_trained_and_in_float32(tiny_base: Path, quantization: Any) -> None:
    base = tiny.load_base(tiny_base, quantization, dtype="bfloat16", labels=tiny.LABELS)
    model = adapters.inject(base, VARIANTS["two targets"])
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.dtype == torch.float32 for p in trained.values())
    assert all("lora_" in n or ".score." in n for n in trained)
    assert len(trained) == 2 * 2 * 2 + 1  # two layers, two targets, two factors; and the head


@pytest.mark.parametrize(("quantization", "dtype"), [("none", "float32"), ("nf4", "bfloat16")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_without_its_adapter_the_base_answers_as_before_bit_for_bit(
    tiny_base: Path, variant: str, quantization: Any, dtype: str
) -> None:
    base = tiny.load_base(tiny_base, quantization, dtype=dtype)
    before = tiny.logits(base, base.model)
    model = adapted(base, VARIANTS[variant])
    assert not torch.equal(tiny.logits(base, model), before)
    with model.disable_adapter():
        assert torch.equal(tiny.logits(base, model), before)


@pytest.mark.parametrize(("quantization", "dtype"), [("none", "float32"), ("nf4", "bfloat16")])
@pytest.mark.parametrize("labels", [(), tiny.LABELS], ids=["causal-lm", "classification"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loaded_adapter_answers_as_the_saved_one_bit_for_bit(
    tiny_base: Path, tmp_path: Path, variant: str, labels: Any, quantization: Any, dtype: str
) -> None:
    base = tiny.load_base(tiny_base, quantization, dtype=dtype, labels=labels)
    model = adapted(base, VARIANTS[variant])
    adapters.save(model, base, tmp_path / "adapter")
    fresh = tiny.load_base(tiny_base, quantization, dtype=dtype, labels=labels, seed=9)
    loaded = adapters.load(fresh, tmp_path / "adapter")
    assert torch.equal(tiny.logits(base, model), tiny.logits(fresh, loaded))
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("variant", ["rslora", "dora"])
def test_the_variants_train_and_come_back(tiny_base: Path, tmp_path: Path, variant: str) -> None:
    base = tiny.load_base(tiny_base, "nf4", dtype="bfloat16")
    rows = tiny.chat_examples(base.tokenizer, tiny.chat_rows(8))
    train(base, rows, [], adapter=VARIANTS[variant], config=ONE_STEP, folder=tmp_path)
    fresh = tiny.load_base(tiny_base, "nf4", dtype="bfloat16")
    bare = tiny.logits(fresh, fresh.model)
    assert not torch.equal(tiny.logits(fresh, adapters.load(fresh, tmp_path / "adapter")), bare)
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings[f"use_{variant}"] is True


def test_pissa_is_refused_on_a_4_bit_base(tiny_base: Path) -> None:
    base = tiny.load_base(tiny_base, "nf4")
    with pytest.raises(InputError, match=r"pissa .* set base\.quantization: none"):
        adapters.inject(base, AdapterConfig(init="pissa"))


def test_pissa_of_more_values_than_a_layer_has_is_refused_before_training(tiny_base: Path) -> None:
    with pytest.raises(InputError, match=r"adapter\.rank: 100, .* smallest target has 64"):
        adapters.inject(tiny.load_base(tiny_base), AdapterConfig(rank=100, init="pissa"))


@pytest.mark.parametrize("use_rslora", [False, True])
def test_a_trained_pissa_adapter_is_a_plain_one_on_the_untouched_base(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_rslora: bool
) -> None:
    base = tiny.load_base(tiny_base)
    trained: list[torch.Tensor] = []
    save = adapters.save

    def look_and_save(model: Any, *rest: Any, **options: Any) -> None:
        trained.append(tiny.logits(base, model))
        save(model, *rest, **options)

    monkeypatch.setattr(adapters, "save", look_and_save)
    rows = tiny.chat_examples(base.tokenizer, tiny.chat_rows(8))
    config = AdapterConfig(rank=4, alpha=8.0, init="pissa", use_rslora=use_rslora)
    train(base, rows, [], adapter=config, config=ONE_STEP, folder=tmp_path)

    fresh = tiny.load_base(tiny_base)
    bare = tiny.logits(fresh, fresh.model)
    loaded = tiny.logits(fresh, adapters.load(fresh, tmp_path / "adapter"))
    assert (trained[0] - bare).abs().max() > 0.05
    # the base less its principal part, and that part put back, are float32 sums in other orders
    torch.testing.assert_close(loaded, trained[0], atol=1e-4, rtol=0)
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["init_lora_weights"]) == (8, True)


def test_an_adapter_names_its_base_and_no_local_path(tiny_base: Path, saved: Path) -> None:
    assert {p.name for p in saved.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "assay.json",
    }
    config, record = (saved / n for n in ("adapter_config.json", "assay.json"))
    assert str(tiny_base.parent) not in config.read_text() + record.read_text()
    read = adapters.read_record(saved)
    base = tiny.load_base(tiny_base)
    assert (read.base, read.head, read.quantization) == (
        base.identity,
        "causal-lm",
        base.quantization,
    )
    assert len(read.layers) == 14


def test_another_base_is_refused_with_both_identities(saved: Path, tmp_path: Path) -> None:
    other = tiny.load_base(tiny.make_base(tmp_path / "other", seed=1))
    with pytest.raises(IntegrityError) as refused:
        adapters.load(other, saved)
    assert other.identity in str(refused.value)
    assert adapters.read_record(saved).base in str(refused.value)


def test_other_weights_of_the_same_base_are_refused(tiny_base: Path, saved: Path) -> None:
    with pytest.raises(IntegrityError, match=r"none weights \(unquantised\).*loaded as nf4 sha256"):
        adapters.load(tiny.load_base(tiny_base, "nf4"), saved)


def test_other_4_bit_codes_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    base = tiny.load_base(tiny_base, "nf4")
    adapters.save(adapted(base), base, tmp_path / "adapter")
    record = tmp_path / "adapter" / "assay.json"
    record.write_text(record.read_text().replace(base.quantization.codes, "sha256:0"))
    with pytest.raises(IntegrityError, match="trained on nf4 weights sha256:0,"):
        adapters.load(tiny.load_base(tiny_base, "nf4"), tmp_path / "adapter")


def _drop_one(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[min(tensors)]


def _add_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.extra.lora_A.weight"] = torch.zeros(4, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [(_drop_one, "1 missing tensors"), (_add_one, "extra.* is no part of an update")],
)
def test_an_adapter_with_a_tensor_too_few_or_too_many_is_not_loaded(
    tiny_base: Path,
    saved: Path,
    change: Callable[[dict[str, torch.Tensor]], None],
    message: str,
) -> None:
    """peft only warns of the first, and says nothing of the second."""
    weights = saved / "adapter_model.safetensors"
    tensors = load_file(weights)
    change(tensors)
    save_file(tensors, weights)
    with pytest.raises(IntegrityError, match=message):
        adapters.load(tiny.load_base(tiny_base), saved)


def test_a_folder_that_does_not_say_its_base_is_no_adapter_of_ours(saved: Path) -> None:
    record = saved / "assay.json"
    known = json.loads(record.read_text())
    for text in ("{", "[]", json.dumps({k: v for k, v in known.items() if k != "base"})):
        record.write_text(text)
        with pytest.raises(InputError, match="does not say which base"):
            adapters.read_record(saved)
    record.unlink()
    with pytest.raises(InputError, match="does not say which base"):
        adapters.read_record(saved)
    shutil.rmtree(saved)
    with pytest.raises(InputError, match="is not an adapter folder"):
        adapters.read_record(saved)


def test_a_save_that_fails_leaves_the_old_adapter_and_nothing_else(
    tiny_base: Path, saved: Path
) -> None:
    def names_and_bytes() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in saved.parent.rglob("*") if p.is_file()}

    before = names_and_bytes()
    base = tiny.load_base(tiny_base)
    model = adapted(base)

    def fails_late(folder: Path, **_: Any) -> None:
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise OSError("no space left on device")

    model.save_pretrained = fails_late
    with pytest.raises(OSError, match=r"(?i)no space left"):
        adapters.save(model, base, saved)
    assert names_and_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["adapter"]


def test_a_second_save_replaces_the_first(tiny_base: Path, saved: Path) -> None:
    before = (saved / "adapter_model.safetensors").read_bytes()
    (saved / "left over").touch()
    base = tiny.load_base(tiny_base)
    adapters.save(tiny.as_if_trained(adapted(base), seed=2), base, saved)
    assert (saved / "adapter_model.safetensors").read_bytes() != before
    assert not (saved / "left over").exists()
