"""What a transformers (or trl) trainer must do differently to be private.

One step of the trainer is one logical batch, one noise draw and one line of the ledger. The
micro-batches that a logical batch is cut into are clipped record by record and summed; they have
no other meaning. Everything a trainer reports about a batch (loss, gradient norm, accuracy, token
counts, operations, generator states) is computed from private records outside the mechanism, so
none of it leaves the step.

The trainer class that is wrapped brings the model, the optimizer and the losses. It has

* ``example_losses(model, micro_batch)``, the summed loss and the weight of each record, both
  ``(B,)``;
* batches with ``micro_batches`` (dicts of tensors) and ``num_examples``;
* a train data loader whose batch sampler is a ``PoissonSampler`` of the same plan.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from privacy.errors import BudgetSpent, LedgerError, PrivacyError
from privacy.ledger import Ledger
from privacy.mechanism import (
    OS_RANDOMNESS,
    PoissonSampler,
    Randomness,
    clip_and_sum,
    noisy_mean,
)
from privacy.per_record import PerRecord, covered_parameters
from privacy.plan import DPPlan
from privacy.provable import REFERENCE, Mechanism, mechanism_of
from privacy.refusals import DATA_DRIVEN_INITS, REFUSALS, first

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

LEDGER_HEAD = "ledger_head.json"
"""File in a checkpoint folder: the ledger line that paid for the checkpoint."""

_PUBLIC_LOGS = frozenset({"learning_rate", "epoch", "step"})


class Batch(Protocol):
    """A logical batch, cut to fit the memory."""

    @property
    def micro_batches(self) -> tuple[dict[str, Tensor], ...]:
        """Tensors by name, the record first in each; none for an empty batch."""

    @property
    def num_examples(self) -> int:
        """Records in all micro-batches together."""


def private_trainer(
    trainer_class: type[Any],
    *,
    plan: DPPlan,
    ledger: Ledger,
    randomness: Randomness = OS_RANDOMNESS,
) -> type[Any]:
    """Derive a trainer whose every step is an application of the plan's mechanism.

    Args:
        trainer_class: a transformers ``Trainer`` with the surface of this module's docstring.
        plan: what is run; the ledger must have been opened with the same plan.
        ledger: charged once a step, before the step is used.
        randomness: of the noise; must be of the kind that the ledger is stamped with.

    Returns:
        A subclass, to be constructed like ``trainer_class``. Its constructor raises
        ``PrivacyError`` under any setting for which the plan's epsilon would not hold. Training
        ends early where a crash has made the ledger run out before the last step, and raises
        ``BudgetSpent`` where nothing was left from the start.

    Raises:
        LedgerError: if plan or randomness are not those of the ledger.
    """
    if ledger.plan != plan:
        raise LedgerError(f"{ledger.path.name} was opened with another plan than this trainer's.")
    if ledger.is_private != randomness.is_private:
        raise LedgerError(
            f"{ledger.path.name} is stamped is_private={ledger.is_private}, and the randomness of "
            f"this trainer has is_private={randomness.is_private}. Open the ledger with "
            "is_private=randomness.is_private."
        )
    members = {"plan": plan, "ledger": ledger, "randomness": randomness}
    return type(f"Private{trainer_class.__name__}", (PrivateSteps, trainer_class), members)


class PrivateSteps(_Trainer):  # type: ignore[misc]
    """The methods of a trainer that touch private records; see :func:`private_trainer`."""

    plan: DPPlan
    ledger: Ledger
    randomness: Randomness

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _refuse_settings(self.args, mechanism_of(self.plan))
        _refuse_model(self.model)
        self.per_record = PerRecord()
        self._is_isolation_checked = False

    # Training

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **options: Any) -> Any:
        """Train as the wrapped trainer does; gradients are per record for as long as it lasts.

        Raises:
            BudgetSpent: if every step of the plan was charged by an earlier run.
        """
        for callback in self.callback_handler.callbacks:
            if "EarlyStopping" in type(callback).__name__:
                raise PrivacyError(
                    "Early stopping chooses a model by private data, which the plan does not pay "
                    "for. Remove the callback; the number of steps is fixed in advance."
                )
        if self.ledger.remaining == 0 and not resume_from_checkpoint:
            raise BudgetSpent(
                f"All {self.plan.steps} steps are charged in {self.ledger.path.name}. Resume from "
                "the last checkpoint to finish that run; a new run needs a ledger of its own, and "
                "its epsilon adds to this one's."
            )
        self.per_record.attach(self.model)
        try:
            return super().train(resume_from_checkpoint, *args, **options)
        finally:
            self.per_record.detach()

    def training_step(
        self, model: nn.Module, batch: Batch, num_items_in_batch: object = None
    ) -> Tensor:
        """Apply the mechanism to one logical batch and leave the result in each ``grad``.

        Returns:
            Zero. The loss of a batch is private.
        """
        del num_items_in_batch  # a count over records, for a denominator that would couple them
        model.train()
        parameters = self.per_record.parameters
        for parameter in parameters.values():
            parameter.grad = None
        # On an empty draw these zeros are all there is, and noise is added to them.
        sums = [torch.zeros_like(p, dtype=torch.float32) for p in parameters.values()]
        num_records = 0
        for micro_batch in batch.micro_batches:
            gradients = self._record_gradients(model, self._prepare_inputs(micro_batch))
            num_records += len(gradients[0])
            clipped, _, _ = clip_and_sum(gradients, self.plan.clipping_norm)
            for total, part in zip(sums, clipped, strict=True):
                total += part
        if num_records != batch.num_examples:
            raise PrivacyError(
                f"{num_records} losses came from a batch of {batch.num_examples} examples. Each "
                "example must be one record: turn packing off."
            )
        self.ledger.charge(self.state.global_step + 1, covered=_fingerprint(parameters))
        noisy = noisy_mean(sums, self.plan, self.randomness)
        for parameter, gradient in zip(parameters.values(), noisy, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        if self.ledger.remaining == 0:
            self.control.should_training_stop = True
            self.control.should_save = str(self.args.save_strategy.value) != "no"
        return torch.zeros((), device=self.args.device)

    def _record_gradients(self, model: nn.Module, micro_batch: dict[str, Tensor]) -> list[Tensor]:
        losses = self._record_losses(model, micro_batch)
        if len(losses) > 1 and not self._is_isolation_checked:
            self._check_isolation(losses)
            self._is_isolation_checked = True
            losses = self._record_losses(model, micro_batch)
        self.per_record.begin(len(losses))
        # Not accelerate's backward: nothing may scale a record's loss.
        torch.autograd.backward(losses.sum())
        return self.per_record.gradients()

    def _record_losses(self, model: nn.Module, micro_batch: dict[str, Tensor]) -> Tensor:
        """Mean loss of each record over its own weight; the batch's would couple the records."""
        with self.compute_loss_context_manager():
            summed, weights = self.example_losses(model, micro_batch)
        has_weight = weights > 0
        return torch.where(has_weight, summed / torch.where(has_weight, weights, 1.0), 0.0)

    def _check_isolation(self, losses: Tensor) -> None:
        """Refuse a model in which one record's loss depends on another record.

        The gradient of every second record's loss must be exactly zero in the rows of the
        others. Batch statistics, contrastive losses, expert balancing and layers whose first
        dimension is something else than the record all break this.
        """
        self.per_record.begin(len(losses))
        torch.autograd.backward(losses[::2].sum())
        names = self.per_record.parameters
        for name, gradient in zip(names, self.per_record.gradients(), strict=True):
            others = gradient[1::2]
            if bool((others.isfinite() & (others != 0)).any()):
                raise PrivacyError(
                    f"The loss of one record has a gradient in the row of another, at {name}: the "
                    "model or its loss couples the records of a batch (batch norm, contrastive or "
                    "expert-balancing losses, packing). Clipping cannot bound that."
                )

    def get_train_dataloader(self) -> Any:
        """Check that the data loader draws as the plan accounts for."""
        loader = super().get_train_dataloader()
        sampler = loader.batch_sampler
        if not isinstance(sampler, PoissonSampler) or sampler.plan != self.plan:
            raise PrivacyError(
                f"The batches are drawn by {type(sampler).__name__}, and the plan accounts for "
                "Poisson sampling by its own sample rate. Give the data loader "
                "batch_sampler=PoissonSampler(plan)."
            )
        if sampler.randomness.is_private != self.randomness.is_private:
            raise PrivacyError("Sampling and noise must come from randomness of the same kind.")
        if len(loader.dataset) != sampler.num_rows:
            raise PrivacyError(
                f"The plan was made for {sampler.num_rows} examples and the data holds "
                f"{len(loader.dataset)}. Make the plan after the data is final."
            )
        return loader

    def set_initial_training_values(self, args: Any, dataloader: Any) -> tuple[Any, ...]:
        """Run one pass over the sampler, and none where the ledger has nothing left.

        A resumed run whose last steps were charged twice ends at its checkpoint; it must not draw
        one more batch to find that out.
        """
        epochs, *others, max_steps = super().set_initial_training_values(args, dataloader)
        if max_steps != self.plan.steps:
            raise PrivacyError(
                f"The trainer would take {max_steps} steps and the plan has {self.plan.steps}. "
                "Set max_steps to the plan's steps."
            )
        return (epochs if self.ledger.remaining else 0, *others, max_steps)

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: Any
    ) -> tuple[list[Any], None]:
        """Take the next batch, without counting the tokens in it."""
        del num_batches, device
        return [next(epoch_iterator)], None

    # What would be told about the batch

    def floating_point_ops(self, inputs: Any) -> int:
        """Nothing: operations tell the size of a draw."""
        del inputs
        return 0

    def _track_num_input_tokens(self, inputs: Any) -> None:
        """Nothing: tokens tell the size of a draw."""

    def _clip_grad_norm(self, model: Any) -> None:
        """Nothing: records are clipped, each before it is summed."""

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> None:
        """Nothing to log."""

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        """Log what is known without the data: learning rate, epoch and step."""
        public = {k: v for k, v in logs.items() if k in _PUBLIC_LOGS}
        if public:
            super().log(public, *args, **options)

    # Checkpoints

    def _save_rng_state(self, output_dir: str) -> None:
        """Write, in the place of generator states, which line of the ledger paid for this.

        A stored state would let a second resume draw the same dropout and, with a seeded source,
        the same noise; the difference of two models with equal noise has none.
        """
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        stamp = {"head": self.ledger.head, "charge": self.ledger.charged}
        (Path(output_dir) / LEDGER_HEAD).write_text(json.dumps(stamp))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing: a resumed run draws afresh."""

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, *args: Any, **options: Any
    ) -> None:
        """Load a checkpoint that this ledger has paid for.

        Raises:
            LedgerError: if the checkpoint names no line, or one that the ledger does not hold.
        """
        check_ledger_head(resume_from_checkpoint, self.ledger)
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **options)


def check_ledger_head(checkpoint: str | os.PathLike[str], ledger: Ledger) -> None:
    """Make sure that a checkpoint belongs to a ledger, and that the ledger is not cut short.

    Raises:
        LedgerError: if the checkpoint carries no ledger line, or the ledger does not hold it.
    """
    path = Path(checkpoint) / LEDGER_HEAD
    try:
        stamp = json.loads(path.read_text())
        head, charge = stamp["head"], stamp["charge"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"{path.name} is missing or unreadable in {path.parent.name}: what this checkpoint has "
            "spent is not known. Resume from a checkpoint of a private run."
        ) from error
    if ledger.charge_of(head) != charge:
        raise LedgerError(
            f"{path.parent.name} was paid for by charge {charge}, which {ledger.path.name} does "
            "not hold: the ledger was cut short, or belongs to another run. Bring its own ledger."
        )


def _fingerprint(parameters: dict[str, nn.Parameter]) -> str:
    """Hash of the names and shapes of what is clipped, so that a change mid-run is visible."""
    text = json.dumps([[name, list(p.shape)] for name, p in parameters.items()])
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_settings(args: Any, mechanism: Mechanism = REFERENCE) -> None:
    """Raise PrivacyError for the first setting under which the plan's epsilon would not hold."""
    strategy = {n: str(getattr(args, n).value) for n in ("eval_strategy", "save_strategy")}
    found: list[tuple[bool, str, str]] = [
        (
            args.gradient_accumulation_steps != 1,
            f"gradient_accumulation_steps is {args.gradient_accumulation_steps}",
            "a step is one logical batch already, cut into micro-batches of any size; set it to 1",
        ),
        (
            args.max_grad_norm != 0,
            f"max_grad_norm is {args.max_grad_norm}",
            "records are clipped one by one to the plan's clipping norm; set it to 0",
        ),
        (
            bool(args.load_best_model_at_end) or strategy["save_strategy"] == "best",
            "the best checkpoint is chosen by data",
            "choosing by private data is not paid for; set load_best_model_at_end to false",
        ),
        (
            strategy["eval_strategy"] != "no",
            f"eval_strategy is {strategy['eval_strategy']}",
            "figures on private rows are a release of their own; evaluate after training",
        ),
        (
            args.label_smoothing_factor != 0,
            f"label_smoothing_factor is {args.label_smoothing_factor}",
            "the trainer's smoothed loss is a mean over the batch; set it to 0",
        ),
        (
            args.world_size > 1 or args.n_gpu > 1,
            f"training runs on {max(args.world_size, args.n_gpu)} devices",
            "noise and sampling are made for one process; use one device",
        ),
        (
            bool(args.fp16),
            "fp16 is on",
            "its loss scaler skips steps by looking at private gradients; use bf16",
        ),
        (
            bool(args.auto_find_batch_size),
            "auto_find_batch_size is on",
            "it repeats work by looking at the size of private batches; turn it off",
        ),
        (
            bool(args.use_liger_kernel),
            "use_liger_kernel is on",
            "its fused loss reads the head's weight past the clipping; turn it off",
        ),
        (
            args.include_num_input_tokens_seen not in ("no", False),
            f"include_num_input_tokens_seen is {args.include_num_input_tokens_seen}",
            "tokens tell the size of a draw; set it to 'no'",
        ),
        *(
            (
                bool(getattr(args, name, False)),
                f"{name} is on",
                "turn it off: one record, one row, one process",
            )
            for name in ("packing", "padding_free", "deepspeed", "fsdp")
        ),
    ]
    for is_wrong, what, way_out in found:
        if is_wrong:
            raise PrivacyError(f"{what}; {way_out}.")
    named = [name for refusal in REFUSALS for name in refusal.settings]
    first({name: getattr(args, name) for name in named if hasattr(args, name)}, mechanism)


