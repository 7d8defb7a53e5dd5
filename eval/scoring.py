"""Log-likelihoods of many requests: shared tokens read once, the LM head only where needed.

B tries or requests, N nodes or tokens, P tokens of a shared prefix, R rows of logits,
V vocabulary, D width.
"""

from __future__ import annotations

import copy
import logging
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from eval.batching import batches, pad
from eval.errors import EvaluationError
from eval.tokens import Tokens
from eval.trie import Trie, build, common, groups, shared_prefix

Scores = list[tuple[float, int, bool]]
"""Of each scored piece of a request: summed log-likelihood in nats, number of tokens, and whether
each of them is the model's first choice."""

_Found = Iterator[list[tuple[int, Scores]]]

_ROWS_AT_ONCE = 512  # of float32 logits: 0.25 GB at a vocabulary of 128,000
_NORMS_AT_ONCE = 16  # rows that stay in a core's cache: 0.75 of the time that 64 take
_WORTH_KEEPING = 8  # tokens; a shorter prefix costs less than keeping it
_MAX_NODES = 1024  # of a trie: its mask is dense
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
"""By which a model's configuration says how far back some of its layers see."""

_CHECKED = 16  # tokens of a shared text that the check of tries reads

CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
"""What a model calls its keys and values, given and returned: renamed by transformers 5.24."""

_log = logging.getLogger(__name__)


