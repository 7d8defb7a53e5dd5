"""How far a GGUF file is from the folder it was made of: divergence, first choices, tokens.

Asked is llama.cpp itself where llama-cpp-python is installed (the extra ``llama-cpp``). Without it
the file is read back by transformers, which dequantises: that proves weights, names and order, and
says nothing of llama.cpp's arithmetic or of how it cuts text up; the result tells which it was.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GgufConfig

from finetune import checkpoint as checkpoints
from finetune.errors import IntegrityError
from finetune.proof import Agreement, agreement, logits_on
from recipes.handover.gguf import Kind

PROBES = (
    "The invoice of 14 March 2024 (no. 20487) is for 1,250.00 euros, and it was paid on time.",
    "Dear customer, we're sorry that your order hasn't arrived. You'll get a refund by Friday.",
    "Water boils at 100 degrees at sea level; on a mountain of 3000 metres it boils at about 90.",
    "def mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n"
    "    return total / len(values)\n",
    "Die Straße ist naß, und die Gäste essen Käse. Où est la gare ? El niño comió piña.",
    "Question: Which planet is the largest?\nAnswer: Jupiter is the largest planet of the system.",
    'She opened the door, looked at the rain, and decided to stay. "It can wait," she said.\t1\t22',
    "数学は楽しい。 Привет, мир! 🙂 3.14159 != 22/7 ... and so on ...   the end.",
)
"""Texts of our own, in which digits, spaces, quotes, code and other scripts are cut up."""

LIMITS: dict[Kind, float] = {"F16": 1e-3, "Q8_0": 2e-2}
"""Mean KL in nats that is allowed, or twice the noise floor if that is more.

F16 is held to what a merge is held to. Of Q8_0 of the 135M model 6e-3 was measured in llama.cpp
(bare base), most of it from its 8-bit activations; a wrong order of rows costs whole nats.
"""


@dataclass(frozen=True)
class Parity:
    """What was measured."""

    engine: str
    mean_kl_nats: float
    p99_kl_nats: float
    top1_agreement: float
    num_positions: int
    noise_floor_mean_kl_nats: float
    """Of the folder itself, computed in 16 bits, against itself in float32."""

    limit_mean_kl_nats: float
    texts_read_alike: str
    """Of the texts, how many the engine cuts into the same tokens as the folder's tokenizer."""


def measure(folder: Path, file: Path, kind: Kind, texts: Sequence[str] = PROBES) -> Parity:
    """Compare a file with its folder, both asked the same tokens.

    Raises:
        IntegrityError: if it is further away than `LIMITS`, or reads other tokens.
    """
    exact = _load(folder, torch.float32)
    reference = logits_on(exact, exact.model, texts)
    num_rows = exact.model.config.vocab_size
    half = _load(folder, torch.bfloat16)
    floor = agreement(reference, logits_on(half, half.model, texts))
    asked = [exact.tokenizer(text)["input_ids"][:256] for text in texts]
    plain = [exact.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    del half, exact
    if is_llama_cpp_here():
        engine = f"llama.cpp, by llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"
        answers, alike = _of_llama_cpp(file, asked, plain, texts)
        read = f"{alike} of {len(texts)}"
    else:
        engine = f"transformers {importlib.metadata.version('transformers')}, dequantised"
        answers, alike = _of_transformers(file, asked), len(texts)
        read = "not checked: llama-cpp-python is not installed"
    seen = agreement(reference, [a[:, :num_rows] for a in answers])
    limit = max(LIMITS[kind], 2 * floor.mean_kl)
    _refuse(file, seen, limit, alike, len(texts), engine)
    return Parity(
        engine,
        mean_kl_nats=seen.mean_kl,
        p99_kl_nats=seen.p99_kl,
        top1_agreement=seen.top1,
        num_positions=seen.num_positions,
        noise_floor_mean_kl_nats=floor.mean_kl,
        limit_mean_kl_nats=limit,
        texts_read_alike=read,
    )


def is_llama_cpp_here() -> bool:
    """Return whether llama-cpp-python is installed."""
    return importlib.util.find_spec("llama_cpp") is not None


def _refuse(
    file: Path, seen: Agreement, limit: float, num_alike: int, num_texts: int, engine: str
) -> None:
    if num_alike < num_texts:
        raise IntegrityError(
            f"{file.name} read by {engine} cuts {num_texts - num_alike} of {num_texts} texts into "
            "other tokens than the tokenizer that the model was trained with"
        )
    if not seen.mean_kl <= limit:  # also refuses NaN
        raise IntegrityError(
            f"{file.name} answers otherwise than the folder it was made of: mean KL "
            f"{seen.mean_kl:.2g} nats over {seen.num_positions} positions, limit {limit:.2g} "
            f"(asked by {engine})"
        )


def _load(folder: Path, dtype: torch.dtype) -> checkpoints.Base:
    return checkpoints.load(folder, quantization="none", dtype=dtype)


def _of_llama_cpp(
    file: Path, asked: Sequence[list[int]], plain: Sequence[list[int]], texts: Sequence[str]
) -> tuple[list[Tensor], int]:
    """Return logits ``(T_i, V)`` of each text, and how many texts become the same tokens."""
    from llama_cpp import Llama

    longest = max(map(len, asked))
    llama = Llama(
        model_path=str(file),
        n_ctx=longest + 8,
        n_batch=longest + 8,
        n_threads=torch.get_num_threads(),
        n_gpu_layers=0,
        logits_all=True,
        verbose=False,
    )
    with contextlib.closing(llama):
        found = []
        for ids in asked:
            llama.reset()
            llama.eval(ids)
            found.append(torch.from_numpy(llama.scores[: len(ids)].copy()))
        read = [llama.tokenize(text.encode(), add_bos=False, special=True) for text in texts]
    return found, sum(ours == theirs for ours, theirs in zip(plain, read, strict=True))


@torch.no_grad()
def _of_transformers(file: Path, asked: Sequence[list[int]]) -> list[Tensor]:
    model: Any = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
    ).eval()
    return [model(input_ids=torch.tensor([ids])).logits[0] for ids in asked]
