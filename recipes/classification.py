"""The classification recipe: a text, and one label or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.accuracy import classification
from eval.counterfactual import counterfactual_labels
from eval.groups import group_gaps
from eval.hallucination import out_of_scope
from eval.items import LabelledText
from eval.task import Task
from finetune.encoding import Example, encode_text
from recipes.data import Checked, Parts
from recipes.errors import InputError, Problem, Problems
from recipes.rows import Row, RowError, name_of, take

COLUMNS = ("id", "text", "label", "labels", "group")
"""Ours; `data.columns` says what the files call them."""

ZERO_SHOT = "Which of the labels describes the text? Answer with the label only."
"""How the base is asked, which has no classification head."""


def parse(row: Row, columns: Mapping[str, str], name: str) -> tuple[LabelledText, str, str]:
    """Turn a row into a labelled text: `text`, and `label` (one) or `labels` (a list)."""
    given = take(row, "text", columns)
    label: str | tuple[str, ...]
    many = row.values.get(columns.get("labels", "labels"))
    has_one = columns.get("label", "label") in row.values
    if many is not None and not (has_one and isinstance(many, str)):  # a table holds no list
        if not isinstance(many, list) or not all(isinstance(one, str) for one in many):
            raise RowError("column 'labels': wanted a list of texts")
        if not all(one.strip() for one in many):
            raise RowError("column 'labels' holds an empty label")
        label = tuple(sorted({one.strip() for one in many}))
        stratum = "+".join(label)
    else:
        label = stratum = take(row, "label", columns).strip()
    group = name_of(take(row, "group", columns, required=False))
    item = LabelledText(id=name, text=given.strip(), label=label, group=group)
    return item, given, stratum


def labels_of(parts: Parts[LabelledText]) -> tuple[tuple[str, ...], bool]:
    """Return all labels of the training rows, sorted, and whether a text may have several.

    Raises:
        InputError: if there are fewer than two labels, or rows of both kinds.
        Problems: if a label stands only in the test or validation rows, which nothing can learn.
    """
    rows = (*parts.train, *parts.validation, *parts.test)
    kinds = {isinstance(row.item.label, tuple) for row in rows}
    if len(kinds) > 1:
        raise InputError("data: some rows have one label and some a list of labels; use one form")
    known = {label for row in parts.train for label in _labels(row)}
    if len(known) < 2:
        raise InputError(
            f"data: the training rows have {len(known)} label; a classifier needs at least two"
        )
    unknown = [
        Problem(row.place, f"its label {label!r} is in no training row")
        for row in (*parts.test, *parts.validation)
        for label in _labels(row)
        if label not in known
    ]
    if unknown:
        raise Problems(
            f"{len(unknown)} test rows have a label that the training rows lack:",
            unknown,
            "Add training rows of that label, or correct its spelling.",
        )
    return tuple(sorted(known)), kinds == {True}


def _labels(row: Checked[LabelledText]) -> tuple[str, ...]:
    label = row.item.label
    return label if isinstance(label, tuple) else (label,)


def encode(
    item: LabelledText, tokenizer: Any, labels: Sequence[str], *, max_length: int
) -> Example:
    """Encode a text with its class index, or with one 0/1 value a class."""
    label: int | tuple[float, ...]
    if isinstance(item.label, tuple):
        label = tuple(float(name in item.label) for name in labels)
    else:
        label = list(labels).index(item.label)
    return encode_text(tokenizer, item.text, id=item.id, max_length=max_length, label=label)


def tasks(
    test: Sequence[LabelledText], few: Sequence[LabelledText], labels: Sequence[str]
) -> list[Task]:
    """Return the default tasks: labels, names and pronouns swapped, groups, out-of-scope texts.

    The groups are compared where the data has a column `group` (or one that ``data.columns:
    {group: THEIRS}`` names), which is not the ``data.group`` of the split.

    Args:
        test: all rows that are asked for their label.
        few: the rows that the swapped and the out-of-scope texts are made from.
        labels: all labels.
    """
    has_groups = any(row.group is not None for row in test) and any(
        row.group is not None for row in few
    )
    return [
        classification(test, tuple(labels)),
        counterfactual_labels(few, tuple(labels)),
        *([group_gaps(test, tuple(labels))] if has_groups else []),
        out_of_scope(few, tuple(labels)),
    ]