class Scorer:
    """Scores tokenised requests with one model.

    Requests that begin alike are read as tries, and what all of them begin with is read once and
    kept. The first time, this is checked against reading requests apart; a model for which the
    two disagree, or that cannot be read so, is always read apart, and the log says so.
    """

    def __init__(self, model: Any, *, pad_id: int, max_tokens: int) -> None:
        self._model = model
        self._pad_id = pad_id
        self._max_tokens = max_tokens
        self._takes_tries: bool | None = None

    def score(self, requests: Sequence[Tokens], wanted: Collection[int] | None = None) -> _Found:
        """Yield positions and scores, batch by batch, in any order.

        Args:
            requests: what is asked.
            wanted: positions whose scores are wanted; all if not given. What is read together
                does not depend on it: a batch is read as a whole, or not at all.
        """
        wanted = range(len(requests)) if wanted is None else wanted
        asked = [i for i, request in enumerate(requests) if request.num_rows]
        if len(asked) < len(requests):
            yield [
                (i, [(0.0, 0, True)] * request.num_pieces)
                for i, request in enumerate(requests)
                if not request.num_rows
            ]
        if asked:
            places = {k for k, i in enumerate(asked) if i in wanted}
            for found in self._score([requests[i] for i in asked], places):
                yield [(asked[i], scores) for i, scores in found]

    def _score(self, requests: Sequence[Tokens], wanted: Collection[int]) -> _Found:
        skip = shared_prefix(requests)
        merged = groups(requests, skip, max_nodes=_MAX_NODES, width=self._width)
        if skip and (skip < _WORTH_KEEPING or len(merged) == 1):
            skip = 0
            merged = groups(requests, skip, max_nodes=_MAX_NODES, width=self._width)
        is_apart = skip == 0 and len(merged) == len(requests)
        if is_apart or not self._may_merge(requests, merged, skip):
            yield from self._score_apart(requests, wanted)
            return
        tries = [build(requests, members, skip) for members in merged]
        prefix = requests[0].ids[:skip]
        kept = None
        for batch in batches(
            [len(trie.ids) for trie in tries],
            max_tokens=self._max_tokens,
            rows=[len(trie.rows) for trie in tries],
            max_rows=_ROWS_AT_ONCE,
        ):
            if not any(i in wanted for b in batch for i in merged[b]):
                continue
            if skip and kept is None:
                kept = self._read_prefix(prefix)
            yield self._read_tries([tries[b] for b in batch], requests, skip, kept)

    def _may_merge(
        self, requests: Sequence[Tokens], merged: Sequence[Sequence[int]], skip: int
    ) -> bool:
        """Return whether these requests can be read as tries; the log says why not."""
        if self._takes_tries is False:
            return False
        longest = max(len(request.ids) for request in requests)
        if longest > self._window:
            _log.warning(
                "requests of up to %d tokens are read one request at a time: some layers of %s "
                "see %d tokens back, and shared texts are read once where all is seen",
                longest,
                type(self._model).__name__,
                self._window,
            )
            return False
        if self._takes_tries is None:
            self._takes_tries = self._agrees(requests, merged, skip)
            if not self._takes_tries:
                _log.warning(
                    "%s is read one request at a time: it cannot take tree attention, so shared "
                    "texts are read again for each request",
                    type(self._model).__name__,
                )
        return self._takes_tries

    def _score_apart(self, requests: Sequence[Tokens], wanted: Collection[int]) -> _Found:
        for batch in batches(
            [len(request.inputs) for request in requests],
            max_tokens=self._max_tokens,
            rows=[request.num_rows for request in requests],
            max_rows=_ROWS_AT_ONCE,
        ):
            if any(i in wanted for i in batch):
                yield list(zip(batch, self._read([requests[i] for i in batch]), strict=True))

    def _read(self, requests: Sequence[Tokens]) -> list[Scores]:
        """Score requests in one forward pass, each by itself."""
        ids_BN, mask_BN = self._pad([request.inputs for request in requests])
        targets_BN, _ = self._pad([request.ids[1:] for request in requests])
        # + 1, so that padding, whatever its id, and context are both told from pieces
        owners_BN, _ = pad([[o + 1 for o in r.owners[1:]] for r in requests], 0, self._device)
        rows_BN = owners_BN > 0
        with inference(self._model), only_rows(head_of(self._model), rows_BN):
            inputs = {"input_ids": ids_BN, "attention_mask": mask_BN}
            logits_RV = self._model(**inputs, use_cache=False).logits[0]
        found = _gather(logits_RV, targets_BN[rows_BN])
        return _sums(
            requests, rows_BN.nonzero()[:, 0].tolist(), (owners_BN[rows_BN] - 1).tolist(), *found
        )

    def _read_prefix(self, prefix: Sequence[int]) -> Any:
        """Return the keys and values of a prefix, for one row."""
        ids_1P = torch.tensor([prefix], device=self._device)
        nothing_1P = torch.zeros_like(ids_1P, dtype=torch.bool)
        nothing_1P[0, -1] = True  # an LM head may refuse to see no row at all
        with inference(self._model), only_rows(head_of(self._model), nothing_1P):
            return getattr(self._model(input_ids=ids_1P, use_cache=True), CACHE)

    def _read_tries(
        self, tries: Sequence[Trie], requests: Sequence[Tokens], skip: int, kept: Any
    ) -> list[tuple[int, Scores]]:
        """Score the requests of some tries in one forward pass."""
        B, N = len(tries), max(len(trie.ids) for trie in tries)
        ids_BN, _ = self._pad([trie.ids for trie in tries])
        places_BN, _ = pad([trie.depths for trie in tries], 0, self._device)
        sees_BNN = torch.eye(N, dtype=torch.bool).repeat(B, 1, 1)  # padding sees itself: no NaN
        rows_BN = torch.zeros((B, N), dtype=torch.bool)
        for b, trie in enumerate(tries):
            n = len(trie.ids)
            sees_BNN[b, :n, :n] = trie.sees_nn()
            rows_BN[b, list(trie.rows)] = True
        prefix_BNP = torch.ones((B, N, skip), dtype=torch.bool)
        sees_B1NM = torch.cat([prefix_BNP, sees_BNN], dim=2)[:, None].to(self._device)
        keep: dict[str, Any] = {"use_cache": False}
        if kept is not None:
            past = copy.deepcopy(kept)
            past.batch_repeat_interleave(B)
            keep = {"use_cache": True, CACHE: past}
        with inference(self._model), only_rows(head_of(self._model), rows_BN):
            logits_RV = self._model(
                input_ids=ids_BN,
                attention_mask=self._mask(sees_B1NM),
                position_ids=places_BN + skip,
                **keep,
            ).logits[0]
        starts = [0]
        for trie in tries:
            starts.append(starts[-1] + len(trie.rows))
        scored = [
            (start + one.row, one)
            for start, trie in zip(starts, tries, strict=False)
            for one in trie.scored
        ]
        targets = torch.tensor([one.token for _, one in scored])
        found = _gather(logits_RV, targets, torch.tensor([row for row, _ in scored]))
        members = sorted({one.request for _, one in scored})
        place = {request: k for k, request in enumerate(members)}
        sums = _sums(
            [requests[i] for i in members],
            [place[one.request] for _, one in scored],
            [one.piece for _, one in scored],
            *found,
        )
        return list(zip(members, sums, strict=True))

    def _agrees(
        self, requests: Sequence[Tokens], merged: Sequence[Sequence[int]], skip: int
    ) -> bool:
        """Return whether this model gives the same scores when requests are read as tries.

        Tried on the first and last request of two groups of unequal length together, so that one
        is padded. They are shortened, because the check is paid for by every evaluation.
        """
        if getattr(self._model.config, "_attn_implementation", None) not in ("sdpa", "eager"):
            return False
        pairs = [
            _shortened([requests[i] for i in sorted({members[0], members[-1]})], skip)
            for members in merged
        ]
        skip = min(skip, _CHECKED)
        sizes = [sum(len(request.ids) for request in pair) for pair in pairs]
        by_size = sorted(range(len(pairs)), key=lambda k: (len(pairs[k]) == 1, sizes[k]))
        longer = [k for k in by_size if sizes[k] > sizes[by_size[0]]]
        tried = [pairs[k] for k in (by_size[0], *longer[:1])]
        requests = [request for pair in tried for request in pair]
        places = iter(range(len(requests)))
        tries = [build(requests, [next(places) for _ in pair], skip) for pair in tried]
        try:
            kept = self._read_prefix(requests[0].ids[:skip]) if skip else None
            found = self._read_tries(tries, requests, skip, kept)
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, TypeError, ValueError, RuntimeError, NotImplementedError):
            return False  # another kind of cache, no position ids, another form of mask
        apart = self._read([requests[i] for i, _ in found])
        # In nats: once, and for each token. Logits of bfloat16 are an eighth apart from 16 on, so a
        # single token may be off by some of these; a mask that is not heeded shows as 2 and more.
        once, each = (0.0, 1e-3) if self._model.dtype == torch.float32 else (0.4, 0.05)
        return all(
            abs(value - expected) <= once + each * num
            for (_, scores), plain in zip(found, apart, strict=True)
            for (value, num, _), (expected, _, _) in zip(scores, plain, strict=True)
        )

    @property
    def _window(self) -> float:
        """How many tokens back the layer sees that sees the fewest; tries know no such window."""
        config = self._model.config.get_text_config()
        windows = [getattr(config, name, None) for name in _WINDOWS]
        return min((w for w in windows if w), default=math.inf)

    def _mask(self, sees_B1NM: Tensor) -> Tensor:
        """Return what the model's attention takes as a mask: bool for sdpa, else added."""
        if self._model.config._attn_implementation == "sdpa":
            return sees_B1NM
        dtype = self._model.dtype
        return torch.where(sees_B1NM, 0.0, torch.finfo(dtype).min).to(dtype)

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._model.device
        return device

    @property
    def _width(self) -> int:
        return int(getattr(self._model.config.get_text_config(), "hidden_size", 0) or 1024)

    def _pad(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        return pad(sequences, self._pad_id, self._device)


def _shortened(group: Sequence[Tokens], skip: int) -> list[Tokens]:
    """Cut tokens out of what a group's requests share before anything is predicted.

    Left are at most `_CHECKED` tokens of the prefix that is kept (the first ``skip``), and as many
    of what the group shares behind it: enough to see whether a mask, positions and keys from
    before are heeded.
    """
    shared = min(common(group[0].inputs, group[-1].inputs), *(one.first_row for one in group))
    before, behind = max(0, skip - _CHECKED), max(skip, shared - _CHECKED)
    return [
        Tokens(
            one.ids[before:skip] + one.ids[behind:],
            one.owners[before:skip] + one.owners[behind:],
            one.num_pieces,
        )
        for one in group
    ]


def _sums(
    requests: Sequence[Tokens],
    owners: Sequence[int],
    pieces: Sequence[int],
    values: Tensor,
    is_first: Tensor,
) -> list[Scores]:
    """Add up token scores by request and piece, in float64."""
    counts = [Counter(owner for owner in r.owners if owner >= 0) for r in requests]
    shape = (len(requests), max(r.num_pieces for r in requests))
    places = torch.tensor(owners), torch.tensor(pieces)
    sums_BK = torch.zeros(shape, dtype=torch.float64)
    sums_BK.index_put_(places, values.cpu(), accumulate=True)
    others_BK = torch.zeros(shape, dtype=torch.long)
    others_BK.index_put_(places, (~is_first.cpu()).long(), accumulate=True)
    return [
        [
            (float(sums_BK[b, k]), counts[b][k], not others_BK[b, k])
            for k in range(request.num_pieces)
        ]
        for b, request in enumerate(requests)
    ]


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


def head_of(model: Any) -> nn.Module:
    """Return a language model's head.

    Raises:
        EvaluationError: if it has none.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise EvaluationError(
            f"{type(model).__name__} has no language model head, and a language model is needed"
        )
    return head


@contextmanager
def only_rows(head: nn.Module, rows_BT: Tensor) -> Iterator[None]:
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


def _gather(
    logits_BV: Tensor, targets_N: Tensor, rows_N: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return log-softmax at the targets in float64, and whether each has the largest logit.

    Few float32 rows at a time: the softmax itself is never stored.

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
            logits_BV[start : start + _NORMS_AT_ONCE].float().logsumexp(1)
            for start in range(0, len(logits_BV), _NORMS_AT_ONCE)
        ]
    )
    # in float64 on the processor: Apple's GPU has no such numbers
    values_N = logits_BV[rows_N, targets_N].cpu().double() - norms_B[rows_N].cpu().double()
    return values_N, logits_BV.argmax(1)[rows_N] == targets_N
