"""The labels of a row as a file holds them, and the same in one spelling."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from recipes.config import DataConfig
from recipes.data.labels import label_text, list_in, map_labels, split_cell
from recipes.data.rows import plain_number

OneSpelling = Callable[[str], str]
"""From a label as it is read to the spelling it is written in."""


def label_columns(config: DataConfig) -> tuple[str, str]:
    """Return the names (theirs) of the columns of one label and of several."""
    return config.columns.get("label", "label"), config.columns.get("labels", "labels")


def in_one_spelling(
    values: Mapping[str, Any], config: DataConfig, respell: OneSpelling
) -> tuple[dict[str, Any], str]:
    """Return a usable row with its labels trimmed and respelled, and the column that was changed.

    The column is empty where nothing was. A cell keeps its form: a list stays one, a text with
    separators stays one, and a number or boolean stays as it is unless its label changes.
    """
    one, many = label_columns(config)
    column = one if plain_number(values.get(one)) is not None else many
    given = values.get(many) if isinstance(values.get(many), list) else values.get(column)
    if isinstance(given, list):
        column = many
        cell: Any = _list(given, respell)
    else:
        cell = _cell(given, config.label_separator, respell)
    if cell == given and type(cell) is type(given):
        return dict(values), ""
    return {**values, column: cell}, column


def _list(given: list[Any], respell: OneSpelling) -> list[Any]:
    """Return a list of labels, each label once."""
    found: dict[str, Any] = {}
    for value in given:
        found.setdefault(respell(label_text(value)), _value(value, respell))
    return [*found.values()]


def _value(value: Any, respell: OneSpelling) -> Any:
    label = respell(label_text(value))
    return value if not isinstance(value, str) and label == label_text(value) else label


def _cell(value: Any, separator: str | None, respell: OneSpelling) -> Any:
    if separator is None or not isinstance(value, str):
        return _value(value, respell)
    labels = split_cell(value, separator)
    wanted = map_labels(labels, {label: respell(label) for label in labels})
    if wanted == labels:
        return value.strip()
    joined = separator.join(wanted)
    is_read_back = list_in(value) is None and split_cell(joined, separator) == wanted
    return joined if is_read_back else json.dumps(wanted, ensure_ascii=False)
