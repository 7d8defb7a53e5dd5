"""The trainers of trl and transformers, made to take one whole batch a step.

Every step of the trainer is one whole batch: the schedule names its rows, the collator cuts it into
micro-batches that fit in memory, and the step runs all of them before the optimizer moves. A
private run replaces `training_step` by its own; nothing else differs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer
from trl import SFTTrainer

from finetune.encoding import Batch, Example
from finetune.loss import classification_losses, lm_losses
from finetune.schedule import Schedule


class BatchSteps(Trainer):  # type: ignore[misc] # transformers ships no types
    """A transformers trainer whose step is a whole `Batch`; mixed into the two trainers below."""

    control: Any

    def __init__(
        self,
        *,
        schedule: Schedule,
        examples: Sequence[Example],
        held_back: Sequence[Example],
        to_batch: Callable[[Sequence[Example]], Batch],
        **options: Any,
    ) -> None:
        self.schedule = schedule
        self.examples = examples
        self.held_back = held_back
        self.to_batch = to_batch
        self.num_tokens_seen = 0
        rows = Dataset.from_dict({"row": list(range(len(examples)))})
        checked = Dataset.from_dict({"row": list(range(len(held_back)))}) if held_back else None
        super().__init__(train_dataset=rows, eval_dataset=checked, **options)

    def example_losses(self, model: Any, micro_batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return each example's summed loss and its weight, both ``(B,)``."""
        raise NotImplementedError

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
        world, rank = self.args.world_size, self.args.process_index
        total = torch.zeros((), device=self.args.device)
        for micro_batch in batch.micro_batches[rank::world]:
            with self.compute_loss_context_manager():
                sums, _ = self.example_losses(model, self._prepare_inputs(micro_batch))
                # gradients are averaged over processes, and the sum is wanted
                # a batch in which nothing is supervised has nothing to divide, and is no step
                loss = sums.sum() * (world / (batch.total_weight or 1))
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return the mean loss over the held-back examples as ``eval_loss``."""
        self.model.eval()
        loss, weight = 0.0, 0.0
        batch = self.to_batch(self.held_back)
        with torch.no_grad():
            for micro_batch in batch.micro_batches:
                with self.compute_loss_context_manager():
                    sums, weights = self.example_losses(
                        self.model, self._prepare_inputs(micro_batch)
                    )
                loss += sums.sum().item()
                weight += weights.sum().item()
        metrics = {"eval_loss": loss / weight}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        self.model.train()
        return metrics

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
