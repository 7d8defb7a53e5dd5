"""A full disk and missing memory are known in whatever form a library tells of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from finetune.errors import InputError
from finetune.room import full_disk, in_words, named, no_memory, require

# what the libraries raised on a tmpfs of 64 kB, under ulimit -f 32, and under ulimit -v
FULL = [
    (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), errno.EDQUOT),
    (OSError("100000 requested and 8176 written"), errno.ENOSPC),
    (
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        errno.ENOSPC,
    ),
    (
        SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
        errno.EFBIG,
    ),
    (Exception("No space left on device (os error 28)"), errno.ENOSPC),
    (Exception("Disk quota exceeded (os error 122)"), errno.EDQUOT),
    (
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        errno.ENOSPC,
    ),
    (RuntimeError("write(): fd 3 failed with File too large"), errno.EFBIG),
]
NO_MEMORY = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("unable to mmap 6441680 bytes from file <model>: Cannot allocate memory (12)"),
    ImportError("tokenizers.abi3.so: failed to map segment from shared object"),
    RuntimeError("could not create a primitive"),
    RuntimeError("can't start new thread"),
]
NO_MEMORY[2].args = (NO_MEMORY[2].args[0] + "allocate memory: you tried to allocate 4 bytes",)
OTHER = [
    OSError(errno.EACCES, "Permission denied"),
    RuntimeError("PytorchStreamReader failed reading zip archive"),
    RuntimeError("could not create a primitive descriptor for a matmul primitive"),
    ValueError("the row says: No space left on device"),
    ImportError("No module named torch"),
    KeyError("out of memory"),
]


@pytest.mark.parametrize(("error", "number"), FULL)
def test_a_full_disk_is_named_whoever_finds_it(error: Exception, number: int) -> None:
    assert full_disk(error) == number
    assert not no_memory(error)
    with pytest.raises(OSError, match="'runs/a'") as told, named(Path("runs/a")):
        raise error
    assert (told.value.errno, told.value.__cause__) == (number, error)


def test_a_path_that_an_error_names_is_kept() -> None:
    with pytest.raises(OSError, match="'adapter/x'"), named(Path("runs/a")):
        raise OSError(errno.ENOSPC, "No space left on device", "adapter/x")


@pytest.mark.parametrize("error", NO_MEMORY)
def test_missing_memory_is_known_whoever_misses_it(error: Exception) -> None:
    assert no_memory(error)
    assert full_disk(error) is None


@pytest.mark.parametrize("error", OTHER)
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    assert full_disk(error) is None
    assert not no_memory(error)
    with pytest.raises(type(error)) as told, named(Path("runs/a")):
        raise error
    assert told.value is error


def test_the_real_errors_of_memory_are_known() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.zeros(1 << 50)
    with pytest.raises(MemoryError) as of_numpy:
        np.zeros(1 << 50)
    assert no_memory(of_torch.value)
    assert no_memory(of_numpy.value)


def test_a_cause_counts_and_what_was_being_handled_too() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    outer = RuntimeError("a library's own words")
    outer.__cause__ = full
    assert full_disk(outer) == errno.ENOSPC
    outer = RuntimeError("a library's own words")
    outer.__context__ = full
    assert full_disk(outer) == errno.ENOSPC
    outer.__suppress_context__ = True
    assert full_disk(outer) is None


def test_a_long_write_is_refused_where_there_is_no_room(tmp_path: Path) -> None:
    require(tmp_path / "deep" / "down", 1000, "the merge")
    with pytest.raises(InputError, match=rf"needs 1000.0 TB in {tmp_path}, where .* free"):
        require(tmp_path / "deep" / "down", 10**15, "the merge")


def test_sizes_are_written_as_people_read_them() -> None:
    sizes = (0, 999_999, 1_500_000, 2.5e9, 3e12)
    assert [in_words(size) for size in sizes] == [
        "0 bytes",
        "999,999 bytes",
        "1.5 MB",
        "2.5 GB",
        "3.0 TB",
    ]
