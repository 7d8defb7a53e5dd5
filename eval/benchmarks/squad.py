"""SQuAD 1.1 and 2.0: answers from a passage, and the sense to give none."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.batching import Steps
from eval.benchmarks.choices import requests, tokens_of, values_of
from eval.benchmarks.files import Row, counted, digest, read_json, records
from eval.errors import EvaluationError
from eval.items import Question, check_items, passage_name
from eval.metrics.no_answer import best_threshold, score_at_threshold
from eval.metrics.squad import exact_match, normalize_answer, token_f1
from eval.model import LanguageModel, Loglikelihood, no_answer, output_of
from eval.stats import mean_of
from eval.task import Metric, Progress, Sample, Task, fingerprint

REFUSAL = "unanswerable"
"""The word that stands for "the passage does not say"."""

_MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class SquadQuestion:
    """A question with the title of its article, which is in the prompt."""

    question: Question
    title: str


def squad(path: Path, max_items: int | None = None) -> Task:
    """Return SQuAD 1.1 (Rajpurkar et al. 2016) or 2.0 (Rajpurkar, Jia and Liang 2018).

    Args:
        path: ``dev-v1.1.json`` or ``dev-v2.0.json``, or a part of one in its layout.
        max_items: the first so many only, as the limit of lm-evaluation-harness.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    found_items, version = read_squad(path)
    items = found_items[:max_items]
    rows = [item.question for item in items]
    prompts = [prompt(item) for item in items]
    has_refusals = any(not row.is_answerable for row in rows)
    is_tuning = tuning_part(rows)

    def answer(model: LanguageModel, progress: Progress) -> list[Sample]:
        # a generation counts as two requests: it takes longer than a log-likelihood
        steps = Steps(progress, num_requests=4 * len(rows), num_items=len(rows))
        replies = model.generate(
            prompts,
            max_new_tokens=_MAX_NEW_TOKENS,
            progress=lambda done: steps(2 * done),
            stop=("\n",),
            is_text=True,
        )
        flat = [reply for [reply] in replies]
        asked = [
            pair
            for text, reply in zip(prompts, flat, strict=True)
            for pair in requests(text, [REFUSAL, reply or REFUSAL])
        ]
        found = model.loglikelihoods(asked, steps, joint=True)
        return with_threshold(
            [
                _sample(row, text, reply, (found[2 * i], found[2 * i + 1]), is_tuning[i])
                for i, (row, text, reply) in enumerate(zip(rows, prompts, flat, strict=True))
            ]
        )

    metrics = [Metric("f1", mean_of("f1"), True), Metric("exact", mean_of("exact"), True)]
    if has_refusals:
        metrics += [
            Metric("HasAns_f1", mean_of("f1", among="has_answer"), True),
            Metric("HasAns_exact", mean_of("exact", among="has_answer"), True),
            Metric("NoAns_f1", mean_of("f1", among="no_answer"), True),
            Metric("over_refusal_rate", mean_of("refused", among="has_answer"), False),
            Metric("best_f1", mean_of("best_f1", among="held_out"), True),
            Metric("best_exact", mean_of("best_exact", among="held_out"), True),
            Metric("never_answer_f1", mean_of("no_answer"), None),
        ]
    return Task(
        name="squad",
        family="accuracy",
        version=2,
        num_items=len(rows),
        fingerprint=fingerprint(
            [REFUSAL, _MAX_NEW_TOKENS, [[item.title, vars(item.question)] for item in items]]
        ),
        texts={row.id: (row.question,) for row in rows},
        ask=answer,
        metrics=tuple(metrics),
        note=(
            f"SQuAD {version}, {counted(len(rows), len(found_items), 'questions')}, "
            f"{digest(path)} (rajpurkar/SQuAD-explorer, "
            "CC BY-SA 4.0; Rajpurkar et al. 2016, arXiv:1606.05250, and 2018, arXiv:1806.03822). "
            "Exact match and token F1 of greedy answers by the rules of evaluate-v2.0.py, in 0 to "
            "1; higher is better. Prompt and end of line as stop follow lm-evaluation-harness "
            f"0.4.13 (squadv2), answers end after {_MAX_NEW_TOKENS} tokens."
            + (_REFUSALS if has_refusals else "")
        ),
    )


_REFUSALS = (
    " A reply that reads 'unanswerable', or nothing, counts as no answer; the harness takes it as "
    "words and scores it 0. NoAns_f1 is how often none is given where the passage has none: 1 "
    "minus it is the rate of made-up answers; over_refusal_rate is how often one is refused that "
    "exists (lower is better). best_ withdraws answers by their no-answer probability, P(refusal) "
    "over P(refusal) plus P(answer); the threshold is chosen on one half of the passages and "
    "reported on the other, where the script and the harness report it on the questions that it "
    "was chosen on. never_answer_f1 is what a model scores that always declines."
)


