"""Classifiers on encoders: loaded, adapted, saved, merged, and loaded again by anyone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune import adapter as adapters
from finetune import checkpoint, encoder_base, features, head_start
from finetune.config import AdapterConfig, CheckpointConfig
from finetune.encoder_kinds import ENCODERS, heads_of, max_positions, stated_pooling
from finetune.encoders import head_modules, pool
from finetune.encoding import Example
from finetune.errors import InputError, IntegrityError
from finetune.identity import identity
from finetune.proof import merge_proved
from finetune.whitened_head import whitened
from tests import encoders, tiny

TEXTS = ["my card again 7", "why fee", "loan rate plan bill 12?", "hi"]


def load(source: Path, quantization: Any = "none", pooling: Any = "auto") -> Any:
    folder = checkpoint.resolve(CheckpointConfig(checkpoint=str(source)))
    torch.manual_seed(0)
    return checkpoint.load(
        folder,
        quantization=quantization,
        head="sequence-classification",
        labels=tiny.LABELS,
        pooling=pooling,
        dtype=torch.float32,
    )


def adapted(source: Path, folder: Path, pooling: Any = "auto", **config: Any) -> tuple[Any, Any]:
    """A base, and what its adapter in ``folder`` answers to the first text."""
    base = load(source, pooling=pooling)
    model = tiny.as_if_trained(adapters.inject(base, AdapterConfig(rank=4, **config)))
    adapters.save(model, base, folder)
    return base, tiny.logits(base, model, TEXTS[0])


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.make_encoder(tmp_path_factory.mktemp("bert") / "base")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentences") / "base"
    return encoders.make_encoder(folder, pooling="mean")


def test_every_kind_has_a_small_encoder() -> None:
    assert set(encoders.KINDS) == set(ENCODERS)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["model", "mean", "cls"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("kind", encoders.KINDS)
def test_an_encoder_of_each_kind_is_adapted_saved_and_merged(
    tmp_path: Path, kind: str, quantization: Any, pooling: Any
) -> None:
    source = encoders.make_encoder(tmp_path / "base", kind)
    base = load(source, quantization, pooling)
    model = tiny.as_if_trained(adapters.inject(base, AdapterConfig(rank=4)))
    wanted = tiny.logits(base, model, TEXTS[0])
    adapters.save(model, base, tmp_path / "adapter")
    again = load(source, quantization, pooling)
    loaded = adapters.load(again, tmp_path / "adapter")
    assert torch.equal(tiny.logits(again, loaded, TEXTS[0]), wanted)

    proof = merge_proved(base.folder, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    assert proof["top1_agreement"] == 1.0
    merged = checkpoint.load(
        tmp_path / "merged",
        quantization="none",
        head="sequence-classification",
        labels=tiny.LABELS,
        dtype=torch.float32,
    )
    assert merged.pooling == pooling
    assert torch.allclose(tiny.logits(merged, merged.model, TEXTS[0]), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", encoders.KINDS)
def test_what_stands_above_the_blocks_of_each_kind_is_trained_whole(
    tmp_path: Path, kind: str
) -> None:
    base = load(encoders.make_encoder(tmp_path / "base", kind), pooling="model")
    model = adapters.inject(base, AdapterConfig(rank=2))
    whole = {
        name.replace("modules_to_save.default.", "").removeprefix("base_model.model.")
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and "lora_" not in name
    }
    above = {
        name.removeprefix("base_model.model.")
        for name, _ in load(
            encoders.make_encoder(tmp_path / "base2", kind), pooling="model"
        ).model.named_parameters()
        if not any(part in name for part in ("embeddings", "layer", "norm.", "encoder"))
        or name.startswith(("classifier", "head"))
    }
    assert whole >= above - {"model.final_norm.weight"}
    assert not any(
        "lora_" in n and ("classifier" in n or "pooler" in n) for n in model.state_dict()
    )
    adapters.save(model, base, tmp_path / "adapter")
    record = adapters.read_record(tmp_path / "adapter")
    assert (record.encoder, record.pooling) == (kind, "model")
    assert record.head_modules == heads_of(kind, "model") == head_modules(base.model)


def test_a_merged_pooled_classifier_is_a_folder_of_sentence_transformers(
    tmp_path: Path, sentences: Path
) -> None:
    library = pytest.importorskip("sentence_transformers")
    base, wanted = adapted(sentences, tmp_path / "adapter")
    assert base.pooling == "mean"
    merge_proved(base.folder, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    model = library.SentenceTransformer(str(tmp_path / "merged"), device="cpu")
    found = torch.tensor(model.encode([TEXTS[0]]))
    assert torch.allclose(found, wanted, atol=1e-4)


def test_transformers_own_class_does_not_take_a_pooled_head_for_its_own(
    tmp_path: Path, sentences: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    base, _ = adapted(sentences, tmp_path / "adapter")
    merge_proved(base.folder, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    _, found = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "merged", output_loading_info=True
    )
    assert "classifier.weight" in found["missing_keys"]


def test_the_head_of_a_merged_folder_is_part_of_its_identity(
    tmp_path: Path, sentences: Path
) -> None:
    base, _ = adapted(sentences, tmp_path / "adapter")
    merge_proved(base.folder, tmp_path / "adapter", tmp_path / "merged", TEXTS)
    before = identity(tmp_path / "merged")
    head = tmp_path / "merged" / "2_Dense" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(head).items()}, head)
    assert identity(tmp_path / "merged") != before


def test_a_text_is_read_through_the_mean_of_its_tokens_and_not_of_its_padding() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0, 4.0]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0, 2.0]]


def test_other_rows_of_a_batch_change_no_answer(sentences: Path) -> None:
    base = load(sentences)
    alone = features.embed(base, TEXTS[:1], max_length=64)
    together = features.embed(base, TEXTS, max_length=64)
    assert torch.allclose(alone[0], together[0], atol=1e-6)


def test_a_row_has_the_same_loss_each_time_it_is_trained_on(bert: Path) -> None:
    base = load(bert)
    model = adapters.inject(base, AdapterConfig(rank=2)).train()
    ids = torch.tensor([[1, 8, 9, 2]])
    found = [model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for _ in range(2)]
    assert torch.equal(*found)


@pytest.mark.parametrize(("kind", "limit"), [("bert", 512), ("roberta", 64), ("mpnet", 64)])
def test_a_text_is_cut_at_the_last_position_of_the_encoder(
    tmp_path: Path, kind: str, limit: int
) -> None:
    from finetune.encoding import encode_text

    base = load(encoders.make_encoder(tmp_path / "base", kind))
    example = encode_text(base.tokenizer, "my card " * 400, id="r", max_length=1024, label=0)
    assert len(example.input_ids) == limit
    assert example.num_cut
    ids = torch.tensor([example.input_ids])
    base.model(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_only_encoders_have_a_last_position_here() -> None:
    assert max_positions({"model_type": "llama", "max_position_embeddings": 8}) is None
    assert max_positions({"model_type": "modernbert", "max_position_embeddings": 8192}) == 8192


def test_a_checkpoint_with_a_pretraining_head_gives_the_same_base(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForMaskedLM

    plain = encoders.make_encoder(tmp_path / "plain")
    other = encoders.make_encoder(tmp_path / "other", seed=1)
    whole = AutoModelForMaskedLM.from_pretrained(other)
    whole.bert.load_state_dict(AutoModel.from_pretrained(plain).state_dict(), strict=False)
    whole.save_pretrained(other)
    tensors = [load_file(encoder_base.store(f) / "model.safetensors") for f in (plain, other)]
    assert not any(name.startswith("cls.") for name in tensors[1])
    for name, tensor in tensors[1].items():
        assert torch.equal(tensor, tensors[0][name])
    assert load(other, pooling="model").pooling == "model"  # its dense layer is new, and trained


def test_an_encoder_that_lacks_a_tensor_is_refused(tmp_path: Path, bert: Path) -> None:
    broken = shutil.copytree(bert, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    del tensors["encoder.layer.0.attention.self.query.weight"]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 tensors of a BertForSequenceClassification"):
        encoder_base.store(broken)


def test_albert_is_refused_with_the_reason(tmp_path: Path, bert: Path) -> None:
    copy = shutil.copytree(bert, tmp_path / "albert")
    values = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(values | {"model_type": "albert"}))
    with pytest.raises(InputError, match="one set of weights"):
        checkpoint.refuse_other_kinds(copy, "sequence-classification")


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_pooling_is_what_the_files_of_the_base_say(tmp_path: Path, pooling: Any) -> None:
    folder = encoders.make_encoder(tmp_path / "base", pooling=pooling)
    assert stated_pooling(folder) == pooling
    assert load(folder).pooling == pooling
    assert load(folder, pooling="model").pooling == "model"


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode": "lasttoken"},
        [],
        "text",
    ],
)
def test_a_pooling_that_is_not_supported_is_named(tmp_path: Path, settings: Any) -> None:
    folder = encoders.make_encoder(tmp_path / "base", pooling="mean")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"base\.pooling"):
        stated_pooling(folder)


def test_only_the_last_blocks_are_adapted_where_that_is_asked_for(
    tmp_path: Path, bert: Path
) -> None:
    adapted(bert, tmp_path / "adapter", last_layers=1)
    layers = adapters.read_record(tmp_path / "adapter").layers
    assert layers
    assert all(layer.startswith("bert.encoder.layer.1.") for layer in layers)


def test_an_adapter_of_another_pooling_is_refused(tmp_path: Path, bert: Path) -> None:
    adapted(bert, tmp_path / "adapter", pooling="mean")
    with pytest.raises(IntegrityError, match=r"set base\.pooling: mean"):
        adapters.load(load(bert, pooling="cls"), tmp_path / "adapter")


def edited_record(folder: Path, **values: Any) -> None:
    path = folder / "assay.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "values",
    [
        {"encoder": "bert"},
        {"encoder": "llama", "pooling": "mean"},
        {"encoder": "bert", "pooling": "max"},
        {"pooling": None},
        {"encoder": ["bert"]},
    ],
)
def test_a_record_of_an_encoder_that_there_is_not_is_refused(
    tmp_path: Path, bert: Path, values: dict[str, Any]
) -> None:
    adapted(bert, tmp_path / "adapter", pooling="mean")
    edited_record(tmp_path / "adapter", **({"encoder": None, "pooling": None} | values))
    with pytest.raises((IntegrityError, InputError)):
        adapters.load(load(bert, pooling="mean"), tmp_path / "adapter")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("base_model.model.bert.embeddings.word_embeddings.weight", "no part of an update"),
        ("base_model.model.bert.encoder.layer.0.output.dense.weight", "no part of an update"),
        ("base_model.model.pooled_classifier.extra", "has None"),
    ],
)
def test_an_adapter_that_brings_more_than_its_head_is_refused(
    tmp_path: Path, bert: Path, name: str, what: str
) -> None:
    adapted(bert, tmp_path / "adapter", pooling="mean")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file(load_file(path) | {name: torch.zeros(3, 64)}, path, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=what):
        adapters.load(load(bert, pooling="mean"), tmp_path / "adapter")


def examples(base: Any, count: int = 60) -> list[Example]:
    return tiny.class_examples(base.tokenizer, tiny.class_rows(count))


def test_a_head_that_begins_at_a_probe_tells_the_classes_apart(sentences: Path) -> None:
    base = load(sentences)
    model = adapters.inject(base, AdapterConfig(rank=2))
    rows, held = examples(base)[:45], examples(base)[45:]
    head_start.begin(base, model, rows, held, start="auto", is_private=False, seed=0)
    given = features.class_inputs(base, model, held)
    logits = features.class_layer(model)(given)
    wanted = torch.tensor([row.label for row in held])
    assert (logits.argmax(1) == wanted).float().mean() > 0.9
    assert not any("original_module" in n for n, p in model.named_parameters() if p.requires_grad)


def test_a_private_head_begins_at_zero_and_never_at_a_probe_of_the_rows(sentences: Path) -> None:
    base = load(sentences)
    model = adapters.inject(base, AdapterConfig(rank=2))
    head_start.begin(base, model, examples(base), [], start="auto", is_private=True, seed=0)
    assert not features.class_layer(model).weight.any()
    with pytest.raises(InputError, match="without noise"):
        head_start.begin(base, model, examples(base), [], start="probe", is_private=True, seed=0)


def test_a_probe_is_for_encoders(tiny_base: Path) -> None:
    base = tiny.load_base(tiny_base, labels=tiny.LABELS)
    model = adapters.inject(base, AdapterConfig(rank=2))
    with pytest.raises(InputError, match="is for encoders"):
        head_start.begin(base, model, examples(base), [], start="probe", is_private=False, seed=0)


def test_whitening_is_for_language_models(sentences: Path) -> None:
    base = load(sentences)
    model = adapters.inject(base, AdapterConfig(rank=2))
    with pytest.raises(InputError, match="whiten_head"), whitened(model, base, TEXTS, 64):
        pass
