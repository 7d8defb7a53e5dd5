"""Log-likelihoods of many requests: batches, the head only where needed, shared contexts once.

B requests or contexts, T tokens, P tokens of a context, D width, V vocabulary, N rows of logits
or continuations.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eval.batching import batches, pad
from eval.errors import EvaluationError

Scores = list[tuple[float, int]]
"""Of each scored piece of a request: summed log-likelihood in nats, and number of tokens."""

_Group = tuple[tuple[int, ...], list[int]]
"""A context, and the positions of the requests that go on from it."""

_ROWS_AT_ONCE = 1024  # of float32 logits: 0.5 GB at a vocabulary of 128,000
_WORTH_SHARING = 8  # tokens; a shorter context costs less than keeping it


@dataclass(frozen=True)
class Tokens:
    """A request as tokens, up to its last scored one. The first is never scored."""

    ids: tuple[int, ...]
    owners: tuple[int, ...]
    """For each token the number of the scored piece it belongs to, or -1."""

    num_pieces: int

    @property
    def num_rows(self) -> int:
        """Number of scored tokens."""
        return sum(owner >= 0 for owner in self.owners)

    @property
    def context(self) -> tuple[int, ...] | None:
        """What comes before the one scored piece; None if there are several, or it is empty."""
        start = len(self.ids) - self.num_rows
        is_one = self.num_pieces == 1 and all(owner < 0 for owner in self.owners[:start])
        return self.ids[:start] if is_one and self.ids else None


class Scorer:
    """Scores tokenised requests with one model.

    Contexts that several requests share are read once. The first time, this is checked against
    reading them apart; a model for which the two disagree is always read apart.
    """

    def __init__(self, model: Any, *, pad_id: int, max_tokens: int) -> None:
        self._model = model
        self._pad_id = pad_id
        self._max_tokens = max_tokens
        self._can_share: bool | None = None

    def score(self, requests: Sequence[Tokens]) -> Iterator[list[tuple[int, Scores]]]:
        """Yield positions and scores, batch by batch; each request once, in any order."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, request in enumerate(requests):
            context = request.context
            if context is not None and len(context) >= _WORTH_SHARING:
                groups.setdefault(context, []).append(i)
        shared = {context: members for context, members in groups.items() if len(members) > 1}
        if shared and self._can_share is None:
            self._can_share = self._check_sharing(shared, requests)
        if not self._can_share:
            shared = {}
        read_once = {i for members in shared.values() for i in members}
        apart = [i for i in range(len(requests)) if i not in read_once]
        for batch in batches(
            [len(requests[i].ids) for i in apart],
            max_tokens=self._max_tokens,
            rows=[requests[i].num_rows for i in apart],
            max_rows=_ROWS_AT_ONCE,
        ):
            members = [apart[i] for i in batch]
            yield list(zip(members, self._read([requests[i] for i in members]), strict=True))
        for chunk in self._chunks(shared, requests):
            yield self._read_shared(chunk, requests)

    def _read(self, requests: Sequence[Tokens]) -> list[Scores]:
        """Score requests in one forward pass, each with its own context."""
        counts = [Counter(owner for owner in r.owners if owner >= 0) for r in requests]
        num_pieces = max(1, *(r.num_pieces for r in requests))
        sums_BK = torch.zeros((len(requests), num_pieces), dtype=torch.float64)
        if any(counts):  # the last token is predicted, never read
            ids_BT, mask_BT = self._pad([r.ids[:-1] or (self._pad_id,) for r in requests])
            targets_BT, _ = self._pad([r.ids[1:] or (self._pad_id,) for r in requests])
            # + 1, so that padding, whatever its id, and context are both told from pieces
            owners = [[owner + 1 for owner in r.owners[1:]] or [0] for r in requests]
            owners_BT, _ = pad(owners, 0, self._device)
            rows_BT = owners_BT > 0
            logits_NV = self._forward(rows_BT, input_ids=ids_BT, attention_mask=mask_BT)[0]
            scores_N = _gather(logits_NV, targets_BT[rows_BT]).cpu()
            places = rows_BT.nonzero()[:, 0].cpu(), owners_BT[rows_BT].cpu() - 1
            sums_BK.index_put_(places, scores_N, accumulate=True)
        return [
            [(float(sums_BK[b, k]), counts[b][k]) for k in range(request.num_pieces)]
            for b, request in enumerate(requests)
        ]

    def _chunks(
        self, shared: Mapping[tuple[int, ...], list[int]], requests: Sequence[Tokens]
    ) -> Iterator[list[_Group]]:
        """Cut contexts with their continuations so that the expanded batches are bounded."""
        chunk: list[_Group] = []
        width = num_rows = size = 0
        for context in sorted(shared, key=lambda c: -len(c)):
            for i in shared[context]:
                length, rows = len(requests[i].ids), requests[i].num_rows
                is_too_large = (size + 1) * max(width, length) > self._max_tokens
                if chunk and (is_too_large or num_rows + rows > _ROWS_AT_ONCE):
                    yield chunk
                    chunk, width, num_rows, size = [], 0, 0, 0
                if not chunk or chunk[-1][0] != context:
                    chunk.append((context, []))
                chunk[-1][1].append(i)
                width, num_rows, size = max(width, length), num_rows + rows, size + 1
        if chunk:
            yield chunk

    def _read_shared(
        self, chunk: Sequence[_Group], requests: Sequence[Tokens]
    ) -> list[tuple[int, Scores]]:
        """Score continuations, with each context read once and its keys and values kept."""
        members = [i for _, group in chunk for i in group]
        texts = [requests[i].ids[len(context) :] for context, group in chunk for i in group]
        ids_BP, mask_BP = self._pad([context for context, _ in chunk], on_the_left=True)
        last_BP = torch.zeros_like(mask_BP, dtype=torch.bool)
        last_BP[:, -1] = True
        logits_BV, kept = self._forward_and_keep(
            last_BP,
            input_ids=ids_BP,
            attention_mask=mask_BP,
            position_ids=(mask_BP.cumsum(1) - 1).clamp(min=0),
        )
        owners_N = torch.tensor(
            [b for b, (_, group) in enumerate(chunk) for _ in group], device=self._device
        )
        first_N = torch.tensor([text[0] for text in texts])
        sums_N = _gather(logits_BV, first_N, owners_N)
        if any(len(text) > 1 for text in texts):
            kept.batch_select_indices(owners_N)
            ids_NT, mask_NT = self._pad([text[:-1] for text in texts])
            targets_NT, _ = self._pad([text[1:] for text in texts])
            starts_N1 = mask_BP.sum(1)[owners_N][:, None]
            rows_NT = mask_NT > 0
            logits_RV, _ = self._forward_and_keep(
                rows_NT,
                input_ids=ids_NT,
                attention_mask=torch.cat([mask_BP[owners_N], mask_NT], dim=1),
                position_ids=starts_N1 + torch.arange(ids_NT.shape[1], device=self._device),
                past_key_values=kept,
            )
            rest_R = _gather(logits_RV, targets_NT[rows_NT])
            sums_N.index_add_(0, rows_NT.nonzero()[:, 0].to(sums_N.device), rest_R)
        return [
            (i, [(value, len(text))])
            for i, value, text in zip(members, sums_N.tolist(), texts, strict=True)
        ]

    def _check_sharing(
        self, shared: Mapping[tuple[int, ...], list[int]], requests: Sequence[Tokens]
    ) -> bool:
        """Return whether this model gives the same scores when a context is read once.

        Tried on the shortest context together with the longest, so that one is padded.
        """
        contexts = {min(shared, key=len), max(shared, key=len)}
        groups = [(context, shared[context][:2]) for context in sorted(contexts)]
        try:
            found = self._read_shared(groups, requests)
        except (AttributeError, TypeError):  # another kind of cache, or no position ids
            return False
        apart = self._read([requests[i] for i, _ in found])
        noise = 1e-3 if self._model.dtype == torch.float32 else 0.1  # per token, in nats
        return all(
            abs(value - expected) <= noise * num
            for (_, [(value, num)]), [(expected, _)] in zip(found, apart, strict=True)
        )

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._model.device
        return device

    def _pad(
        self, sequences: Sequence[Sequence[int]], *, on_the_left: bool = False
    ) -> tuple[Tensor, Tensor]:
        return pad(sequences, self._pad_id, self._device, on_the_left=on_the_left)

    def _forward(self, rows_BT: Tensor, **inputs: Any) -> Tensor:
        """Return the logits of the chosen rows, shape ``(1, N, V)``."""
        with inference(self._model), _only_rows(_head(self._model), rows_BT):
            logits: Tensor = self._model(**inputs, use_cache=False).logits
        return logits

    def _forward_and_keep(self, rows_BT: Tensor, **inputs: Any) -> tuple[Tensor, Any]:
        """Return the logits of the chosen rows, shape ``(N, V)``, and the model's cache."""
        with inference(self._model), _only_rows(_head(self._model), rows_BT):
            output = self._model(**inputs, use_cache=True)
        return output.logits[0], output.past_key_values


