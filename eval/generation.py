"""Replies of one model to many prompts: batches, stops, what prompts share read once.

B prompts, S samples of each, P tokens of a shared prefix, T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import DynamicLayer

from eval.batching import batches, pad
from eval.scoring import CACHE, head_of, inference, only_rows
from eval.thoughts import CLOSE, OPEN
from eval.trie import common

_PROMPTS_AT_ONCE = 32
_WORTH_KEEPING = 16  # tokens; a shorter prefix costs less than keeping it


@dataclass(frozen=True)
class Manner:
    """How to reply."""

    max_new_tokens: int
    num_samples: int = 1
    temperature: float = 0.0
    """0 is greedy."""

    seed: int = 0
    stop: tuple[str, ...] = ()
    """Texts before which a reply ends."""

    def __post_init__(self) -> None:
        is_greedy = self.temperature == 0
        if self.num_samples < 1 or self.temperature < 0 or (self.num_samples > 1 and is_greedy):
            raise ValueError(
                f"cannot draw {self.num_samples} samples at temperature {self.temperature}"
            )


class Generator:
    """Generates with one model."""

    def __init__(self, model: Any, tokenizer: Any, *, pad_id: int, max_tokens: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._pad_id = pad_id
        self._max_tokens = max_tokens
        self.num_tokens = 0
        """Of all prompts and replies so far; a reply counts up to where its batch stopped."""

    def generate(
        self,
        prompts: Sequence[list[int]],
        names: Sequence[str],
        manner: Manner,
        wanted: Collection[int],
    ) -> Iterator[list[tuple[int, list[str]]]]:
        """Yield positions and replies, batch by batch, in any order.

        What all prompts begin with is read once, and so is a prompt of which several samples are
        drawn, where the model keeps plain keys and values.

        Args:
            prompts: token ids, none empty.
            names: what each prompt's draws are seeded by, beside ``manner.seed``.
            manner: how to reply.
            wanted: positions whose replies are wanted; a batch is answered as a whole, or not.
        """
        skip = _shared(prompts)
        kept = self._read(torch.tensor([prompts[0][:skip]])) if skip else None
        numbers = range(manner.num_samples)
        for batch in batches(
            [len(prompt) + manner.max_new_tokens for prompt in prompts],
            max_tokens=self._max_tokens // manner.num_samples,
            overhead=self._max_tokens,  # every batch decodes to its longest reply: few are wanted
            max_requests=max(1, _PROMPTS_AT_ONCE // manner.num_samples),
        ):
            if not any(i in wanted for i in batch):
                continue
            seeds = [_seed_of(f"{manner.seed}:{k}:{names[i]}") for i in batch for k in numbers]
            replies = self._reply([prompts[i] for i in batch], kept, manner, seeds)
            yield [
                (i, replies[place * manner.num_samples : (place + 1) * manner.num_samples])
                for place, i in enumerate(batch)
            ]

    def _reply(
        self,
        prompts: Sequence[list[int]],
        kept: DynamicCache | None,
        manner: Manner,
        seeds: Sequence[int],
    ) -> list[str]:
        """Reply to each prompt, S times, in one batch."""
        S = manner.num_samples
        ids_BT, mask_BT = pad(prompts, self._pad_id, self._model.device, on_the_left=True)
        past = None if kept is None else _padded(kept, (mask_BT == 0).sum(1).tolist())
        num_read = 0 if past is None else past.get_seq_length()
        if S > 1 and ids_BT.shape[1] - num_read > 1:
            past = self._read(ids_BT[:, num_read:-1], mask_BT[:, :-1], past)
        if S > 1:
            ids_BT, mask_BT = (x.repeat_interleave(S, dim=0) for x in (ids_BT, mask_BT))
            if past is not None:
                past.batch_repeat_interleave(S)
        with inference(self._model):
            replies_BT = self._model.generate(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                max_new_tokens=manner.max_new_tokens,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                repetition_penalty=1.0,
                eos_token_id=self._stops(),
                pad_token_id=self._pad_id,
                use_cache=True,
                logits_processor=LogitsProcessorList(
                    [_Draw(manner.temperature, seeds)] if manner.temperature else []
                ),
                **{CACHE: past},
                **(
                    {"stop_strings": list(manner.stop), "tokenizer": self._tokenizer}
                    if manner.stop
                    else {}
                ),
            )
        new_BT = replies_BT[:, ids_BT.shape[1] :].tolist()
        self.num_tokens += sum(map(len, prompts)) + sum(map(len, new_BT))
        return [_before(self._decode(ids), manner.stop) for ids in new_BT]

    def _decode(self, ids: Sequence[int]) -> str:
        """Return the text of a reply without special tokens, but with the tags of its thought."""
        special = set(self._tokenizer.all_special_ids)
        names = self._tokenizer.convert_ids_to_tokens(ids)
        text, start = "", 0
        for place, (token, name) in enumerate(zip(ids, names, strict=True)):
            if token in special and name in (OPEN, CLOSE):
                text += self._tokenizer.decode(ids[start:place], skip_special_tokens=True) + name
                start = place + 1
        return text + str(self._tokenizer.decode(ids[start:], skip_special_tokens=True))

    def _read(
        self, ids_BT: Tensor, mask_BT: Tensor | None = None, past: DynamicCache | None = None
    ) -> DynamicCache | None:
        """Return the keys and values of some tokens, and of what came before them.

        None of a model that keeps anything else, or nothing.
        """
        ids_BT = ids_BT.to(self._model.device)
        if mask_BT is None:
            mask_BT = torch.ones_like(ids_BT)
        places_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
        last_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        last_BT[:, -1] = True  # a head may refuse to see no row at all
        with inference(self._model), only_rows(head_of(self._model), last_BT):
            found = self._model(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                position_ids=places_BT,
                use_cache=True,
                **{CACHE: past},
            )
        cache = getattr(found, CACHE, None)
        return cache if _is_plain(cache) else None

    def _stops(self) -> list[int] | None:
        named = self._model.generation_config.eos_token_id
        stops = {*([named] if isinstance(named, int) else named or [])}
        stops |= {self._tokenizer.eos_token_id} - {None}
        return sorted(stops) or None


def _shared(prompts: Sequence[list[int]]) -> int:
    """Return how many first tokens all prompts share, but for the last of each; 0 if few."""
    if len(prompts) < 2:
        return 0
    length = common(min(prompts), max(prompts))
    length = min(length, min(len(prompt) for prompt in prompts) - 1)
    return length if length >= _WORTH_KEEPING else 0


def _is_plain(cache: Any) -> bool:
    """Return whether a model keeps keys and values of all tokens, and nothing else."""
    return isinstance(cache, DynamicCache) and all(type(x) is DynamicLayer for x in cache.layers)


def _padded(cache: DynamicCache, num_pads: Sequence[int]) -> DynamicCache:
    """Return the keys and values of one text of P tokens as the first P columns of a batch.

    The rows are padded on the left, each by its own number of tokens, as if the whole batch had
    been read so: padding *between* a text and what follows it would widen the distance that a
    window of attention, or ALiBi, counts in columns. What is pushed out at the end is read again;
    what stands at the padding's place is masked.
    """
    padded = copy.deepcopy(cache)
    padded.batch_repeat_interleave(len(num_pads))
    for layer in padded.layers:
        for x_BHPK in (layer.keys, layer.values):
            for row, num in enumerate(num_pads):
                x_BHPK[row] = x_BHPK[row].roll(num, dims=1)
    return padded


def _before(text: str, stop: Sequence[str]) -> str:
    """Return a text up to where the first of some texts begins."""
    return text[: min((text.index(end) for end in stop if end and end in text), default=None)]


class _Draw(LogitsProcessor):  # type: ignore[misc] # transformers is not followed
    """Turns "take the largest" into drawing from the softmax, with a generator for each row.

    Adding Gumbel noise and taking the largest is an exact draw (Gumbel 1954; Maddison, Tarlow
    and Minka 2014, arXiv:1411.0030). Unlike transformers' sampling, it makes a row's draws
    independent of the other rows, and leaves torch's own generator alone.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        del input_ids
        noise_BV = torch.empty(scores.shape, dtype=torch.float32)
        for row, generator in zip(noise_BV, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() / self._temperature - noise_BV.log().to(scores.device)


def _seed_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
