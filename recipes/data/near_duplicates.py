"""Copies of a text in several units of privacy: whoever wrote it owns more than one unit.

`recipes.data.similar_texts` says what counts as nearly the same, and how many such rows it finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.items import LabelledText
from recipes.data.components import connected_components
from recipes.data.similar_texts import (
    NUM_PERMUTATIONS,
    NUM_WORDS,
    THRESHOLD,
    Progress,
    similar_pairs,
)
from recipes.data.split import DataRow

MOST_IDS = 100
"""Row ids that are listed; the counts are of all."""


@dataclass(frozen=True)
class NearDuplicates:
    """What was found; counts and row ids, never text."""

    num_rows: int
    num_units: int
    num_exact: int
    """Rows whose text, but for case and white space, is in another unit too."""

    num_near: int
    """Rows that are nearly the same as a row of another unit, exact ones included."""

    largest_family: int
    """Units in the largest set of rows that are alike: what one text may own together."""

    families: tuple[tuple[str, ...], ...]
    """Row ids of the largest such sets, until so many ids as are listed."""

    threshold: float = THRESHOLD
    words_per_shingle: int = NUM_WORDS
    permutations: int = NUM_PERMUTATIONS

    def to_json(self) -> dict[str, Any]:
        """Return what the record of a run holds of it."""
        return asdict(self)


def text_of(row: DataRow[Any]) -> str:
    """Return all of a row that is learned from, as one text."""
    item = row.item
    if isinstance(item, LabelledText):
        return item.text
    if hasattr(item, "context"):
        return "\n".join((item.context, item.question, *item.answers))
    return "\n".join(str(message["content"]) for message in item.messages)


def near_duplicates(
    rows: Sequence[DataRow[Any]],
    units: Sequence[Sequence[int]],
    progress: Progress | None = None,
) -> NearDuplicates:
    """Find rows that occur, word for word or nearly, in more than one unit of privacy.

    Args:
        rows: that are trained on.
        units: row numbers of each unit; rows of one unit may be alike, they count once.
        progress: for long work; 100,000 chats of 115 words take 4 s.

    Returns:
        Counts and ids.
    """
    owner = np.zeros(max(map(max, units), default=-1) + 1, dtype=np.int64)
    for number, unit in enumerate(units):
        owner[unit] = number
    first_of: dict[str, int] = {}
    firsts = [first_of.setdefault(row.loose_key, i) for i, row in enumerate(rows)]
    del first_of
    texts = [i for i, first in enumerate(firsts) if i == first]
    links = [(first, i) for i, first in enumerate(firsts) if i != first]
    spread = {first for first, i in links if owner[first] != owner[i]}
    # a text of several units is alike a text of another unit whatever unit that is
    owners = [-1 - i if i in spread else int(owner[i]) for i in texts]
    near = set(spread)
    for a, b in similar_pairs((text_of(rows[i]) for i in texts), owners, progress=progress):
        links.append((texts[a], texts[b]))
        if owners[a] != owners[b]:
            near |= {texts[a], texts[b]}
    families = connected_components(len(rows), links)
    sizes = [len({*owner[family].tolist()}) if len(family) > 1 else 1 for family in families]
    largest = sorted((k for k, size in enumerate(sizes) if size > 1), key=lambda k: -sizes[k])
    return NearDuplicates(
        num_rows=len(rows),
        num_units=len(units),
        num_exact=sum(first in spread for first in firsts),
        num_near=sum(first in near for first in firsts),
        largest_family=max(sizes, default=0),
        families=tuple(_listed([[rows[i].id for i in families[key]] for key in largest])),
    )


def _listed(families: Iterable[list[str]]) -> Iterable[tuple[str, ...]]:
    left = MOST_IDS
    for ids in families:
        if left <= 0:
            return
        yield tuple(ids[:left])
        left -= len(ids)
