"""Items of published test sets that the training rows contain.

A model that was trained on an item can answer it from memory. An item is found where a text of a
training row is the same, exactly or in normal form; where training rows contain it; and where one
is nearly the same. It is contained if at least 80 % of its words lie in sequences of 13 words that
training rows have too: sequences of 13 as for GPT-3 (Brown et al. 2020, arXiv:2005.14165, appendix
C), the share as for Llama 2 (Touvron et al. 2023, arXiv:2307.09288, appendix A.6). An item of 8 to
12 words is one sequence; a shorter one is found only where a whole text is the same or similar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np

from eval.items import LabelledText, Question
from eval.task import Task
from recipes.data import catalog
from recipes.data.findings import Findings
from recipes.data.normal_form import normal_form
from recipes.data.similar_texts import similar_pairs
from recipes.data.split import DataRow
from recipes.data.word_hashes import UInts, WordHashes, sequences

LONGEST, SHORTEST = 13, 8
"""Words to a sequence."""

CONTAINED = 0.8
"""Share of an item's words that lie in sequences of the training rows."""

Kind = Literal["exact", "normalised", "contained", "near"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_BLOCK = 1 << 20
"""Words of training rows that are searched together."""

_TABLE_BITS = 20


@dataclass(frozen=True)
class TrainingText:
    """One text of a training row: its text, passage or question, or a turn of its chat."""

    row: str
    """Id of the row."""

    text: str


@dataclass(frozen=True)
class Match:
    """An item that training rows contain."""

    item: str
    """Id of its sample."""

    kind: Kind
    row: str
    """Id of a training row that has it."""


@dataclass(frozen=True)
class Overlap:
    """What the training rows have of one task."""

    task: str
    num_items: int
    matches: tuple[Match, ...]
    """One for each item that was found, in the order of the items."""

    @property
    def items(self) -> frozenset[str]:
        """Ids of the items that were found."""
        return frozenset(match.item for match in self.matches)

    def summary(self) -> str:
        """Return the counts in words."""
        counts = Counter(match.kind for match in self.matches)
        kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
        return (
            f"{len(self.matches)} of {self.num_items} items of {self.task} are in the training data"
            + (f" ({kinds})" if kinds else "")
        )


def training_texts(rows: Iterable[DataRow[Any]]) -> list[TrainingText]:
    """Return the texts of training rows, each by itself."""
    return [TrainingText(row.id, text) for row in rows for text in _fields(row.item)]


def _fields(item: Any) -> Iterator[str]:
    if isinstance(item, LabelledText):
        yield item.text
    elif isinstance(item, Question):
        yield from (item.context, item.question)
    else:
        yield from (str(turn["content"]) for turn in item.messages)


def find_overlaps(tasks: Sequence[Task], training: Sequence[TrainingText]) -> list[Overlap]:
    """Find the items of tasks that training rows contain.

    Tasks without `Task.texts`, which are on the user's own test rows, are left out.

    Args:
        tasks: of any sets.
        training: texts of the training rows.
    """
    published = [task for task in tasks if task.texts]
    items = [
        _Item(number, name, text, normal_form(text))
        for number, task in enumerate(published)
        for name, texts in task.texts.items()
        for text in texts
    ]
    normal = [normal_form(one.text) for one in training]
    found: dict[tuple[int, str], Match] = {}
    for matched in (
        _equal(items, training, normal),
        _contained(items, training, normal),
        _near(items, training, normal),
    ):
        for task, match in matched:
            best = found.setdefault((task, match.item), match)
            if KINDS.index(match.kind) < KINDS.index(best.kind):
                found[task, match.item] = match
        items = [item for item in items if (item.task, item.name) not in found]
    return [
        Overlap(
            task.name,
            len(task.texts),
            tuple(found[number, name] for name in task.texts if (number, name) in found),
        )
        for number, task in enumerate(published)
    ]


def find_contamination(
    tasks: Sequence[Task], rows: Sequence[DataRow[Any]], findings: Findings
) -> list[Overlap]:
    """Record training rows that contain items of the tasks; return what was found.

    Args:
        tasks: that a recipe evaluates by.
        rows: that are trained on.
        findings: receives a place for each item.
    """
    places = {row.id: row.place for row in rows}
    overlaps = find_overlaps(tasks, training_texts(rows))
    for overlap in overlaps:
        for match in overlap.matches:
            detail = f"item {match.item} of {overlap.task} ({match.kind})"
            findings.add(catalog.CONTAMINATION, places[match.row], detail, row=match.row)
    return overlaps


@dataclass(frozen=True)
class _Item:
    task: int
    name: str
    text: str
    normal: str


Found = Iterator[tuple[int, Match]]


def _equal(
    items: Sequence[_Item], training: Sequence[TrainingText], normal: Sequence[str]
) -> Found:
    by_normal: dict[str, list[_Item]] = {}
    for item in items:
        by_normal.setdefault(item.normal, []).append(item)
    for one, form in zip(training, normal, strict=True):
        for item in by_normal.get(form, ()):
            is_exact = item.text.strip() == one.text.strip()
            yield item.task, Match(item.name, "exact" if is_exact else "normalised", one.row)


def _contained(
    items: Sequence[_Item], training: Sequence[TrainingText], normal: Sequence[str]
) -> Found:
    words = WordHashes()
    hashed = [(item, np.array(words.of(item.normal), dtype=np.uint64)) for item in items]
    long = [(item, hashes) for item, hashes in hashed if len(hashes) >= SHORTEST]
    wanted: dict[int, list[UInts]] = {}
    runs: list[tuple[_Item, int, UInts]] = []
    for item, hashes in long:
        size = min(LONGEST, len(hashes))
        [own] = sequences(hashes, np.array([len(hashes)]), range(size, size + 1))
        runs.append((item, size, own.hashes))
        wanted.setdefault(size, []).append(own.hashes)
    if not runs:
        return
    rows = _rows_with({size: np.concatenate(all_) for size, all_ in wanted.items()}, normal, words)
    for item, size, own_hashes in runs:
        at = [k for k, value in enumerate(own_hashes.tolist()) if (size, value) in rows]
        covered = {place for k in at for place in range(k, k + size)}
        if len(covered) >= CONTAINED * (len(own_hashes) + size - 1):
            first = training[rows[size, int(own_hashes[at[0]])]]
            yield item.task, Match(item.name, "contained", first.row)


def _rows_with(
    wanted: Mapping[int, UInts], normal: Sequence[str], words: WordHashes
) -> dict[tuple[int, int], int]:
    """Return the first training text that has a sequence, by its size and hash."""
    sorted_ = {size: np.unique(hashes) for size, hashes in wanted.items()}
    tables = {size: _table(hashes) for size, hashes in sorted_.items()}
    rows: dict[tuple[int, int], int] = {}
    pending: list[int] = []
    lengths: list[int] = []
    for number, text in enumerate(normal):
        hashes = words.of(text)
        pending += hashes
        lengths.append(len(hashes))
        if len(pending) < _BLOCK and number < len(normal) - 1:
            continue
        first = number + 1 - len(lengths)
        of_texts = np.array(pending, dtype=np.uint64), np.array(lengths)
        for found in sequences(*of_texts, range(min(wanted), max(wanted) + 1)):
            if found.size not in wanted:
                continue
            known = sorted_[found.size]
            # nearly all sequences are no item's; a table of bits sorts them out
            maybe = np.flatnonzero(tables[found.size][found.hashes >> (64 - _TABLE_BITS)])
            near = np.minimum(np.searchsorted(known, found.hashes[maybe]), len(known) - 1)
            maybe = maybe[known[near] == found.hashes[maybe]]
            texts = np.searchsorted(np.cumsum(found.counts), maybe, side="right") + first
            for value, text_number in zip(
                found.hashes[maybe].tolist(), texts.tolist(), strict=True
            ):
                rows.setdefault((found.size, value), text_number)
        pending, lengths = [], []
        words.forget()
    return rows


def _table(hashes: UInts) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    table = np.zeros(1 << _TABLE_BITS, dtype=bool)
    table[hashes >> (64 - _TABLE_BITS)] = True
    return table


def _near(items: Sequence[_Item], training: Sequence[TrainingText], normal: Sequence[str]) -> Found:
    if not items:
        return
    texts = chain((item.normal for item in items), normal)
    owners = [0] * len(items) + [1] * len(normal)
    for a, b in similar_pairs(texts, owners, across_owners=True):
        yield items[a].task, Match(items[a].name, "near", training[b - len(items)].row)
