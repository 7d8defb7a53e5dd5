"""Rows that belong together because something links them, by whatever chain of links."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def linked(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the sets of the numbers below ``count`` that pairs link, one of one where none does.

    Each set is ascending, and sets stand in the order of their first numbers.

    Example:
        >>> linked(5, [(0, 3), (4, 3)])
        [[0, 3, 4], [1], [2]]
    """
    if not count:
        return []
    first, second = np.array([*pairs], dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    found: dict[int, list[int]] = {}
    for number, label in enumerate(labels.tolist()):
        found.setdefault(label, []).append(number)
    return list(found.values())
