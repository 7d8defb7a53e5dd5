"""Accuracy tasks: whether the model does what it was trained for, on data it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from eval.batching import Steps
from eval.classes import (
    ClassModel,
    calibration_error,
    classify,
    is_multi_label,
    macro_f1_of,
    worst_recall_of,
)
from eval.items import Dialogue, LabelledText, Question, check_items, choose
from eval.metrics.calibration import adaptive_calibration_error
from eval.metrics.chrf import chrf
from eval.metrics.rouge_l import rouge_l
from eval.metrics.selective import aurc, coverage_at_risk, excess_aurc
from eval.metrics.squad import exact_match, normalize_answer, token_f1
from eval.model import LanguageModel, Message, output_of
from eval.model import no_answer as no_reply
from eval.stats import mean_of
from eval.sums import OfSums, Values, divided, mean_of_defined
from eval.task import Metric, Progress, Sample, Task, fingerprint

ToMessages = Callable[[Question], Sequence[Message]]
"""Puts a question and its passage as a chat, as in training."""

SMALLEST_PROBABILITY = 1e-12
"""A probability below counts as this one, so that one label held impossible is not all there is."""


def classification(rows: Sequence[LabelledText], labels: Sequence[str]) -> Task:
    """Return the task "name the class of each text", for a model with ``probabilities``.

    Args:
        rows: texts with their class; with tuples of classes, several may hold at once.
        labels: all classes, in the order of the model's outputs.

    Raises:
        EvaluationError: if there are no rows, two have one id, or a label is unknown.
    """
    check_items("classification", rows)
    is_multi = is_multi_label(rows, labels)

    def ask(model: ClassModel, progress: Progress) -> list[Sample]:
        p = classify(model, [row.text for row in rows], labels, progress)
        sample = _multi_label_sample if is_multi else _label_sample
        return [sample(row, labels, p[i]) for i, row in enumerate(rows)]

    return Task(
        name="classification",
        family="accuracy",
        version=2,
        num_items=len(rows),
        fingerprint=fingerprint([list(labels), [asdict(row) for row in rows]]),
        ask=ask,
        metrics=_multi_label_metrics(len(labels)) if is_multi else _label_metrics(labels),
        note=(
            "How well the model assigns "
            + ("all classes" if is_multi else "one class")
            + " to each text of the run's own held-out data"
            + (
                "."
                if is_multi
                else ", and whether its confidence can be relied on: by size (ECE, Brier, NLL) and "
                "by order (risk and coverage)."
            )
        ),
    )


def question_answering(
    rows: Sequence[Question],
    *,
    to_messages: ToMessages,
    no_answer: str,
    max_new_tokens: int = 32,
) -> Task:
    """Return the task "answer from the passage, or say that it does not answer".

    Scored as SQuAD 2.0 (Rajpurkar, Jia and Liang 2018, arXiv:1806.03822).

    Args:
        rows: questions; those without answers are answered right by ``no_answer``.
        to_messages: puts a question as a chat.
        no_answer: the reply that stands for "the passage does not say"; a reply counts as such
            when it equals it but for case, punctuation and articles, or is empty.
        max_new_tokens: of a reply, which is greedy.

    Raises:
        EvaluationError: if there are no rows, or two have one id.
    """
    check_items("question_answering", rows)

    def ask(model: LanguageModel, progress: Progress) -> list[Sample]:
        replies = answer_questions(model, rows, to_messages, no_answer, max_new_tokens, progress)
        return [
            _answer_sample(row, prompt, answer)
            for row, (prompt, answer) in zip(rows, replies, strict=True)
        ]

    return Task(
        name="question_answering",
        family="accuracy",
        version=1,
        num_items=len(rows),
        fingerprint=questions_fingerprint(rows, to_messages, no_answer, max_new_tokens),
        ask=ask,
        metrics=(
            Metric("f1", mean_of("f1"), True),
            Metric("exact_match", mean_of("exact_match"), True),
            Metric("has_answer_f1", mean_of("f1", among="has_answer"), True),
            Metric("no_answer_f1", mean_of("f1", among="no_answer"), True),
            Metric("never_answer_f1", mean_of("no_answer"), None),
            Metric("answered_rate", mean_of("answered"), None),
        ),
        note=(
            "Token F1 and exact match of greedy answers, by the rules of SQuAD 2.0; "
            "never_answer_f1 is what a model would score that always declines."
        ),
    )


def reference_replies(
    dialogues: Sequence[Dialogue], *, max_new_tokens: int = 96, max_generated: int = 40
) -> Task:
    """Return the task "expect, and give, the replies that the data has".

    Args:
        dialogues: chats with the wanted replies as assistant turns.
        max_new_tokens: of a greedy reply.
        max_generated: of how many dialogues the last turn is answered, drawn at random; the
            likelihood is taken on all.

    Raises:
        EvaluationError: if there are no dialogues, two have one id, or one has no reply.
    """
    check_items("reference_replies", dialogues)
    chats = [dialogue.to_last_reply() for dialogue in dialogues]
    generated = {dialogue.id for dialogue in choose(dialogues, max_generated)}

    def ask(model: LanguageModel, progress: Progress) -> list[Sample]:
        num_requests = len(dialogues) + len(generated)
        steps = Steps(progress, num_requests=num_requests, num_items=len(dialogues))
        scores = model.score([model.dialogue(chat) for chat in chats], steps)
        prompts = [model.prompt(chat[:-1]) for chat in chats]
        asked = [i for i, dialogue in enumerate(dialogues) if dialogue.id in generated]
        replies = model.generate(
            [prompts[i] for i in asked], max_new_tokens=max_new_tokens, progress=steps
        )
        reply_of = {i: reply for i, [reply] in zip(asked, replies, strict=True)}
        samples = []
        for i, dialogue in enumerate(dialogues):
            reference = chats[i][-1]["content"].strip()
            nats = -sum(ll.value for ll in scores[i])
            num_tokens = sum(ll.num_tokens for ll in scores[i])
            samples.append(
                Sample(
                    id=dialogue.id,
                    prompt=prompts[i],
                    prediction=output_of(reply_of.get(i, "")),
                    target=reference,
                    scores={"nats": nats, "tokens": num_tokens}
                    | _overlap(reply_of.get(i), reference),
                )
            )
        return samples

    return Task(
        name="reference_replies",
        family="accuracy",
        version=1,
        num_items=len(dialogues),
        fingerprint=fingerprint(
            [[d.to_json() for d in dialogues], max_new_tokens, sorted(generated)]
        ),
        ask=ask,
        metrics=(
            Metric("perplexity", total_perplexity(), False),
            Metric("rouge_l", mean_of("rouge_l", among="has_rouge_l"), True),
            Metric("chrf", mean_of("chrf", among="generated"), True),
        ),
        note=(
            f"Perplexity of all reference replies in {len(dialogues)} dialogues; overlap of "
            f"greedy last replies with the reference in {len(generated)} of them. Overlap rewards "
            "the same words, not the same meaning."
        ),
    )


def total_perplexity() -> OfSums:
    """Return `eval.metrics.perplexity.perplexity` of all replies, as a figure of sums."""

    def terms(samples: Sequence[Sample]) -> NDArray[np.float64]:
        return np.array([[s.scores["nats"], s.scores["tokens"]] for s in samples])

    def figure(sums_XK: Values) -> Values:
        with np.errstate(over="ignore"):  # infinite where it exceeds what a float holds
            return np.exp(divided(sums_XK[:, 0], sums_XK[:, 1]))

    return OfSums(terms, figure)


def answer_questions(
    model: LanguageModel,
    rows: Sequence[Question],
    to_messages: ToMessages,
    no_answer: str,
    max_new_tokens: int,
    progress: Progress,
) -> list[tuple[str, str]]:
    """Return prompt and greedy answer of each question; a refusal is an empty answer."""
    prompts = [model.prompt(to_messages(row)) for row in rows]
    replies = model.generate(prompts, max_new_tokens=max_new_tokens, progress=progress)
    refusals = {"", normalize_answer(no_answer)}
    return [
        (prompt, no_reply(reply) if normalize_answer(reply) in refusals else reply)
        for prompt, [reply] in zip(prompts, replies, strict=True)
    ]


def questions_fingerprint(
    rows: Sequence[Question], to_messages: ToMessages, no_answer: str, max_new_tokens: int
) -> str:
    """Return the fingerprint of a task that asks these questions."""
    asked = [[asdict(row), [dict(message) for message in to_messages(row)]] for row in rows]
    return fingerprint([asked, no_answer, max_new_tokens])


def _label_sample(row: LabelledText, labels: Sequence[str], p: NDArray[np.float64]) -> Sample:
    assert isinstance(row.label, str)  # noqa: S101 (checked with all rows)
    predicted, target = int(p.argmax()), labels.index(row.label)
    wanted = np.eye(len(labels))[target]
    return Sample(
        id=row.id,
        prompt=row.text,
        prediction=labels[predicted],
        target=row.label,
        correct=predicted == target,
        scores={
            "correct": float(predicted == target),
            "confidence": float(p[predicted]),
            "p_true": float(p[target]),
            "brier": float(((p - wanted) ** 2).sum()),
            "nll": -math.log(max(float(p[target]), SMALLEST_PROBABILITY)),
            "excess_confidence": float(p[predicted]) - float(predicted == target),
            "predicted": predicted,
            "label": target,
        },
    )


def _label_metrics(labels: Sequence[str]) -> tuple[Metric, ...]:
    def confidence_of(samples: Sequence[Sample]) -> tuple[list[float], list[bool]]:
        return [s.scores["confidence"] for s in samples], [bool(s.correct) for s in samples]

    return (
        Metric("accuracy", mean_of("correct"), True),
        Metric("macro_f1", macro_f1_of(labels), True),
        Metric("ece", calibration_error(), False),
        Metric("adaptive_ece", lambda s: adaptive_calibration_error(*confidence_of(s)), False),
        Metric("overconfidence", mean_of("excess_confidence"), None),
        Metric("brier", mean_of("brier"), False),
        Metric("nll", mean_of("nll"), False),
        Metric("worst_class_recall", worst_recall_of(labels), True),
        Metric("aurc", lambda s: aurc(*confidence_of(s)), False),
        Metric("excess_aurc", lambda s: excess_aurc(*confidence_of(s)), False),
        Metric("coverage_at_5_percent_risk", lambda s: coverage_at_risk(*confidence_of(s)), True),
    )


def _multi_label_sample(row: LabelledText, labels: Sequence[str], p: NDArray[np.float64]) -> Sample:
    wanted = np.isin(labels, row.label)
    given = p >= 0.5
    return Sample(
        id=row.id,
        prompt=row.text,
        prediction=" | ".join(name for name, holds in zip(labels, given, strict=True) if holds),
        target=" | ".join(name for name, holds in zip(labels, wanted, strict=True) if holds),
        correct=bool((given == wanted).all()),
        scores={
            "correct": float((given == wanted).all()),
            "confidence": float(p.max()),
            **{f"predicted_{i}": 1.0 for i in np.flatnonzero(given)},
            **{f"label_{i}": 1.0 for i in np.flatnonzero(wanted)},
        },
    )


def _multi_label_metrics(num_labels: int) -> tuple[Metric, ...]:
    def terms(samples: Sequence[Sample]) -> NDArray[np.float64]:
        """Return for each class its hits, and its predictions plus labels, shape (N, 2 C)."""
        given, wanted = (
            np.array(
                [[s.scores.get(f"{kind}_{i}", 0.0) for i in range(num_labels)] for s in samples]
            )
            for kind in ("predicted", "label")
        )
        return np.concatenate([given * wanted, given + wanted], axis=1)

    def micro_f1(sums_XK: Values) -> Values:
        hits, both = np.split(sums_XK, 2, axis=1)
        return divided(2 * hits.sum(axis=1), both.sum(axis=1))

    def class_f1(sums_XK: Values) -> Values:
        hits, both = np.split(sums_XK, 2, axis=1)
        return mean_of_defined(divided(2 * hits, both))

    return (
        Metric("micro_f1", OfSums(terms, micro_f1), True),
        Metric("macro_f1", OfSums(terms, class_f1), True),
        Metric("exact_match_ratio", mean_of("correct"), True),
    )


def _answer_sample(row: Question, prompt: str, answer: str) -> Sample:
    golds = row.answers if row.is_answerable else ()
    match = exact_match(answer, golds)
    return Sample(
        id=row.id,
        prompt=prompt,
        prediction=output_of(answer),
        target=" | ".join(golds),
        correct=bool(match),
        cluster=row.document,
        scores={
            "f1": token_f1(answer, golds),
            "exact_match": match,
            "has_answer": float(row.is_answerable),
            "no_answer": float(not row.is_answerable),
            "answered": float(bool(answer)),
        },
    )


def _overlap(reply: str | None, reference: str) -> dict[str, float]:
    if reply is None:
        return {"generated": 0.0, "has_rouge_l": 0.0}
    rouge = rouge_l(reply, reference)  # NaN for a reference without a Latin letter or a digit
    found = {} if math.isnan(rouge) else {"rouge_l": rouge}
    return {
        "generated": 1.0,
        "has_rouge_l": float(bool(found)),
        "chrf": chrf(reply, [reference]),
        **found,
    }
