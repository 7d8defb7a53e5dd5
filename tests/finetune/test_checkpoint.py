from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import has_avx512bf16
from transformers import AutoTokenizer

from finetune import checkpoint, machine
from finetune.config import CheckpointConfig
from finetune.errors import InputError
from finetune.quantization import Quantization
from tests import tiny


@pytest.fixture
def copy_of_base(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "held"))


def config(name: str | Path, revision: str | None = None) -> CheckpointConfig:
    return CheckpointConfig(checkpoint=str(name), revision=revision)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("/nowhere/at/all", None, "there is no folder or file '/nowhere/at/all'. Wanted: a folder"),
        ("nothing", None, "there is no folder or file 'nothing'"),
        ("./nothing/here", None, "there is no folder or file"),
        ("/nowhere/x.gguf", None, "there is no file /nowhere/x.gguf"),
        ("/nowhere/x.gguf", COMMIT, "is a local checkpoint, which has no revision"),
        ("owner/name", None, "must be pinned to a commit of 40 hex digits, found None"),
        ("owner/name", "main", "must be pinned to a commit of 40 hex digits, found 'main'"),
        ("owner/name", COMMIT.upper(), "must be pinned to a commit of 40 hex digits"),
        ("owner/name", COMMIT, "'owner/name' at 0123456789ab is not in the local cache"),
        (
            "package:no_such_model/x.gguf",
            None,
            "'no_such_model' is not installed; install it first ",
        ),
        ("package:no-such-model/x.gguf", None, "'no-such-model' is not installed"),
        ("package:finetune/x.gguf", None, "the package 'finetune' has no file 'x.gguf'; it has "),
        ("package:finetune/../pyproject.toml", None, "names no file inside the package"),
        ("package:finetune", None, "names no file inside the package 'finetune'"),
        ("package:finetune/config.py", None, "has no config.json"),
        ("package:finetune/config.py", COMMIT, "is a local checkpoint, which has no revision"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_refused_with_the_way_out(
    name: str, revision: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        checkpoint.resolve(config(name, revision))


def test_a_folder_is_its_own_checkpoint_and_takes_no_revision(tiny_base: Path) -> None:
    assert checkpoint.resolve(config(tiny_base)) == tiny_base.resolve()
    with pytest.raises(InputError, match=r"remove base\.revision"):
        checkpoint.resolve(config(tiny_base, COMMIT))


def test_a_weight_file_names_its_folder(tiny_base: Path) -> None:
    assert checkpoint.resolve(config(tiny_base / "model.safetensors")) == tiny_base


def test_a_checkpoint_can_come_from_an_installed_package(
    copy_of_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy_of_base / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(copy_of_base.parent))
    assert checkpoint.resolve(config("package:held/model.safetensors")) == copy_of_base


def test_a_folder_of_pickles_is_refused(copy_of_base: Path) -> None:
    (copy_of_base / "model.safetensors").rename(copy_of_base / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin.*can run code when loaded"):
        checkpoint.resolve(config(copy_of_base))


def test_a_folder_without_weights_or_without_configuration_is_refused(copy_of_base: Path) -> None:
    (copy_of_base / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no \*\.safetensors \(found none\)"):
        checkpoint.resolve(config(copy_of_base))
    (copy_of_base / "config.json").unlink()
    with pytest.raises(InputError, match=r"has no config\.json"):
        checkpoint.resolve(config(copy_of_base))


def _flip_last_byte(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)[0]
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last ^ 1]))


def test_the_same_files_are_the_same_base_wherever_they_are(
    tiny_base: Path, copy_of_base: Path
) -> None:
    (copy_of_base / "README.md").write_text("says nothing of the numbers")
    assert checkpoint.identity(copy_of_base) == checkpoint.identity(tiny_base)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"]
)
def test_one_byte_of_weights_configuration_or_tokenizer_makes_another_base(
    copy_of_base: Path, name: str
) -> None:
    before = checkpoint.identity(copy_of_base)
    _flip_last_byte(copy_of_base / name)
    assert checkpoint.identity(copy_of_base) != before


def test_a_file_added_or_renamed_makes_another_base(copy_of_base: Path) -> None:
    seen = {checkpoint.identity(copy_of_base)}
    (copy_of_base / "merges.txt").write_text("#version: 0.2\n")
    seen.add(checkpoint.identity(copy_of_base))
    (copy_of_base / "merges.txt").rename(copy_of_base / "vocab.json")
    seen.add(checkpoint.identity(copy_of_base))
    assert len(seen) == 3


def test_a_changed_file_is_noticed_although_its_time_was_set_back(copy_of_base: Path) -> None:
    weights = copy_of_base / "model.safetensors"
    before, stat = checkpoint.identity(copy_of_base), weights.stat()
    _flip_last_byte(weights)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert checkpoint.identity(copy_of_base) != before


