"""The proof of a merge: what passes, and everything that must not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, pipeline

from finetune import adapter as adapters
from finetune import checkpoint, proof, stream, update
from finetune import merge as merging
from finetune.errors import InputError, IntegrityError
from finetune.merge import merge
from finetune.proof import (
    Agreement,
    BeyondStorage,
    agreement,
    merge_proved,
    prove,
    serving_base_proved,
)
from finetune.quantization import compute_in_float32
from finetune.recompute import check_weight
from finetune.tensor_files import open_file
from tests import tiny
from tests.cli import ROOT
from tests.parity.test_merge import DORA, LORA, TEXTS, TWO, make_adapter, tensors_of

pytestmark = pytest.mark.parity

DOWN = "model.layers.1.mlp.down_proj.weight"


def forge(folder: Path, change: Callable[[dict[str, Tensor]], None], **record: object) -> None:
    """Change merged weights, and everything in the record that would give it away."""
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    change(tensors)
    save_file(tensors, weights, metadata={"format": "pt"})
    file = open_file(weights)
    made = json.loads((folder / "merge.json").read_text()) | record
    made["tensor_sha256"] = {name: file.sha256(name) for name in file.entries}
    (folder / "merge.json").write_text(json.dumps(made))


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
    assert (proof["num_tensors_changed"], proof["num_tensors_as_base"]) == (
        (15, 6) if labels else (14, 6)
    )
    assert proof["update_survival"] == pytest.approx(1, abs=0.02)
    assert proof["largest_rank"] == 4
    assert proof["reload_is_bit_identical"]
    kept = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert kept == record | {"proof": proof}
    assert checkpoint.identity(tmp_path / "merged") == record["identity"]


@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_a_base_of_another_type_than_the_one_it_is_computed_in_is_proved_too(
    tiny_base: Path, tmp_path: Path, stored: torch.dtype
) -> None:
    """Its 4-bit codes are of the file's own numbers, whatever training computes in."""
    base = shutil.copytree(tiny_base, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    finer = {  # digits that bfloat16 has not
        name: (t.float() * (1 + 1e-3 * torch.rand(t.shape, generator=generator))).to(stored)
        for name, t in tensors.items()
    }
    save_file(finer, base / "model.safetensors", metadata={"format": "pt"})
    make_adapter(base, tmp_path / "adapter", LORA, quantization="nf4", dtype="bfloat16")
    proof = merge_proved(base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert proof["mean_kl_nats"] <= proof["limit_mean_kl_nats"]


def test_the_reference_computes_in_float32_on_the_very_weights(tiny_base: Path) -> None:
    loaded = {
        dtype: checkpoint.load(tiny_base, quantization="nf4", dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    }
    compute_in_float32(loaded[torch.bfloat16].model)
    ids = torch.tensor([proof.probe_tokens(loaded[torch.float32].tokenizer, TEXTS[0])])
    first, second = (one.model(input_ids=ids).logits for one in loaded.values())
    assert first.dtype == second.dtype == torch.float32
    assert torch.equal(first, second)


def test_a_prompt_is_merged_into_the_tokenizer_and_one_that_got_lost_is_seen(
    tiny_base: Path, tmp_path: Path
) -> None:
    options: Any = {"labels": tiny.LABELS, "prompt": "Message: {text}\nTopic:"}
    base, model = make_adapter(tiny_base, tmp_path / "adapter", LORA, **options)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    asked = pipeline("text-classification", model=str(tmp_path / "merged"), top_k=None)
    for text in TEXTS:
        [found] = asked([text])
        expected = proof.logits_on(base, model, [text])[0][0].softmax(-1)
        p = {one["label"]: one["score"] for one in found}
        assert [p[label] for label in tiny.LABELS] == pytest.approx(expected.tolist(), abs=2e-2)
    (tmp_path / "merged" / "tokenizer.json").write_bytes(
        (tiny_base / "tokenizer.json").read_bytes()
    )
    with pytest.raises(IntegrityError, match=r"tokenizer\.json of the merged model"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert not (tmp_path / "merged").exists()


def _one_layer_as_in_the_base(tensors: dict[str, Tensor], base: Path) -> None:
    tensors[DOWN] = load_file(base / "model.safetensors")[DOWN]


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_layer_without_its_update_is_seen_and_the_folder_removed(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: Any
) -> None:
    """By its numbers, and were these not looked at, by the answers."""
    make_adapter(tiny_base, tmp_path / "adapter", LORA, quantization=quantization)
    for words in (f"tensor {DOWN} are not what", "answers otherwise than the evaluated one"):
        merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
        forge(tmp_path / "merged", lambda tensors: _one_layer_as_in_the_base(tensors, tiny_base))
        with pytest.raises(IntegrityError, match=words):
            prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
        assert [p.name for p in tmp_path.iterdir()] == ["adapter"]
        monkeypatch.setattr(proof, "_check_numbers", lambda *_: None)


def skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    right = update.Update.applied_to
    layers = iter(range(100))

    def applied(self: Any, weight: Tensor, product: Tensor) -> Tensor:
        return right(self, weight, product * 0 if next(layers) in (2, 5) else product)

    monkeypatch.setattr(update.Update, "applied_to", applied)


def scaled(by: float) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        right = update.Update.product
        monkeypatch.setattr(update.Update, "product", lambda self: right(self) * by)

    return plant


def swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The factors of two layers of one shape."""
    right = stream.read_update
    other = {"model.layers.0": "model.layers.1", "model.layers.1": "model.layers.0"}

    def read(adapter: Any, layer: str) -> Any:
        stem = layer[: len("model.layers.0")]
        return right(adapter, other[stem] + layer[len(stem) :])

    monkeypatch.setattr(stream, "read_update", read)


def louder(monkeypatch: pytest.MonkeyPatch) -> None:
    right = stream.nf4_round_trip

    def round_trip(*layer: Any) -> tuple[Tensor, str]:
        found, codes = right(*layer)
        return found * 1.01, codes

    monkeypatch.setattr(stream, "nf4_round_trip", round_trip)


@pytest.mark.parametrize(
    ("plant", "settings", "quantization"),
    [
        (skipped, LORA, "none"),
        (swapped, LORA, "nf4"),
        (scaled(0.9), LORA, "none"),
        (scaled(2.0), LORA, "nf4"),
        (scaled(-1.0), LORA, "none"),
        (louder, TWO, "nf4"),
        (skipped, DORA, "none"),
        (scaled(0.9), DORA, "nf4"),
    ],
    ids=range(8),
)
def test_a_wrong_merge_is_told_by_its_numbers_where_the_answers_hardly_differ(
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    settings: Any,
    quantization: Any,
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", settings, quantization=quantization)
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    fainter = {k: v * (0.02 if "lora_B" in k else 1) for k, v in load_file(weights).items()}
    save_file(fainter, weights, metadata={"format": "pt"})
    plant(monkeypatch)
    monkeypatch.setattr(merging, "_check_kept", lambda _: None)
    with pytest.raises(IntegrityError, match="are not what the base and the adapter make"):
        merge_proved(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    monkeypatch.undo()
    monkeypatch.setattr(merging, "_check_kept", lambda _: None)
    merge_proved(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)


def large_inside(folder: Path, tiny_base: Path) -> Path:
    """A float32 base whose weights are within float16 and whose activations are not."""
    base = shutil.copytree(tiny_base, folder)
    tensors = {k: v.float() for k, v in load_file(base / "model.safetensors").items()}
    tensors["model.layers.0.mlp.up_proj.weight"] *= 400
    tensors["model.layers.0.mlp.down_proj.weight"] *= 400
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    config = base / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}))
    return base


def test_a_model_that_answers_nonsense_in_the_type_it_names_is_stored_in_another(
    tiny_base: Path, tmp_path: Path
) -> None:
    base = large_inside(tmp_path / "base", tiny_base)
    make_adapter(base, tmp_path / "adapter", LORA, dtype="float32")
    merge(base, tmp_path / "adapter", tmp_path / "unproved")
    record = json.loads((tmp_path / "unproved" / "merge.json").read_text())
    assert record["storage"]["dtype"] == "float16", "its weights are in range"
    with pytest.raises(BeyondStorage, match=r"goes beyond that type; .*--storage bfloat16"):
        merge_proved(base, tmp_path / "adapter", tmp_path / "no", TEXTS, storage="float16")
    found = merge_proved(base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    record = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert record["storage"]["dtype"] == "bfloat16"
    assert found["as_loaded_mean_kl_nats"] < 1e-2
    ids = torch.tensor([[1, 2, 3, 4]])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert loaded.dtype == torch.bfloat16
    assert bool(loaded(input_ids=ids).logits.isfinite().all())


def test_one_float32_matrix_does_not_make_a_bfloat16_model_float16(
    tiny_base: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].float()
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    make_adapter(base, tmp_path / "adapter", LORA)
    record = merge(base, tmp_path / "adapter", tmp_path / "merged")
    assert record["storage"]["dtype"] == "bfloat16"


@pytest.mark.parametrize("seed", range(6))
def test_one_number_that_is_off_by_more_than_rounding_is_told(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn((96, 64), generator=generator)
    dtype = (torch.bfloat16, torch.float16)[seed % 2]
    stored = W.to(dtype)
    check_weight(stored, W, "x.weight", quantised_from=None, adapter=None)
    place = torch.randint(96 * 64, (1,), generator=generator)
    bits = stored.view(torch.int16).flatten()
    bits[place] += 1  # the next number of this type
    with pytest.raises(IntegrityError, match=r"1 of 6144 numbers of the merged tensor x\.weight"):
        check_weight(stored, W, "x.weight", quantised_from=None, adapter=None)


def test_one_changed_byte_of_an_untargeted_tensor_is_seen(tiny_base: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["model.layers.0.mlp.up_proj.weight"][3, 5] *= 1.01

    make_adapter(tiny_base, tmp_path / "adapter", TWO)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    forge(tmp_path / "merged", change)
    with pytest.raises(IntegrityError, match=r"neither the base's nor what was merged.*up_proj"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert not (tmp_path / "merged").exists()


def test_weights_that_are_not_those_written_are_seen(tiny_base: Path, tmp_path: Path) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    record = merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    forge(tmp_path / "merged", lambda tensors: tensors[DOWN].mul_(1.1))
    made = json.loads((tmp_path / "merged" / "merge.json").read_text())
    made["tensor_sha256"] = record["tensor_sha256"]
    (tmp_path / "merged" / "merge.json").write_text(json.dumps(made))
    with pytest.raises(IntegrityError, match=f"neither the base's nor what was merged.*{DOWN}"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"adapter_tensors_used_once": ["a"]}, "did not use every tensor of the adapter"),
        ({"changes": {}}, "layers are missing"),
    ],
)
def test_an_account_that_does_not_close_is_seen(
    tiny_base: Path, tmp_path: Path, record: dict[str, Any], message: str
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    forge(tmp_path / "merged", lambda _: None, **record)
    with pytest.raises(IntegrityError, match=message):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)


def test_a_change_outside_of_the_adapters_directions_is_seen(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a second update in the same layer: nothing but rounding may lie beside the first."""
    right = update.Update.applied_to

    def and_another(self: Any, weight: Tensor, product: Tensor) -> Tensor:
        return right(self, weight, product).add_(0.05 * torch.eye(*weight.shape))

    monkeypatch.setattr(update.Update, "applied_to", and_another)
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    with pytest.raises(IntegrityError, match="beyond the adapter's directions"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_other_settings_than_the_bases_are_seen(tiny_base: Path, tmp_path: Path, file: str) -> None:
    """Longer texts than the probes' would be read by them."""
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    path = tmp_path / "merged" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 512}))
    with pytest.raises(IntegrityError, match=f"{file} of the merged model is not its base's"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)


def test_another_chat_template_than_the_bases_is_seen(tiny_base: Path, tmp_path: Path) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    (tmp_path / "merged" / "chat_template.jinja").write_text(tiny.CHATML + "Be rude.")
    with pytest.raises(IntegrityError, match=r"chat_template\.jinja of the merged model is not"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)


def test_a_fresh_process_that_answers_otherwise_is_no_proof(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here its folder is exchanged for the base's, as by a file that is read before the others."""
    real = subprocess.run

    def on_the_base(command: list[str], **options: Any) -> Any:
        return real([*command[:-1], str(tiny_base)], **options)

    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    monkeypatch.setattr(proof.subprocess, "run", on_the_base)
    with pytest.raises(IntegrityError, match=r"a fresh process .* answers otherwise at"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert not (tmp_path / "merged").exists()


def test_a_merged_folder_that_a_stranger_cannot_load_is_no_proof(
    tiny_base: Path, tmp_path: Path
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    found = proof._check_reload
    config = tmp_path / "merged" / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"unheard-of"'))
    record = adapters.read_record(tmp_path / "adapter")
    with pytest.raises(IntegrityError, match="a fresh process could not load"):
        found(tmp_path / "merged", record, [], [])


def test_a_merge_has_its_name_only_when_it_is_proved(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    (tmp_path / ".merged.unproved-left").mkdir()  # of a process that was killed
    found = merge_proved(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert json.loads((tmp_path / "merged" / "merge.json").read_text())["proof"] == found
    assert {p.name for p in tmp_path.iterdir()} == {"adapter", "merged"}
    with pytest.raises(InputError, match="exists already"):
        merge_proved(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)

    def fails(*_: object) -> None:
        raise IntegrityError("another machine")

    monkeypatch.setattr(proof, "_check_reload", fails)
    with pytest.raises(IntegrityError, match="another machine"):
        merge_proved(tiny_base, tmp_path / "adapter", tmp_path / "second", TEXTS)
    assert {p.name for p in tmp_path.iterdir()} == {"adapter", "merged"}


KILLED = """
import os, signal, sys
from pathlib import Path
from finetune import proof
proof.prove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
base, folder = map(Path, sys.argv[1:])
proof.merge_proved(base, folder / "adapter", folder / "merged", ["Why?"])
"""


def test_a_process_killed_between_merge_and_proof_leaves_nothing_by_that_name(
    tiny_base: Path, tmp_path: Path
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny_base), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL
    names = {p.name for p in tmp_path.iterdir()}
    assert "merged" not in names
    assert any(name.startswith(".merged.unproved-") for name in names)
    merge_proved(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert {p.name for p in tmp_path.iterdir()} == {"adapter", "merged"}


# other products


def test_a_merge_into_the_original_weights_is_another_model_and_says_so(
    tiny_base: Path, tmp_path: Path
) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA, quantization="nf4")
    found = merge_proved(
        tiny_base, tmp_path / "adapter", tmp_path / "original", TEXTS, into="original"
    )
    record = json.loads((tmp_path / "original" / "merge.json").read_text())
    assert record["into"] == "original weights"
    assert record["is_new_candidate"]
    assert "evaluated and gated by itself" in record["note"]
    assert found["mean_kl_nats"] <= found["limit_mean_kl_nats"]
    assert found["from_the_evaluated_model"]["mean_kl_nats"] > 10 * found["mean_kl_nats"]
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert not json.loads((tmp_path / "merged" / "merge.json").read_text())["is_new_candidate"]


@pytest.mark.parametrize("into", ["nf4", "4bit"])
def test_a_merge_back_into_4_bit_is_refused_with_the_figure(tmp_path: Path, into: str) -> None:
    with pytest.raises(InputError, match=r"back into 4-bit is refused.*about 1 % of it survives"):
        merge(tmp_path, tmp_path, tmp_path / "merged", into=into)


def test_a_merged_model_is_not_loaded_in_4_bit(tiny_base: Path, tmp_path: Path) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA, quantization="nf4")
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    with pytest.raises(InputError, match="must not be loaded in 4-bit"):
        tiny.load_base(tmp_path / "merged", "nf4")
    assert tiny.load_base(tmp_path / "merged").model is not None


def test_adapters_answer_on_a_serving_base_as_they_were_evaluated(
    tiny_base: Path, tmp_path: Path
) -> None:
    base, model = make_adapter(tiny_base, tmp_path / "adapter", LORA, quantization="nf4")
    found = serving_base_proved(tiny_base, tmp_path / "adapter", tmp_path / "serving", TEXTS)
    assert found["mean_kl_nats"] <= found["limit_mean_kl_nats"]
    assert found["num_tensors_changed"] == 14
    record = json.loads((tmp_path / "serving" / "merge.json").read_text())
    assert (record["adapter"], record["codes"]) == (None, base.quantization.codes)
    held = tiny.load_base(tmp_path / "serving")
    folders = {"default": tmp_path / "adapter"}
    with pytest.raises(IntegrityError, match="was trained on the base"):
        adapters.attach(held, folders)
    served = adapters.attach(held, folders, is_own_base=False)
    for text in TEXTS:  # bfloat16 keeps 8 bits of each dequantised weight
        torch.testing.assert_close(
            tiny.logits(held, served, text), tiny.logits(base, model, text), atol=0.03, rtol=0
        )


@pytest.mark.parametrize(("size", "stored"), [(1.0, "float16"), (7e4, "bfloat16")])
def test_a_wider_base_is_stored_by_its_measured_range(
    tmp_path: Path, size: float, stored: str
) -> None:
    wide = tmp_path / "wide"
    tiny.make_base(wide)
    tensors = {n: t.float() for n, t in load_file(wide / "model.safetensors").items()}
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = size
    save_file(tensors, wide / "model.safetensors", metadata={"format": "pt"})
    config = wide / "config.json"
    config.write_text(config.read_text().replace("bfloat16", "float32"))
    make_adapter(wide, tmp_path / "adapter", LORA)
    record = merge(wide, tmp_path / "adapter", tmp_path / "merged")
    assert record["storage"]["dtype"] == stored
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == stored
    found = tensors_of(tmp_path / "merged")
    assert found["model.layers.0.mlp.up_proj.weight"].dtype == getattr(torch, stored)
    assert found["model.norm.weight"].dtype == torch.float32
    if stored == "bfloat16":
        with pytest.raises(InputError, match=r"up_proj\.weight holds 70000, which is beyond"):
            merge(wide, tmp_path / "adapter", tmp_path / "half", storage="float16")


def test_float16_on_request_keeps_more_of_the_update(tiny_base: Path, tmp_path: Path) -> None:
    make_adapter(tiny_base, tmp_path / "adapter", LORA, quantization="nf4")
    half = merge_proved(
        tiny_base, tmp_path / "adapter", tmp_path / "half", TEXTS, storage="float16"
    )
    brain = merge_proved(tiny_base, tmp_path / "adapter", tmp_path / "brain", TEXTS)
    assert half["mean_kl_nats"] < brain["mean_kl_nats"]
    assert half["worst_layer_cosine"] > brain["worst_layer_cosine"]


def test_an_update_that_storage_rounds_away_is_not_merged(tiny_base: Path, tmp_path: Path) -> None:
    """On unquantised bfloat16 weights a small enough update changes no weight at all."""
    base = tiny.load_base(tiny_base)
    model = tiny.as_if_trained(adapters.inject(base, LORA))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = parameter.data / 4096
    adapters.save(model, base, tmp_path / "adapter")
    with pytest.raises(IntegrityError, match=r"of the adapter's update 0\.\d+ is left"):
        merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


# the measure


def test_a_shift_of_all_labels_is_seen_where_several_may_hold(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes every sigmoid and no softmax."""
    make_adapter(tiny_base, tmp_path / "adapter", LORA, labels=tiny.LABELS, is_multi_label=True)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    found = prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert found["num_positions"] == 2 * len(tiny.LABELS)
    shift = torch.linspace(-1, 1, 64).bfloat16()
    forge(tmp_path / "merged", lambda tensors: tensors["score.weight"].add_(shift))
    monkeypatch.setattr(proof, "_check_numbers", lambda *_: None)
    with pytest.raises(IntegrityError, match="answers otherwise than the evaluated one"):
        prove(tiny_base, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert not (tmp_path / "merged").exists()


def test_a_merge_of_nonsense_is_not_proved(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN is above no limit, and must not pass for that."""
    make_adapter(tiny_base, tmp_path / "adapter", LORA)
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    forge(tmp_path / "merged", lambda tensors: tensors[DOWN][0].fill_(float("nan")))
    monkeypatch.setattr(proof, "_check_numbers", lambda *_: None)
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
