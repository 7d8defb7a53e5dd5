"""HaluEval, question answering: whether the model tells a right answer from a made-up one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks.choices import (
    TIES,
    ask,
    likeliest,
    per_character,
    requests,
    tokens_of,
    values_of,
)
from eval.benchmarks.files import counted, digest, read_json_lines
from eval.benchmarks.judgement import METRICS, WORDS, judgement
from eval.model import LanguageModel, Loglikelihood
from eval.stats import mean_of
from eval.task import Metric, Progress, Sample, Task, fingerprint

_PROMPT = "Knowledge: {knowledge}\nQuestion: {question}\nAnswer:"
_JUDGE_PROMPT = (
    "Decide whether an answer is made up: the knowledge speaks against it or says nothing of the "
    "kind, or it does not answer the question. Reply with Yes if it is made up, and with No if it "
    "is right.\n\nKnowledge: {knowledge}\nQuestion: {question}\nAnswer: {answer}\nIs it made up?"
)
_SOURCE = "(RUCAIBox/HaluEval, MIT, on HotpotQA, CC BY-SA 4.0; Li et al. 2023, arXiv:2305.11747)"


@dataclass(frozen=True)
class HaluEvalItem:
    """A line of ``qa_data.json``."""

    id: str
    knowledge: str
    question: str
    right: str
    hallucinated: str


def read_halueval(path: Path) -> list[HaluEvalItem]:
    """Return the questions of ``qa_data.json``, which holds an object a line.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    return [
        HaluEvalItem(
            id=str(number),
            knowledge=row.text("knowledge"),
            question=row.text("question"),
            right=row.text("right_answer"),
            hallucinated=row.text("hallucinated_answer"),
        )
        for number, row in enumerate(read_json_lines(path))
    ]


def prompt(item: HaluEvalItem) -> str:
    """Return the prompt whose two continuations are compared."""
    return _PROMPT.format(knowledge=item.knowledge, question=item.question)


def halueval(path: Path, max_items: int | None = None) -> Task:
    """Return the choice between the right and the made-up answer.

    Args:
        path: ``qa_data.json``.
        max_items: the first so many only, as the limit of lm-evaluation-harness.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    found_items = read_halueval(path)
    items = found_items[:max_items]
    asked = [requests(prompt(item), [item.right, item.hallucinated]) for item in items]

    def answer(model: LanguageModel, progress: Progress) -> list[Sample]:
        found = ask(model, asked, progress)
        return [_sample(item, scores) for item, scores in zip(items, found, strict=True)]

    return Task(
        name="halueval",
        family="hallucination",
        version=1,
        num_items=len(items),
        fingerprint=fingerprint([_PROMPT, [vars(item) for item in items]]),
        texts={item.id: (item.question,) for item in items},
        ask=answer,
        metrics=(
            Metric("acc", mean_of("acc"), True),
            Metric("acc_norm", mean_of("acc_norm"), True),
        ),
        note=(
            f"HaluEval QA as a choice, {counted(len(items), len(found_items), 'questions')}, "
            f"{digest(path)} {_SOURCE}. How "
            "often the right answer is likelier than the made-up one, given the knowledge; higher "
            "is better. By summed log-likelihood (acc), which favours the shorter answer, mostly "
            "the right one, and by character (acc_norm), which favours the longer: neither is to "
            "be read alone. Neither the authors, who let the model judge (halueval_judge), nor "
            "lm-evaluation-harness 0.4.13 has a task of this form: the prompt is ours (Knowledge, "
            "Question, Answer, a line each), and requests, acc and acc_norm are what the harness "
            f"makes of it as a multiple_choice task. {TIES}"
        ),
    )


def _shown_id(item: HaluEvalItem, is_made_up: bool) -> str:
    return f"{item.id}/{'hallucinated' if is_made_up else 'right'}"


def halueval_judge(path: Path, max_items: int | None = None) -> Task:
    """Return the judgement "is this answer made up?", on the right and on the made-up answer.

    Args:
        path: ``qa_data.json``.
        max_items: the first so many only, as the limit of lm-evaluation-harness.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    found_items = read_halueval(path)
    items = found_items[:max_items]
    shown = [
        (item, answer, is_made_up)
        for item in items
        for answer, is_made_up in ((item.right, False), (item.hallucinated, True))
    ]
    prompts = [
        _JUDGE_PROMPT.format(knowledge=item.knowledge, question=item.question, answer=answer)
        for item, answer, _ in shown
    ]
    asked = [requests(text, WORDS) for text in prompts]

    def answer(model: LanguageModel, progress: Progress) -> list[Sample]:
        found = ask(model, asked, progress)
        return [
            judgement(
                scores,
                name=_shown_id(item, is_made_up),
                prompt=text,
                is_made_up=is_made_up,
                cluster=item.id,
            )
            for (item, _, is_made_up), text, scores in zip(shown, prompts, found, strict=True)
        ]

    return Task(
        name="halueval_judge",
        family="hallucination",
        version=1,
        num_items=len(shown),
        fingerprint=fingerprint([_JUDGE_PROMPT, [vars(item) for item in items]]),
        texts={_shown_id(item, made_up): (item.question,) for item, _, made_up in shown},
        ask=answer,
        metrics=METRICS,
        note=(
            f"HaluEval QA as a judgement, {counted(len(items), len(found_items), 'questions')}, "
            f"{digest(path)} {_SOURCE}. "
            "Whether the model itself, asked Yes or No, tells made-up answers; higher is better. "
            "Each question is put with both answers, so acc is the balanced accuracy and 0.5 is "
            "chance; a yes_rate near 0 or 1 means that one word is said whatever is asked. The "
            "authors draw one of the two at random, give worked examples and no knowledge, and "
            "read a generated word: their figures are not comparable."
        ),
    )


def _sample(item: HaluEvalItem, scores: Sequence[Loglikelihood]) -> Sample:
    choices = (item.right, item.hallucinated)
    values = values_of(scores)
    chosen = likeliest(values, [0])
    return Sample(
        id=item.id,
        prompt=prompt(item),
        prediction=choices[chosen],
        target=item.right,
        correct=chosen == 0,
        loglikelihoods=values,
        num_tokens=tokens_of(scores),
        scores={
            "acc": float(chosen == 0),
            "acc_norm": float(likeliest(per_character(values, choices), [0]) == 0),
        },
    )
