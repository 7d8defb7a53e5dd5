"""Rows that belong together because something links them, by whatever chain of links."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csgraph


def connected_components(
    count: int, pairs: Iterable[tuple[int, int]] | NDArray[np.int64]
) -> list[list[int]]:
    """Return the sets of the numbers below ``count`` that pairs link, one of one where none does.

    Each set is ascending, and sets stand in the order of their first numbers.

    Example:
        >>> connected_components(5, [(0, 3), (4, 3)])
        [[0, 3, 4], [1], [2]]
    """
    if not count:
        return []
    links = pairs if isinstance(pairs, np.ndarray) else np.array([*pairs], dtype=np.int64)
    first, second = links.reshape(-1, 2).T
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    _, labels = csgraph.connected_components(graph, directed=False)
    found: dict[int, list[int]] = {}
    for number, label in enumerate(labels.tolist()):
        found.setdefault(label, []).append(number)
    return list(found.values())
