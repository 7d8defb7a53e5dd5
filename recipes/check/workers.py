"""Work on many rows, shared between the processor's cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from finetune.cores import usable_cores
from recipes import stops

Result = TypeVar("Result")

FEWEST_ROWS = 4_000
"""Rows from which starting processes pays."""

CHUNK = 500
"""Rows that are given to a process at a time."""

_NO_THREADS = "TOKENIZERS_PARALLELISM"

_work: Callable[[range], Any]  # of the child process, which has it from its parent


def num_workers() -> int:
    """Return how many processes this one may start: its cores, or one where it cannot fork."""
    # on macOS libraries of the system do not survive a fork
    if sys.platform != "linux" or "fork" not in multiprocessing.get_all_start_methods():
        return 1
    return usable_cores()


@contextmanager
def started(
    work: Callable[[range], Result], count: int, *, workers: int | None = None
) -> Iterator[Iterator[tuple[range, Result]]]:
    """Start a function on runs of row numbers, and give its results in order.

    With many rows, processes are forked that share the memory of this one, so nothing but the
    results is copied. They work at once, while this process may do something else; results that are
    not taken yet are kept. They must not compute with torch, whose threads do not survive a fork.
    With few rows, this process works when a result is taken.

    Args:
        work: from consecutive row numbers to a result that can be pickled. What it changes is lost.
        count: of rows.
        workers: processes; by default one for each core, or none where there are few rows.
    """
    global _work  # a fork inherits it; pickling it would copy the rows
    if workers is None:
        workers = num_workers() if count >= FEWEST_ROWS else 1
    chunks = [range(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
    if workers < 2 or not chunks:
        yield ((chunk, work(chunk)) for chunk in chunks)
        return
    gc.freeze()  # collecting garbage would write to, and so copy, the memory that is shared
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), initializer=_begin_child
    )
    try:
        _work = work
        with _ready_to_fork():
            results = pool.map(_run, chunks)  # forks all of them
        del _work
        yield zip(chunks, results, strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
        gc.unfreeze()


@contextmanager
def _ready_to_fork() -> Iterator[None]:
    """Keep tokenizers from starting threads in children, and from saying so."""
    before = os.environ.get(_NO_THREADS)
    os.environ[_NO_THREADS] = "false"
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of threads, here of a progress bar, that a child lacks
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        if before is None:
            del os.environ[_NO_THREADS]
        else:
            os.environ[_NO_THREADS] = before


def _begin_child() -> None:
    gc.disable()
    stops.left_to_parent()


def _run(chunk: range) -> Any:
    return _work(chunk)
