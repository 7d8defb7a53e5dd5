"""Work shared between processes: the same results, in order, and no process left behind."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from recipes.check.workers import CHUNK, num_workers, started

COUNT = 2 * CHUNK + 7

needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the system cannot fork"
)


@needs_fork
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_for_every_row_once(workers: int) -> None:
    with started(list, COUNT, workers=workers) as results:
        found = [*results]
    assert [row for _, rows in found for row in rows] == [*range(COUNT)]
    assert all([*chunk] == rows for chunk, rows in found)


@needs_fork
def test_processes_share_what_is_in_memory_and_end() -> None:
    secret = object()  # cannot be pickled to the same object
    with started(lambda _: (os.getpid(), id(secret)), COUNT, workers=2) as results:
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

    with (
        pytest.raises(LookupError, match="of a row"),
        started(work, COUNT, workers=2) as results,
    ):
        list(results)
    assert not multiprocessing.active_children()


@needs_fork
def test_processes_work_before_a_result_is_taken(tmp_path: Path) -> None:
    done = tmp_path / "done"

    def work(chunk: range) -> range:
        done.touch()
        return chunk

    with started(work, COUNT, workers=2) as results:
        for _ in range(1_000):
            if done.exists():
                break
            time.sleep(0.01)
        assert done.exists()
        assert all(chunk == found for chunk, found in results)
    assert not multiprocessing.active_children()


@needs_fork
def test_work_that_is_given_up_leaves_no_process() -> None:
    with pytest.raises(LookupError), started(list, COUNT, workers=2):
        raise LookupError
    assert not multiprocessing.active_children()


def test_few_rows_start_no_process() -> None:
    with started(lambda _: os.getpid(), 10) as results:
        assert {pid for _, pid in results} == {os.getpid()}
    assert num_workers() >= 1
