"""What a transformers (or trl) trainer must do differently to be private.

One step of the trainer is one logical batch, one noise draw and one line of the ledger. The
micro-batches that a logical batch is cut into are clipped record by record and summed; they have
no other meaning. Everything a trainer reports about a batch (loss, gradient norm, accuracy, token
counts, operations, generator states) is computed from private records outside the mechanism, so
none of it leaves the step.

The trainer class that is wrapped brings the model, the optimizer and the losses. It has

* ``example_losses(model, micro_batch)``, the summed loss and the weight of each record, both
  ``(B,)``;
* ``made_up_batch(lengths)``, a batch of random records of so many tokens, for the self-test;
* ``in_memory(batch, attempt)``, which returns ``attempt(batch)`` and, where memory runs out, calls
  it again with the same records in smaller micro-batches;
* batches with ``micro_batches`` (dicts of tensors) and ``num_examples``;
* a train data loader whose batch sampler is a ``PoissonSampler`` of the same plan.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from privacy import model_test
from privacy.errors import BudgetSpent, LedgerError, PrivacyError
from privacy.ledger import Ledger
from privacy.mechanism import (
    OS_RANDOMNESS,
    PoissonSampler,
    Randomness,
    clip_and_sum,
    noisy_mean,
)
from privacy.per_record import PerRecord
from privacy.plan import DPPlan
from privacy.provable import mechanism_of
from privacy.self_test import Check
from privacy.trainer_refusals import refuse_model, refuse_settings

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
    on_checks: Callable[[list[Check]], None] = lambda _: None,
    on_ready: Callable[[], None] = lambda: None,
) -> type[Any]:
    """Derive a trainer whose every step is an application of the plan's mechanism.

    Args:
        trainer_class: a transformers ``Trainer`` with the surface of this module's docstring.
        plan: what is run; the ledger must have been opened with the same plan.
        ledger: charged once a step, before the step is used.
        randomness: of the noise; must be of the kind that the ledger is stamped with.
        on_checks: told the outcome of the self-test on the model (`privacy.model_test`), which is
            made before the first step; training stops there if one has failed.
        on_ready: called once, before the first charge, when the first clipped sums are there and
            nothing is left that could refuse the run: what is charged to somebody outside of the
            run (an account) is charged here. What it raises ends the training, with nothing
            released. Also called by a run that goes on from its last checkpoint and has no step
            left to charge.

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
    members = {
        "plan": plan,
        "ledger": ledger,
        "randomness": randomness,
        "on_checks": staticmethod(on_checks),
        "on_ready": staticmethod(on_ready),
    }
    return type(f"Private{trainer_class.__name__}", (PrivateSteps, trainer_class), members)


class PrivateSteps(_Trainer):  # type: ignore[misc]
    """The methods of a trainer that touch private records; see :func:`private_trainer`."""

    plan: DPPlan
    ledger: Ledger
    randomness: Randomness
    on_checks: Callable[[list[Check]], None]
    on_ready: Callable[[], None]
    names_rows = False
    """No error of the wrapped trainer may tell which rows a batch had."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        refuse_settings(self.args, mechanism_of(self.plan))
        refuse_model(self.model)
        self.per_record = PerRecord()
        self._is_tested = False
        self._is_ready = False

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
            done = super().train(resume_from_checkpoint, *args, **options)
        finally:
            self.per_record.detach()
        self._be_ready()
        return done

    def training_step(
        self, model: nn.Module, batch: Batch, num_items_in_batch: object = None
    ) -> Tensor:
        """Apply the mechanism to one logical batch and leave the result in each ``grad``.

        Returns:
            Zero. The loss of a batch is private.
        """
        del num_items_in_batch  # a count over records, for a denominator that would couple them
        model.train()
        if not self._is_tested:
            self._test(model)
        sums = self.in_memory(batch, lambda cut: self._clipped_sums(model, cut))
        parameters = self.per_record.parameters
        self._be_ready()
        self.ledger.charge(self.state.global_step + 1, covered=_fingerprint(parameters))
        noisy = noisy_mean(sums, self.plan, self.randomness)
        for parameter, gradient in zip(parameters.values(), noisy, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        if self.ledger.remaining == 0:
            self.control.should_training_stop = True
            self.control.should_save = str(self.args.save_strategy.value) != "no"
        return torch.zeros((), device=self.args.device)

    def _be_ready(self) -> None:
        if not self._is_ready:
            self.on_ready()
            self._is_ready = True

    def _clipped_sums(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """Sum over all records of a logical batch, each clipped, micro-batch by micro-batch.

        Begins at zero, whatever an attempt before it has left.
        """
        self.per_record.forget()
        parameters = self.per_record.parameters.values()
        for parameter in parameters:
            parameter.grad = None
        # On an empty draw these zeros are all there is, and noise is added to them.
        sums = [torch.zeros_like(p, dtype=torch.float32) for p in parameters]
        num_records = 0
        for micro_batch in batch.micro_batches:
            losses = self._record_losses(model, self._prepare_inputs(micro_batch))
            num_records += len(losses)
            gradients = self._record_gradients(losses.sum(), len(losses))
            clip_and_sum(gradients, self.plan.clipping_norm, onto=sums)
        if num_records != batch.num_examples:
            raise PrivacyError(
                f"{num_records} losses came from a batch of {batch.num_examples} examples. Each "
                "example must be one record: turn packing off."
            )
        return sums

    def _record_gradients(self, loss: Tensor, num_records: int) -> list[Tensor]:
        self.per_record.begin(num_records)
        # Not accelerate's backward: nothing may scale a record's loss.
        torch.autograd.backward(loss)
        return self.per_record.gradients()

    def _record_losses(self, model: nn.Module, micro_batch: dict[str, Tensor]) -> Tensor:
        """Mean loss of each record over its own weight; the batch's would couple the records."""
        with self.compute_loss_context_manager():
            summed, weights = self.example_losses(model, micro_batch)
        has_weight = weights > 0
        return torch.where(has_weight, summed / torch.where(has_weight, weights, 1.0), 0.0)

    def _test(self, model: nn.Module) -> None:
        """Test model, loss and optimizer on made-up records; refuse to train if a test fails."""
        names = self.per_record.parameters
        optimized = [p for group in self.optimizer.param_groups for p in group["params"]]
        checks = [model_test.coverage(model, names, optimized, self.plan, self.randomness)]
        for micro_batch in self.made_up_batch(model_test.LENGTHS).micro_batches:
            rows = self._prepare_inputs(micro_batch)
            num_records = len(next(iter(rows.values())))
            if num_records < 2:
                continue  # cut so small that no two records ever meet

            def gradients_of(chosen: Sequence[int], rows: dict[str, Tensor] = rows) -> list[Tensor]:
                model.eval()  # dropout would draw otherwise for every batch
                some = {name: tensor[list(chosen)] for name, tensor in rows.items()}
                losses = self._record_losses(model, some)
                found = self._record_gradients(losses.sum(), len(losses))
                model.train()
                return found

            losses = self._record_losses(model, rows)
            every_second = self._record_gradients(losses[::2].sum(), num_records)
            checks.append(model_test.isolation(dict(zip(names, every_second, strict=True))))
            checks.append(model_test.remove_one(gradients_of, num_records))
        self.on_checks(checks)
        failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
        if failed:
            raise PrivacyError(f"The self-test on the model failed; {'; '.join(failed)}.")
        self._is_tested = True

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
        (Path(output_dir) / LEDGER_HEAD).write_text(
            json.dumps(stamp), encoding="utf-8", newline="\n"
        )

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
        stamp = json.loads(path.read_text(encoding="utf-8"))
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
