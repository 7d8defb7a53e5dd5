"""Memory that runs out in a step halves the micro-batch; batch and gradient stay what they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from finetune import trainers
from finetune.config import AdapterConfig, TrainConfig
from finetune.encoding import Example
from finetune.errors import OutOfMemory
from finetune.loss import lm_losses
from finetune.memory import is_out_of_memory
from finetune.train import train
from tests import tiny

ON_A_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
)
ON_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def run(
    base_folder: Path, folder: Path, *, num_held_back: int = 0, dropout: float = 0.0, **more: Any
) -> tuple[dict[str, Tensor], list[str]]:
    """Train 8 rows in 4 steps; return the adapter, and what was told."""
    base = tiny.load_base(base_folder)
    rows: Sequence[Example] = tiny.chat_examples(base.tokenizer, tiny.chat_rows(8 + num_held_back))
    told: list[str] = []
    config = TrainConfig(
        epochs=4, batch_size=8, learning_rate=1e-2, num_threads=1, warmup_ratio=0, **more
    )
    train(
        base,
        rows[:8],
        rows[8:],
        adapter=AdapterConfig(rank=4, alpha=8.0, targets=("q_proj", "v_proj"), dropout=dropout),
        config=config,
        folder=folder,
        say=told.append,
    )
    return load_file(folder / "adapter" / "adapter_model.safetensors"), told


@contextmanager
def failing(
    error: Exception, *, at: Sequence[int] = (), with_tokens: int | None = None
) -> Iterator[list[int]]:
    """Fail in the forwards of these numbers, or in all with so many padded tokens; yield sizes."""
    sizes: list[int] = []

    def fails(model: Any, head: Any, micro_batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        sizes.append(micro_batch["input_ids"].numel())
        if len(sizes) in at or (with_tokens is not None and sizes[-1] >= with_tokens):
            raise error
        return lm_losses(model, head, micro_batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers, "lm_losses", fails)
        yield sizes


@pytest.fixture(scope="module")
def wanted(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The adapter of a run with memory enough, one micro-batch a step."""
    with failing(ON_A_CPU) as sizes:
        adapter, told = run(tiny_base, tmp_path_factory.mktemp("whole"))
    assert (len(sizes), told) == (4, [])
    return adapter


@pytest.mark.parametrize(
    ("error", "at"), [(MemoryError(), 1), (ON_A_CPU, 2), (ON_A_GPU, 4)], ids=("any", "cpu", "gpu")
)
def test_memory_that_runs_out_at_any_forward_changes_the_rounding_and_nothing_else(
    tiny_base: Path, tmp_path: Path, wanted: dict[str, Tensor], error: Exception, at: int
) -> None:
    with failing(error, at=[at]) as sizes:
        found, told = run(tiny_base, tmp_path / "cut")
    assert len(told) == 1
    assert "out of memory: from now on a micro-batch has at most" in told[0]
    assert "instead of 1024; the batch of a step stays as it is" in told[0]
    assert max(sizes[at:]) < max(sizes)  # this step and all later ones
    for name, tensor in wanted.items():
        # as in test_how_a_batch_is_cut_does_not_change_the_adapter
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)


def test_the_micro_batch_is_halved_until_it_fits(
    tiny_base: Path, tmp_path: Path, wanted: dict[str, Tensor]
) -> None:
    with failing(ON_A_CPU, with_tokens=65) as sizes:
        found, told = run(tiny_base, tmp_path / "cut")
    assert len(told) > 1
    assert max(sizes[-8:]) < 65
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_a_step_that_is_done_again_draws_the_same_dropout(tiny_base: Path, tmp_path: Path) -> None:
    with failing(ON_A_CPU, at=[1]):
        early, _ = run(tiny_base, tmp_path / "early", dropout=0.2)
    limit = {"max_tokens_per_micro_batch": 256}  # what was left after the fault
    fresh, _ = run(tiny_base, tmp_path / "fresh", dropout=0.2, **limit)
    assert all(torch.equal(early[name], tensor) for name, tensor in fresh.items())


def test_the_evaluation_of_held_back_rows_is_cut_as_well(tiny_base: Path, tmp_path: Path) -> None:
    with failing(ON_A_CPU) as sizes:
        wanted, _ = run(tiny_base, tmp_path / "whole", num_held_back=4)
    with failing(ON_A_CPU, at=[len(sizes) // 4]):  # the last forward of the first evaluation
        found, told = run(tiny_base, tmp_path / "cut", num_held_back=4)
    assert len(told) == 1
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)


def test_one_example_that_does_not_fit_is_told_in_a_line_and_the_run_can_go_on(
    tiny_base: Path, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"evaluations_per_epoch": 1}  # a checkpoint each step
    with failing(ON_A_CPU) as sizes:
        wanted, _ = run(tiny_base, tmp_path / "whole", **how)
    num_first = 2  # of 4 steps
    with (
        failing(ON_A_CPU, at=range(num_first * len(sizes) // 4 + 1, 1000)),
        pytest.raises(OutOfMemory) as refused,
    ):
        run(tiny_base, tmp_path / "cut", **how)
    told = str(refused.value)
    assert "\n" not in told
    assert told.startswith("out of memory, with one example in a micro-batch ([enforce fail at")
    assert "the same command goes on from the last checkpoint" in told
    assert (tmp_path / "cut" / "checkpoints" / f"checkpoint-{num_first}").is_dir()
    found, told_again = run(tiny_base, tmp_path / "cut", **how)
    assert told_again == []
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_memory_that_runs_out_beside_a_step_is_told_in_a_line(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(torch.optim.AdamW, "step", fails)
    with pytest.raises(OutOfMemory, match="out of memory beside the steps of the training"):
        run(tiny_base, tmp_path)


def test_a_bug_is_no_lack_of_memory(tiny_base: Path, tmp_path: Path) -> None:
    bug = RuntimeError("shapes do not match")
    assert not is_out_of_memory(bug)
    with failing(bug, at=[2]), pytest.raises(RuntimeError, match="shapes do not match"):
        run(tiny_base, tmp_path)
