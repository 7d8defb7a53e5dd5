"""What all metric modules share: the refusal of empty input, and the `evaluate` wrapping."""

from __future__ import annotations

import inspect
from collections.abc import Sized
from typing import Any, ClassVar

import datasets
import evaluate

from eval.errors import EvaluationError

NUMBER = datasets.Value("float64")
INTEGER = datasets.Value("int64")
BOOL = datasets.Value("bool")
TEXT = datasets.Value("string")


class LocalMetric(evaluate.Metric):  # type: ignore[misc] # evaluate ships no types
    """An `evaluate.Metric` that is complete in itself: no download, and nothing left on disk.

    `evaluate.load` runs code fetched from the Hub, and a plain `evaluate.Metric` spools its
    inputs, here customer text, to a file in the user's cache; this one keeps them in memory. A
    subclass names its columns in `inputs` and computes on them in ``_compute``, which returns
    the figures by name; its docstring is the description that `evaluate` shows.
    """

    inputs: ClassVar[dict[str, Any]] = {"predictions": TEXT, "references": TEXT}
    paper: ClassVar[str] = ""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"keep_in_memory": True, **options})

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=inspect.getdoc(type(self)) or "",
            citation=self.paper,
            features=datasets.Features(self.inputs),
        )


def check_columns(what: str, **columns: Sized) -> int:
    """Return the common length of the columns.

    Raises:
        EvaluationError: if there are no items, or the columns differ in length.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise EvaluationError(f"{what} needs columns of one length, got {found}")
    if not all(lengths.values()):
        raise EvaluationError(f"{what} needs at least one item, got none")
    return next(iter(lengths.values()))
