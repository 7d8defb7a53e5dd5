from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from finetune import adapter as adapters
from finetune import train as training
from finetune import trainers
from finetune.config import AdapterConfig, TrainConfig
from finetune.encoding import Example, collate, weigh_classes
from finetune.errors import InputError, IntegrityError
from finetune.loss import classification_losses, lm_losses
from finetune.train import StepInfo, StepRule, TrainResult, plain_schedule, train
from tests import tiny

ADAPTER = AdapterConfig(rank=4, alpha=8.0, targets=("q_proj", "v_proj"))
QUICK = TrainConfig(
    epochs=2, batch_size=4, learning_rate=1e-2, logging_steps=1, num_threads=1, warmup_ratio=0
)


@pytest.fixture
def base(tiny_base: Path) -> Any:
    return tiny.load_base(tiny_base)


@pytest.fixture
def rows(base: Any) -> list[Example]:
    return tiny.chat_examples(base.tokenizer, tiny.chat_rows(8))


def run(
    base: Any, rows: Sequence[Example], folder: Path, held_back: Sequence[Example] = (), **more: Any
) -> TrainResult:
    config = TrainConfig(**(QUICK.model_dump() | more))
    return train(base, rows, held_back, adapter=ADAPTER, config=config, folder=folder)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(folder / "adapter" / "adapter_model.safetensors")
    return found


# the order of the rows


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=200),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_every_row_comes_once_an_epoch(
    lengths: list[int], batch_size: int, epochs: int, seed: int
) -> None:
    config = TrainConfig(epochs=epochs, batch_size=batch_size, seed=seed)
    schedule = plain_schedule(lengths, config)
    per_epoch = math.ceil(len(lengths) / batch_size)
    assert len(schedule) == per_epoch * epochs
    for epoch in range(epochs):
        batches = schedule[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        assert sum(len(batch) < batch_size for batch in batches) <= 1
    assert schedule == plain_schedule(lengths, config)


def test_another_seed_and_another_epoch_have_another_order() -> None:
    lengths = [10] * 64
    first, second = (
        plain_schedule(lengths, TrainConfig(epochs=2, batch_size=8, seed=s)) for s in (0, 1)
    )
    assert first != second
    assert first[:8] != first[8:]


def test_part_of_an_epoch_is_part_of_the_steps() -> None:
    whole = plain_schedule([1] * 40, TrainConfig(epochs=2, batch_size=4))
    assert plain_schedule([1] * 40, TrainConfig(epochs=1.5, batch_size=4)) == whole[:15]
    assert len(plain_schedule([1] * 40, TrainConfig(epochs=0.001, batch_size=4))) == 1


def test_rows_of_similar_length_come_together() -> None:
    lengths = [(i * 37) % 400 for i in range(256)]
    config = TrainConfig(epochs=1, batch_size=8)
    spread = [
        max(lengths[i] for i in batch) - min(lengths[i] for i in batch)
        for batch in plain_schedule(lengths, config)
    ]
    # a block holds 128 of them, so a batch spans a sixteenth of the range, about
    assert sum(spread) / len(spread) < 50
    starts = [lengths[batch[0]] for batch in plain_schedule(lengths, config)]
    assert any(a > b for a, b in pairwise(starts))  # but not from short to long


# what a run leaves


def test_a_run_learns_and_says_what_it_did(base: Any, rows: list[Example], tmp_path: Path) -> None:
    steps: list[StepInfo] = []
    result = train(
        base, rows[:6], rows[6:], adapter=ADAPTER, config=QUICK, folder=tmp_path,
        on_step=steps.append,
    )  # fmt: skip
    assert result.num_steps == 4  # two batches (4 and 2 rows) an epoch
    assert result.num_tokens == 2 * sum(len(e.input_ids) for e in rows[:6])
    assert result.num_parameters == 2 * 2 * 2 * 4 * 64
    assert result.resumed_from is None
    assert result.num_seconds > 0

    assert [s.step for s in steps] == [1, 2, 3, 4]
    assert {s.num_steps for s in steps} == {4}
    assert steps[-1].seconds_left == 0
    assert all(s.tokens_per_second > 0 for s in steps)

    log = lines(tmp_path)
    assert [x["step"] for x in log if "loss" in x] == [1, 2, 3, 4]
    assert [x["step"] for x in log if "eval_loss" in x] == [2, 4]
    for line in log:
        wanted = {"step", "eval_loss"} if "eval_loss" in line else None
        assert set(line) == (wanted or {"step", "loss", "grad_norm", "learning_rate"})
    losses = [x["loss"] for x in log if "loss" in x]
    assert min(losses[2:]) < min(losses[:2])
    assert steps[-1].loss == losses[-2]  # the last line that was written before
    assert result.best_eval_loss == min(x["eval_loss"] for x in log if "eval_loss" in x)


def test_the_logged_loss_is_the_mean_over_the_supervised_tokens_of_the_batch(
    base: Any, rows: list[Example], tmp_path: Path
) -> None:
    batch = collate(rows, pad_id=0, max_tokens=10_000)
    sums = [lm_losses(base.model, base.model.lm_head, m) for m in batch.micro_batches]
    mean = sum(s.sum() for s, _ in sums) / sum(w.sum() for _, w in sums)
    run(base, rows, tmp_path, batch_size=8, epochs=1)
    # the new adapter adds exactly nothing; float32 sums in another order
    assert lines(tmp_path)[0]["loss"] == pytest.approx(mean.item(), abs=1e-5)


def test_how_a_batch_is_cut_does_not_change_the_adapter(
    tiny_base: Path, rows: list[Example], tmp_path: Path
) -> None:
    made = []
    for max_tokens in (1, 100, 100_000):
        folder = tmp_path / str(max_tokens)
        base = tiny.load_base(tiny_base)
        run(base, rows, folder, batch_size=8, epochs=3, max_tokens_per_micro_batch=max_tokens)
        made.append(weights(folder))
    for other in made[1:]:
        for name, tensor in made[0].items():
            # float32 sums in another order: 1e-7 of the gradient, times three steps of 1e-2,
            # where Adam divides by a small gradient
            torch.testing.assert_close(tensor, other[name], atol=1e-6, rtol=0)


def test_the_same_seed_makes_the_same_adapter_and_another_seed_another(
    tiny_base: Path, rows: list[Example], tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tiny.load_base(tiny_base), rows, tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / n / "adapter" / "adapter_model.safetensors").read_bytes() for n in "abc")
    assert a == b
    assert a != c


