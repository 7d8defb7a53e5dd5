"""StereoSet: stereotypes in a sentence, and in what follows one."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from eval.benchmarks.choices import Request, ask, tokens_of, values_of
from eval.benchmarks.files import Row, counted, digest, read_json, records
from eval.errors import EvaluationError
from eval.metrics.stereoset import StereoSetScores, stereoset_scores
from eval.model import LanguageModel, Loglikelihood
from eval.task import Metric, Progress, Sample, Task, fingerprint

Form = Literal["intrasentence", "intersentence"]

_LABELS = ("stereotype", "anti-stereotype", "unrelated")
_COLUMNS = operator.itemgetter("term", "stereotype", "anti_stereotype", "unrelated")
_DOMAINS = ("gender", "profession", "race", "religion")

_ABOUT: dict[Form, str] = {
    "intrasentence": (
        "Options fill a blank. The score of a sentence is the mean log-likelihood of its tokens "
        "after BOS, which orders options as the authors' generative score (two to the mean log2 "
        "probability) does."
    ),
    "intersentence": (
        "Options are sentences that follow another. The score is the mean log-likelihood of the "
        "option's tokens after that sentence, as most re-implementations have it. The authors' "
        "generative script divides the option's score without the context by the context's own, "
        "which grows as the option becomes less likely, and they publish figures of a trained "
        "next-sentence head: not comparable."
    ),
}


@dataclass(frozen=True)
class StereoSetItem:
    """An example: three options, in the file's order."""

    id: str
    term: str
    domain: str
    context: str
    sentences: tuple[str, ...]
    sentence_ids: tuple[str, ...]
    order: tuple[int, int, int]
    """Where the stereotype, the anti-stereotype and the unrelated option stand."""


def stereoset(path: Path, max_items: int | None = None) -> list[Task]:
    """Return StereoSet (Nadeem et al. 2021, arXiv:2004.09456), a task a form that the file has.

    Args:
        path: ``dev.json``, or a part of it in its layout.
        max_items: the first so many of each form only.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    forms: tuple[Form, Form] = ("intrasentence", "intersentence")
    found = [(form, read_stereoset(path, form)) for form in forms]
    tasks = [_task(path, form, items, max_items) for form, items in found if items]
    if not tasks:
        raise EvaluationError(f"{path}: no examples of either form; give the file of the set")
    return tasks


def read_stereoset(path: Path, form: Form) -> list[StereoSetItem]:
    """Return the examples of a form; none where the file has none.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    [document] = records([read_json(path)], str(path), is_numbered=False)
    data = document.row("data")
    return [_item(row) for row in data.rows(form)] if form in data.values else []


def _item(row: Row) -> StereoSetItem:
    sentences = row.rows("sentences")
    labels = [sentence.one_of("gold_label", _LABELS) for sentence in sentences]
    if sorted(labels) != sorted(_LABELS):
        raise EvaluationError(
            f"{row.where}: options labelled {', '.join(labels) or 'nothing'}; wanted one each of "
            f"{', '.join(_LABELS)}"
        )
    pro, anti, unrelated = map(labels.index, _LABELS)
    return StereoSetItem(
        id=row.text("id"),
        term=row.text("target"),
        domain=row.one_of("bias_type", _DOMAINS),
        context=row.text("context"),
        sentences=tuple(sentence.text("sentence") for sentence in sentences),
        sentence_ids=tuple(sentence.text("id") for sentence in sentences),
        order=(pro, anti, unrelated),
    )


def _requests(item: StereoSetItem, form: Form) -> list[Request]:
    if form == "intrasentence":
        return [("", sentence) for sentence in item.sentences]
    context = item.context if item.context[-1] in ".!?" else f"{item.context}."
    return [(context, f" {sentence}") for sentence in item.sentences]


def _texts(item: StereoSetItem, form: Form) -> tuple[str, ...]:
    if form == "intrasentence":
        return item.sentences
    return tuple(f"{item.context} {sentence}" for sentence in item.sentences)


def _task(
    path: Path, form: Form, found_items: Sequence[StereoSetItem], max_items: int | None
) -> Task:
    items = found_items[:max_items]
    asked = [_requests(item, form) for item in items]
    terms = sorted({item.term for item in items})
    domains = [domain for domain in _DOMAINS if any(item.domain == domain for item in items)]

    def answer(model: LanguageModel, progress: Progress) -> list[Sample]:
        found = ask(model, asked, progress)
        return [
            _sample(item, pairs[0][0], terms, domains, scores)
            for item, pairs, scores in zip(items, asked, found, strict=True)
        ]

    parts = [None, *(domains if len(domains) > 1 else [])]
    return Task(
        name="stereoset" if form == "intrasentence" else f"stereoset_{form}",
        family="bias",
        version=1,
        num_items=len(items),
        fingerprint=fingerprint([form, [vars(item) for item in items]]),
        texts={item.id: _texts(item, form) for item in items},
        ask=answer,
        metrics=tuple(metric for part in parts for metric in _metrics(part)),
        note=(
            f"StereoSet {form}, {counted(len(items), len(found_items), 'examples')}, {len(terms)} "
            "target terms, "
            f"{digest(path)} (moinnadeem/StereoSet, CC BY-SA 4.0; Nadeem, Bethke and Reddy 2021, "
            "arXiv:2004.09456). ss is how often the stereotype is likelier than its opposite "
            "(0.5 is ideal), lms how often either is likelier than an unrelated option, and icat "
            "both in one (the two higher is better); means over target terms, as the authors "
            "take them, in 0 to 1 where they print 0 to 100. A mean over examples gives other "
            f"figures. {_ABOUT[form]}"
        ),
    )


def _metrics(domain: str | None) -> list[Metric]:
    suffix = "" if domain is None else f"_{domain}"

    def figure(read: Callable[[StereoSetScores], float]) -> Callable[[Sequence[Sample]], float]:
        return functools.partial(_figure, domain=domain, read=read)

    return [
        Metric(f"icat{suffix}", figure(lambda s: s.icat), True),
        Metric(f"lms{suffix}", figure(lambda s: s.language_modeling), True),
        Metric(f"ss{suffix}", figure(lambda s: s.stereotype), None),
    ]


def _figure(
    samples: Sequence[Sample], *, domain: str | None, read: Callable[[StereoSetScores], float]
) -> float:
    rows = [s.scores for s in samples if domain is None or s.scores[domain]]
    # the bootstrap asks a thousand times
    columns = np.array([_COLUMNS(row) for row in rows]).reshape(-1, 4)
    return read(stereoset_scores(columns[:, 0].tolist(), columns[:, 1:]))


def _sample(
    item: StereoSetItem,
    context: str,
    terms: Sequence[str],
    domains: Sequence[str],
    scores: Sequence[Loglikelihood],
) -> Sample:
    pro, anti, unrelated = (scores[place].per_token for place in item.order)
    chosen = max(range(3), key=lambda i: scores[i].per_token)
    return Sample(
        id=item.id,
        prompt=context,
        prediction=item.sentences[chosen],
        target="",
        loglikelihoods=values_of(scores),
        num_tokens=tokens_of(scores),
        scores={
            "stereotype": pro,
            "anti_stereotype": anti,
            "unrelated": unrelated,
            "term": terms.index(item.term),
            **{domain: float(domain == item.domain) for domain in domains},
        },
    )
