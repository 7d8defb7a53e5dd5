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
    rows: Sequence[int] | None = None,
    max_rows: int = 1024,
    max_requests: int | None = None,
) -> list[list[int]]:
    """Cut requests into batches, the longest first, so that memory runs out at once or never.

    Args:
        lengths: tokens of each request.
        max_tokens: bound on the padded tokens of a batch.
        rows: of each request, how many rows of logits it needs; 0 if not given.
        max_rows: bound on their sum in a batch.
        max_requests: bound on the requests of a batch.

    Returns:
        Positions of the requests, batch by batch. A request that is beyond a bound by itself is
        a batch of its own.

    Example:
        >>> batches([3, 9, 4, 8], max_tokens=18)
        [[1, 3], [2, 0]]
    """
    found: list[list[int]] = []
    num_rows = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        size = len(found[-1]) + 1 if found else 0
        wanted = rows[i] if rows is not None else 0
        if (
            not found
            or size * lengths[found[-1][0]] > max_tokens
            or num_rows + wanted > max_rows
            or (max_requests is not None and size > max_requests)
        ):
            found.append([])
            num_rows = 0
        found[-1].append(i)
        num_rows += wanted
    return found


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