def test_the_adapter_of_a_4_bit_base_is_trained_in_float32(tiny_base: Path, tmp_path: Path) -> None:
    """trl would round it to bfloat16."""
    base = tiny.load_base(tiny_base, "nf4", dtype="bfloat16")
    run(base, tiny.chat_examples(base.tokenizer, tiny.chat_rows(4)), tmp_path)
    for tensor in weights(tmp_path).values():
        assert tensor.dtype == torch.float32
        assert not tensor.bfloat16().float().equal(tensor)


def test_training_leaves_the_base_and_its_attention_as_they_were(
    base: Any, rows: list[Example], tmp_path: Path
) -> None:
    before = {n: p.clone() for n, p in base.model.named_parameters()}
    attention = base.model.config._attn_implementation
    run(base, rows, tmp_path)
    assert base.model.config._attn_implementation == attention
    after = {n.replace(".base_layer", ""): p for n, p in base.model.named_parameters()}
    assert all(torch.equal(p, after[n]) for n, p in before.items())


def _stubborn(base: Any, tiny_rows: list[list[dict[str, str]]]) -> list[Example]:
    """The same questions with other answers: the better the rows are learned, the worse these."""
    other = [[row[0], {"role": "assistant", "content": "zzzzzz"}] for row in tiny_rows]
    return tiny.chat_examples(base.tokenizer, other)


def _mean_loss(base: Any, model: Any, examples: Sequence[Example]) -> float:
    with torch.no_grad():
        batch = collate(examples, pad_id=0, max_tokens=100_000)
        found = [lm_losses(model, base.model.lm_head, m) for m in batch.micro_batches]
    return float(sum(s.sum() for s, _ in found) / sum(w.sum() for _, w in found))


