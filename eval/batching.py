"""Requests of unequal length into batches of bounded size, and progress over them.

B requests, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eval.task import Progress


def batches(
    lengths: Sequence[int],
    *,
    max_tokens: int,
    overhead: int | None = None,
    rows: Sequence[int] | None = None,
    max_rows: int = 1024,
    max_requests: int | None = None,
) -> list[list[int]]:
    """Cut requests into batches of neighbours in length, where that costs the fewest tokens.

    A batch costs its padded tokens and an overhead. Of all ways to cut the sorted lengths, this is
    one of the cheapest, found by dynamic programming. The largest batch comes first, so that
    memory runs out at once or never.

    Args:
        lengths: tokens of each request.
        max_tokens: bound on the padded tokens of a batch.
        overhead: what a batch costs by itself, in tokens. By default a 32nd of ``max_tokens``
            (measured: reading the weights of 135M parameters in float32 on two cores takes as
            long as 60 tokens take, of the 2048 that are read together there).
        rows: of each request, how many rows of logits it needs; 0 if not given.
        max_rows: bound on their sum in a batch.
        max_requests: bound on the requests of a batch.

    Returns:
        Positions of the requests, batch by batch. A request that is beyond a bound by itself is
        a batch of its own.

    Example:
        >>> batches([3, 9, 4, 8], max_tokens=18, overhead=2)
        [[1, 3], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    most = len(order) if max_requests is None else max_requests
    overhead = max_tokens // 32 if overhead is None else overhead
    # of so many first requests: what their cheapest cut costs, and where its last batch begins
    costs, begins = [0], [0]
    for end in range(1, len(order) + 1):
        ways: list[tuple[int, int]] = []
        num_rows = 0
        for begin in range(end - 1, max(-1, end - 1 - most), -1):
            padded = (end - begin) * lengths[order[begin]]
            num_rows += rows[order[begin]] if rows is not None else 0
            if ways and (padded > max_tokens or num_rows > max_rows):
                break
            ways.append((costs[begin] + padded + overhead, begin))
        cost, begin = min(ways)
        costs.append(cost)
        begins.append(begin)
    found: list[list[int]] = []
    end = len(order)
    while end:
        found.append(order[begins[end] : end])
        end = begins[end]
    return sorted(found, key=lambda batch: -len(batch) * lengths[batch[0]])


def pad(
    sequences: Sequence[Sequence[int]],
    value: int,
    device: torch.device,
    *,
    on_the_left: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return token ids ``(B, T)`` and their attention mask, on the device.

    Padded on the right unless told otherwise.
    """
    B, T = len(sequences), max(len(s) for s in sequences)
    ids_BT = torch.full((B, T), value)
    mask_BT = torch.zeros((B, T), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        n = len(sequence)
        place = slice(T - n, T) if on_the_left else slice(0, n)
        ids_BT[row, place] = torch.tensor(sequence, dtype=torch.long)
        mask_BT[row, place] = 1
    return ids_BT.to(device), mask_BT.to(device)


def quiet(done: int) -> None:
    """Show no progress."""


class Steps:
    """Turns requests done into items done, where a task asks several requests an item.

    Example:
        >>> shown: list[int] = []
        >>> steps = Steps(shown.append, num_requests=6, num_items=2)
        >>> steps(2), steps(1), steps(3), shown
        (None, None, None, [1, 1])
    """

    def __init__(self, progress: Progress, *, num_requests: int, num_items: int) -> None:
        self._progress = progress
        self._num_requests = num_requests
        self._num_items = num_items
        self._done = 0

    def __call__(self, done: int) -> None:
        """Take note of requests done."""
        before, self._done = self._done, self._done + done
        items = self._items(self._done) - self._items(before)
        if items:
            self._progress(items)

    def _items(self, done: int) -> int:
        return min(done, self._num_requests) * self._num_items // max(self._num_requests, 1)
