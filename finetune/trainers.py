"""The trainers of trl and transformers, made to take one whole batch a step.

Every step of the trainer is one whole batch: the schedule names its rows, the collator cuts it into
micro-batches that fit in memory, and the step runs all of them before the optimizer moves. A
private run replaces `training_step` by its own; nothing else differs.

Where memory runs out in a step, the micro-batches of this and all later steps are halved, and the
step is begun again; the batch stays what it is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer
from trl import SFTTrainer

from finetune import memory
from finetune.divergence import NUM_STEPS, LossGuard
from finetune.encoding import Batch, Example
from finetune.errors import OutOfMemory
from finetune.loss import classification_losses, lm_losses
from finetune.saving import WholeCheckpoints
from finetune.schedule import Schedule

Outcome = TypeVar("Outcome")


class BatchSteps(WholeCheckpoints):
    """A transformers trainer whose step is a whole `Batch`; mixed into the two trainers below."""

    control: Any

    def __init__(
        self,
        *,
        schedule: Schedule,
        examples: Sequence[Example],
        held_back: Sequence[Example],
        collate: Callable[[Sequence[Example], int], Batch],
        max_tokens: int,
        say: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> None:
        """Make a trainer.

        Args:
            schedule: rows of each step.
            examples: what is learned.
            held_back: what the evaluation loss is taken of.
            collate: makes a batch of examples, in micro-batches of at most so many padded tokens.
            max_tokens: so many, until memory runs out.
            say: called with what somebody should know, in a sentence without any text of a row.
            options: of the trainer of transformers or trl.
        """
        self.schedule = schedule
        self.examples = examples
        self.held_back = held_back
        self.collate = collate
        self.max_tokens = max_tokens
        self.say = say
        self.num_tokens_seen = 0
        self._guard: LossGuard | None = None
        rows = Dataset.from_dict({"row": list(range(len(examples)))})
        checked = Dataset.from_dict({"row": list(range(len(held_back)))}) if held_back else None
        super().__init__(train_dataset=rows, eval_dataset=checked, **options)

    def example_losses(self, model: Any, micro_batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return each example's summed loss and its weight, both ``(B,)``."""
        raise NotImplementedError

    def loss_of_guessing(self) -> float:
        """Return the loss of a model that knows nothing, in nats."""
        raise NotImplementedError

    def to_batch(self, examples: Sequence[Example]) -> Batch:
        """Cut examples into micro-batches that fit in memory, as far as it is known."""
        return self.collate(examples, self.max_tokens)

    def in_memory(self, batch: Batch, attempt: Callable[[Batch], Outcome]) -> Outcome:
        """Return ``attempt(batch)``, tried again with smaller micro-batches where memory runs out.

        An attempt must begin by itself at nothing: one that failed may have done a part. The limit
        is halved, and not fitted to the batch, so that it tells nothing of the rows.

        Raises:
            OutOfMemory: if it runs out with one example at a time, or in one of several processes,
                where the others would wait for ever.
        """
        device = self.args.device.type
        if (batch.largest_to_cut or 0) > self.max_tokens:  # cut before memory ran out
            batch = self.to_batch(batch.examples)
        drawn = torch.get_rng_state(), torch.cuda.get_rng_state() if device == "cuda" else None
        while True:
            try:
                return attempt(batch)
            except Exception as error:
                if not memory.is_out_of_memory(error):
                    raise
                why = memory.in_words(error) if self.names_rows else ""
            # only here, where the error no longer holds what was computed
            self.model.zero_grad()
            memory.give_back()
            largest = batch.largest_to_cut
            if largest is None or self.args.world_size > 1:
                raise OutOfMemory(
                    f"out of memory{' on the GPU' if device == 'cuda' else ''}, with "
                    f"{'several processes' if largest else 'one example in a micro-batch'}"
                    f"{why}. Lower train.max_length or adapter.rank, set "
                    "train.gradient_checkpointing: true, lower train.max_tokens_per_micro_batch, "
                    "or free memory; the same command goes on from the last checkpoint"
                ) from None
            before = self.max_tokens
            while self.max_tokens >= largest:
                self.max_tokens //= 2
            self.say(
                f"out of memory: from now on a micro-batch has at most {self.max_tokens} padded "
                f"tokens instead of {before}; the batch of a step stays as it is, and the step is "
                "done again"
            )
            batch = self.to_batch(batch.examples)
            torch.set_rng_state(drawn[0])  # so that dropout draws what it would have drawn
            if drawn[1] is not None:
                torch.cuda.set_rng_state(drawn[1])

    def made_up_batch(self, lengths: Sequence[int]) -> Batch:
        """Return random tokens of these lengths, all to be learned: a batch to test the step on."""
        rng = random.Random(0)  # noqa: S311 (no secret)
        like = self.examples[0]
        num_tokens = self.model.get_input_embeddings().num_embeddings
        made_up = []
        for length in lengths:
            label: Any = like.label
            if isinstance(label, tuple):
                label = tuple(float(rng.random() < 0.5) for _ in label)
            elif label is not None:
                label = rng.randrange(self.model.config.num_labels)
            made_up.append(
                Example(
                    id="made up",
                    input_ids=tuple(rng.randrange(num_tokens) for _ in range(length)),
                    supervised=(True,) * length if label is None else (),
                    label=label,
                )
            )
        return self.to_batch(made_up)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Yield one `Batch` for each entry of the schedule."""
        return DataLoader(
            range(len(self.examples)),  # type: ignore[arg-type] # a map-style data set
            batch_sampler=self.schedule,  # sized and iterable is enough
            collate_fn=lambda rows: self.to_batch([self.examples[i] for i in rows]),
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: Any
    ) -> tuple[list[Batch], None]:
        """Take the next batch; what it is divided by is known to it, not counted here."""
        del num_batches, device
        return [next(epoch_iterator)], None

    def training_step(self, model: Any, batch: Batch, num_items_in_batch: object = None) -> Tensor:
        """Add up the gradients of all micro-batches of a batch and return its mean loss.

        The loss of a batch is the sum over its supervised tokens (or weighted examples) divided by
        their number in the whole batch, so it does not depend on how the batch was cut. With
        several processes each takes every n-th micro-batch.
        """
        del num_items_in_batch
        model.train()
        loss, sums, examples = self.in_memory(batch, lambda cut: self._backward(model, cut))
        self._refuse_divergence(loss, sums, examples)
        return loss

    def _backward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor, list[Example]]:
        """Add up the gradients; return the mean loss, and of each example its summed loss."""
        world, rank = self.args.world_size, self.args.process_index
        total = torch.zeros((), device=self.args.device)
        found = [total[None][:0]]
        examples: list[Example] = []
        first = 0
        for number, micro_batch in enumerate(batch.micro_batches):
            end = first + len(micro_batch["input_ids"])
            if number % world == rank:
                with self.compute_loss_context_manager():
                    sums, _ = self.example_losses(model, self._prepare_inputs(micro_batch))
                    # gradients are averaged over processes, and the sum is wanted
                    # a batch in which nothing is supervised has nothing to divide, and is no step
                    loss = sums.sum() * (world / (batch.total_weight or 1))
                self.accelerator.backward(loss)
                total += loss.detach()
                found.append(sums.detach())
                examples += batch.examples[first:end]
            first = end
        return total, torch.cat(found), examples

    def _refuse_divergence(self, loss: Tensor, sums: Tensor, examples: Sequence[Example]) -> None:
        """Refuse to let the optimizer move by a loss that is no number, or beyond all measure.

        Raises:
            IntegrityError: naming the rows by their ids.
        """
        step = self.state.global_step + 1
        value = loss.item()
        if not math.isfinite(value):
            is_broken = (~torch.isfinite(sums)).tolist()
            broken = [e.id for e, is_so in zip(examples, is_broken, strict=True) if is_so]
            self.diverged(
                f"loss is {value} at step {step}",
                f"in {len(broken)} of the {len(examples)} rows of its batch", broken,
            )  # fmt: skip
        if self._guard is None:
            self._guard = LossGuard(self.loss_of_guessing())
        if self._guard.explodes(value):
            self.diverged(
                f"the loss has exploded at step {step}: {self._guard.mean:.3g} in the mean of the "
                f"last {NUM_STEPS} steps, where more than {self._guard.most:.3g} is beyond all "
                "measure",
                f"the batch of this step has {len(examples)} rows", [e.id for e in examples],
            )  # fmt: skip

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Refuse a gradient that is no number, before the optimizer moves by it."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if not math.isfinite(float(norm)):
            step = self.state.global_step + 1
            self.diverged(f"the gradient's norm is {float(norm)} at step {step}")
        return norm

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return the mean loss over the held-back examples as ``eval_loss``."""
        self.model.eval()
        loss, weight = self.in_memory(self.to_batch(self.held_back), self._summed_losses)
        metrics = {"eval_loss": loss / weight}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        self.model.train()
        return metrics

    def _summed_losses(self, batch: Batch) -> tuple[float, float]:
        loss, weight = 0.0, 0.0
        with torch.no_grad():
            for micro_batch in batch.micro_batches:
                with self.compute_loss_context_manager():
                    sums, weights = self.example_losses(
                        self.model, self._prepare_inputs(micro_batch)
                    )
                loss += sums.sum().item()
                weight += weights.sum().item()
        return loss, weight

    def floating_point_ops(self, inputs: Batch) -> int:
        """Count tokens instead: transformers' estimate reads a tensor where we have a batch."""
        self.num_tokens_seen += inputs.num_tokens
        return 0

    def _track_num_input_tokens(self, inputs: Batch) -> None:
        """Nothing: see `floating_point_ops`."""


