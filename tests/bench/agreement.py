"""Published sets on the real checkpoint in float32: our engine and tasks beside lm-eval's own.

For each set: the largest difference between a log-likelihood of ours and of lm-evaluation-harness's
model class, and each figure that both report, ours from our log-likelihoods and theirs by the
harness's own task on theirs. A set of many thousand requests takes the harness hours on two cores,
so its answers are kept in a file and only what is missing is asked.

    python -m tests.bench.agreement --keep FILE [--sets crows_pairs halueval] [--most 100]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eval import benchmarks
from eval.batching import quiet
from eval.model import LanguageModel
from tests.bench.checkpoint import load
from tests.parity.harness_tasks import (
    SETS,
    Harnessed,
    bbq_set,
    harness_task,
    requests_of,
    scores_of,
)

CATEGORIES = ("Age", "Religion", "Sexual_orientation")

ALL: dict[str, Harnessed] = {
    **{name: theirs for name, theirs in SETS.items() if name != "pubmedqa"},
    **{f"bbq_{name}": bbq_set(name) for name in CATEGORIES},
}

Pair = tuple[str, str]


class Kept:
    """Log-likelihoods of the harness's model, on disk as they come."""

    def __init__(self, path: Path, answer: Callable[[Sequence[Pair]], list[float]]) -> None:
        self._path = path
        self._answer = answer
        self._known: dict[Pair, float] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                context, text, value = json.loads(line)
                self._known[context, text] = value

    def values(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the log-likelihood of each continuation after its context."""
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        for start in range(0, len(missing), 64):
            part = missing[start : start + 64]
            found = dict(zip(part, self._answer(part), strict=True))
            self._known |= found
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps([*pair, value]) + "\n" for pair, value in found.items())
        return [self._known[pair] for pair in pairs]


def harness_model(model: Any, tokenizer: Any) -> Callable[[Sequence[Pair]], list[float]]:
    """Return the harness's own model class, batch 8, as a function of requests."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8)

    def answer(pairs: Sequence[Pair]) -> list[float]:
        asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
        return [float(value) for value, _ in lm.loglikelihood(asked, disable_tqdm=True)]

    return answer


def agreement(name: str, most: int | None, engine: LanguageModel, kept: Kept) -> dict[str, Any]:
    """Ask both the first items of a set; return how far they differ, and their figures."""
    theirs = ALL[name]
    task = harness_task(theirs.folder, theirs.name, theirs.docs()[:most])
    [ours] = benchmarks.load(name.partition("_")[0] if "bbq" in name else name, theirs.path,
                             max_items=most)  # fmt: skip
    began = time.perf_counter()
    samples = ours.ask(engine, quiet)
    num_seconds = time.perf_counter() - began
    values = iter(kept.values(requests_of(task)))
    rows = [[next(values) for _ in sample.loglikelihoods] for sample in samples]
    found = {metric.name: metric.compute(samples) for metric in ours.metrics}
    wanted = scores_of(task, rows)
    return {
        "items": len(samples),
        "requests": sum(map(len, rows)),
        "largest_difference_nats": max(
            abs(a - b)
            for sample, row in zip(samples, rows, strict=True)
            for a, b in zip(sample.loglikelihoods, row, strict=True)
        ),
        "tied_items": sum(len({*row}) < len(row) and row.count(max(row)) > 1 for row in rows),
        "figures": {key: [found[key], float(wanted[key])] for key in sorted(theirs.shared)},
        "equal_to_4_digits": all(
            math.isclose(found[key], wanted[key], abs_tol=5e-5) for key in theirs.shared
        ),
        "our_seconds": num_seconds,
    }


def main() -> None:
    """Print the agreement on each set as JSON; exit 1 where there is none."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", nargs="+", default=list(ALL), choices=list(ALL))
    parser.add_argument("--most", type=int, help="items of each set, the first ones")
    parser.add_argument("--keep", type=Path, required=True, help="file of the harness's answers")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    model, tokenizer = load("float32", options.threads)
    kept = Kept(options.keep, harness_model(model, tokenizer))
    agree = True
    for name in options.sets:
        found = agreement(name, options.most, LanguageModel(model, tokenizer), kept)
        print(json.dumps({name: found}), flush=True)
        agree &= found["equal_to_4_digits"] and found["largest_difference_nats"] < 1e-3
    raise SystemExit(0 if agree else 1)


if __name__ == "__main__":
    main()
