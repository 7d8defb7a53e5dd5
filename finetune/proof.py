"""Proof that a merged model answers like the one that was evaluated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetune import adapter as adapters
from finetune import checkpoint as checkpoints
from finetune.errors import IntegrityError
from finetune.merge import MERGE_RECORD


@dataclass(frozen=True)
class Agreement:
    """How far one model's answers are from another's, over the same positions."""

    mean_kl: float
    """Mean Kullback-Leibler divergence in nats of the second from the first."""

    p99_kl: float
    top1: float
    """Share of positions at which both prefer the same token or class."""

    num_positions: int


def agreement(first: Sequence[Tensor], second: Sequence[Tensor]) -> Agreement:
    """Compare two lists of logits, ``(N_i, V)`` each; the first is the reference."""
    kls, same = [], []
    for a, b in zip(first, second, strict=True):
        p, q = a.float().log_softmax(-1), b.float().log_softmax(-1)
        kls.append((p.exp() * (p - q)).sum(-1))
        same.append(p.argmax(-1) == q.argmax(-1))
    kl, top = torch.cat(kls), torch.cat(same)
    return Agreement(
        mean_kl=kl.mean().item(),
        p99_kl=kl.quantile(0.99).item(),
        top1=top.float().mean().item(),
        num_positions=len(kl),
    )


@torch.no_grad()
def logits_on(base: checkpoints.Base, model: Any, texts: Sequence[str]) -> list[Tensor]:
    """Return the logits of every position of every text (of the text itself, for a classifier)."""
    model.eval()
    found = []
    device = next(model.parameters()).device
    is_bf16 = base.quantization.compute_dtype == "bfloat16"
    context: AbstractContextManager[Any] = (
        torch.autocast(device.type, torch.bfloat16) if is_bf16 else nullcontext()
    )
    with context:
        for text in texts:
            ids = torch.tensor([base.tokenizer(text)["input_ids"][:256]], device=device)
            mask = torch.ones_like(ids)
            logits = model(input_ids=ids, attention_mask=mask).logits
            found.append(logits.reshape(-1, logits.shape[-1]).float().cpu())
    return found


def _reference_logits(
    base_folder: Path, adapter_folder: Path, texts: Sequence[str], dtype: torch.dtype
) -> list[Tensor]:
    record = adapters.read_record(adapter_folder)
    base = checkpoints.load(
        base_folder,
        quantization=record.quantization.kind,
        head=record.head,
        labels=record.labels,
        is_multi_label=record.is_multi_label,
        dtype=dtype,
    )
    return logits_on(base, adapters.load(base, adapter_folder), texts)


def _yes_or_no(logits: list[Tensor]) -> list[Tensor]:
    """Make each class a choice of its own: sigmoid(z) is the softmax of (0, z)."""
    return [torch.stack([torch.zeros_like(z), z], -1).reshape(-1, 2) for z in logits]


def prove(
    base_folder: Path, adapter_folder: Path, merged_folder: Path, texts: Sequence[str]
) -> dict[str, Any]:
    """Measure the merged model against the evaluated one, beside the noise of the latter itself.

    Both are held against the evaluated model computed in float32: the merged model as it is served,
    and, as the noise floor, the evaluated model as it was evaluated. The proof holds if the merged
    model's mean KL is at most max(1e-3, twice the floor). Where several labels may hold at once,
    each of them counts as a position. The result is added to ``merge.json``.

    Raises:
        IntegrityError: if it does not hold; the merged folder is removed, so that nothing that
            looks usable is left.
    """
    record = adapters.read_record(adapter_folder)
    dtype = getattr(torch, record.quantization.compute_dtype)
    reference = _reference_logits(base_folder, adapter_folder, texts, dtype)
    exact = _reference_logits(base_folder, adapter_folder, texts, torch.float32)
    merged = checkpoints.load(
        merged_folder,
        quantization="none",
        head=record.head,
        labels=record.labels,
        is_multi_label=record.is_multi_label,
        dtype=dtype,
    )
    answers = logits_on(merged, merged.model, texts)
    if record.is_multi_label:
        reference, exact, answers = map(_yes_or_no, (reference, exact, answers))
    seen = agreement(exact, answers)
    floor = agreement(exact, reference)
    limit = max(1e-3, 2 * floor.mean_kl)
    proof = {
        "mean_kl_nats": seen.mean_kl,
        "p99_kl_nats": seen.p99_kl,
        "top1_agreement": seen.top1,
        "num_positions": seen.num_positions,
        "noise_floor_mean_kl_nats": floor.mean_kl,
        "noise_floor_top1_agreement": floor.top1,
        "limit_mean_kl_nats": limit,
    }
    if not seen.mean_kl <= limit:
        shutil.rmtree(merged_folder)
        raise IntegrityError(
            f"the merged model answers otherwise than the evaluated one: mean KL "
            f"{seen.mean_kl:.2g} nats over {seen.num_positions} positions, limit {limit:.2g}; "
            "the merged folder was removed"
        )
    path = merged_folder / MERGE_RECORD
    made = json.loads(path.read_text()) | {"proof": proof}
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    scratch.replace(path)
    return proof