def test_an_untouched_folder_is_hashed_once(
    copy_of_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = checkpoint.identity(copy_of_base)
    monkeypatch.setattr("finetune.identity.sha256_file", lambda _: pytest.fail("hashed again"))
    assert checkpoint.identity(copy_of_base) == first


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    assert checkpoint.cache_folder() == tmp_path
    monkeypatch.delenv("ASSAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert checkpoint.cache_folder() == tmp_path / "assay"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checkpoint.cache_folder() == tmp_path / ".cache" / "assay"


def test_a_base_is_frozen_and_knows_what_it_is(tiny_base: Path) -> None:
    base = tiny.load_base(tiny_base)
    assert not any(p.requires_grad for p in base.model.parameters())
    assert base.identity == checkpoint.identity(tiny_base)
    assert base.quantization == Quantization("none", compute_dtype="float32")
    assert base.model.generation_config.eos_token_id == [base.tokenizer.eos_token_id]
    assert base.model.generation_config.pad_token_id == base.tokenizer.pad_token_id


def test_generation_also_stops_where_only_the_tokenizer_stops(copy_of_base: Path) -> None:
    path = copy_of_base / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 7}))
    base = tiny.load_base(copy_of_base)
    stop = base.tokenizer.eos_token_id
    assert base.model.generation_config.eos_token_id == [7, stop]
    assert checkpoint.stop_ids_of(copy_of_base, base.tokenizer) == {7, stop}
    path.unlink()
    assert checkpoint.stop_ids_of(copy_of_base, base.tokenizer) == {stop}


def test_a_tokenizer_without_padding_pads_with_its_stop_token(copy_of_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copy_of_base)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(copy_of_base)
    loaded = checkpoint.load_tokenizer(copy_of_base)
    assert loaded.pad_token_id == loaded.eos_token_id


def test_a_tokenizer_that_cannot_stop_is_refused(copy_of_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copy_of_base)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(copy_of_base)
    with pytest.raises(InputError, match="no end-of-sequence token"):
        checkpoint.load_tokenizer(copy_of_base)


def edited(folder: Path, **fields: Any) -> Path:
    """Change fields of a checkpoint's config.json; None takes one out."""
    path = folder / "config.json"
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"model_type": "unheard-of"},
            r"config.json: transformers .* makes no model of it: .*unhe",
        ),
        ({"model_type": None}, "config.json: transformers .* makes no model of it: Unrecognized"),
        ({"hidden_size": "wide"}, "makes no model of it: Validation error for field 'hidden_size'"),
        ({"num_hidden_layers": 3}, r"lacks 9 tensors of a LlamaForCausalLM \(first model.layers.2"),
        ({"model_type": "bert"}, r"an encoder \('bert'\), which the classification recipe adapts"),
        ({"model_type": "albert"}, "of the kind 'albert', and this recipe adapts a causal"),
        ({"model_type": "t5"}, "of the kind 't5', and this recipe adapts a causal"),
    ],
)
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_what_is_no_whole_causal_language_model_is_refused(
    copy_of_base: Path, fields: dict[str, Any], message: str, quantization: Any
) -> None:
    with pytest.raises(InputError, match=message):
        checkpoint.load(edited(copy_of_base, **fields), quantization=quantization)


