"""Rows split in two: seeded, stratified by label, groups and equal rows kept together."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from recipes.data.components import connected_components

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class DataRow(Generic[Item]):
    """A usable row: the domain's item, and what the split must know of it."""

    id: str
    place: str
    item: Item
    key: str
    """Hash of its content; rows of one key are duplicates."""

    loose_key: str
    """The same but for case and white space; rows of one loose key are alike."""

    label: str
    """What the split is stratified by; empty where nothing."""

    group: str | None

    digest: str
    """Hash of the whole row, its label or answer included."""

    passage: str = ""
    """Hash of what the split keeps together beside the group, such as a question's passage."""

    normal_key: str = ""
    """Hash of its content in normal form (`recipes.data.normal_form`), which the split keeps
    together; empty where only the loose key is known."""

    @property
    def alike_key(self) -> str:
        """What rows have in common that the split takes for the same."""
        return self.normal_key or self.loose_key


def split(
    rows: Sequence[DataRow[Item]], fraction: float, seed: int
) -> tuple[list[DataRow[Item]], list[DataRow[Item]]]:
    """Split off about ``fraction`` of the rows: seeded, stratified by label, groups kept whole.

    Rows of one group, on one passage, or equal in normal form never straddle the split. A label
    with a single unit stays in the first part. The order of rows is kept within each part.
    """
    units = _units(rows)
    by_label: dict[str, list[list[int]]] = {}
    for unit in units:
        label = Counter(rows[i].label for i in unit).most_common(1)[0][0]
        by_label.setdefault(label, []).append(unit)
    rng = random.Random(f"{seed}/split")  # noqa: S311 (an order, not a secret)
    second: set[int] = set()
    for label in sorted(by_label):
        units = by_label[label]
        rng.shuffle(units)
        wanted = fraction * sum(len(unit) for unit in units)
        taken = 0
        for unit in units[:-1]:  # one unit of each label always stays
            if taken + len(unit) / 2 > wanted:
                break
            second.update(unit)
            taken += len(unit)
    first_rows = [row for i, row in enumerate(rows) if i not in second]
    return first_rows, [row for i, row in enumerate(rows) if i in second]


def _units(rows: Sequence[DataRow[Any]]) -> list[list[int]]:
    """Return the sets of rows that must stay together: same group, passage or normal form."""
    by_content: dict[str, int] = {}
    by_group: dict[str, int] = {}
    by_passage: dict[str, int] = {}
    pairs = array("q")  # flat: a million tuples take 100 MB
    for i, row in enumerate(rows):
        firsts = [by_content.setdefault(row.alike_key, i)]
        if row.group is not None:
            firsts.append(by_group.setdefault(row.group, i))
        if row.passage:
            firsts.append(by_passage.setdefault(row.passage, i))
        for first in firsts:
            if first != i:
                pairs.extend((first, i))
    return connected_components(len(rows), np.array(pairs, dtype=np.int64))
