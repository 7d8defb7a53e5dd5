"""Features come out alike in all directions, and the head that learned on them is one matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from finetune import adapter as adapters
from finetune.config import AdapterConfig, TrainConfig
from finetune.errors import InputError
from finetune.train import train
from finetune.whitened_head import _features, whitened, whitening
from tests import tiny

TEXTS = ("Where is my card?", "How much is a transfer?", "Thank you!", "No.")
WHITENED = AdapterConfig(rank=4, alpha=8.0, whiten_head=True)


@pytest.fixture
def base(tiny_base: Path) -> Any:
    return tiny.load_base(tiny_base, labels=tiny.LABELS)


@given(st.integers(1, 30), st.integers(2, 12), st.integers(0, 2**31), st.floats(0.1, 100.0))
def test_no_direction_is_left_with_most_of_the_energy(
    num: int, width: int, seed: int, size: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    one_way = size * torch.randn(width, generator=generator)
    features = torch.randn(num, width, generator=generator) + 10 * one_way
    found = whitening(features)
    torch.testing.assert_close(found, found.T, atol=1e-4, rtol=1e-4)
    assert float((features @ found).norm(dim=1).mean()) == pytest.approx(1.0, rel=1e-3)
    before = torch.linalg.eigvalsh(features.T @ features).clamp(min=0)
    after = torch.linalg.eigvalsh((features @ found).T @ (features @ found)).clamp(min=0)
    assert float(after.max() / after.sum()) <= float(before.max() / before.sum()) + 1e-3


def test_many_features_are_whitened_but_for_the_shrinkage() -> None:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(6, 6, generator=generator) * torch.tensor([9.0, 3, 3, 3, 3, 3])
    features = torch.randn(5000, 6, generator=generator) @ mixed
    seen = features @ whitening(features)
    energies = torch.linalg.eigvalsh(seen.T @ seen / len(seen))
    given_ = torch.linalg.eigvalsh(features.T @ features / len(features))
    expected = given_ / (given_ + 0.1 * given_.mean())
    torch.testing.assert_close(
        energies / energies.sum(), expected / expected.sum(), rtol=1e-3, atol=1e-4
    )


def test_features_are_those_of_each_text_alone(base: Any) -> None:
    model = tiny.as_if_trained(adapters.inject(base, WHITENED))
    heads = [m for m in model.get_base_model().score.modules() if isinstance(m, nn.Linear)]
    [head] = [m for m in heads if m.weight.requires_grad]
    together = _features(model, head, base, TEXTS, 256)
    alone = torch.cat([_features(model, head, base, [text], 256) for text in TEXTS])
    assert together.shape == alone.shape
    for row in alone:
        assert float((together - row).abs().amax(1).min()) < 1e-5
    assert float((together[0] - together[1]).abs().max()) > 1e-3


def test_the_folded_head_answers_as_the_whitened_one_did(base: Any) -> None:
    model = tiny.as_if_trained(adapters.inject(base, WHITENED))
    plain = tiny.logits(base, model)
    with whitened(model, base, TEXTS, 256):
        trained = tiny.logits(base, model)
    folded = tiny.logits(base, model)
    torch.testing.assert_close(folded, trained, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain, trained, atol=1e-3)


def test_a_training_that_failed_leaves_no_hook(base: Any) -> None:
    model = tiny.as_if_trained(adapters.inject(base, WHITENED))
    plain = tiny.logits(base, model)
    with pytest.raises(KeyboardInterrupt), whitened(model, base, TEXTS, 256):
        raise KeyboardInterrupt
    assert torch.equal(tiny.logits(base, model), plain)


def test_what_is_saved_is_folded_and_loads_as_any_adapter(
    base: Any, tiny_base: Path, tmp_path: Path
) -> None:
    rows = tiny.class_examples(base.tokenizer, tiny.class_rows(12))
    config = TrainConfig(epochs=6, batch_size=4, learning_rate=1e-2, num_threads=1, warmup_ratio=0)
    train(
        base, rows, [], adapter=WHITENED, config=config, folder=tmp_path, public_texts=TEXTS
    )  # fmt: skip
    again = tiny.load_base(tiny_base, labels=tiny.LABELS)
    model = adapters.attach(again, {"default": tmp_path / "adapter"})
    right = 0
    for example in rows:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example.input_ids])).logits
        right += int(logits.argmax()) == example.label
    assert right >= 10  # of 12 that were learned


def test_only_a_classifier_has_a_head_to_whiten(tiny_base: Path, tmp_path: Path) -> None:
    base = tiny.load_base(tiny_base)
    rows = tiny.chat_examples(base.tokenizer, tiny.chat_rows(4))
    with pytest.raises(InputError, match=r"adapter\.whiten_head: only the classification recipe"):
        train(base, rows, [], adapter=WHITENED, config=TrainConfig(), folder=tmp_path)
