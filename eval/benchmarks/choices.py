"""Asking a model which of several continuations it finds likeliest."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from eval.batching import Steps
from eval.model import LanguageModel, Loglikelihood
from eval.task import Progress

TIES = (
    "Of choices that are exactly as likely, one that counts against the model is taken, and there "
    "the first; equal figures need that no item is tied."
)
"""For a task's note: where ours and lm-evaluation-harness's figures could part."""

Request = tuple[str, str]
"""Context and continuation, the latter with the space before it."""


def requests(context: str, choices: Sequence[str]) -> list[Request]:
    r"""Return each choice as a continuation of a context that ends without a space.

    As lm-evaluation-harness builds them (its ``target_delimiter`` is a space).

    Example:
        >>> requests("Q: Who?\nA:", ["Ann", "Ben"])
        [('Q: Who?\nA:', ' Ann'), ('Q: Who?\nA:', ' Ben')]
    """
    return [(context, f" {choice}") for choice in choices]


def ask(
    model: LanguageModel, items: Sequence[Sequence[Request]], progress: Progress
) -> list[list[Loglikelihood]]:
    """Return the log-likelihoods of each item's requests, in their order.

    Context and continuation are tokenised together, as lm-evaluation-harness does.
    """
    flat = [request for item in items for request in item]
    steps = Steps(progress, num_requests=len(flat), num_items=len(items))
    found = iter(model.loglikelihoods(flat, steps, joint=True))
    return [list(itertools.islice(found, len(item))) for item in items]


def likeliest(values: Sequence[float], right: Collection[int], biased: Collection[int] = ()) -> int:
    """Return the choice with the largest value; an exact tie goes against the model.

    Of tied choices a biased one is taken first, then a wrong one. Elsewhere the first choice is
    taken, which rewards files that put the right one first.

    Example:
        >>> likeliest([-2.0, -1.0, -1.0], right=[1])
        2
    """
    best = max(values)
    tied = [i for i, value in enumerate(values) if value == best]
    return min(tied, key=lambda i: (i not in biased, i in right))


def values_of(scores: Sequence[Loglikelihood]) -> tuple[float, ...]:
    """Return the summed log-likelihoods, in nats."""
    return tuple(score.value for score in scores)


def tokens_of(scores: Sequence[Loglikelihood]) -> tuple[int, ...]:
    """Return the numbers of tokens."""
    return tuple(score.num_tokens for score in scores)


def per_character(values: Sequence[float], choices: Sequence[str]) -> list[float]:
    """Return each value by the characters of its choice, as ``acc_norm`` of lm-eval does."""
    return [value / len(choice) for value, choice in zip(values, choices, strict=True)]
