"""Copies of a text in several units of privacy: whoever wrote it owns more than one unit.

Texts are compared as sets of word shingles. MinHash with locality-sensitive hashing (Broder 1997;
Leskovec et al., "Mining of Massive Datasets", chapter 3) proposes pairs, and every proposed pair is
then compared exactly, so a pair that is told is a pair. One that is missed is possible: at the
threshold itself about half are found, well above it nearly all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.items import LabelledText
from recipes.data import Checked
from recipes.linked import linked

NUM_WORDS = 3
"""Words to a shingle; a shorter text is one shingle."""

THRESHOLD = 0.7
"""Jaccard similarity of two shingle sets from which two texts count as nearly the same."""

NUM_PERMUTATIONS = 128
MOST_IDS = 100
"""Row ids that are listed; the counts are of all."""


@dataclass(frozen=True)
class NearDuplicates:
    """What was found; counts and row ids, never text."""

    num_rows: int
    num_units: int
    num_exact: int
    """Rows whose text, but for case and white space, stands in another unit too."""

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


def text_of(row: Checked[Any]) -> str:
    """Return all of a row that is learned from, as one text."""
    item = row.item
    if isinstance(item, LabelledText):
        return item.text
    if hasattr(item, "context"):
        return "\n".join((item.context, item.question, *item.answers))
    return "\n".join(str(message["content"]) for message in item.messages)


def near_duplicates(rows: Sequence[Checked[Any]], units: Sequence[Sequence[int]]) -> NearDuplicates:
    """Find rows that stand, word for word or nearly, in more than one unit of privacy.

    Args:
        rows: that are trained on.
        units: row numbers of each unit; rows of one unit may be alike, they count once.

    Returns:
        Counts and ids. Takes some ten seconds for 10,000 short rows.
    """
    shingles = [_shingles(text_of(row)) for row in rows]
    owner = {row: number for number, unit in enumerate(units) for row in unit}
    exact: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        exact.setdefault(row.loose_key, []).append(i)
    links = [(same[0], i) for same in exact.values() for i in same[1:]]
    firsts = [same[0] for same in exact.values()]
    near: set[int] = set()
    for a, b in _pairs(firsts, shingles):
        links.append((a, b))
        if owner[a] != owner[b]:
            near |= {a, b}
    for same in exact.values():
        if len({owner[i] for i in same}) > 1 or same[0] in near:
            near |= set(same)
    families = linked(len(rows), links)
    sizes = [len({owner[i] for i in family}) for family in families]
    spread = sorted((k for k, size in enumerate(sizes) if size > 1), key=lambda k: -sizes[k])
    return NearDuplicates(
        num_rows=len(rows),
        num_units=len(units),
        num_exact=sum(len(same) for same in exact.values() if len({owner[i] for i in same}) > 1),
        num_near=len(near),
        largest_family=max(sizes, default=0),
        families=tuple(_listed([[rows[i].id for i in families[key]] for key in spread])),
    )


def _listed(families: Iterable[list[str]]) -> Iterable[tuple[str, ...]]:
    left = MOST_IDS
    for ids in families:
        if left <= 0:
            return
        yield tuple(ids[:left])
        left -= len(ids)


def _shingles(text: str) -> frozenset[str]:
    words = text.casefold().split()
    last = max(1, len(words) - NUM_WORDS + 1)
    return frozenset(" ".join(words[i : i + NUM_WORDS]) for i in range(last))


def _pairs(numbers: Sequence[int], shingles: Sequence[frozenset[str]]) -> Iterable[tuple[int, int]]:
    """Yield pairs of rows whose similarity is at least the threshold, each proved."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=NUM_PERMUTATIONS)
    empty = MinHash(num_perm=NUM_PERMUTATIONS)
    for i in numbers:
        sketch = empty.copy()
        sketch.update_batch([shingle.encode() for shingle in sorted(shingles[i])])
        for j in index.query(sketch):
            if _similarity(shingles[i], shingles[j]) >= THRESHOLD:
                yield j, i
        index.insert(i, sketch)


def _similarity(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)
