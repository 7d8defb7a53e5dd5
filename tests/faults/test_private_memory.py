"""Memory that runs out in a private step: the same sums in smaller pieces, one noise and charge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from finetune import trainers
from finetune.config import AdapterConfig, TrainConfig
from finetune.errors import OutOfMemory
from finetune.loss import classification_losses
from finetune.train import StepRule, train
from privacy import trainer as private
from privacy.ledger import Ledger, verify
from privacy.mechanism import PoissonSampler, SeededRandomness
from privacy.plan import PrivacyConfig, make_plan
from privacy.trainer import private_trainer
from tests import tiny

PLAN = make_plan(
    PrivacyConfig(epsilon=None, noise_multiplier=0.5, delta=1e-3),
    num_examples=12,
    batch_size=8,
    epochs=3,
)


def run(base_folder: Path, folder: Path, told: list[str]) -> dict[str, Tensor]:
    """Train with draws and noise that a seed repeats."""
    folder.mkdir(exist_ok=True)
    randomness = SeededRandomness(3)
    base = tiny.load_base(base_folder, labels=tiny.LABELS)
    ledger = Ledger.open(folder / "ledger.jsonl", PLAN, data="d", is_private=False)
    train(
        base,
        tiny.class_examples(base.tokenizer, tiny.class_rows(PLAN.num_examples)),
        [],
        adapter=AdapterConfig(rank=2, alpha=4.0, targets=("q_proj",)),
        config=TrainConfig(epochs=3, batch_size=8, num_threads=1, learning_rate=1e-2),
        folder=folder,
        rule=StepRule(
            schedule=PoissonSampler(PLAN, randomness),
            wrap=lambda kind: private_trainer(
                kind, plan=PLAN, ledger=ledger, randomness=randomness
            ),
        ),
        say=told.append,
    )
    return load_file(folder / "adapter" / "adapter_model.safetensors")


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each forward; one that is in ``fail_at`` by its number runs out of memory."""
    seen: list[int] = []

    def counted(model: Any, micro_batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        seen.append(len(micro_batch["input_ids"]))
        if len(seen) in FAIL_AT:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return classification_losses(model, micro_batch)

    monkeypatch.setattr(trainers, "classification_losses", counted)
    FAIL_AT.clear()
    return seen


FAIL_AT: set[int] = set()


def test_a_private_step_that_is_cut_smaller_is_the_same_step_and_charged_once(
    tiny_base: Path, tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    wanted = run(tiny_base, tmp_path / "whole", told)
    num_forwards = len(sizes)
    assert told == []
    sizes.clear()
    draws = []
    noisy_mean = private.noisy_mean
    monkeypatch.setattr(private, "noisy_mean", lambda *args: draws.append(1) or noisy_mean(*args))
    FAIL_AT.add(num_forwards - 1)  # in one of the last steps
    found = run(tiny_base, tmp_path / "cut", told)
    assert len(told) == 1
    assert told[0].startswith("out of memory: from now on a micro-batch has at most")
    assert len(draws) == PLAN.steps
    assert verify(tmp_path / "cut" / "ledger.jsonl").steps == tuple(range(1, PLAN.steps + 1))
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)


def test_what_is_told_of_memory_in_a_private_run_tells_nothing_of_its_batches(
    tiny_base: Path, tmp_path: Path, sizes: list[int]
) -> None:
    told: list[str] = []
    FAIL_AT.update(range(8, 1000))  # from somewhere in the first steps on
    with pytest.raises(OutOfMemory) as refused:
        run(tiny_base, tmp_path, told)
    assert sizes[-1] == 1
    assert "with one example in a micro-batch. Lower train.max_length" in str(refused.value)
    assert "GiB" not in str(refused.value)
    limits = [int(note.partition("at most ")[2].split()[0]) for note in told]
    assert limits
    assert set(limits) <= {1024 >> i for i in range(11)}  # halves of the setting, of no row
    charged = verify(tmp_path / "ledger.jsonl").steps_charged

    FAIL_AT.clear()
    run(tiny_base, tmp_path, told)
    assert verify(tmp_path / "ledger.jsonl").steps_charged == PLAN.steps > charged
