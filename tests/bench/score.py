"""Our engine beside lm-evaluation-harness's own model class: time, memory, and the same scores.

Both answer the same requests (context, continuation) of published sets, on the same checkpoint,
in the same precision, with the same threads, each in a process of its own, one after the other.
Timed is the scoring alone: neither imports nor loading. The harness runs at batch 8 and at 32, and
its better time counts. Prints JSON with the largest difference of a log-likelihood.

    python tests/bench/score.py --data ../shared/data [--most N] [--dtype bfloat16]
    python tests/bench/score.py --task crows_pairs=FILE [--task ...] [--most 1500]
        [--dtype float32] [--batches 8 32] [--threads 2]

With ``--data``, the folder of the public sets, all four whose speed is promised are measured, on
so many first requests that it takes about ten minutes on two free cores; more requests favour us.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from checkpoint import load
from measure import measured

FOUR = {
    "truthfulqa_mc1": ("truthfulqa/mc_task.json", 160),
    "bbq": ("bbq/Age.jsonl", 240),
    "halueval": ("halueval/qa_data.json", 200),
    "crows_pairs": ("crows_pairs/crows_pairs_anonymized.csv", 400),
}
"""File in the data folder, and how many requests."""


class Recorder:
    """Stands where a model stands, and keeps what a task asks of it."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []

    def loglikelihoods(self, pairs: Any, *_: Any, **__: Any) -> Any:
        """Keep the requests, and answer that all are equally likely."""
        from eval.model import Loglikelihood

        self.pairs += [tuple(pair) for pair in pairs]
        return [Loglikelihood(-1.0, 1, False) for _ in pairs]


def requests_of(given: str, most: int | None) -> list[tuple[str, str]]:
    """Return the first requests of a task."""
    from eval import benchmarks
    from eval.batching import quiet

    name, _, path = given.partition("=")
    recorder = Recorder()
    for task in benchmarks.load(name, Path(path)):
        task.ask(recorder, quiet)
    return recorder.pairs[:most]


def ours(pairs: list[tuple[str, str]], options: argparse.Namespace) -> dict[str, Any]:
    """Score with our engine."""
    from eval.model import LanguageModel

    model, tokenizer = load(options.dtype, options.threads)
    engine = LanguageModel(model, tokenizer)
    engine.loglikelihoods([("warm", " up")], joint=True)
    began = time.perf_counter()
    found = engine.loglikelihoods(pairs, joint=True)
    return {"seconds": time.perf_counter() - began, "values": [ll.value for ll in found]}


def theirs(pairs: list[tuple[str, str]], options: argparse.Namespace) -> dict[str, Any]:
    """Score with lm-evaluation-harness's model class."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = load(options.dtype, options.threads)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=options.batch)
    instances = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    lm.loglikelihood([Instance("loglikelihood", {}, ("warm", " up"), 0)], disable_tqdm=True)
    began = time.perf_counter()
    found = lm.loglikelihood(instances, disable_tqdm=True)
    return {"seconds": time.perf_counter() - began, "values": [float(value) for value, _ in found]}


def child(kind: str, path: Path, options: argparse.Namespace, batch: int = 0) -> dict[str, Any]:
    """Run one contender in a process of its own."""
    command = [sys.executable, __file__, "--child", kind, "--requests", str(path)]
    command += ["--batch", str(batch), "--dtype", options.dtype, "--threads", str(options.threads)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(options.threads)}
    output, peak = measured(command, environment)
    answer = re.search(r"RESULT (\{.*\})", output)
    if not answer:
        raise SystemExit(f"{kind} failed; its output ends:\n{output[-3000:]}")
    return json.loads(answer.group(1)) | {"peak_mb": peak}


def compare(given: str, most: int | None, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one task and return figures and ratios."""
    pairs = requests_of(given, most)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.json"
        path.write_text(json.dumps(pairs))
        mine = child("ours", path, options)
        others = {batch: child("theirs", path, options, batch) for batch in options.batches}
    best = min(others.values(), key=lambda other: other["seconds"])
    return {
        "requests": len(pairs),
        "seconds": mine["seconds"],
        "peak_mb": mine["peak_mb"],
        "lm_eval": {
            batch: {"seconds": other["seconds"], "peak_mb": other["peak_mb"]}
            for batch, other in others.items()
        },
        "times_faster": best["seconds"] / mine["seconds"],
        "peak_memory_ratio": mine["peak_mb"] / best["peak_mb"],
        "largest_difference_nats": max(
            abs(a - b) for a, b in zip(mine["values"], best["values"], strict=True)
        ),
    }


def main() -> None:
    """Measure all tasks that are given and print figures and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of the public sets: all four")
    parser.add_argument("--most", type=int, help="requests of each task, the first ones")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--child", choices=["ours", "theirs"])
    parser.add_argument("--requests", type=Path)
    parser.add_argument("--batch", type=int, default=0)
    options = parser.parse_args()
    if options.child:
        pairs = [tuple(pair) for pair in json.loads(options.requests.read_text())]
        score = ours if options.child == "ours" else theirs
        print("RESULT", json.dumps(score(pairs, options)))
        return
    machine = {"cores": len(os.sched_getaffinity(0)), "threads": options.threads}
    asked: dict[str, int | None] = dict.fromkeys(options.task, options.most)
    if options.data is not None:
        asked |= {f"{n}={options.data / p}": options.most or k for n, (p, k) in FOUR.items()}
    found = {
        given.partition("=")[0]: compare(given, most, options) for given, most in asked.items()
    }
    print(json.dumps({"machine": machine, "dtype": options.dtype, "tasks": found}, indent=1))


if __name__ == "__main__":
    main()
