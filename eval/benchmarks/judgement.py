"""A judgement "is this made up?", Yes or No, as both parts of HaluEval ask for."""

from __future__ import annotations

from collections.abc import Sequence

from eval.benchmarks.choices import likeliest, tokens_of, values_of
from eval.model import Loglikelihood
from eval.stats import mean_of
from eval.task import Metric, Sample

WORDS = ("Yes", "No")
"""What a judge may say: Yes, it is made up."""

METRICS = (
    Metric("acc", mean_of("acc"), True),
    Metric("hallucination_recall", mean_of("acc", among="made_up"), True),
    Metric("right_recall", mean_of("acc", among="right"), True),
    Metric("yes_rate", mean_of("yes"), None),
)


def judgement(
    scores: Sequence[Loglikelihood],
    *,
    name: str,
    prompt: str,
    is_made_up: bool,
    cluster: str | None = None,
) -> Sample:
    """Return what a model judged.

    Args:
        scores: of `WORDS`, after the prompt.
        name: of the item.
        prompt: that asked.
        is_made_up: whether Yes is right.
        cluster: of items that share a question.
    """
    right = 0 if is_made_up else 1
    values = values_of(scores)
    chosen = likeliest(values, [right])
    return Sample(
        id=name,
        prompt=prompt,
        prediction=WORDS[chosen],
        target=WORDS[right],
        correct=chosen == right,
        cluster=cluster,
        loglikelihoods=values,
        num_tokens=tokens_of(scores),
        scores={
            "acc": float(chosen == right),
            "yes": float(chosen == 0),
            "made_up": float(is_made_up),
            "right": float(not is_made_up),
        },
    )
