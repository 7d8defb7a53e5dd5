"""Time and memory of `assay check` on many rows: near-duplicates alone, and the whole command.

Rows are made up, with words as unevenly distributed as in a language; of 100 rows, 2 are copies of
an earlier one and 4 nearly so. A classification row has 20 words in the mean; a chat has four turns
and 700 bytes, so that 100,000 of them are 70 MB. Prints JSON: seconds, peak memory in MB, and what
was found.

    python tests/bench/check.py near classification --rows 100000
    python tests/bench/check.py near chat --rows 100000
    python tests/bench/check.py check chat --rows 100000 --base BASE

``near`` finds near-duplicates across units of privacy, then across the split; its memory includes
the rows. ``check`` runs the command on a file, with a base folder for the tokenizer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import measured

NUM_LABELS = 20

GATES = {
    "classification": ("accuracy", "excess_flip_rate", "auroc"),
    "chat": ("perplexity", "stereotype_preference", "mc2"),
}


def texts_of(count: int, mean_words: int, rng: random.Random) -> Iterator[str]:
    """Yield texts; of 100, 2 are copies of an earlier one and 4 nearly so."""
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(50_000)]
    weights = [1 / (rank + 10) for rank in range(len(vocabulary))]
    stock = rng.choices(vocabulary, weights, k=2_000_000)
    kept: list[str] = []
    for number in range(count):
        kind = rng.random()
        if kept and kind < 0.06:
            text = rng.choice(kept)
            if kind < 0.04:
                words = text.split()
                words[rng.randrange(len(words))] = rng.choice(vocabulary)
                text = " ".join(words)
            yield text
            continue
        begin = rng.randrange(len(stock) - 20 * mean_words)
        length = max(3, min(int(rng.expovariate(1 / mean_words)) + 3, 20 * mean_words))
        text = " ".join([*stock[begin : begin + length - 1], str(number)])
        if len(kept) < 10_000:
            kept.append(text)
        yield text


def rows_of(kind: str, count: int) -> Iterator[dict[str, Any]]:
    """Yield rows as a file has them."""
    rng = random.Random(0)
    if kind == "classification":
        for text in texts_of(count, 17, rng):
            # of the text, so that copies have one label
            yield {"text": text, "label": f"label {sum(text.encode()) % NUM_LABELS}"}
        return
    for text in texts_of(count, 88, rng):
        words = text.split()
        size = max(1, len(words) // 4)
        turns = [words[i * size : (i + 1) * size] for i in range(3)] + [words[3 * size :] or ["ok"]]
        yield {
            "messages": [
                {"role": ("user", "assistant")[i % 2], "content": " ".join(turn or ["ok"])}
                for i, turn in enumerate(turns)
            ]
        }


def write(path: Path, kind: str, count: int) -> None:
    """Write rows to a file."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows_of(kind, count):
            file.write(json.dumps(row) + "\n")


def find_near(path: Path, kind: str) -> dict[str, Any]:
    """Find near-duplicates in a file's rows; the reading is not timed."""
    from recipes import chat, classification
    from recipes.config import DataConfig
    from recipes.data.dataset import prepare
    from recipes.data.findings import Findings
    from recipes.data.leakage import find_near_leaks
    from recipes.data.near_duplicates import near_duplicates

    parse: Any = chat.parse if kind == "chat" else classification.parse
    findings = Findings()
    parts = prepare(
        DataConfig(train=(str(path),)),
        path.parent,
        parse,
        seed=0,
        validation_fraction=0.0,
        findings=findings,
    )
    began = time.perf_counter()
    found = near_duplicates(parts.train, [[i] for i in range(len(parts.train))])
    between = time.perf_counter()
    across = Findings()
    find_near_leaks(parts.train, parts.test, across)
    return {
        "seconds_across_units": round(between - began, 1),
        "seconds_across_split": round(time.perf_counter() - between, 1),
        "rows": len(parts.train) + len(parts.test),
        "near_across_units": found.num_near,
        "near_across_split": sum(one.count for one in across.all()),
    }


def recipe_of(kind: str, base: str) -> dict[str, Any]:
    """Return a recipe as JSON values."""
    accuracy, bias, hallucination = GATES[kind]
    return {
        "name": "bench",
        "recipe": kind,
        "base": {"checkpoint": base},
        "data": {"train": "rows.jsonl", "findings": {"conflicting-labels": "warning"}},
        "train": {"allow_truncation": True},
        "gate": {
            "accuracy": {"metric": accuracy, "at_most": 100},
            "bias": {"metric": bias, "at_most": 1},
            "hallucination": {"metric": hallucination, "at_least": 0},
        },
    }


def main() -> None:
    """Run one case in a process of its own and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["near", "check"])
    parser.add_argument("kind", choices=[*GATES])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--base", help="folder of a base, for its tokenizer")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)  # the process of its own
    given = parser.parse_args()
    if given.file:
        print(json.dumps(find_near(given.file, given.kind)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "rows.jsonl", given.kind, given.rows)
        if given.what == "near":
            command = [sys.executable, __file__, "near", given.kind]
            command += ["--file", str(folder / "rows.jsonl")]
        else:
            if not given.base:
                parser.error("check needs --base")
            recipe = recipe_of(given.kind, str(Path(given.base).resolve()))
            (folder / "recipe.yaml").write_text(json.dumps(recipe))
            command = [sys.executable, "-m", "recipes.cli", "check", str(folder / "recipe.yaml")]
        root = Path(__file__).resolve().parents[2]
        began = time.perf_counter()
        output, peak = measured(command, os.environ | {"PYTHONPATH": str(root)})
        seconds = time.perf_counter() - began
        size = (folder / "rows.jsonl").stat().st_size
    found = {"what": given.what, "kind": given.kind, "rows": given.rows, "megabytes": size / 1e6}
    found |= {"seconds": round(seconds, 1), "peak_megabytes": round(peak)}
    if given.what == "near":
        found |= {"near": json.loads(output.splitlines()[-1])}
    elif "fit to train on" not in output:
        sys.exit(output)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
