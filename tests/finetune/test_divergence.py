"""A loss that is no number, or beyond all measure, ends a run before the optimizer moves by it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from finetune import trainers
from finetune.config import AdapterConfig, TrainConfig
from finetune.divergence import MARGIN, LossGuard
from finetune.errors import IntegrityError
from finetune.loss import classification_losses
from finetune.resume import damage
from finetune.train import StepRule, train
from tests import tiny


def run(base_folder: Path, folder: Path, rule: StepRule | None = None, **more: Any) -> None:
    base = tiny.load_base(base_folder, labels=tiny.LABELS)
    rows = tiny.class_examples(base.tokenizer, tiny.class_rows(8))
    train(
        base,
        rows,
        [],
        adapter=AdapterConfig(rank=4, alpha=8.0, targets=("q_proj",)),
        config=TrainConfig(**({"epochs": 6, "batch_size": 4, "num_threads": 1} | more)),
        folder=folder,
        rule=rule,
    )


def spoil(patch: pytest.MonkeyPatch, value: float, *, first_forward: int, row: int) -> None:
    """From a forward on, let a row of every micro-batch have this loss."""
    num_forwards = 0

    def spoilt(model: Any, micro_batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        nonlocal num_forwards
        num_forwards += 1
        losses, weights = classification_losses(model, micro_batch)
        if num_forwards >= first_forward:
            losses = torch.where(torch.arange(len(losses)) == row, losses * value, losses)
        return losses, weights

    patch.setattr(trainers, "classification_losses", spoilt)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_rows_without_a_loss_are_named_and_the_last_good_checkpoint_is_kept(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    spoil(monkeypatch, value, first_forward=4, row=1)
    with pytest.raises(IntegrityError) as stopped:
        run(tiny_base, tmp_path)  # two steps an epoch; the log is written at step 5
    told = str(stopped.value)
    assert told.startswith(f"training diverged: loss is {value} at step 4, in 1 of the 4 rows of")
    named = told.partition("its batch: ")[2].partition(";")[0]
    assert named in [row["id"] for row in tiny.class_rows(8)]
    assert told.endswith(
        "; checkpoint-2, from before it, is kept; lower train.learning_rate, or look at these rows"
    )
    assert not any(row["text"] in told for row in tiny.class_rows(8))
    assert damage(tmp_path / "checkpoints" / "checkpoint-2") is None
    assert not (tmp_path / "adapter").exists()


def test_a_loss_that_explodes_ends_the_run_and_names_the_batch(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, 1e4, first_forward=4, row=0)
    with pytest.raises(IntegrityError) as stopped:
        run(tiny_base, tmp_path)
    told = str(stopped.value)
    assert "training diverged: the loss has exploded at step 4" in told
    assert "the batch of this step has 4 rows: c" in told
    assert (tmp_path / "checkpoints" / "checkpoint-2").is_dir()


@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_a_gradient_that_is_no_number_reaches_no_checkpoint(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_grad_norm: float
) -> None:
    backward = trainers.BatchSteps._backward
    num_steps = 0

    def broken(self: Any, model: Any, batch: Any) -> Any:
        nonlocal num_steps
        num_steps += 1
        done = backward(self, model, batch)
        if num_steps == 4:
            next(p for p in model.parameters() if p.requires_grad).grad[0, 0] = math.nan
        return done

    monkeypatch.setattr(trainers.BatchSteps, "_backward", broken)
    with pytest.raises(IntegrityError) as stopped:
        run(tiny_base, tmp_path, max_grad_norm=max_grad_norm)
    told = str(stopped.value)
    assert "the gradient's norm is nan at step 4" in told
    assert "checkpoint-2, from before it, is kept" in told
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["checkpoint-2"]


def test_a_run_whose_rows_are_private_names_none(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def private(trainer: type[Any]) -> type[Any]:
        return type("Private", (trainer,), {"names_rows": False})

    spoil(monkeypatch, math.nan, first_forward=2, row=0)
    with pytest.raises(IntegrityError) as stopped:
        run(tiny_base, tmp_path, StepRule([[0, 1], [2, 3], [4, 5]], private))
    told = str(stopped.value)
    assert "which rows its batch had is private, and not told" in told
    assert not any(row["id"] in told for row in tiny.class_rows(8))


@given(st.lists(st.floats(0, 12), min_size=1, max_size=40), st.floats(0.1, 12))
def test_losses_of_models_that_only_learn_badly_stop_nothing(
    losses: list[float], chance: float
) -> None:
    """Up to a dozen nats on every step: bad, and not beyond all measure for a vocabulary."""
    guard = LossGuard(chance=max(chance, 2.0))
    assert not any(guard.explodes(loss) for loss in losses)


def test_one_unlucky_batch_is_no_explosion() -> None:
    guard = LossGuard(chance=1.0)
    assert not any(guard.explodes(loss) for loss in (1.0, 1.0, 1.0, 30.0, 1.0, 1.0, 30.0, 1.0))
    beyond = 1.0 + MARGIN + 0.1
    assert LossGuard(chance=1.0).explodes(beyond) is False  # it began there
