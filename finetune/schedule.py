"""Which rows make the batch of each step."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Protocol

from finetune.config import TrainConfig


class Schedule(Protocol):
    """The rows of each step's batch; its length is the number of steps."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[int]]: ...


def num_steps(num_rows: int, config: TrainConfig) -> int:
    """Return the optimizer steps of a plain run: `max_steps`, or those of the epochs."""
    per_epoch = math.ceil(num_rows / config.batch_size)
    return config.max_steps or max(1, round(per_epoch * config.epochs))


def num_epochs(num_rows: int, config: TrainConfig) -> int:
    """Return how often a plain run goes through the rows, a part of an epoch counted whole."""
    if config.max_steps is None:
        return math.ceil(config.epochs)
    return math.ceil(config.max_steps / math.ceil(num_rows / config.batch_size))


def plain_schedule(lengths: Sequence[int], config: TrainConfig) -> list[list[int]]:
    """Return shuffled batches of similar length for all steps, the same for the same seed.

    Each epoch is shuffled, cut into blocks of 16 batches, and each block sorted by length, so that
    little is wasted on padding while the order stays random between blocks and batches.
    """
    n, size = len(lengths), config.batch_size
    steps = num_steps(n, config)
    batches: list[list[int]] = []
    for epoch in range(num_epochs(n, config)):
        rng = random.Random(f"{config.seed}/{epoch}")  # noqa: S311 (an order, not a secret)
        order = rng.sample(range(n), n)
        block = 16 * size
        ordered = [
            row
            for start in range(0, n, block)
            for row in sorted(order[start : start + block], key=lambda i: lengths[i])
        ]
        of_epoch = [ordered[i : i + size] for i in range(0, n, size)]
        rng.shuffle(of_epoch)
        batches += of_epoch
    return batches[:steps]
