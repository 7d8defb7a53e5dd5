"""Train an adapter, so that a killed run can go on and end as if it had not been killed."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from trl import SFTConfig

from finetune import adapter as adapters
from finetune import head_start
from finetune.checkpoint import Base
from finetune.config import AdapterConfig, TrainConfig
from finetune.encoding import Example, collate
from finetune.errors import InputError, IntegrityError, OutOfMemory
from finetune.frozen_blocks import num_frozen, run_once
from finetune.machine import device, prepare_cpu, refuse_float64
from finetune.memory import in_words, is_out_of_memory
from finetune.resume import newest_whole
from finetune.schedule import Schedule, num_epochs, plain_schedule
from finetune.trainers import ChatTrainer, ClassificationTrainer
from finetune.watch import StepInfo, Watch
from finetune.whitened_head import whitened


@dataclass(frozen=True)
class StepRule:
    """What a private run does differently: which rows make a batch, and what a step does."""

    schedule: Schedule
    wrap: Callable[[type[Trainer]], type[Trainer]]
    max_examples_per_micro_batch: int | None = None


@dataclass(frozen=True)
class TrainResult:
    """What came of a training run."""

    num_steps: int
    num_tokens: int
    """Tokens seen in this process, without padding."""

    num_seconds: float
    """Wall time of training in this process."""

    resumed_from: int | None
    """The step that an interrupted run was resumed from; None for an uninterrupted one."""

    best_eval_loss: float | None
    best_step: int | None
    num_parameters: int
    """Trainable parameters."""

    num_planned_steps: int
    """Steps of the schedule. Fewer are taken where training stopped early, and in a private run
    that was interrupted: steps that were charged and lost are not taken again."""


@contextmanager
def _attention_for(model: Any, examples: Sequence[Example]) -> Iterator[None]:
    """Train with plain attention where it is faster: on a CPU, on short examples.

    torch's fused attention in bfloat16 took 1.36 times the time of a step at 16 tokens an example
    and 1.04 at 200, on two cores.
    """
    before = model.config._attn_implementation
    is_short = max(len(e.input_ids) for e in examples) <= 512
    if is_short and device().type == "cpu" and before == "sdpa":
        model.get_base_model().set_attn_implementation("eager")
    try:
        yield
    finally:
        if model.config._attn_implementation != before:
            model.get_base_model().set_attn_implementation(before)


@contextmanager
def steps_garbage_only() -> Iterator[None]:
    """Spare the garbage collector what lives as long as the run: model, libraries, rows.

    A walk over all of it took 0.3 s beside a step of 5.5, every few steps, for every step makes
    objects that it must tell from garbage, a private one twice as many.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def train(
    base: Base,
    examples: Sequence[Example],
    held_back: Sequence[Example],
    *,
    adapter: AdapterConfig,
    config: TrainConfig,
    folder: Path,
    rule: StepRule | None = None,
    on_step: Callable[[StepInfo], None] = lambda _: None,
    on_rows: Callable[[int], None] = lambda _: None,
    public_texts: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> TrainResult:
    """Train an adapter into ``folder/adapter``; go on from ``folder/checkpoints`` if it is there.

    A plain run that was killed and started again ends with the same adapter, bit for bit on a CPU,
    as one that was not. A checkpoint that is damaged is set aside, and the newest whole one taken.
    The best checkpoint by the loss on ``held_back`` is the one that is kept; without held-back
    examples it is the last.

    Args:
        base: what to train on; an adapter is put on its model.
        examples: what is learned.
        held_back: rows of the training data that only choose the checkpoint. Empty when private.
        adapter: shape of the adapter.
        config: course of the training.
        folder: the run folder; `checkpoints/`, `training.jsonl` and `adapter/` are written in it.
        rule: a private run's schedule and step; None trains plainly.
        on_step: called after every step.
        on_rows: where blocks below the first adapted one are run once for each row, before the
            first step: called with the number of rows done since the last call.
        public_texts: what ``adapter.whiten_head`` whitens by; none of them is trained on.
        say: called with what somebody should know: a checkpoint that was set aside, a smaller
            micro-batch. Each is a sentence without any text of a row.

    Raises:
        InputError: if there is nothing to train on, or a head to whiten that is none.
        OutOfMemory: if a step does not fit in memory with one example in a micro-batch.
        IntegrityError: if the loss became NaN or infinite, or exploded, or the adapter did not
            change.
    """
    if not examples:
        raise InputError("there is no row to train on")
    if adapter.whiten_head and base.head != "sequence-classification":
        raise InputError("adapter.whiten_head: only the classification recipe trains a head")
    if adapter.whiten_head:
        refuse_float64("adapter.whiten_head")
    prepare_cpu(config.num_threads)
    set_seed(config.seed)
    model = adapters.inject(base, adapter)
    init_folder = None
    if adapter.init == "pissa":
        init_folder = folder / "checkpoints" / "pissa-init"
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(init_folder)
        model.peft_config["default"].init_lora_weights = "pissa"
    schedule = (
        rule.schedule if rule else plain_schedule([len(e.input_ids) for e in examples], config)
    )
    trainer = _trainer(
        base, model, examples, held_back, config, folder, schedule, rule, on_step, say
    )
    with trainer.args.main_process_first():  # others then find what it has set aside
        found = newest_whole(folder / "checkpoints", has_random_state=rule is None)
    for note in found.notes:
        say(note)
    checkpoint = found.checkpoint
    if checkpoint is None:  # it holds the head as it has become
        head_start.begin(
            base,
            model,
            examples,
            held_back,
            start=adapter.head_start,
            is_private=rule is not None,
            seed=config.seed,
            on_rows=on_rows,
        )
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in parameters.items()}
    began = time.monotonic()
    with (
        whitened(model, base, public_texts, config.max_length)
        if adapter.whiten_head
        else nullcontext(),
        _attention_for(model, examples),
        _frozen_blocks_once(trainer, [*examples, *held_back], base, on_rows),
        steps_garbage_only(),
        _told_of_memory(with_sizes=rule is None),
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        _check_update(before, parameters, schedule)
    num_seconds = time.monotonic() - began
    adapters.save(model, base, folder / "adapter", init_folder=init_folder)
    state = trainer.state
    return TrainResult(
        num_steps=state.global_step,
        num_tokens=trainer.num_tokens_seen,
        num_seconds=num_seconds,
        resumed_from=int(checkpoint.name.rpartition("-")[2]) if checkpoint else None,
        best_eval_loss=state.best_metric,
        best_step=state.best_global_step if held_back else None,
        num_parameters=sum(p.numel() for p in parameters.values()),
        num_planned_steps=len(schedule),
    )


@contextmanager
def _told_of_memory(*, with_sizes: bool) -> Iterator[None]:
    """Tell of memory that ran out beside a step, where nothing can be halved.

    How much was wanted tells how large a private batch is.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        why = in_words(error) if with_sizes else ""
        raise OutOfMemory(
            f"out of memory beside the steps of the training{why}. Lower "
            "adapter.rank or train.max_length, or free memory; the same command goes on from the "
            "last checkpoint"
        ) from error


@contextmanager
def _frozen_blocks_once(
    trainer: Any, examples: Sequence[Example], base: Base, on_rows: Callable[[int], None]
) -> Iterator[None]:
    """Run the blocks that are not trained once for each row; see `finetune.frozen_blocks`."""
    # recomputing wants a gradient at the embeddings; and most runs need not pad all their rows here
    if trainer.args.activation_checkpointing or not num_frozen(trainer.model):
        yield
        return
    is_bf16 = base.quantization.compute_dtype == "bfloat16"
    micro_batches = trainer.to_batch(examples).micro_batches
    dtype = torch.bfloat16 if is_bf16 else None
    with run_once(trainer.model, micro_batches, dtype=dtype, on_rows=on_rows):
        yield


def _trainer(
    base: Base,
    model: Any,
    examples: Sequence[Example],
    held_back: Sequence[Example],
    config: TrainConfig,
    folder: Path,
    schedule: Schedule,
    rule: StepRule | None,
    on_step: Callable[[StepInfo], None],
    say: Callable[[str], None],
) -> Any:
    is_chat = base.head == "causal-lm"
    trainer_class: type[Any] = ChatTrainer if is_chat else ClassificationTrainer
    if rule:
        trainer_class = rule.wrap(trainer_class)
    watch = Watch(
        config,
        folder / "training.jsonl",
        on_step,
        has_eval=bool(held_back),
        saves_often=rule is not None,
        say=say,
    )
    callbacks: list[TrainerCallback] = [watch]
    if config.early_stopping is not None and held_back:
        callbacks.append(EarlyStoppingCallback(config.early_stopping))
    on_gpu = device().type != "cpu"
    max_tokens = config.max_tokens_per_micro_batch
    if max_tokens == "auto":
        max_tokens = 8192 if on_gpu else 1024
    checkpointing = (
        on_gpu if config.gradient_checkpointing == "auto" else config.gradient_checkpointing
    )
    num_evaluations = num_epochs(len(examples), config) * config.evaluations_per_epoch
    eval_steps = max(1, math.ceil(len(schedule) / num_evaluations))
    settings: dict[str, Any] = {
        "output_dir": str(folder / "checkpoints"),
        "max_steps": len(schedule),
        "per_device_train_batch_size": 1,  # one Batch
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(
            config.schedule, config.schedule
        ),
        "warmup_steps": round(config.warmup_ratio * len(schedule)),
        "weight_decay": config.weight_decay,
        "max_grad_norm": 0.0 if rule else config.max_grad_norm,
        "optim": "adamw_torch",
        "seed": config.seed,
        "logging_steps": config.logging_steps,
        "logging_nan_inf_filter": False,  # a NaN loss must be seen, not averaged away
        "eval_strategy": "steps" if held_back else "no",
        "eval_steps": eval_steps,
        "save_strategy": "steps",
        "save_steps": eval_steps,
        "save_total_limit": None,  # `BatchSteps` removes older ones when the new one is whole
        "load_best_model_at_end": bool(held_back),
        "metric_for_best_model": "eval_loss" if held_back else None,
        "greater_is_better": False if held_back else None,
        "restore_callback_states_from_checkpoint": True,  # how long early stopping has waited
        "use_cpu": not on_gpu,
        "bf16": base.quantization.compute_dtype == "bfloat16",
        "activation_checkpointing": checkpointing,
        "disable_tqdm": True,
        "report_to": list(config.report_to) or "none",
        "dataloader_pin_memory": False,
    }
    args = (
        SFTConfig(
            **settings,
            dataset_kwargs={"skip_prepare_dataset": True},
            router_aux_loss_coef=0.0,  # routers are frozen, and the loss is ours
        )
        if is_chat
        else TrainingArguments(**settings)
    )
    trainer = trainer_class(
        model=model,
        args=args,
        processing_class=base.tokenizer,
        data_collator=list,
        callbacks=callbacks,
        schedule=schedule,
        examples=examples,
        held_back=held_back,
        max_tokens=max_tokens,
        say=say,
        collate=lambda rows, most: collate(
            rows,
            pad_id=base.tokenizer.pad_token_id,
            max_tokens=most,
            max_examples=rule.max_examples_per_micro_batch if rule else None,
        ),
    )
    watch.trainer = trainer
    trainer.remove_callback(PrinterCallback)  # the progress line says it
    return trainer


def _check_update(before: dict[str, Tensor], after: dict[str, Tensor], schedule: Schedule) -> None:
    """Refuse an adapter that holds NaN, or that no step has changed."""
    broken = [n for n, p in after.items() if not bool(torch.isfinite(p).all())]
    if broken:
        raise IntegrityError(
            f"training diverged: {len(broken)} of {len(after)} trained tensors hold NaN or "
            f"infinity after {len(schedule)} steps; lower train.learning_rate"
        )
    if all(torch.equal(before[n], p) for n, p in after.items()):
        raise IntegrityError(
            "training changed no parameter: the learning rate is too small, or no row is supervised"
        )
