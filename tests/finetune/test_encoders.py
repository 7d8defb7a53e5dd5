"""Classifiers on encoders of each kind: loaded, adapted, saved, merged, loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune import adapter as adapters
from finetune import checkpoint
from finetune.config import AdapterConfig, CheckpointConfig
from finetune.encoder_kinds import ENCODERS, heads_of
from finetune.proof import merge_proved
from tests import encoders, tiny

TEXTS = ["my card again 7", "why fee", "loan rate plan bill 12?", "hi"]


def base_of(folder: Path, quantization: Any = "none", pooling: Any = "auto", **how: Any) -> Any:
    resolved = checkpoint.resolve(CheckpointConfig(checkpoint=str(folder)))
    torch.manual_seed(0)
    return checkpoint.load(
        resolved,
        quantization=quantization,
        head="sequence-classification",
        labels=tiny.LABELS,
        pooling=pooling,
        dtype=torch.float32,
        **how,
    )


def test_every_kind_has_a_small_encoder() -> None:
    assert set(encoders.KINDS) == set(ENCODERS)


@pytest.mark.parametrize("pooling", ["model", "mean"])
@pytest.mark.parametrize("kind", encoders.KINDS)
def test_an_encoder_of_each_kind_is_adapted_saved_and_merged(
    tmp_path: Path, kind: str, pooling: Any
) -> None:
    source = encoders.make_encoder(tmp_path / "base", kind)
    base = base_of(source, "nf4" if kind in ("bert", "roberta") else "none", pooling)
    model = tiny.as_if_trained(adapters.inject(base, AdapterConfig(rank=4)))
    wanted = tiny.logits(base, model, TEXTS[0])
    adapters.save(model, base, tmp_path / "adapter")

    again = base_of(source, "nf4" if kind in ("bert", "roberta") else "none", pooling)
    loaded = adapters.load(again, tmp_path / "adapter")
    assert torch.equal(tiny.logits(again, loaded, TEXTS[0]), wanted)
    record = adapters.read_record(tmp_path / "adapter")
    assert (record.encoder, record.pooling) == (kind, pooling)
    assert record.head_modules == heads_of(kind, pooling)

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
    assert torch.allclose(tiny.logits(merged, merged.model, TEXTS[0]), wanted, atol=0.02)