def prompt(item: SquadQuestion) -> str:
    """Return the prompt of lm-evaluation-harness."""
    row = item.question
    return (
        f"Title: {item.title}\n\nBackground: {row.context}\n\nQuestion: {row.question}\n\nAnswer:"
    )


def read_squad(path: Path) -> tuple[list[SquadQuestion], str]:
    """Return the questions in the file's order, and the version of its layout.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    [document] = records([read_json(path)], str(path), is_numbered=False)
    items = [
        _question(row, article.text("title"), paragraph.text("context"), number)
        for article in document.rows("data")
        for number, paragraph in enumerate(article.rows("paragraphs"))
        for row in paragraph.rows("qas")
    ]
    check_items("squad", [item.question for item in items])
    version = str(document.values.get("version", "of unknown version"))
    return items, version.removeprefix("v")


def _question(row: Row, title: str, context: str, number: int) -> SquadQuestion:
    is_impossible = row.values.get("is_impossible", False)
    answers = () if is_impossible else tuple(a.text("text") for a in row.rows("answers"))
    if not is_impossible and not answers:
        raise EvaluationError(
            f"{row.where}: no answer, and not marked 'is_impossible'; give one of the two"
        )
    return SquadQuestion(
        Question(
            id=row.text("id"),
            context=context,
            question=row.text("question"),
            answers=answers,
            document=passage_name(title, number),
        ),
        title,
    )


def tuning_part(rows: Sequence[Question]) -> list[bool]:
    """Return of each question whether the threshold is chosen on it: about half of them.

    Whole passages where there are at least two, drawn by their names, so that each is in one part
    only; else questions, by their ids.
    """
    documents = {row.document for row in rows}
    keys = [row.document if len(documents) > 1 else row.id for row in rows]
    order = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).digest())
    sizes = {key: keys.count(key) for key in order} if len(documents) > 1 else {}
    chosen: set[str] = set()
    num_chosen = 0
    for key in order[:-1] or order:  # one at least is left to report on
        if 2 * num_chosen >= len(rows):
            break
        chosen.add(key)
        num_chosen += sizes.get(key, 1)
    return [key in chosen for key in keys]


def no_answer_probability(refusal: Loglikelihood, answer: Loglikelihood) -> float:
    """Return ``P(refusal) / (P(refusal) + P(answer))``."""
    gap = answer.value - refusal.value
    return 0.0 if gap > 700 else 1 / (1 + math.exp(gap))


def with_threshold(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples with what they score when doubtful answers are withdrawn.

    The threshold of each figure is chosen on the tuning part; ``best_f1`` and ``best_exact``
    are given to the others, which alone are reported on.
    """
    tuning = [s for s in samples if s.scores["tuning"]]
    thresholds = {}
    for key in ("f1", "exact"):
        _, thresholds[key] = best_threshold(
            [s.scores[key] for s in tuning],
            [s.scores["na_probability"] for s in tuning],
            [s.scores["has_answer"] > 0 for s in tuning],
        )
    return [
        s
        if s.scores["tuning"]
        else replace(
            s,
            scores={
                **s.scores,
                **{
                    f"best_{key}": score_at_threshold(
                        [s.scores[key]],
                        [s.scores["na_probability"]],
                        [s.scores["has_answer"] > 0],
                        threshold,
                    )
                    for key, threshold in thresholds.items()
                },
            },
        )
        for s in samples
    ]


def _sample(
    row: Question,
    text: str,
    reply: str,
    scores: tuple[Loglikelihood, Loglikelihood],
    is_tuning: bool,
) -> Sample:
    refused = normalize_answer(reply) in ("", REFUSAL)
    prediction = no_answer(reply) if refused else reply
    golds = row.answers
    exact = exact_match(prediction, golds)
    return Sample(
        id=row.id,
        prompt=text,
        prediction=output_of(prediction),
        target=" | ".join(golds),
        correct=bool(exact),
        cluster=row.document,
        loglikelihoods=values_of(scores),
        num_tokens=tokens_of(scores),
        scores={
            "f1": token_f1(prediction, golds),
            "exact": exact,
            "na_probability": 1.0 if refused else no_answer_probability(*scores),
            "refused": float(refused),
            "has_answer": float(bool(golds)),
            "no_answer": float(not golds),
            "tuning": float(is_tuning),
            "held_out": float(not is_tuning),
        },
    )
