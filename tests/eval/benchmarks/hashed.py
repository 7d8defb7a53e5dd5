"""A model whose numbers are a hash of what it is asked: the same everywhere, and never tied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eval.batching import quiet
from eval.model import Loglikelihood
from eval.task import Progress, Sample, Task

SHARED = Path(__file__).parents[4] / "shared" / "data"
"""Public data beside the checkout; tests that need it are skipped where it is absent."""


class HashedModel:
    """Scores by a hash, or by a function of context and continuation; repeats or replies."""

    def __init__(
        self,
        value: Callable[[str, str], float] | None = None,
        reply: Callable[[str], str] = lambda prompt: prompt[-8:],
    ) -> None:
        self.tokenizer = SimpleNamespace(chat_template=None)
        self.asked: list[tuple[str, str]] = []
        self.was_joint: list[bool] = []
        self._value = value or hashed
        self._reply = reply

    def loglikelihoods(
        self, pairs: Sequence[tuple[str, str]], progress: Progress = quiet, *, joint: bool = False
    ) -> list[Loglikelihood]:
        self.asked += pairs
        self.was_joint.append(joint)
        progress(len(pairs))
        return [Loglikelihood(self._value(*pair), num_words(pair[1]), False) for pair in pairs]

    def generate(
        self, prompts: Sequence[str], *, progress: Progress = quiet, **_: Any
    ) -> list[list[str]]:
        progress(len(prompts))
        return [[self._reply(prompt)] for prompt in prompts]


def num_words(text: str) -> int:
    return max(1, len(text.split()))


def hashed(context: str, text: str) -> float:
    digest = hashlib.sha256(f"{context}\0{text}".encode()).digest()
    return -20.0 * int.from_bytes(digest[:6]) / 2**48


def figures(task: Task, model: Any) -> dict[str, float]:
    samples = answers(task, model)
    return {metric.name: metric.compute(samples) for metric in task.metrics}


def answers(task: Task, model: Any) -> list[Sample]:
    shown: list[int] = []
    samples = task.ask(model, shown.append)
    assert sum(shown) == task.num_items == len(samples)
    return samples
