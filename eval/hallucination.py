"""Hallucination tasks: whether the model makes something up where it cannot know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from eval.accuracy import ToMessages, answer_questions, questions_fingerprint
from eval.batching import Steps
from eval.classes import ClassModel, classify, is_multi_label
from eval.items import Dialogue, LabelledText, Question, check_items, choose
from eval.metrics.abstention import abstention_error
from eval.metrics.context_gain import context_gain as gain_of_context
from eval.metrics.selective import aurc, auroc, false_positive_rate_at_tpr
from eval.metrics.self_consistency import agreement_share, semantic_entropy
from eval.metrics.squad import exact_match
from eval.metrics.support import support
from eval.model import LanguageModel, output_of
from eval.probes import (
    OutOfScopeText,
    out_of_scope_texts,
)
from eval.stats import mean_of
from eval.task import Metric, Progress, Sample, Task, fingerprint

CONFIDENT = 0.5
"""From this probability on, a classifier is called confident."""


def out_of_scope(
    rows: Sequence[LabelledText],
    labels: Sequence[str],
    texts: Sequence[OutOfScopeText] | None = None,
) -> Task:
    """Return the task "be less sure of a text that belongs to no class".

    Args:
        rows: the run's own texts, all in scope.
        labels: all classes, in the order of the model's outputs.
        texts: that belong to none of them; the probe of Assay if not given.

    Raises:
        EvaluationError: if there are no rows, two ids are the same, or a label is unknown.
    """
    texts = out_of_scope_texts() if texts is None else texts
    check_items("out_of_scope", rows)
    check_items("out_of_scope", texts)
    everything: list[LabelledText | OutOfScopeText] = [*rows, *texts]
    check_items("out_of_scope", everything)
    is_multi = is_multi_label(rows, labels)

    def ask(model: ClassModel, progress: Progress) -> list[Sample]:
        p = classify(model, [x.text for x in everything], labels, progress)
        samples = []
        for item, probs in zip(everything, p, strict=True):
            given = probs >= 0.5 if is_multi else np.arange(len(labels)) == probs.argmax()
            predicted = {label for label, holds in zip(labels, given, strict=True) if holds}
            confidence = float(probs.max())
            wanted: set[str] | None = None
            if isinstance(item, LabelledText):
                wanted = {item.label} if isinstance(item.label, str) else set(item.label)
            samples.append(
                Sample(
                    id=item.id,
                    prompt=item.text,
                    prediction=" | ".join(label for label in labels if label in predicted),
                    target="" if wanted is None else " | ".join(sorted(wanted)),
                    correct=None if wanted is None else predicted == wanted,
                    scores={
                        "out_of_scope": float(wanted is None),
                        "confidence": confidence,
                        "confident": float(confidence >= CONFIDENT),
                    },
                )
            )
        return samples

    def confidences(samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
        """Return the confidence in texts that are in scope, and in those that are not."""
        inside = [s.scores["confidence"] for s in samples if s.correct is not None]
        return inside, [s.scores["confidence"] for s in samples if s.correct is None]

    def separation(samples: Sequence[Sample]) -> float:
        return auroc(
            [s.scores["confidence"] for s in samples], [s.correct is not None for s in samples]
        )

    def risk(samples: Sequence[Sample]) -> float:
        inside = [s for s in samples if s.correct is not None]
        return aurc([s.scores["confidence"] for s in inside], [bool(s.correct) for s in inside])

    return Task(
        name="out_of_scope",
        family="hallucination",
        version=1,
        num_items=len(everything),
        fingerprint=fingerprint(
            [list(labels), [asdict(row) for row in rows], [asdict(text) for text in texts]]
        ),
        texts={text.id: (text.text,) for text in texts},
        ask=ask,
        metrics=(
            Metric("fpr_at_95_tpr", lambda s: false_positive_rate_at_tpr(*confidences(s)), False),
            Metric("auroc", separation, True),
            Metric("confident_rate", mean_of("confident", among="out_of_scope"), False),
            Metric("aurc", risk, False),
        ),
        note=(
            f"Whether the {len(texts)} texts that belong to no class are told by a low confidence "
            f"from {len(rows)} that do; confident_rate is the share of the former that is given a "
            f"class with a probability of at least {CONFIDENT}."
        ),
    )


def unsupported_answers(
    rows: Sequence[Question],
    *,
    to_messages: ToMessages,
    no_answer: str,
    max_new_tokens: int = 32,
) -> Task:
    """Return the task "answer only what the passage says".

    It asks what `eval.accuracy.question_answering` asks, so on one model nothing is asked twice.
    An answer counts as unsupported when it is given where none exists, or when
    `eval.metrics.support` does not find it in the passage; an accepted answer is supported by
    definition.

    Args:
        rows: questions.
        to_messages: puts a question as a chat.
        no_answer: the reply that stands for "the passage does not say".
        max_new_tokens: of a reply, which is greedy.

    Raises:
        EvaluationError: if there are no rows, or two have one id.
    """
    check_items("unsupported_answers", rows)

    def error_of_abstaining(samples: Sequence[Sample]) -> float:
        return abstention_error(
            [s.scores["answered"] > 0 for s in samples],
            [s.scores["answerable"] > 0 for s in samples],
        )

    def ask(model: LanguageModel, progress: Progress) -> list[Sample]:
        replies = answer_questions(model, rows, to_messages, no_answer, max_new_tokens, progress)
        return [
            _support_sample(row, prompt, answer)
            for row, (prompt, answer) in zip(rows, replies, strict=True)
        ]

    return Task(
        name="unsupported_answers",
        family="hallucination",
        version=2,
        num_items=len(rows),
        fingerprint=questions_fingerprint(rows, to_messages, no_answer, max_new_tokens),
        ask=ask,
        metrics=(
            Metric("unsupported_rate", mean_of("unsupported"), False),
            Metric("unsupported_span_rate", mean_of("unsupported_span", among="answered"), False),
            Metric("unsupported_ngram_rate", mean_of("bad_words", among="answered"), False),
            Metric("unsupported_number_rate", mean_of("bad_number", among="answered"), False),
            Metric("unsupported_entity_rate", mean_of("bad_entity", among="answered"), False),
            Metric("answered_unanswerable_rate", mean_of("answered", among="unanswerable"), False),
            Metric("over_refusal_rate", mean_of("refused", among="answerable"), False),
            Metric("abstention_error", error_of_abstaining, False),
        ),
        note=(
            "Share of all questions that got an answer where the passage has none, or an answer "
            "whose numbers, names or words the passage does not have; and each of these apart, "
            "among the answers that were given. A lexical check: a wrong relation between right "
            "words is not seen. abstention_error is 0.5 for a model that always answers, or never."
        ),
    )


def context_gain(
    rows: Sequence[Question],
    *,
    to_messages: ToMessages,
    no_answer: str,
    max_new_tokens: int = 32,
    max_items: int = 40,
) -> Task:
    """Return the task "take the answer from the passage".

    The model's own greedy answer is scored twice: given passage and question, as it was asked,
    and given the question with an empty passage. What it gains per token is what the passage
    did for it (`eval.metrics.context_gain`). Refusals are left out.

    Args:
        rows: questions.
        to_messages: puts a question as a chat.
        no_answer: the reply that stands for "the passage does not say".
        max_new_tokens: of a reply, which is greedy.
        max_items: of how many questions, drawn at random.

    Raises:
        EvaluationError: if there are no rows, or two have one id.
    """
    check_items("context_gain", rows)
    rows = choose(rows, max_items)

    def ask(model: LanguageModel, progress: Progress) -> list[Sample]:
        # at most one generation and two likelihoods a question
        steps = Steps(progress, num_requests=3 * len(rows), num_items=len(rows))
        replies = answer_questions(model, rows, to_messages, no_answer, max_new_tokens, steps)
        pairs = []
        for row, (_, answer) in zip(rows, replies, strict=True):
            if answer:
                pairs += model.pairs(to_messages(row), [answer])
                pairs += model.pairs(to_messages(replace(row, context="")), [answer])
        steps(2 * len(rows) - len(pairs))
        found = iter(model.loglikelihoods(pairs, steps))
        samples = []
        for row, (prompt, answer) in zip(rows, replies, strict=True):
            scores = {"answered": float(bool(answer))}
            both = (next(found), next(found)) if answer else ()
            if both:
                gain = gain_of_context(both[0].value, both[1].value, both[0].num_tokens)
                scores |= {"gain": gain, "no_gain": float(gain <= 0)}
            samples.append(
                Sample(
                    id=row.id,
                    prompt=prompt,
                    prediction=output_of(answer),
                    target=" | ".join(row.answers),
                    cluster=row.document,
                    loglikelihoods=tuple(ll.value for ll in both),
                    num_tokens=tuple(ll.num_tokens for ll in both),
                    scores=scores,
                )
            )
        return samples

    return Task(
        name="context_gain",
        family="hallucination",
        version=1,
        num_items=len(rows),
        fingerprint=questions_fingerprint(rows, to_messages, no_answer, max_new_tokens),
        ask=ask,
        metrics=(
            Metric("context_gain", mean_of("gain", among="answered"), True),
            Metric("no_gain_rate", mean_of("no_gain", among="answered"), False),
            Metric("answered_rate", mean_of("answered"), None),
        ),
        note=(
            f"By how many nats a token the passage makes the model's own answer likelier, in "
            f"{len(rows)} questions; an answer that gains nothing does not come from the passage. "
            "A gain does not make an answer right."
        ),
    )


def self_consistency(
    dialogues: Sequence[Dialogue],
    *,
    num_samples: int = 4,
    max_items: int = 12,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
) -> Task:
    """Return the task "say the same when asked again".

    Args:
        dialogues: chats; the last turn of the assistant is what is asked for.
        num_samples: replies drawn for each.
        max_items: of how many dialogues, drawn at random.
        max_new_tokens: of a reply.
        temperature: of the drawing.

    Raises:
        EvaluationError: if there are no dialogues, two have one id, or one has no reply.
    """
    check_items("self_consistency", dialogues)
    dialogues = choose(dialogues, max_items)
    chats = [dialogue.to_last_reply() for dialogue in dialogues]

    def ask(model: LanguageModel, progress: Progress) -> list[Sample]:
        prompts = [model.prompt(chat[:-1]) for chat in chats]
        drawn = model.generate(
            prompts,
            max_new_tokens=max_new_tokens,
            num_samples=num_samples,
            temperature=temperature,
            progress=progress,
        )
        return [
            Sample(
                id=dialogue.id,
                prompt=prompt,
                prediction=" | ".join(map(output_of, replies)),
                target=chat[-1]["content"],
                scores={
                    "agreement": agreement_share(replies),
                    "semantic_entropy": semantic_entropy(replies),
                },
            )
            for dialogue, chat, prompt, replies in zip(
                dialogues, chats, prompts, drawn, strict=True
            )
        ]

    return Task(
        name="self_consistency",
        family="hallucination",
        version=1,
        num_items=len(dialogues),
        fingerprint=fingerprint(
            [[d.to_json() for d in dialogues], num_samples, max_new_tokens, temperature]
        ),
        ask=ask,
        metrics=(
            Metric("agreement", mean_of("agreement"), True),
            Metric("semantic_entropy", mean_of("semantic_entropy"), False),
        ),
        note=(
            f"Whether {num_samples} replies drawn at temperature {temperature} say the same, by "
            "their words. A model can repeat the same error; this finds what it makes up anew."
        ),
    )


def _support_sample(row: Question, prompt: str, answer: str) -> Sample:
    golds = row.answers if row.is_answerable else ()
    found = support(answer, row.context)
    is_checked = bool(answer) and not (golds and exact_match(answer, golds))
    is_span_bad = is_checked and not found.supported
    is_unsupported = bool(answer) and (is_span_bad or not row.is_answerable)
    return Sample(
        id=row.id,
        prompt=prompt,
        prediction=output_of(answer),
        target=" | ".join(golds),
        correct=not is_unsupported,
        cluster=row.document,
        scores={
            "unsupported": float(is_unsupported),
            "unsupported_span": float(is_span_bad),
            "bad_words": float(is_checked and found.has_unsupported_words),
            "bad_number": float(is_checked and bool(found.unsupported_numbers)),
            "bad_entity": float(is_checked and bool(found.unsupported_entities)),
            "answered": float(bool(answer)),
            "refused": float(not answer),
            "answerable": float(row.is_answerable),
            "unanswerable": float(not row.is_answerable),
        },
    )