def test_a_kind_of_model_without_classifier_is_refused_for_one(copy_of_base: Path) -> None:
    edited(copy_of_base, model_type="granite")
    assert checkpoint.load(copy_of_base, quantization="none").labels == ()
    with pytest.raises(InputError, match="'granite', on which transformers puts no"):
        checkpoint.load(
            copy_of_base, quantization="none", head="sequence-classification", labels=("a", "b")
        )


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("GenuineIntel", "avx2 avx512_bf16 amx_bf16", torch.bfloat16),
        ("GenuineIntel", "avx2 avx512_bf16", torch.float32),
        ("AuthenticAMD", "avx2 avx512_bf16", torch.bfloat16),
        ("AuthenticAMD", "avx2", torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_where_its_products_are_faster(
    vendor: str, flags: str, expected: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\nbugs\t\t: none\n"
    (tmp_path / "cpuinfo").write_text(core * 2)
    monkeypatch.setattr(machine, "_PROCESSOR", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert checkpoint.compute_dtype() == expected


def test_a_machine_that_says_nothing_of_its_processor_computes_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_PROCESSOR", tmp_path / "absent")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert checkpoint.compute_dtype() == torch.float32


def test_the_record_of_a_4_bit_base_says_how_its_weights_are_held(tiny_base: Path) -> None:
    record = tiny.load_base(tiny_base, "nf4", dtype="bfloat16").quantization
    assert (record.kind, record.block_size, record.is_double) == ("nf4", 64, True)
    assert record.compute_dtype == "bfloat16"
    assert record.library.startswith("bitsandbytes ")
    assert list(record.modules) == sorted(record.modules)
    assert len(record.modules) == 14  # 7 a layer; neither the embeddings nor the head
    assert not any("lm_head" in name or "embed" in name for name in record.modules)


def test_the_codes_of_a_4_bit_base_are_its_own(tiny_base: Path, tmp_path: Path) -> None:
    first, again = (tiny.load_base(tiny_base, "nf4").quantization.codes for _ in range(2))
    other = tiny.make_base(tmp_path / "other", seed=1)
    assert first == again
    assert first != tiny.load_base(other, "nf4").quantization.codes


def test_a_classification_head_is_new_seeded_and_names_its_labels(tiny_base: Path) -> None:
    bases = [tiny.load_base(tiny_base, "nf4", labels=tiny.LABELS, seed=s) for s in (0, 0, 1)]
    heads = [base.model.score.weight for base in bases]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    settings = bases[0].model.config
    assert settings.id2label == dict(enumerate(tiny.LABELS))
    assert settings.label2id == {label: i for i, label in enumerate(tiny.LABELS)}
    assert settings.problem_type == "single_label_classification"
    assert settings.pad_token_id == bases[0].tokenizer.pad_token_id
    assert bases[0].quantization.modules == tiny.load_base(tiny_base, "nf4").quantization.modules


def _gradients(base: Any) -> list[torch.Tensor]:
    """Gradients of the input embeddings and all norms, through every 4-bit layer."""
    ids = torch.tensor([base.tokenizer("Why card 7? It costs 12 euros.")["input_ids"]])
    base.model.train()
    base.model.zero_grad()
    watched = [p for n, p in base.model.named_parameters() if "norm" in n or "embed" in n]
    for parameter in watched:
        parameter.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        base.model(input_ids=ids, labels=ids).loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in watched]


def _evaluate(base: Any) -> None:
    ids = torch.tensor([base.tokenizer("hello")["input_ids"]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        base.model.eval()(input_ids=ids)


def test_an_evaluation_leaves_the_gradients_of_a_4_bit_base_as_they_were(tiny_base: Path) -> None:
    base = tiny.load_base(tiny_base, "nf4", dtype="bfloat16")
    before = _gradients(base)
    _evaluate(base)
    assert all(map(torch.equal, before, _gradients(base)))


@pytest.mark.skipif(
    not has_avx512bf16(), reason="bitsandbytes repacks 4-bit weights only on avx512_bf16 CPUs"
)
# torch's own warning of what happens here: the packed kernel has no gradient
@pytest.mark.filterwarnings("ignore:bitsandbytes..gemv_4bit. an autograd kernel was not registered")
def test_without_the_guard_an_evaluation_corrupts_the_gradients(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test above holds nothing."""
    guarded = checkpoint.guard_linear4bit

    def unguarded(model: Any) -> dict[str, Any]:
        found = guarded(model)
        for module in found.values():
            module.support_avx512bf16_for_cpu = True
        return found

    monkeypatch.setattr(checkpoint, "guard_linear4bit", unguarded)
    base = tiny.load_base(tiny_base, "nf4", dtype="bfloat16")
    before = _gradients(base)
    _evaluate(base)
    after = _gradients(base)
    cosine = torch.cosine_similarity(
        torch.cat([g.flatten() for g in before]), torch.cat([g.flatten() for g in after]), dim=0
    )
    assert not cosine > 0.9


def test_an_identity_that_a_crash_left_empty_is_found_anew(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    found = checkpoint.identity(tiny_base)
    [remembered] = (tmp_path / "identities").iterdir()
    remembered.write_text("")
    assert checkpoint.identity(tiny_base) == found
    assert remembered.read_text() == found


@pytest.mark.parametrize("name", ["generation_config.json", "model.safetensors.index.json"])
def test_what_a_loader_takes_from_beside_the_weights_is_part_of_the_identity(
    tiny_base: Path, tmp_path: Path, name: str
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    before = checkpoint.identity(base)
    (base / name).write_text('{"max_new_tokens": 1}')
    assert checkpoint.identity(base) != before


ACTIVATIONS_OF_TWO_STEPS = """
import resource
import torch
from finetune.checkpoint import prepare_cpu
prepare_cpu(1)
def step():
    [torch.ones(2**20) for _ in range(64)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print("faults", resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="needs glibc's allocator")
def test_what_a_step_frees_is_there_for_the_next() -> None:
    command = [sys.executable, "-c", ACTIVATIONS_OF_TWO_STEPS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split("faults")[1]) < 16_000  # its 256 MB are 65,536 pages
