"""What an evaluation cost: seconds, tokens and memory, where all of it was measured in one go.

It stands beside the report, not in it: an evaluation that was killed and resumed ends with the
same report, byte for byte but for its time, and has no cost that could be told.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

COST = "cost.json"


@dataclass(frozen=True)
class Cost:
    """Of one evaluation, from its first request to its last."""

    num_seconds: float
    """Of asking and scoring, without loading the model."""

    num_tokens: int | None
    """Tokens of all requests that were answered, each counted as a whole, and of all replies.

    What several requests share is read once, so the model read fewer. None if not counted.
    """

    peak_memory_bytes: int
    """The most that the process held, loading and earlier evaluations included."""

    peak_cuda_bytes: int | None
    """The most that torch held on the device; None without one."""

    @property
    def tokens_per_second(self) -> float | None:
        """Return how fast it answered; None if tokens or time were not counted."""
        return self.num_tokens / self.num_seconds if self.num_tokens and self.num_seconds else None


_COST = TypeAdapter(Cost)


def measured(num_seconds: float, num_tokens: int | None) -> Cost:
    """Return the cost of what this process has done so far, in that time."""
    import torch  # late: whoever only reads results, as `verify` does, needs none

    return Cost(
        num_seconds=num_seconds,
        num_tokens=num_tokens,
        peak_memory_bytes=_peak_memory_bytes(),
        peak_cuda_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    )


def _peak_memory_bytes() -> int:
    """Return the most memory that this process held, as its system counts it."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes there, else KiB


def read_cost(folder: Path) -> Cost | None:
    """Return what the evaluation in a folder cost; None if that was not measured, or is damaged."""
    try:
        return _COST.validate_json((folder / COST).read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None