class ChatTrainer(BatchSteps, SFTTrainer):  # type: ignore[misc]
    """trl's trainer with the loss over supervised rows only."""

    def __init__(self, **options: Any) -> None:
        trainable = [p for p in options["model"].parameters() if p.requires_grad]
        exact = [p.detach().clone() for p in trainable]
        super().__init__(**options)
        for parameter, value in zip(trainable, exact, strict=True):
            parameter.data = value  # trl rounds adapters on a 4-bit base to bfloat16
        self.head = self.model.get_base_model().get_output_embeddings()

    def example_losses(self, model: Any, micro_batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return each example's summed cross-entropy and number of supervised tokens."""
        return lm_losses(model, self.head, micro_batch)

    def loss_of_guessing(self) -> float:
        """Return the loss of a token drawn from the whole vocabulary."""
        return math.log(self.head.weight.shape[0])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log without trl's own averages, which this trainer does not collect."""
        Trainer.log(self, logs, start_time)

    def _send_telemetry(self) -> None:
        """Nothing: see `finetune.outside`."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Nothing: the card is written at the end, from evidence."""


class ClassificationTrainer(BatchSteps):
    """transformers' trainer with the classification loss of `finetune.loss`."""

    def example_losses(self, model: Any, micro_batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return each example's weighted cross-entropy and its class weight."""
        return classification_losses(model, micro_batch)

    def loss_of_guessing(self) -> float:
        """Return the loss of a class drawn from all, or of a coin for each."""
        is_multi_label = self.model.config.problem_type == "multi_label_classification"
        return math.log(2 if is_multi_label else max(2, self.model.config.num_labels))
