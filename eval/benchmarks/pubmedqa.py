"""PubMedQA, labelled part: yes, no or maybe to a research question, from its abstract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks.choices import TIES, ask, likeliest, requests, tokens_of, values_of
from eval.benchmarks.files import Row, counted, digest, read_json, records
from eval.errors import EvaluationError
from eval.metrics.macro_f1 import macro_f1
from eval.model import LanguageModel, Loglikelihood
from eval.stats import mean_of
from eval.task import Metric, Progress, Sample, Task, fingerprint

_CHOICES = ("yes", "no", "maybe")


@dataclass(frozen=True)
class PubMedItem:
    """A question on an abstract, without its conclusion, which would give the answer away."""

    id: str
    contexts: tuple[str, ...]
    question: str
    decision: str


def pubmedqa(path: Path, max_items: int | None = None) -> Task:
    """Return PubMedQA (Jin et al. 2019, arXiv:1909.06146), with the abstract.

    Args:
        path: ``ori_pqal.json``, or a part of it: an object by PubMed id.
        max_items: the first so many only, as the limit of lm-evaluation-harness.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    found_items = read_pubmedqa(path)
    items = found_items[:max_items]
    asked = [requests(prompt(item), _CHOICES) for item in items]

    def answer(model: LanguageModel, progress: Progress) -> list[Sample]:
        found = ask(model, asked, progress)
        return [_sample(item, scores) for item, scores in zip(items, found, strict=True)]

    def f1(samples: Sequence[Sample]) -> float:
        return macro_f1([s.prediction for s in samples], [s.target for s in samples])

    majority = max(sum(item.decision == choice for item in items) for choice in _CHOICES)
    return Task(
        name="pubmedqa",
        family="accuracy",
        version=1,
        num_items=len(items),
        fingerprint=fingerprint([vars(item) for item in items]),
        texts={item.id: (item.question,) for item in items},
        ask=answer,
        metrics=(Metric("acc", mean_of("acc"), True), Metric("macro_f1", f1, True)),
        note=(
            f"PubMedQA, labelled part, {counted(len(items), len(found_items), 'questions')}, "
            f"{digest(path)} "
            "(pubmedqa/pubmedqa, MIT; Jin et al. 2019, arXiv:1909.06146). Yes, no or maybe from "
            "the abstract without its conclusion, by summed log-likelihood; higher is better, and "
            f"always saying the commonest word gives an acc of {majority / len(items):.3f}. "
            "Follows lm-evaluation-harness 0.4.13, whose figures are on 500 test questions; "
            f"macro F1 as the authors report. {TIES}"
        ),
    )


def read_pubmedqa(path: Path) -> list[PubMedItem]:
    """Return the questions, in the file's order.

    Raises:
        EvaluationError: if the file is not in the published format.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not found:
        raise EvaluationError(f"{path}: wanted an object by PubMed id, as in ori_pqal.json")
    rows = records(found.values(), str(path))
    return [
        _item(pmid, Row(f"{path}: {pmid}", row.values))
        for pmid, row in zip(found, rows, strict=True)
    ]


def prompt(item: PubMedItem) -> str:
    """Return the prompt of lm-evaluation-harness."""
    abstract = "\n".join(item.contexts)
    return f"Abstract: {abstract}\nQuestion: {item.question}\nAnswer:"


def _item(pmid: str, row: Row) -> PubMedItem:
    return PubMedItem(
        id=pmid,
        contexts=tuple(row.texts("CONTEXTS")),
        question=row.text("QUESTION"),
        decision=row.one_of("final_decision", _CHOICES),
    )


def _sample(item: PubMedItem, scores: Sequence[Loglikelihood]) -> Sample:
    right = _CHOICES.index(item.decision)
    values = values_of(scores)
    chosen = likeliest(values, [right])
    return Sample(
        id=item.id,
        prompt=prompt(item),
        prediction=_CHOICES[chosen],
        target=item.decision,
        correct=chosen == right,
        loglikelihoods=values,
        num_tokens=tokens_of(scores),
        scores={"acc": float(chosen == right)},
    )
