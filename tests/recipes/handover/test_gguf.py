"""GGUF files: the same numbers in llama.cpp's order, measured, or refused with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as reference
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.errors import IntegrityError
from recipes.errors import InputError
from recipes.handover import conversion, gguf, parity, vocabulary
from tests import tiny
from tests.recipes.handover.folders import RULES, VOCAB_SIZE, edit_json, make_folder, make_tokenizer

TEXTS = parity.PROBES[:2]


@pytest.fixture
def folder(mergeable: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mergeable, tmp_path / "model"))


@pytest.fixture
def read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure by reading the file with transformers, whether llama.cpp is here or not."""
    monkeypatch.setattr(parity, "is_llama_cpp_here", lambda: False)


def fields(path: Path) -> dict[str, Any]:
    return {k: f.contents() for k, f in reference.GGUFReader(path).fields.items()}


def tensors(path: Path) -> dict[str, Any]:
    return {
        t.name: reference.dequantize(t.data, t.tensor_type)
        for t in reference.GGUFReader(path).tensors
    }


def as_transformers(array: Any, num_heads: int) -> Any:
    """Undo llama.cpp's order of rows, as transformers does when it reads GGUF."""
    pairs = array.reshape(num_heads, array.shape[0] // num_heads // 2, 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)


def test_a_file_holds_the_weights_of_its_folder(mergeable: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    written = gguf.write(mergeable, path, "F16", name="tiny")
    weights = load_file(mergeable / "model.safetensors")
    found = tensors(path)
    assert written.num_tensors == len(weights) == len(found)
    for ours, theirs, heads in (
        ("model.embed_tokens", "token_embd", None),
        ("model.norm", "output_norm", None),
        ("model.layers.1.self_attn.q_proj", "blk.1.attn_q", 4),
        ("model.layers.1.self_attn.k_proj", "blk.1.attn_k", 2),
        ("model.layers.1.self_attn.v_proj", "blk.1.attn_v", None),
        ("model.layers.0.mlp.down_proj", "blk.0.ffn_down", None),
    ):
        array = found[f"{theirs}.weight"]
        array = as_transformers(array, heads) if heads else array
        wanted = weights[f"{ours}.weight"].float()
        assert torch.equal(torch.from_numpy(np.array(array)).half(), wanted.half()), ours


def test_q8_0_is_within_half_a_step_of_each_weight(mergeable: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    assert gguf.write(mergeable, path, "Q8_0", name="tiny").kept_f16 == ()
    wanted = load_file(mergeable / "model.safetensors")["model.embed_tokens.weight"].float().numpy()
    found = tensors(path)["token_embd.weight"]
    blocks = np.abs(wanted.reshape(-1, 32)).max(axis=1, keepdims=True)
    # half a step of max / 127, and the scale itself is rounded to 11 bits
    allowed = np.broadcast_to(blocks * (0.5 / 127 + 2**-11), (blocks.size, 32)).reshape(
        wanted.shape
    )
    assert (np.abs(found - wanted) <= allowed).all()


def test_rows_that_are_no_whole_blocks_stay_f16(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model", intermediate_size=80)
    written = gguf.write(folder, tmp_path / "m.gguf", "Q8_0", name="tiny")
    assert sorted(written.kept_f16) == [f"model.layers.{i}.mlp.down_proj.weight" for i in (0, 1)]


def test_a_file_says_what_the_model_is(mergeable: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    gguf.write(mergeable, path, "Q8_0", name="support-qa")
    told = fields(path)
    tokenizer = make_tokenizer()
    assert told["general.name"] == "support-qa"
    assert told["llama.attention.head_count_kv"] == 2
    assert told["llama.rope.freq_base"] == pytest.approx(10000.0)
    assert told["tokenizer.ggml.pre"] == "gpt-2"
    assert told["tokenizer.chat_template"] == tiny.CHATML
    assert told["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert told["tokenizer.ggml.add_bos_token"] is False
    tokens, kinds = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == VOCAB_SIZE
    assert tokens[: len(tiny.SPECIAL)] == list(tiny.SPECIAL)
    assert set(kinds[: len(tiny.SPECIAL)]) == {reference.TokenType.CONTROL}
    assert kinds[-1] == reference.TokenType.UNUSED
    assert kinds[100] == reference.TokenType.NORMAL
    assert tokens[100] == tokenizer.convert_ids_to_tokens(100)


@pytest.mark.usefixtures("read_back")
def test_both_kinds_are_measured_and_recorded_beside_a_modelfile(folder: Path) -> None:
    record = conversion.convert(folder, gguf.KINDS, name="tiny", texts=TEXTS)
    out = folder / "gguf"
    assert {p.name for p in out.iterdir()} == {
        "model-F16.gguf",
        "model-Q8_0.gguf",
        "gguf.json",
        "Modelfile",
    }
    assert json.loads((out / "gguf.json").read_text()) == json.loads(json.dumps(record))
    exact, rounded = (file["parity"] for file in record["files"])
    assert exact["mean_kl_nats"] < 1e-6
    assert exact["mean_kl_nats"] < rounded["mean_kl_nats"] <= rounded["limit_mean_kl_nats"]
    assert exact["num_positions"] > 50
    assert "not checked" in exact["texts_read_alike"]
    assert (out / "Modelfile").read_text().startswith("FROM ./model-Q8_0.gguf\n")


@pytest.mark.usefixtures("read_back")
def test_rows_in_another_order_are_found_and_leave_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "_in_place", lambda _key, tensor, _config: tensor.float().numpy())
    with pytest.raises(IntegrityError, match=r"answers otherwise .* mean KL"):
        conversion.convert(folder, ["F16"], texts=TEXTS)
    assert not [p for p in folder.iterdir() if "gguf" in p.name]


@pytest.mark.usefixtures("read_back")
def test_shards_and_a_head_of_its_own_are_written(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model", max_shard_size="60KB", tie_word_embeddings=False)
    assert len(list(folder.glob("*.safetensors"))) > 1
    record = conversion.convert(folder, ["F16"], texts=TEXTS)
    assert record["files"][0]["num_tensors"] == 21
    assert record["files"][0]["parity"]["mean_kl_nats"] < 1e-6


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def normaliser(folder: Path) -> None:
    edit_json(folder / "tokenizer.json", normalizer={"type": "NFC"})


def other_rule(folder: Path) -> None:
    edit_json(folder / "tokenizer.json", pre_tokenizer={"type": "Whitespace"})


def no_merges(folder: Path) -> None:
    path = folder / "tokenizer.json"
    edit_json(path, model=json.loads(path.read_text())["model"] | {"merges": []})


def byte_fallback(folder: Path) -> None:
    path = folder / "tokenizer.json"
    edit_json(path, model=json.loads(path.read_text())["model"] | {"byte_fallback": True})


def configured(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", **values)


def large_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(weights, path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (configured(architectures=["LlamaForSequenceClassification"]), "classification head"),
        (configured(architectures=["Qwen2ForCausalLM"]), r"Qwen2.*convert_hf_to_gguf"),
        (configured(rope_parameters={"rope_type": "llama3", "factor": 8.0}), "rope_parameters"),
        (configured(attention_bias=True), "attention_bias = True"),
        (configured(quantization_config={"quant_method": "bitsandbytes"}), "quantization_config"),
        (configured(vocab_size=300), "only 300 rows"),
        (no_tokenizer, "no tokenizer.json"),
        (normaliser, "normalises text"),
        (other_rule, "it is not guessed"),
        (no_merges, "no merges"),
        (byte_fallback, "byte fallback"),
        (large_weight, "beyond 65504"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_reason(
    folder: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match=reason):
        conversion.convert(folder, ["F16"])
    assert sorted(folder.iterdir()) == before


def test_a_folder_that_has_gguf_files_is_left_alone(folder: Path) -> None:
    (folder / "gguf").mkdir()
    with pytest.raises(InputError, match="exists already"):
        conversion.convert(folder, ["F16"])


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_that_cuts_text_up_is_told_by_what_it_is(rule: str, tmp_path: Path) -> None:
    make_tokenizer(rule).save_pretrained(tmp_path)
    assert vocabulary.pre_tokenizer(tmp_path) == rule
    path = tmp_path / "tokenizer.json"
    model = json.loads(path.read_text())["model"]
    edit_json(path, model=model | {"ignore_merges": not model.get("ignore_merges", False)})
    with pytest.raises(InputError, match="not guessed"):
        vocabulary.pre_tokenizer(tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize("rule", RULES)
def test_llama_cpp_answers_and_cuts_text_up_like_the_folder(rule: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = make_folder(tmp_path / "model", rule)
    record = conversion.convert(folder, gguf.KINDS)
    for file in record["files"]:
        assert file["pre_tokenizer"] == rule
        assert file["parity"]["engine"].startswith("llama.cpp")
        assert file["parity"]["texts_read_alike"] == f"{len(parity.PROBES)} of {len(parity.PROBES)}"


@pytest.mark.parity
def test_llama_cpp_with_a_wrong_rule_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = make_folder(tmp_path / "model", "gpt-2")
    monkeypatch.setattr(vocabulary, "pre_tokenizer", lambda _folder: "smollm")
    with pytest.raises(IntegrityError, match="other tokens"):
        conversion.convert(folder, ["F16"])
