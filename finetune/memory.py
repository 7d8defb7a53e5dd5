"""Memory that runs out: how it is told from other errors, and how it is given back."""

from __future__ import annotations

import gc

import torch

_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # on Windows
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)
"""Of errors that torch has no class for."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the machine or of its GPU, did not suffice.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("a bug"))
        (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def in_words(error: BaseException) -> str:
    """Return what an error says of the memory that was wanted, to be put behind a sentence."""
    first_line = str(error).partition("\n")[0][:200]
    return f" ({first_line})" if first_line else ""


def give_back() -> None:
    """Free what is held by nobody, also what torch keeps of a GPU's memory for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
