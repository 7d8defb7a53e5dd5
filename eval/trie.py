"""Requests merged where they begin alike, so that each shared token is read once.

A group of requests becomes a trie: a node for each distinct token prefix, in depth-first order.
One forward pass reads a whole trie: each node attends to its ancestors and itself, at the
position that is its depth (tree attention, as in SpecInfer, Miao et al. 2024, arXiv:2305.09781,
section 4.2). What a node sees is what it would see in a request of its own, so the scores are
those of the plain way but for rounding.

N nodes, P tokens of a prefix that all tries share, B tries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eval.tokens import Tokens


@dataclass(frozen=True)
class Scored:
    """A token whose log-likelihood is asked for."""

    request: int
    """Position of the request among all."""

    piece: int
    row: int
    """Which of the trie's predicting nodes comes before the token."""

    token: int


@dataclass(frozen=True)
class Trie:
    """Requests merged where they begin alike, without the prefix that is read before them."""

    ids: tuple[int, ...]
    """Token of each node, in depth-first order: a parent comes before its children."""

    depths: tuple[int, ...]
    """Distance of each node from the root, whose children have depth 0."""

    ends: tuple[int, ...]
    """Node i is an ancestor of node j, or j itself, if and only if i <= j < ends[i]."""

    rows: tuple[int, ...]
    """The nodes after which a token is predicted; only these need the LM head."""

    scored: tuple[Scored, ...]

    def sees_nn(self) -> Tensor:
        """Return which node (first axis) attends to which (second axis)."""
        node_N = torch.arange(len(self.ids))
        ends_N = torch.tensor(self.ends)
        return (node_N[None, :] <= node_N[:, None]) & (node_N[:, None] < ends_N[None, :])


def shared_prefix(requests: Sequence[Tokens]) -> int:
    """Return how many first tokens all requests share and none of them predicts from.

    The last shared token before a predicted one stays out: its row of logits is needed.
    """
    if not requests:
        return 0
    first = min(request.ids for request in requests)
    last = max(request.ids for request in requests)
    return max(0, min(common(first, last), *(request.first_row for request in requests)))


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the common prefix.

    Example:
        >>> common((1, 2, 3), (1, 2, 4, 5))
        2
    """
    length = min(len(a), len(b))
    return next((i for i in range(length) if a[i] != b[i]), length)


def groups(requests: Sequence[Tokens], skip: int, *, max_nodes: int, width: int) -> list[list[int]]:
    """Cut requests into groups that are worth a trie each, in the order of their tokens.

    Two neighbours are merged when the work saved on shared tokens exceeds the work that tree
    attention adds: a token costs about 24 D^2 operations a layer, and a pair of positions that
    need not see each other about 4 D, of which a dense mask computes both directions.

    Args:
        requests: what is asked.
        skip: tokens at the front of each that are read before.
        max_nodes: bound on the nodes of a group of several requests.
        width: D of the model.

    Returns:
        Positions of the requests, group by group.
    """
    order = sorted(range(len(requests)), key=lambda i: requests[i].inputs)
    found: list[list[int]] = []
    size = 0
    for place, i in enumerate(order):
        length = len(requests[i].inputs) - skip
        shared = 0
        if place:
            shared = common(requests[order[place - 1]].inputs, requests[i].inputs) - skip
        added = length - shared
        is_worth_it = shared * 3 * width >= 2 * added * (size - shared)
        if found and shared > 0 and size + added <= max_nodes and is_worth_it:
            found[-1].append(i)
            size += added
        else:
            found.append([i])
            size = length
    return found


def build(requests: Sequence[Tokens], members: Sequence[int], skip: int) -> Trie:
    """Merge some of the requests.

    Args:
        requests: all that is asked.
        members: positions of those to merge.
        skip: tokens at the front of each that are read before, and left out.
    """
    ids: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    rows: dict[int, int] = {}
    scored: list[Scored] = []
    path: list[int] = []
    before: Sequence[int] = ()
    # sorted, so that what was shared with any request before is shared with the last one
    for i in sorted(members, key=lambda i: requests[i].inputs):
        request = requests[i]
        inputs = request.inputs[skip:]
        kept = common(before, inputs)
        for node in path[kept:]:
            ends[node] = len(ids)
        del path[kept:]
        for token in inputs[kept:]:
            path.append(len(ids))
            depths.append(len(path) - 1)
            ids.append(token)
            ends.append(-1)
        for position, piece in enumerate(request.owners[1:]):
            if piece >= 0:
                row = rows.setdefault(path[position - skip], len(rows))
                scored.append(Scored(i, piece, row, request.ids[position + 1]))
        before = inputs
    for node in path:
        ends[node] = len(ids)
    # the rows of logits come out in the order of the nodes
    place = {row: rank for rank, (_, row) in enumerate(sorted(rows.items()))}
    return Trie(
        ids=tuple(ids),
        depths=tuple(depths),
        ends=tuple(ends),
        rows=tuple(sorted(rows)),
        scored=tuple(Scored(s.request, s.piece, place[s.row], s.token) for s in scored),
    )