def test_the_best_checkpoint_is_kept_not_the_last(
    tiny_base: Path, base: Any, rows: list[Example], tmp_path: Path
) -> None:
    held_back = _stubborn(base, tiny.chat_rows(8))
    result = run(base, rows, tmp_path, held_back, epochs=6, schedule="constant")
    seen = [x["eval_loss"] for x in lines(tmp_path) if "eval_loss" in x]
    assert len(seen) == 6
    assert result.best_eval_loss == min(seen) < seen[-1]
    assert result.best_step == 2 * (seen.index(min(seen)) + 1) < result.num_steps
    fresh = tiny.load_base(tiny_base)
    kept = _mean_loss(fresh, adapters.load(fresh, tmp_path / "adapter"), held_back)
    assert kept == pytest.approx(min(seen), abs=1e-5)  # float32, other batches


def test_training_stops_early_when_the_held_back_rows_get_worse(
    base: Any, rows: list[Example], tmp_path: Path
) -> None:
    held_back = _stubborn(base, tiny.chat_rows(8))
    result = run(base, rows, tmp_path, held_back, epochs=9, schedule="constant", early_stopping=2)
    seen = [x["eval_loss"] for x in lines(tmp_path) if "eval_loss" in x]
    assert result.num_steps < 18
    assert len(seen) == seen.index(min(seen)) + 1 + 2
    assert result.best_eval_loss == min(seen)


