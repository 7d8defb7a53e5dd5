"""Blocks below the first adapted one: run once a row, and the training is the same training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from finetune import adapter as adapters
from finetune import frozen_blocks
from finetune.config import AdapterConfig, TrainConfig
from finetune.encoding import Batch, collate
from finetune.frozen_blocks import num_frozen, run_once
from finetune.train import train
from tests import tiny

LAST = AdapterConfig(rank=4, alpha=8.0, last_layers=1)
QUICK = TrainConfig(
    epochs=2, batch_size=4, learning_rate=1e-2, logging_steps=1, num_threads=1, warmup_ratio=0
)


@pytest.fixture
def base(tiny_base: Path) -> Any:
    return tiny.load_base(tiny_base)


def batch_of(base: Any, num: int = 6) -> Batch:
    rows = tiny.chat_examples(base.tokenizer, tiny.chat_rows(num))
    return collate(rows, pad_id=base.tokenizer.pad_token_id, max_tokens=128)


def logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits[batch["attention_mask"].bool()]
    return found


def test_what_is_trained_is_what_would_have_been_and_the_blocks_below_are_not_run_again(
    base: Any, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tiny.chat_examples(base.tokenizer, tiny.chat_rows(8))
    calls, read = [0, 0], []
    for number, block in enumerate(base.model.model.layers):

        def count(*_: Any, number: int = number) -> None:
            calls[number] += 1

        block.register_forward_hook(count)
    train(
        base,
        rows[:6],
        rows[6:],
        adapter=LAST,
        config=QUICK,
        folder=tmp_path / "once",
        on_rows=read.append,
    )
    assert sum(read) == 8
    assert calls[0] < calls[1], "the frozen block ran as often as the trained one"
    monkeypatch.setattr(frozen_blocks, "num_frozen", lambda _: 0)
    train(
        tiny.load_base(tiny_base),
        rows[:6],
        rows[6:],
        adapter=LAST,
        config=QUICK,
        folder=tmp_path / "every",
    )
    once, every = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")
        for name in ("once", "every")
    )
    assert once.keys() == every.keys()
    for name, tensor in once.items():
        torch.testing.assert_close(tensor, every[name], rtol=1e-3, atol=1e-4)


def test_rows_that_are_known_begin_at_the_first_adapted_block_and_others_do_not(base: Any) -> None:
    model = adapters.inject(base, LAST).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    assert num_frozen(model) == 1
    known = batch_of(base).micro_batches
    (stranger,) = collate(
        tiny.chat_examples(base.tokenizer, tiny.chat_rows(9)[8:]),
        pad_id=base.tokenizer.pad_token_id,
        max_tokens=128,
    ).micro_batches
    ran: list[int] = []
    base.model.model.layers[0].register_forward_hook(lambda *_: ran.append(1))
    before = [logits(model, batch) for batch in (*known, stranger)]
    with run_once(model, known) as count:
        assert count == 1
        ran.clear()
        seen = [logits(model, batch) for batch in known]
        assert not ran
        seen.append(logits(model, stranger))
        assert ran
        mixed = {key: torch.cat([known[0][key][:1, :5]] * 2) for key in known[0]}
        mixed["input_ids"][1, 0] += 1  # one known row, cut, and one that nobody has seen
        ran.clear()
        logits(model, mixed)
        assert ran
    for found, wanted in zip(seen, before, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    ran.clear()
    logits(model, known[0])
    assert ran
    assert "forward" not in vars(base.model.model)
    assert len(base.model.model.layers) == 2


def test_nothing_is_kept_where_it_would_be_wrong_or_too_much(base: Any) -> None:
    model = adapters.inject(base, LAST)
    batches = batch_of(base).micro_batches
    with run_once(model, batches, max_bytes=1000) as count:
        assert count == 0
    scaled = base.model.model.layers[1].register_forward_pre_hook(
        lambda _, args: (args[0] * 2.0, *args[1:])
    )  # once when it is kept, and once more when it is used
    with run_once(model, batches) as count:
        assert count == 0
        assert "forward" not in vars(base.model.model)
    scaled.remove()
    with run_once(model, batches) as count:
        assert count == 1
    embeddings = base.model.get_input_embeddings()
    embeddings.requires_grad_(True)
    assert num_frozen(model) == 0
    embeddings.requires_grad_(False)
    base.model.config.attention_dropout = 0.1
    assert num_frozen(model) == 0
    base.model.config.attention_dropout = 0.0
    assert num_frozen(model) == 1
    for parameter in base.model.model.layers[0].parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    assert num_frozen(model) == 0


def test_an_adapter_on_all_blocks_leaves_nothing_to_keep(base: Any) -> None:
    model = adapters.inject(base, AdapterConfig(rank=4))
    assert num_frozen(model) == 0
    read: list[int] = []
    with run_once(model, batch_of(base).micro_batches, on_rows=read.append) as count:
        assert (count, read) == (0, [])