@contextmanager
def inference(model: Any) -> Iterator[None]:
    """No gradients, no dropout, and bf16 arithmetic for a bf16 model with float32 adapters."""
    was_training = model.training
    model.eval()
    is_bf16 = model.dtype == torch.bfloat16
    try:
        with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=is_bf16):
            yield
    finally:
        if was_training:
            model.train()


def finite(value: float) -> float:
    """Return a number that the model gave, if it is one.

    Raises:
        EvaluationError: if it is NaN or infinite.
    """
    if not math.isfinite(value):
        raise EvaluationError(
            f"the model gave {value} where a finite number was wanted: its weights, or its "
            "arithmetic in this precision, are broken; evaluate an earlier checkpoint"
        )
    return float(value)


def _head(model: Any) -> nn.Module:
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise EvaluationError(
            f"{type(model).__name__} has no language model head, and a language model is needed"
        )
    return head


@contextmanager
def _only_rows(head: nn.Module, rows_BT: Tensor) -> Iterator[None]:
    """Let the LM head see only the chosen rows: its input becomes ``(1, N, D)``.

    By a hook on the head, so that what a model does after it (scaling, soft caps) still happens.
    """

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_BTD = inputs[0]
        return (hidden_BTD[rows_BT.to(hidden_BTD.device)].unsqueeze(0), *inputs[1:])

    handle = head.register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def _gather(logits_BV: Tensor, targets_N: Tensor, rows_N: Tensor | None = None) -> Tensor:
    """Return log-softmax at the targets in float64, shape ``(N,)``; few float32 rows at a time.

    Args:
        logits_BV: in the model's precision.
        targets_N: token ids.
        rows_N: the row of each target; without it, target n belongs to row n.
    """
    device = logits_BV.device
    rows_N = torch.arange(len(targets_N)) if rows_N is None else rows_N
    rows_N, targets_N = rows_N.to(device), targets_N.to(device)
    norms_B = torch.cat(
        [
            logits_BV[start : start + _ROWS_AT_ONCE].float().logsumexp(1)
            for start in range(0, len(logits_BV), _ROWS_AT_ONCE)
        ]
    )
    return logits_BV[rows_N, targets_N].double() - norms_B.double()[rows_N]
