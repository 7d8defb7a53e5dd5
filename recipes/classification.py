"""The classification recipe: a text, and one label or several."""

from __future__ import annotations

from collections.abc import Sequence
from sys import intern
from typing import TYPE_CHECKING, Any

from eval.items import LabelledText
from eval.task import Task
from recipes.config import DataConfig
from recipes.data import catalog
from recipes.data.dataset import DataSplit
from recipes.data.findings import Note
from recipes.data.ids import normalize_id
from recipes.data.label_faults import labels_in
from recipes.data.labels import (
    MISSING_WORDS,
    in_order,
    is_without_content,
    label_text,
    list_in,
    map_labels,
    quoted,
    split_cell,
)
from recipes.data.rows import (
    Parsed,
    Row,
    RowError,
    get_column,
    plain_number,
    require_columns,
)

if TYPE_CHECKING:  # it imports torch, which reading rows needs not wait for
    from finetune.encoding import Example

COLUMNS = ("id", "text", "label", "labels", "group")
"""Ours; `data.columns` says what the files call them."""

ZERO_SHOT = "Which of the labels describes the text? Answer with the label only."
"""How the base is asked, which has no classification head."""


def parse(row: Row, data: DataConfig, name: str, note: Note) -> Parsed[LabelledText]:
    """Turn a row into a labelled text: `text`, and `label` (one) or `labels` (several)."""
    require_columns(row, data.columns, ("text",), ("label", "labels"))
    given: str = get_column(row, "text", data.columns)
    if given.strip().casefold() in MISSING_WORDS:
        note(catalog.MISSING_WORD_TEXT, "")
    elif is_without_content(given):
        note(catalog.TEXT_WITHOUT_CONTENT, "")
    found, is_many = _labels_of(row, data)
    # one text for each label, not for each row
    labels = tuple(map(intern, map_labels(found, data.label_map)))
    for one in found:
        if one in data.label_map:
            note(catalog.LABEL_MAPPED, one)
    for one in labels:
        if one.casefold() in MISSING_WORDS:
            note(catalog.MISSING_WORD_LABEL, f"label {quoted(one)}")
    label: str | tuple[str, ...] = tuple(sorted(labels)) if is_many else labels[0]
    group = normalize_id(get_column(row, "group", data.columns, required=False))
    item = LabelledText(id=name, text=given.strip(), label=label, group=group)
    return Parsed(item, given, "+".join(sorted(labels)))


def parse_prompt(row: Row, data: DataConfig, note: Note) -> str:
    """Turn a row into a text whose label is not known.

    Raises:
        RowError: if the row cannot be used.
    """
    del note
    text: str = get_column(row, "text", data.columns)
    return text.strip()


def _labels_of(row: Row, data: DataConfig) -> tuple[tuple[str, ...], bool]:
    """Return the labels of a row as they are written, and whether it may have several."""
    many = row.values.get(data.columns.get("labels", "labels"))
    one = plain_number(row.values.get(data.columns.get("label", "label")))
    if isinstance(many, list):
        labels = tuple(map(label_text, many))
        if not all(labels):
            raise RowError("column 'labels' holds an empty label", catalog.EMPTY_LABEL)
        return labels, True
    value = many if one is None and many is not None else one
    is_cell = value is many and many is not None
    if value is None:
        raise RowError("no label", catalog.EMPTY_LABEL)
    if isinstance(value, list):
        raise RowError("column 'label' holds a list; name it labels: data.columns: {labels: ...}")
    text = label_text(value)
    if not text:
        raise RowError("no label", catalog.EMPTY_LABEL)
    if data.label_separator is not None:
        parts = split_cell(text, data.label_separator)
        if not parts and list_in(text) is None:
            raise RowError("no label between the separators", catalog.EMPTY_LABEL)
        return parts, True
    return (text,), is_cell


def labels_of(parts: DataSplit[LabelledText]) -> tuple[tuple[str, ...], bool]:
    """Return all labels of the training rows, and whether a text may have several.

    Numbers are in numeric order, words in alphabetical order.
    """
    rows = (*parts.train, *parts.validation, *parts.test)
    known = {label for row in parts.train for label in labels_in(row.item)}
    return in_order(known), any(isinstance(row.item.label, tuple) for row in rows)


def encode(
    item: LabelledText, tokenizer: Any, labels: Sequence[str], *, max_length: int
) -> Example:
    """Encode a text with its class index, or with one 0/1 value a class."""
    from finetune.encoding import encode_text

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
    from eval.accuracy import classification
    from eval.counterfactual import counterfactual_labels
    from eval.groups import group_gaps
    from eval.hallucination import out_of_scope

    has_groups = any(row.group is not None for row in test) and any(
        row.group is not None for row in few
    )
    return [
        classification(test, tuple(labels)),
        counterfactual_labels(few, tuple(labels)),
        *([group_gaps(test, tuple(labels))] if has_groups else []),
        out_of_scope(few, tuple(labels)),
    ]
