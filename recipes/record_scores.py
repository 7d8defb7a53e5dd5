"""How a run's adapter, and its base alone, score single records: rows, canaries and controls."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.classifier import Classifier
from eval.model import LanguageModel
from eval.task import Progress
from finetune import adapter as adapters
from finetune import checkpoint as checkpoints
from finetune.encoding import Example
from privacy import membership
from privacy.canaries import Canary
from recipes import planting
from recipes.console import Narrator
from recipes.data.split import DataRow
from recipes.domains import Domain
from recipes.run import Run, base_folder
from recipes.training import load_base

MOST_ROWS = 1_000
"""Of the members, and of the others, that are scored: enough to speak of 1 % false positives."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores of records by statistic, each higher where a record looks trained on."""

    members: Mapping[str, Values]
    """Of training rows."""

    others: Mapping[str, Values]
    """Of test rows."""

    canaries: Mapping[str, Values]
    """Of those that were asked for, in their order."""

    base_members: Values
    """By the loss of the base alone."""

    base_others: Values


def score(run: Run, domain: Domain, canaries: Sequence[Canary], narrator: Narrator) -> Scores:
    """Score rows and canaries as training saw them: the same template, cut and loss mask.

    A language model's statistics are ``loss`` and ``min-k`` of the adapter, and ``reference``, its
    log-likelihood per token minus the base's. A classifier's are ``loss`` and, without looking at
    the label, ``confidence``; its base has a random head, so there is nothing to refer to.

    Args:
        run: that has ended; at most `MOST_ROWS` of its rows of either kind, chosen by its seed.
        domain: of the run.
        canaries: whether trained on or not.
        narrator: shows the progress.
    """
    base = load_base(run, base_folder(run), domain)
    stops = checkpoints.stop_ids_of(base.folder, base.tokenizer)

    def encoded(rows: Sequence[DataRow[Any]]) -> list[tuple[Example, str]]:
        pairs = [
            (domain.encode(row.item, base.tokenizer, stops), str(getattr(row.item, "text", "")))
            for row in rows
        ]
        learnable = [pair for pair in pairs if pair[0].is_learnable]
        rng = random.Random(f"{run.recipe.train.seed}/membership")  # noqa: S311 (a choice of rows)
        return rng.sample(learnable, min(len(learnable), MOST_ROWS))

    members, others = encoded(domain.parts.train), encoded(domain.parts.test)
    made_up = [
        (
            planting.encode(canary, f"canary {i}", run, domain, base.tokenizer),
            planting.text_of(canary, base.tokenizer),
        )
        for i, canary in enumerate(canaries)
    ]
    records = [*members, *others, *made_up]
    model = adapters.attach(base, {"audited": run.folder / "adapter"})
    found: list[dict[str, Values]] = []
    with narrator.bars() as open_bar:
        for what, name in (("adapter", "audited"), ("base", None)):
            bar = open_bar(f"{run.recipe.name}: scoring with the {what}", len(records))
            with adapters.active(model, name):
                found.append(_ask(model, base.tokenizer, run, domain, records, bar))
    scores, of_base = found
    if domain.head == "causal-lm":
        scores["reference"] = scores["loss"] - of_base["loss"]
    first, second = len(members), len(members) + len(others)
    return Scores(
        members={name: values[:first] for name, values in scores.items()},
        others={name: values[first:second] for name, values in scores.items()},
        canaries={name: values[second:] for name, values in scores.items()},
        base_members=of_base["loss"][:first],
        base_others=of_base["loss"][first:second],
    )


def _ask(
    model: Any,
    tokenizer: Any,
    run: Run,
    domain: Domain,
    records: Sequence[tuple[Example, str]],
    progress: Progress,
) -> dict[str, Values]:
    """Return the scores of all records by the model as it stands."""
    if domain.head == "causal-lm":
        requests = [(example.input_ids, example.supervised) for example, _ in records]
        tokens = LanguageModel(model, tokenizer).token_loglikelihoods(requests, progress)
        return {
            "loss": np.array([membership.loss(one) for one in tokens]),
            "min-k": np.array([membership.min_k(one) for one in tokens]),
        }
    classifier = Classifier(
        model,
        tokenizer,
        domain.labels,
        is_multi_label=domain.is_multi_label,
        max_length=checkpoints.longest(tokenizer, run.recipe.train.max_length),
    )
    p = classifier.probabilities([text for _, text in records], progress)
    labels = [example.label for example, _ in records]
    if domain.is_multi_label:
        right = np.where(np.array(labels, dtype=np.bool_), p, 1 - p)
        sure = np.maximum(p, 1 - p).mean(axis=1)
        return {"loss": np.log(np.maximum(right, _LEAST)).mean(axis=1), "confidence": sure}
    right = p[np.arange(len(p)), np.array(labels, dtype=np.intp)]
    return {"loss": np.log(np.maximum(right, _LEAST)), "confidence": p.max(axis=1)}


_LEAST = 1e-300  # a probability of 0 is one that underflowed
