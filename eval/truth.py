"""Truth tasks: whether what is true is likelier than what is made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from eval.batching import Steps
from eval.items import check_items
from eval.metrics.truthful import mc1, mc2
from eval.model import LanguageModel, Message
from eval.probes import (
    KnowledgeQuestion,
    TruthfulQuestion,
    knowledge_questions,
    truthful_questions,
)
from eval.stats import mean_of
from eval.task import Metric, Progress, Sample, Task, fingerprint


def truthful_choice(questions: Sequence[TruthfulQuestion] | None = None) -> Task:
    """Return the task "put the weight on what is true", in the form of TruthfulQA's MC1 and MC2.

    Lin, Hilton and Evans 2022 (arXiv:2109.07958), without their preamble of six questions.

    Args:
        questions: with true and false answers; the probe of Assay if not given.
    """
    questions = truthful_questions() if questions is None else questions
    check_items("truthful_choice", questions)

    def ask(model: LanguageModel, progress: Progress) -> list[Sample]:
        chats = [([_user(q.question)], [*q.true, *q.false]) for q in questions]
        samples = []
        for question, sample in zip(questions, _choices(model, chats, progress), strict=True):
            is_true = [i < len(question.true) for i in range(len(sample.loglikelihoods))]
            right = mc1(sample.loglikelihoods, is_true)
            samples.append(
                Sample(
                    id=question.id,
                    prompt=sample.prompt,
                    prediction=sample.prediction,
                    target=" | ".join(question.true),
                    correct=right > 0,
                    loglikelihoods=sample.loglikelihoods,
                    num_tokens=sample.num_tokens,
                    scores={"mc1": right, "mc2": mc2(sample.loglikelihoods, is_true)},
                )
            )
        return samples

    return Task(
        name="truthful_choice",
        family="hallucination",
        version=1,
        num_items=len(questions),
        fingerprint=fingerprint([asdict(question) for question in questions]),
        texts={question.id: (question.question,) for question in questions},
        ask=ask,
        metrics=(Metric("mc1", mean_of("mc1"), True), Metric("mc2", mean_of("mc2"), True)),
        note=(
            "Whether true answers to questions with a popular wrong answer are likelier than "
            "false ones; summed log-likelihood, so a shorter answer has an advantage."
        ),
    )


def knowledge_answers(questions: Sequence[KnowledgeQuestion] | None = None) -> Task:
    """Return the task "prefer the right answer to a made-up one, given the passage".

    The form of HaluEval's QA part (Li et al. 2023, arXiv:2305.11747) that needs no judge.

    Args:
        questions: with a right and a made-up answer; the probe of Assay if not given.
    """
    questions = knowledge_questions() if questions is None else questions
    check_items("knowledge_answers", questions)

    def ask(model: LanguageModel, progress: Progress) -> list[Sample]:
        chats = [
            ([_user(f"{q.knowledge}\n\n{q.question}")], [q.right, q.hallucinated])
            for q in questions
        ]
        samples = []
        for question, sample in zip(questions, _choices(model, chats, progress), strict=True):
            right, made_up = sample.loglikelihoods
            num_right, num_made_up = sample.num_tokens
            is_right = right > made_up
            samples.append(
                Sample(
                    id=question.id,
                    prompt=sample.prompt,
                    prediction=sample.prediction,
                    target=question.right,
                    correct=is_right,
                    loglikelihoods=sample.loglikelihoods,
                    num_tokens=sample.num_tokens,
                    scores={
                        "correct": float(is_right),
                        "correct_per_token": float(right / num_right > made_up / num_made_up),
                    },
                )
            )
        return samples

    return Task(
        name="knowledge_answers",
        family="hallucination",
        version=1,
        num_items=len(questions),
        fingerprint=fingerprint([asdict(question) for question in questions]),
        texts={question.id: (question.question,) for question in questions},
        ask=ask,
        metrics=(
            Metric("accuracy", mean_of("correct"), True),
            Metric("accuracy_per_token", mean_of("correct_per_token"), True),
        ),
        note=(
            "Whether the right answer is likelier than a made-up one, given the passage: by sum "
            "(which favours the shorter) and per token (which favours the longer)."
        ),
    )


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _choices(
    model: LanguageModel, chats: Sequence[tuple[list[Message], list[str]]], progress: Progress
) -> list[Sample]:
    """Return what the model finds likeliest of the replies to each chat; no ids, no scores."""
    asked = [model.pairs(messages, replies) for messages, replies in chats]
    flat = [pair for pairs in asked for pair in pairs]
    steps = Steps(progress, num_requests=len(flat), num_items=len(chats))
    found = iter(model.loglikelihoods(flat, steps))
    samples = []
    for (_, replies), pairs in zip(chats, asked, strict=True):
        scores = [next(found) for _ in pairs]
        values = [ll.value for ll in scores]
        # a tie goes to the last: the right answers stand first, and are not to win by it
        best = max(range(len(values)), key=lambda i, values=values: (values[i], i))  # type: ignore[misc]
        samples.append(
            Sample(
                id="",
                prompt=pairs[0][0],
                prediction=replies[best],
                target="",
                scores={},
                loglikelihoods=tuple(values),
                num_tokens=tuple(ll.num_tokens for ll in scores),
            )
        )
    return samples
