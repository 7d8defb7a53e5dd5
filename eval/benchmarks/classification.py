"""Labelled texts in a CSV file, such as BANKING77: which label's name is likeliest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.benchmarks.choices import (
    ask,
    likeliest,
    per_character,
    requests,
    tokens_of,
    values_of,
)
from eval.benchmarks.files import Row, digest, read_csv
from eval.classes import calibration_error, macro_f1_of, worst_recall_of
from eval.errors import EvaluationError
from eval.groups import group_gaps
from eval.items import LabelledText, check_items, choose
from eval.model import LanguageModel
from eval.stats import mean_of
from eval.task import Metric, Progress, Sample, Task, fingerprint

LABEL_COLUMNS = ("label", "category", "intent", "class")
"""Names that a column of labels may have; the first that is there counts."""


def classification(path: Path, max_items: int | None = None) -> list[Task]:
    """Return "name the class of each text", and "serve all groups alike" if there is a group.

    A language model is asked zero-shot, by the log-likelihood of the labels' names; a model with
    ``probabilities`` and these labels is asked for them.

    Args:
        path: CSV with the columns ``text``, one of `LABEL_COLUMNS`, and optionally ``id`` and
            ``group``.
        max_items: so many rows only, drawn at random; such files mostly stand in the order of
            their labels.

    Raises:
        EvaluationError: if a column or a text is missing, or there are not two labels.
    """
    found = read_classification(path)
    labels = sorted({str(row.label) for row in found})
    if len(labels) < 2:
        raise EvaluationError(f"{path}: one label only, {labels[0]!r}; wanted at least two")
    names = label_names(labels, path)
    rows = found if max_items is None else choose(found, max_items)

    def answer(model: LanguageModel, progress: Progress) -> list[Sample]:
        answers = _answers(model, [row.text for row in rows], labels, names, progress)
        return [
            _sample(row, labels, names, given) for row, given in zip(rows, answers, strict=True)
        ]

    task = Task(
        name="classification",
        family="accuracy",
        version=1,
        num_items=len(rows),
        fingerprint=fingerprint([label_prompt("", names), [vars(row) for row in rows]]),
        texts={row.id: (row.text,) for row in rows},
        ask=answer,
        metrics=_metrics(labels),
        note=(
            f"Labelled texts, {len(rows):,} of {len(found):,} rows, {len(labels)} labels, "
            f"{digest(path)}; the licence is the file's own (BANKING77: PolyAI, CC BY 4.0; "
            "Casanueva et al. 2020, arXiv:2003.04807). Zero-shot: the likeliest of the labels' "
            "names after a prompt that lists them, by sum (acc and the others, which favour short "
            "names) and by character (acc_norm, as lm-evaluation-harness has it). A model with a "
            "head for these labels is asked for its probabilities. Higher is better, but for ece "
            "and brier. Published figures of trained classifiers are not comparable with "
            "zero-shot ones."
        ),
    )
    return [task, _groups(rows, labels, names)] if any(row.group for row in rows) else [task]


def read_classification(path: Path) -> list[LabelledText]:
    """Return the rows, in the file's order.

    Raises:
        EvaluationError: if a column or a text is missing, or two rows have one id.
    """
    rows = read_csv(path, ["text"])
    label = next((name for name in LABEL_COLUMNS if name in rows[0].values), None)
    if label is None:
        raise EvaluationError(
            f"{path}:1: no column of labels; found {', '.join(map(repr, rows[0].values))}, wanted "
            f"one of {', '.join(map(repr, LABEL_COLUMNS))}"
        )
    found = [_row(number, row, label) for number, row in enumerate(rows)]
    check_items("classification", found)
    return found


def label_names(labels: Sequence[str], path: Path) -> list[str]:
    """Return the labels in words.

    Raises:
        EvaluationError: if two labels are the same in words.
    """
    names = [" ".join(label.replace("_", " ").split()) for label in labels]
    [(name, count)] = Counter(names).most_common(1)
    if count > 1:
        raise EvaluationError(f"{path}: {count} labels read {name!r} in words; rename them")
    return names


def label_prompt(text: str, names: Sequence[str]) -> str:
    """Return the prompt after which the name of a label is looked for."""
    return f"Give the category of the text, one of: {', '.join(names)}.\n\nText: {text}\nCategory:"


def head_probabilities(
    model: Any, texts: Sequence[str], labels: Sequence[str], progress: Progress
) -> NDArray[np.float64]:
    """Return P(label | text) of a model with a head, columns in the order of ``labels``.

    Raises:
        EvaluationError: if the model does not know a label.
    """
    known = list(model.labels)
    if unknown := [label for label in labels if label not in known]:
        raise EvaluationError(
            f"the data has the label {unknown[0]!r}, which is not one of the {len(known)} labels "
            "the model was trained on; evaluate on data with its labels"
        )
    p = np.asarray(model.probabilities(texts, progress), dtype=np.float64)
    columns = p[:, [known.index(label) for label in labels]]
    return np.maximum(columns, np.finfo(np.float64).tiny)  # so that its log is finite


def _row(number: int, row: Row, label: str) -> LabelledText:
    return LabelledText(
        id=str(row.values.get("id") or number),
        text=row.text("text"),
        label=row.text(label),
        group=str(row.values.get("group") or "").strip() or None,
    )


@dataclass(frozen=True)
class _Given:
    """What a model gave for one text: a log-likelihood or log-probability a label."""

    prompt: str
    values: tuple[float, ...]
    num_tokens: tuple[int, ...] = ()

    @property
    def probabilities(self) -> NDArray[np.float64]:
        p = np.exp(np.array(self.values) - max(self.values))
        return np.asarray(p / p.sum(), dtype=np.float64)


def _answers(
    model: LanguageModel,
    texts: Sequence[str],
    labels: Sequence[str],
    names: Sequence[str],
    progress: Progress,
) -> list[_Given]:
    if hasattr(model, "probabilities"):
        logs = np.log(head_probabilities(model, texts, labels, progress))
        return [_Given(text, tuple(map(float, row))) for text, row in zip(texts, logs, strict=True)]
    prompts = [label_prompt(text, names) for text in texts]
    found = ask(model, [requests(prompt, names) for prompt in prompts], progress)
    return [
        _Given(prompt, values_of(scores), tokens_of(scores))
        for prompt, scores in zip(prompts, found, strict=True)
    ]


def _sample(
    row: LabelledText, labels: Sequence[str], names: Sequence[str], given: _Given
) -> Sample:
    right = labels.index(str(row.label))
    chosen = likeliest(given.values, [right])
    # a head's probabilities do not depend on how long a name is
    by_character = per_character(given.values, names) if given.num_tokens else given.values
    p = given.probabilities
    return Sample(
        id=row.id,
        prompt=given.prompt,
        prediction=labels[chosen],
        target=str(row.label),
        correct=chosen == right,
        loglikelihoods=given.values,
        num_tokens=given.num_tokens,
        scores={
            "acc": float(chosen == right),
            "acc_norm": float(likeliest(by_character, [right]) == right),
            "confidence": float(p[chosen]),
            "brier": float(((p - np.eye(len(labels))[right]) ** 2).sum()),
        },
    )


def _metrics(labels: Sequence[str]) -> tuple[Metric, ...]:
    return (
        Metric("acc", mean_of("acc"), True),
        Metric("acc_norm", mean_of("acc_norm"), True),
        Metric("macro_f1", macro_f1_of(labels), True),
        Metric("worst_class_recall", worst_recall_of(labels), True),
        Metric("ece", calibration_error(), False),
        Metric("brier", mean_of("brier"), False),
    )


def _groups(rows: Sequence[LabelledText], labels: Sequence[str], names: Sequence[str]) -> Task:
    """Return the gaps between groups, on answers to the same prompts, which are asked once."""
    gaps = group_gaps(rows, labels)

    def answer(model: LanguageModel, progress: Progress) -> list[Sample]:
        return gaps.ask(_ByName(model, tuple(labels), names), progress)

    return replace(
        gaps,
        name="classification_groups",
        fingerprint=fingerprint([label_prompt("", names), gaps.fingerprint]),
        ask=answer,
    )


class _ByName:
    """A model as a classifier whose labels stand in a given order."""

    def __init__(self, model: LanguageModel, labels: tuple[str, ...], names: Sequence[str]) -> None:
        self.labels = labels
        self._model = model
        self._names = names

    def probabilities(self, texts: Sequence[str], progress: Progress) -> NDArray[np.float64]:
        found = _answers(self._model, texts, self.labels, self._names, progress)
        return np.stack([given.probabilities for given in found])
