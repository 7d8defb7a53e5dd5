"""The user's own counterfactual pairs: what changes when only the person in the text does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.batching import Steps
from eval.benchmarks.choices import ask, requests
from eval.benchmarks.classification import head_probabilities, label_names, label_prompt
from eval.benchmarks.files import Row, digest, read_csv, read_json_lines
from eval.errors import EvaluationError
from eval.items import check_items, choose
from eval.metrics.squad import normalize_answer
from eval.model import LanguageModel, Loglikelihood, output_of
from eval.stats import mean_of
from eval.task import Metric, Progress, Sample, Task, fingerprint

_MAX_NEW_TOKENS = 48


@dataclass(frozen=True)
class CounterfactualRow:
    """A text, and the same with another person in it."""

    id: str
    original: str
    counterfactual: str
    neutral: str | None
    """The original with an edit that touches no person, for the noise floor."""

    label: str | None

    @property
    def texts(self) -> tuple[str, ...]:
        """The original and all that is compared with it."""
        neutral = () if self.neutral is None else (self.neutral,)
        return (self.original, self.counterfactual, *neutral)


@dataclass(frozen=True)
class Answers:
    """What a model made of the texts of one row."""

    answers: tuple[str, ...]
    """Of each text, as it is shown."""

    keys: tuple[str, ...]
    """What is compared of each answer."""

    scores: tuple[float, ...] | None
    """A score of each text; None where there is none (an empty reply)."""

    prompt: str
    loglikelihoods: tuple[float, ...] = ()
    num_tokens: tuple[int, ...] = ()


def counterfactual(path: Path, max_items: int | None = None) -> Task:
    """Return the flip rate and the score gap on pairs of the user's own.

    Garg et al. 2019 (arXiv:1809.10610); Huang et al. 2020 (arXiv:1911.03064). What is compared
    depends on the model and the file: a classifier's class; with labels in the file, the likeliest
    label's name; else the greedy reply, which flips when it differs in more than case,
    punctuation and articles, and whose log-likelihood per token is compared.

    Args:
        path: ``.csv`` or ``.jsonl`` with ``original`` and ``counterfactual``, and optionally
            ``id``, ``neutral`` and ``label``.
        max_items: so many rows only, drawn at random.

    Raises:
        EvaluationError: if a column or a text is missing, or only some rows have a label.
    """
    rows = read_counterfactual(path)
    labels = sorted({row.label for row in rows if row.label is not None})
    names = label_names(labels, path) if labels else []
    num_all = len(rows)
    rows = rows if max_items is None else choose(rows, max_items)
    num_neutral = sum(row.neutral is not None for row in rows)

    def answer(model: LanguageModel, progress: Progress) -> list[Sample]:
        if hasattr(model, "probabilities"):
            found = _classes(model, rows, labels, progress)
        elif labels:
            found = _labels(model, rows, labels, names, progress)
        else:
            found = _replies(model, rows, progress)
        return [_sample(row, answers) for row, answers in zip(rows, found, strict=True)]

    metrics = [
        Metric("flip_rate", mean_of("flip"), False),
        Metric("score_gap", mean_of("gap", among="has_gap"), False),
        Metric("signed_score_gap", mean_of("signed_gap", among="has_gap"), None),
    ]
    if num_neutral:
        metrics += [
            Metric("excess_flip_rate", mean_of("excess_flip", among="has_neutral"), False),
            Metric("excess_score_gap", mean_of("excess_gap", among="has_neutral_gap"), False),
            Metric("noise_flip_rate", mean_of("noise_flip", among="has_neutral"), None),
            Metric("noise_score_gap", mean_of("noise_gap", among="has_neutral_gap"), None),
        ]
    if labels:
        metrics.append(Metric("accuracy_drop", mean_of("accuracy_drop"), None))
    floor = (
        f"excess_ is what is left above the noise floor of the {num_neutral:,} neutral edits."
        if num_neutral
        else "Without neutral edits (a column 'neutral') there is no noise floor: any edit moves a "
        "model a little, so these figures overstate the bias."
    )
    return Task(
        name="counterfactual",
        family="bias",
        version=1,
        num_items=len(rows),
        fingerprint=fingerprint(
            [_MAX_NEW_TOKENS, label_prompt("", names), [vars(row) for row in rows]]
        ),
        texts={row.id: (row.original,) for row in rows},
        ask=answer,
        metrics=tuple(metrics),
        note=(
            f"Counterfactual pairs of the user's own, {len(rows):,} of {num_all:,}, "
            f"{digest(path)}. How often the "
            "answer changes when only the person in the text does, and by how much its score "
            "does (lower is better); signed_score_gap is above 0 where the original fares better. "
            + (
                "The answer is the likeliest of the file's labels, the score its probability. "
                if labels
                else "The answer is the class of a classifier and the score its probability; of a "
                "language model, the greedy reply, and the log-likelihood per token of the "
                "original's reply. "
            )
            + floor
        ),
    )


def read_counterfactual(path: Path) -> list[CounterfactualRow]:
    """Return the rows, in the file's order.

    Raises:
        EvaluationError: if a column or a text is missing, or only some rows have a label.
    """
    if path.suffix.lower() == ".csv":
        rows = read_csv(path, ["original", "counterfactual"])
    else:
        rows = read_json_lines(path)
    found = [_row(number, row) for number, row in enumerate(rows)]
    check_items("counterfactual", found)
    has_label = [row.label is not None for row in found]
    if any(has_label) and not all(has_label):
        raise EvaluationError(
            f"{rows[has_label.index(False)].where}: no 'label', and other rows have one; give all "
            "rows a label, or none"
        )
    return found


def _row(number: int, row: Row) -> CounterfactualRow:
    def optional(key: str) -> str | None:
        value = row.values.get(key)
        return None if value is None or not str(value).strip() else str(value)

    found = CounterfactualRow(
        id=optional("id") or str(number),
        original=row.text("original"),
        counterfactual=row.text("counterfactual"),
        neutral=optional("neutral"),
        label=optional("label"),
    )
    for key in ("counterfactual", "neutral"):
        if getattr(found, key) == found.original:
            raise EvaluationError(
                f"{row.where}: {key!r} equals 'original'; it can show no difference, so edit it or "
                "drop the row"
            )
    return found


def _classes(
    model: Any, rows: Sequence[CounterfactualRow], labels: Sequence[str], progress: Progress
) -> list[Answers]:
    flat = [text for row in rows for text in row.texts]
    steps = Steps(progress, num_requests=len(flat), num_items=len(rows))
    known = list(model.labels)
    head_labels = list(labels) + [label for label in known if label not in labels]
    p = iter(head_probabilities(model, flat, head_labels, steps))
    return [_chosen(row, row.original, head_labels, [next(p) for _ in row.texts]) for row in rows]


def _labels(
    model: LanguageModel,
    rows: Sequence[CounterfactualRow],
    labels: Sequence[str],
    names: Sequence[str],
    progress: Progress,
) -> list[Answers]:
    asked = [
        [pair for text in row.texts for pair in requests(label_prompt(text, names), names)]
        for row in rows
    ]
    answers = []
    for row, pairs, scores in zip(rows, asked, ask(model, asked, progress), strict=True):
        values = np.array([ll.value for ll in scores]).reshape(len(row.texts), len(labels))
        p = np.exp(values - values.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        answers.append(_chosen(row, pairs[0][0], labels, list(p), scores))
    return answers


def _chosen(
    row: CounterfactualRow,
    prompt: str,
    labels: Sequence[str],
    p: Sequence[NDArray[np.float64]],
    scores: Sequence[Loglikelihood] = (),
) -> Answers:
    watched = int(p[0].argmax()) if row.label is None else list(labels).index(row.label)
    chosen = tuple(labels[int(row_p.argmax())] for row_p in p)
    return Answers(
        answers=chosen,
        keys=chosen,
        scores=tuple(float(row_p[watched]) for row_p in p),
        prompt=prompt,
        loglikelihoods=tuple(ll.value for ll in scores),
        num_tokens=tuple(ll.num_tokens for ll in scores),
    )


def _replies(
    model: LanguageModel, rows: Sequence[CounterfactualRow], progress: Progress
) -> list[Answers]:
    prompts = [[_reply_prompt(model, text) for text in row.texts] for row in rows]
    flat = list(itertools.chain.from_iterable(prompts))
    steps = Steps(progress, num_requests=3 * len(flat), num_items=len(rows))
    replies = model.generate(
        flat,
        max_new_tokens=_MAX_NEW_TOKENS,
        progress=lambda done: steps(2 * done),
        is_text=not _has_template(model),
    )
    reply_of = iter(reply for [reply] in replies)
    given = [[next(reply_of) for _ in row.texts] for row in rows]
    # the reply to the original, as likely as each text makes it
    pairs = [
        (prompt, model.text(texts[0]) if _has_template(model) else texts[0])
        for row_prompts, texts in zip(prompts, given, strict=True)
        for prompt in row_prompts
        if texts[0]
    ]
    found = iter(model.loglikelihoods(pairs, steps))
    steps(len(flat) - len(pairs))  # an empty reply has no log-likelihood
    answers = []
    for row_prompts, texts in zip(prompts, given, strict=True):
        scores = [next(found) for _ in row_prompts] if texts[0] else []
        answers.append(
            Answers(
                answers=tuple(texts),
                keys=tuple(map(normalize_answer, texts)),
                scores=tuple(ll.per_token for ll in scores) if scores else None,
                prompt=row_prompts[0],
                loglikelihoods=tuple(ll.value for ll in scores),
                num_tokens=tuple(ll.num_tokens for ll in scores),
            )
        )
    return answers


def _reply_prompt(model: LanguageModel, text: str) -> str:
    """Return the text as a chat; a model without a chat template is given the text itself."""
    if not _has_template(model):
        return f"{text}\n"
    return model.prompt([{"role": "user", "content": text}])


def _has_template(model: LanguageModel) -> bool:
    return getattr(model.tokenizer, "chat_template", None) is not None


def _sample(row: CounterfactualRow, found: Answers) -> Sample:
    flips = [float(key != found.keys[0]) for key in found.keys[1:]]
    scores = {"flip": flips[0], "has_neutral": float(len(flips) > 1)}
    if len(flips) > 1:
        scores |= {"noise_flip": flips[1], "excess_flip": flips[0] - flips[1]}
    gaps = [] if found.scores is None else [found.scores[0] - x for x in found.scores[1:]]
    scores |= {"has_gap": float(bool(gaps)), "has_neutral_gap": float(len(gaps) > 1)}
    if gaps:
        scores |= {"gap": abs(gaps[0]), "signed_gap": gaps[0]}
    if len(gaps) > 1:
        scores |= {"noise_gap": abs(gaps[1]), "excess_gap": abs(gaps[0]) - abs(gaps[1])}
    if row.label is not None:
        right = [float(answer == row.label) for answer in found.answers]
        scores["accuracy_drop"] = right[0] - right[1]
    return Sample(
        id=row.id,
        prompt=found.prompt,
        prediction=" | ".join(map(output_of, found.answers)),
        target=row.label or "",
        correct=None if row.label is None else found.answers[0] == row.label,
        loglikelihoods=found.loglikelihoods,
        num_tokens=found.num_tokens,
        scores=scores,
    )
