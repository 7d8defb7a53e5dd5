"""HaluEval, general: whether the model tells responses that hold something made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.benchmarks.choices import TIES, ask, requests
from eval.benchmarks.files import counted, digest, read_json_lines
from eval.benchmarks.judgement import METRICS, WORDS, judgement
from eval.model import LanguageModel
from eval.stats import mean_of
from eval.sums import OfSums, Values, divided
from eval.task import Metric, Progress, Sample, Task, fingerprint

_PROMPT = (
    "Decide whether a response to a request holds anything made up: a statement that is false or "
    "that nobody can check. Reply with Yes if it does, and with No if it does not.\n\n"
    "Request: {query}\nResponse: {response}\nDoes it hold anything made up?"
)


@dataclass(frozen=True)
class GeneralItem:
    """A line of ``general_data.json``."""

    id: str
    query: str
    response: str
    is_made_up: bool
    """Whether at least two of three people found a hallucination."""


def read_halueval_general(path: Path) -> list[GeneralItem]:
    """Return the labelled responses of ``general_data.json``, which holds an object a line.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    return [
        GeneralItem(
            id=row.text("ID"),
            query=row.text("user_query"),
            response=row.text("chatgpt_response"),
            is_made_up=row.one_of("hallucination", ("yes", "no")) == "yes",
        )
        for row in read_json_lines(path)
    ]


def halueval_general(path: Path, max_items: int | None = None) -> Task:
    """Return the judgement "does this response hold anything made up?".

    Args:
        path: ``general_data.json``.
        max_items: the first so many only, as the limit of lm-evaluation-harness.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    found_items = read_halueval_general(path)
    items = found_items[:max_items]
    prompts = [_PROMPT.format(query=item.query, response=item.response) for item in items]
    asked = [requests(text, WORDS) for text in prompts]
    share = sum(not item.is_made_up for item in items) / len(items)

    def answer(model: LanguageModel, progress: Progress) -> list[Sample]:
        found = ask(model, asked, progress)
        return [
            judgement(scores, name=item.id, prompt=text, is_made_up=item.is_made_up)
            for item, text, scores in zip(items, prompts, found, strict=True)
        ]

    return Task(
        name="halueval_general",
        family="hallucination",
        version=1,
        num_items=len(items),
        fingerprint=fingerprint([_PROMPT, [vars(item) for item in items]]),
        texts={item.id: (item.query,) for item in items},
        ask=answer,
        metrics=(
            Metric("balanced_acc", OfSums(_terms, _mean_of_recalls), True),
            *METRICS,
        ),
        note=(
            f"HaluEval general, {counted(len(items), len(found_items), 'responses')}, "
            f"{digest(path)} (RUCAIBox/HaluEval, MIT; requests of Alpaca, CC BY-NC 4.0; Li et al. "
            "2023, arXiv:2305.11747). Whether the model, asked Yes or No, tells responses of "
            "ChatGPT in which people found something made up; higher is better. Saying No "
            f"always gives an acc of {share:.3f} and a balanced_acc of 0.5, the mean of both "
            "recalls; a yes_rate near 0 or 1 means that one word is said whatever is asked. The "
            "authors give worked examples and read a generated word: their figures are not "
            f"comparable. {TIES}"
        ),
    )


def _terms(samples: Sequence[Sample]) -> Values:
    """Return, of each sample, both recalls' numerators and then both denominators."""
    rights, counts = zip(
        *(mean_of("acc", among=kind).terms(samples) for kind in ("made_up", "right")), strict=True
    )
    return np.stack([*rights, *counts], axis=1)


def _mean_of_recalls(sums_X4: Values) -> Values:
    recalls_X2 = divided(sums_X4[:, :2], sums_X4[:, 2:])
    return np.asarray(recalls_X2.mean(axis=1))
