"""Memory that runs out: how it is told from other errors, and how it is given back."""

from __future__ import annotations

import gc

import torch

from finetune.room import no_memory


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the machine or of its GPU, did not suffice.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("a bug"))
        (True, False)
    """
    return isinstance(error, torch.OutOfMemoryError) or no_memory(error)


def in_words(error: BaseException) -> str:
    """Return what an error says of the memory that was wanted, to be put behind a sentence."""
    first_line = str(error).partition("\n")[0][:200]
    return f" ({first_line})" if first_line else ""


def give_back() -> None:
    """Free what is held by nobody, also what torch keeps of a GPU's memory for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