def _refuse_model(model: Any) -> None:
    """Raise PrivacyError for a model with parts that cannot be clipped record by record."""
    if getattr(getattr(model, "config", None), "output_router_logits", False):
        first({"output_router_logits": True})
    for config in getattr(model, "peft_config", {}).values():
        init = getattr(config, "init_lora_weights", True)
        if isinstance(init, str) and init.lower() in DATA_DRIVEN_INITS:
            raise PrivacyError(
                f"init_lora_weights is {init!r}: the adapter begins with what was computed from "
                "private rows, outside the mechanism. Use the default initialisation or 'pissa'."
            )
        if str(getattr(config, "peft_type", "LORA")).rpartition(".")[2] != "LORA":
            raise PrivacyError(f"The adapter is {config.peft_type}; only plain LoRA is supported.")
        if getattr(config, "use_dora", False):
            raise PrivacyError(
                "use_dora is on: DoRA's magnitudes have no gradient per record. Use plain LoRA."
            )
    covered = {id(p) for p in covered_parameters(model).values()}
    # An output head sees a selection of positions, in which a row is no longer a record.
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is not None and any(id(p) in covered for p in head.parameters()):
        raise PrivacyError(
            "The language-model head is trainable. Its rows are positions and not records, and it "
            "may share its weight with the embeddings. Leave it out of the adapter."
        )
