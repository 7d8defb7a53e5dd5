"""Batches are within their bounds, and no other cut would have been cheaper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from eval.batching import batches

lengths_and_rows = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), max_size=8)


def cuts(order: Sequence[int]) -> Iterator[list[Sequence[int]]]:
    """All ways to cut a sequence into neighbours."""
    for count in range(len(order)):
        for places in combinations(range(1, len(order)), count):
            ends = (0, *places, len(order))
            yield [order[a:b] for a, b in pairwise(ends)]


@given(lengths_and_rows, st.integers(1, 120), st.integers(0, 60), st.integers(1, 20), st.data())
def test_no_cut_of_the_sorted_requests_within_the_bounds_is_cheaper(
    requests: list[tuple[int, int]],
    max_tokens: int,
    overhead: int,
    max_rows: int,
    data: st.DataObject,
) -> None:
    lengths, rows = [n for n, _ in requests], [r for _, r in requests]
    most = data.draw(st.none() | st.integers(1, 4))

    def is_allowed(batch: Sequence[int]) -> bool:
        return len(batch) == 1 or (
            len(batch) * max(lengths[i] for i in batch) <= max_tokens
            and sum(rows[i] for i in batch) <= max_rows
            and len(batch) <= (most or len(batch))
        )

    def cost(cut: Sequence[Sequence[int]]) -> int:
        return sum(len(batch) * max(lengths[i] for i in batch) + overhead for batch in cut)

    found = batches(
        lengths,
        max_tokens=max_tokens,
        overhead=overhead,
        rows=rows,
        max_rows=max_rows,
        max_requests=most,
    )
    assert sorted(i for batch in found for i in batch) == list(range(len(requests)))
    assert all(map(is_allowed, found))
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    allowed = [cost(cut) for cut in cuts(order) if all(map(is_allowed, cut))]
    assert cost(found) == min(allowed, default=0)
    sizes = [len(batch) * max(lengths[i] for i in batch) for batch in found]
    assert sizes == sorted(sizes, reverse=True)


def test_what_a_batch_costs_decides_between_few_batches_and_little_padding() -> None:
    lengths = [10, 9, 3, 3]
    assert len(batches(lengths, max_tokens=1000, overhead=1000)) == 1
    assert batches(lengths, max_tokens=1000, overhead=5) == [[0, 1], [2, 3]]
    assert len(batches(lengths, max_tokens=1000, overhead=0)) >= 3
