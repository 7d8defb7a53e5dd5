"""Work shared between processes: the same results, in order, and no process left behind."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from recipes.check.workers import CHUNK, in_chunks, num_workers

COUNT = 2 * CHUNK + 7

needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the system cannot fork"
)


@needs_fork
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_for_every_row_once(workers: int) -> None:
    found = [*in_chunks(list, COUNT, workers=workers)]
    assert [row for _, rows in found for row in rows] == [*range(COUNT)]
    assert all([*chunk] == rows for chunk, rows in found)


@needs_fork
def test_processes_share_what_is_in_memory_and_end() -> None:
    secret = object()  # cannot be pickled to the same object
    results = in_chunks(lambda _: (os.getpid(), id(secret)), COUNT, workers=2)
    found = {result for _, result in results}
    assert {identity for _, identity in found} == {id(secret)}
    assert os.getpid() not in {pid for pid, _ in found}
    assert not multiprocessing.active_children()


@needs_fork
def test_an_error_of_a_process_is_raised_and_ends_the_others() -> None:
    def work(chunk: range) -> int:
        if chunk.start:
            raise LookupError("of a row")
        return 1

    with pytest.raises(LookupError, match="of a row"):
        list(in_chunks(work, COUNT, workers=2))
    assert not multiprocessing.active_children()


def test_few_rows_start_no_process() -> None:
    assert {pid for _, pid in in_chunks(lambda _: os.getpid(), 10)} == {os.getpid()}
    assert num_workers() >= 1