def test_how_long_early_stopping_has_waited_outlives_an_interruption(
    tiny_base: Path, rows: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_it(folder: Path) -> TrainResult:
        base = tiny.load_base(tiny_base)
        held_back = _stubborn(base, tiny.chat_rows(8))
        return run(base, rows, folder, held_back, epochs=9, schedule="constant", early_stopping=2)

    whole = train_it(tmp_path / "whole")
    keep = training.Watch.on_save

    def stop_while_waiting(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        keep(self, args, state, control, **more)
        if state.global_step == whole.num_steps - 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Watch, "on_save", stop_while_waiting)
        with pytest.raises(KeyboardInterrupt):
            train_it(tmp_path / "cut")
    again = train_it(tmp_path / "cut")
    assert again.resumed_from == whole.num_steps - 2
    assert again.num_steps == whole.num_steps
    assert again.best_step == whole.best_step


def test_a_run_that_was_complete_is_only_saved_again(
    tiny_base: Path, rows: list[Example], tmp_path: Path
) -> None:
    first = run(tiny.load_base(tiny_base), rows[:6], tmp_path, rows[6:])
    before = weights(tmp_path), lines(tmp_path)
    again = run(tiny.load_base(tiny_base), rows[:6], tmp_path, rows[6:])
    assert (again.resumed_from, again.num_tokens) == (first.num_steps, 0)
    assert again.best_eval_loss == first.best_eval_loss
    assert all(t.equal(before[0][n]) for n, t in weights(tmp_path).items())
    assert lines(tmp_path) == before[1]


# what a run refuses


def test_a_run_without_rows_is_refused(base: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row to train on"):
        run(base, [], tmp_path)


@pytest.mark.parametrize("num_held_back", [0, 2])
@pytest.mark.parametrize("first_bad", [0, 3])
def test_a_loss_that_is_not_a_number_ends_the_run_without_an_adapter(
    base: Any, rows: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    first_bad: int, num_held_back: int,
) -> None:  # fmt: skip
    num_losses = 0

    def breaks(model: Any, head: Any, micro_batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        nonlocal num_losses
        sums, counts = lm_losses(model, head, micro_batch)
        num_losses += model.training
        return sums * (math.nan if num_losses > first_bad and model.training else 1), counts

    monkeypatch.setattr(trainers, "lm_losses", breaks)
    held_back = rows[len(rows) - num_held_back :]
    with pytest.raises(IntegrityError, match="training diverged: loss is nan at step"):
        run(base, rows[:6], tmp_path, held_back)
    assert not (tmp_path / "adapter").exists()
    assert "NaN" not in (tmp_path / "training.jsonl").read_text()


def test_an_adapter_that_is_broken_at_the_very_end_is_not_saved(
    base: Any, rows: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = torch.optim.AdamW.step

    def breaks(self: Any, *args: Any, **more: Any) -> Any:
        step(self, *args, **more)
        self.param_groups[0]["params"][0].data[0, 0] = math.inf

    monkeypatch.setattr(torch.optim.AdamW, "step", breaks)
    with pytest.raises(IntegrityError, match="1 of 8 trained tensors hold NaN or infinity after 1"):
        run(base, rows, tmp_path, batch_size=8, epochs=1)
    assert not (tmp_path / "adapter").exists()


def test_a_run_that_changed_nothing_is_refused(
    base: Any, rows: list[Example], tmp_path: Path
) -> None:
    unsupervised = [replace(e, supervised=(False,) * len(e.supervised)) for e in rows]
    with pytest.raises(IntegrityError, match="changed no parameter"):
        run(base, unsupervised, tmp_path)
    assert not (tmp_path / "adapter").exists()


# classification


def test_class_weights_weigh_the_loss_that_is_learned(tiny_base: Path, tmp_path: Path) -> None:
    base = tiny.load_base(tiny_base, labels=tiny.LABELS)
    rows = tiny.class_examples(base.tokenizer, tiny.class_rows(8))[:7]  # 3, 2 and 2 of a class
    weighed = weigh_classes(rows, 3)
    batch = collate(weighed, pad_id=base.tokenizer.pad_token_id, max_tokens=10_000)
    found = [classification_losses(base.model, m) for m in batch.micro_batches]
    mean = sum(s.sum() for s, _ in found) / sum(e.weight for e in weighed)
    run(base, weighed, tmp_path / "weighed", batch_size=8, epochs=1)
    assert lines(tmp_path / "weighed")[0]["loss"] == pytest.approx(mean.item(), abs=1e-5)

    run(tiny.load_base(tiny_base, labels=tiny.LABELS), rows, tmp_path / "not", batch_size=8)
    assert lines(tmp_path / "not")[0]["loss"] != pytest.approx(mean.item(), abs=1e-5)


@pytest.mark.parametrize("is_multi_label", [False, True])
def test_a_classifier_and_its_new_head_are_trained_and_saved(
    tiny_base: Path, tmp_path: Path, is_multi_label: bool
) -> None:
    base = tiny.load_base(
        tiny_base, "nf4", dtype="bfloat16", labels=tiny.LABELS, is_multi_label=is_multi_label
    )
    head = base.model.score.weight.detach().clone()
    rows = tiny.class_examples(base.tokenizer, tiny.class_rows(12))
    if is_multi_label:
        rows = [replace(e, label=tuple(float(e.label == c) for c in range(3))) for e in rows]
    result = run(base, rows[:9], tmp_path, rows[9:], epochs=4)
    losses = [x["eval_loss"] for x in lines(tmp_path) if "eval_loss" in x]
    assert result.best_eval_loss == min(losses) < losses[0]
    saved = weights(tmp_path)
    assert not saved["base_model.model.score.weight"].equal(head.float())
    record = adapters.read_record(tmp_path / "adapter")
    assert (record.labels, record.is_multi_label) == (tiny.LABELS, is_multi_label)


# a step rule of somebody else's, as a private run has


def test_a_rule_decides_on_the_rows_of_a_batch_and_on_the_step(
    base: Any, rows: list[Example], tmp_path: Path
) -> None:
    seen: list[list[int]] = []
    sizes: list[int] = []

    def wrap(trainer: type[Any]) -> type[Any]:
        class Watched(trainer):  # type: ignore[misc]
            def training_step(self, model: Any, batch: Any, num: object = None) -> Tensor:
                seen.append([batch.num_examples, len(batch.micro_batches)])
                sizes.extend(len(m["input_ids"]) for m in batch.micro_batches)
                return super().training_step(model, batch, num)  # type: ignore[no-any-return]

        return Watched

    rule = StepRule([[0, 1, 2], [], [3, 3]], wrap, max_examples_per_micro_batch=1)
    result = train(base, rows, [], adapter=ADAPTER, config=QUICK, folder=tmp_path, rule=rule)
    assert seen == [[3, 3], [0, 0], [2, 2]]
    assert set(sizes) == {1}
    assert result.num_steps == 3
