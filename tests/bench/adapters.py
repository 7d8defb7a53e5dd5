"""Five adapters and their base on one set: wall time in evaluations of the base alone.

`assay eval` is started twice, each time as a process of its own with a folder of its own: for the
base, and for the base with five adapters (of random factors: what an adapter answers costs the
same whatever it has learned). Prints JSON with both times, start and loading included, their
ratio, and the memory of both: one base is held, whatever stands on it.

    python tests/bench/adapters.py --task crows_pairs=FILE [--most 100] [--dtype float32]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from checkpoint import CHECKPOINT
from measure import measured

NUM_ADAPTERS = 5


def make_adapters(folder: Path) -> list[Path]:
    """Write adapters of rank 16 on all linear layers, each with its own random factors."""
    import torch

    from finetune import adapter as adapters
    from finetune import checkpoint as checkpoints
    from finetune.config import AdapterConfig, CheckpointConfig

    resolved = checkpoints.resolve(CheckpointConfig(checkpoint=CHECKPOINT))
    made = []
    for seed in range(NUM_ADAPTERS):
        base = checkpoints.load(resolved, quantization="none", dtype=torch.float32)
        model = adapters.inject(base, AdapterConfig(rank=16, alpha=32))
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter.data, std=0.01)
        made.append(folder / f"adapter-{seed}")
        adapters.save(model, base, made[-1])
    return made


def evaluation(adapters: list[Path], out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run `assay eval` and return its seconds and its peak memory."""
    command = [sys.executable, "-m", "recipes.cli", "eval", *map(str, adapters)]
    command += ["--base", CHECKPOINT, "--task", options.task, "--max-items", str(options.most)]
    command += ["--dtype", options.dtype, "--threads", str(options.threads), "-o", str(out)]
    began = time.perf_counter()
    output, peak = measured(
        command, os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(options.threads)}
    )
    seconds = time.perf_counter() - began
    reports = {path.parent.name for path in out.glob("*/report.json")}
    if len(reports) != 1 + len(adapters):
        raise SystemExit(f"assay eval left {sorted(reports)}; its output ends:\n{output[-3000:]}")
    return {"seconds": seconds, "peak_mb": peak}


def main() -> None:
    """Measure both and print figures and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True, metavar="NAME=PATH")
    parser.add_argument("--most", type=int, default=100, help="items, the first ones")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapters = make_adapters(folder)
        alone = evaluation([], folder / "alone", options)
        together = evaluation(adapters, folder / "together", options)
    found = {
        "machine": {"cores": len(os.sched_getaffinity(0)), "threads": options.threads},
        "base_alone": alone,
        "base_and_five_adapters": together,
        "single_evaluations": together["seconds"] / alone["seconds"],
        "peak_memory_ratio": together["peak_mb"] / alone["peak_mb"],
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
