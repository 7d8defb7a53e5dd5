"""The nouns of the harness: what is asked, what was answered, what it is worth.

A `Task` asks a model a fixed list of items and returns one `Sample` an item. A `Metric` is a
function of samples to one number. An `Estimate` is that number with its interval and its n. A
`Report` is all estimates of one model. Every metric is a function of per-item records, so any two
models can be compared item by item on the same items.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter

Family = Literal["accuracy", "bias", "hallucination"]

REPORT_SCHEMA = 1
"""Version of `report.json`; raised when a reader of the old form would misread the new one."""


@dataclass(frozen=True)
class Sample:
    """One item as one model answered it: enough to score it again and to show it to a person."""

    id: str
    """The item's identity in its data; the key on which two models are paired."""

    prediction: str
    """What the model answered, with its thought, or the text or label of the choice it preferred.
    Scores are of the answer after the thought."""

    target: str
    """What was wanted; several accepted answers are joined by `` | ``; empty if there is none."""

    scores: Mapping[str, float]
    """Per-item quantities that the task's metrics are computed from."""

    correct: bool | None = None
    """Whether the answer counts as right; None where the task has no right answer."""

    cluster: str | None = None
    """Items of one cluster (a template, a document) are resampled together."""

    prompt: str = ""
    """What the model was asked. Customer text: it is stored beside the run, never logged."""

    loglikelihoods: tuple[float, ...] = ()
    """Summed natural-log likelihood of each choice, in the item's order."""

    num_tokens: tuple[int, ...] = ()
    """Number of tokens of each choice."""


@dataclass(frozen=True)
class Metric:
    """A named figure of a task: a function of its samples, and which way is better."""

    name: str
    compute: Callable[[Sequence[Sample]], float]
    """Maps samples to the figure; NaN where it is undefined on them. Never called with none."""

    higher_is_better: bool | None
    """None marks a descriptive figure, which no comparison calls a win or a loss."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval and the number of items behind it.

    ``value`` is NaN where the figure is undefined on these items; the gate refuses such a figure.
    """

    value: float
    low: float
    high: float
    n: int
    higher_is_better: bool | None = True

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"an estimate needs at least one item, got n={self.n}")
        if not math.isnan(self.value) and not self.low <= self.value <= self.high:
            raise ValueError(
                f"value {self.value} lies outside its interval {self.low}..{self.high}"
            )


class Progress(Protocol):
    """Called with the number of items done since the last call, to move a progress bar."""

    def __call__(self, done: int) -> None:
        """Move the bar on."""


@dataclass(frozen=True)
class Task:
    """A fixed list of items, a way to ask them, and the figures that are read off the answers."""

    name: str
    family: Family
    version: int
    """Raised whenever items, prompt or scoring change, so that old results are not reused."""

    num_items: int
    fingerprint: str
    """``sha256:...`` over the items and everything else that the prompts are made of."""

    ask: Callable[[Any, Progress], list[Sample]]
    """Runs all items on an `eval.model.Model` and returns their samples, in the items' order."""

    metrics: tuple[Metric, ...]
    note: str = ""
    """One sentence for the report: what the task measures and what it does not."""

    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By sample id, the texts of a published item, without instructions: a model that was trained
    on one of them has seen the item. Empty for tasks on the user's own test rows."""


@dataclass(frozen=True)
class TaskResult:
    """What one model scored on one task."""

    family: Family
    version: int
    data: str
    n: int
    metrics: dict[str, Estimate]
    note: str = ""


@dataclass(frozen=True)
class Target:
    """The model under test: which base, and what was put on it."""

    kind: Literal["base", "adapter", "merged"]
    base: str
    adapter: str | None = None
    merged: str | None = None
    quantization: str = ""
    """How the base was loaded, ``nf4`` or ``none``."""

    dtype: str = ""
    """What it computes in, as ``bfloat16``."""


@dataclass(frozen=True)
class Report:
    """All that was measured on one model; the content of ``report.json``."""

    target: Target
    tasks: dict[str, TaskResult]
    num_seconds: float = 0.0
    schema: int = field(default=REPORT_SCHEMA)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, NaN as null."""
        values = _without_nan(asdict(self))
        assert isinstance(values, dict)  # noqa: S101 (asdict of a dataclass is a dict)
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Report:
        """Read what `to_json` wrote.

        Raises:
            ValueError: if the schema is not the one that this version reads, or a value is of
                another type.
        """
        if values.get("schema") != REPORT_SCHEMA:
            raise ValueError(
                f"report schema {values.get('schema')!r} is not {REPORT_SCHEMA}; evaluate again"
            )
        tasks = {
            name: TaskResult(
                **{
                    **task,
                    "metrics": {
                        metric: Estimate(**{**figures, **_read_nan(figures)})
                        for metric, figures in task["metrics"].items()
                    },
                }
            )
            for name, task in values["tasks"].items()
        }
        report = Report(
            target=Target(**values["target"]), tasks=tasks, num_seconds=values["num_seconds"]
        )
        _FORM.validate_json(json.dumps(asdict(report)), strict=True)
        return report


_FORM = TypeAdapter(Report)


def fingerprint(items: object) -> str:
    """Return ``sha256:...`` over a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(items, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _without_nan(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


def _read_nan(figures: Mapping[str, Any]) -> dict[str, float]:
    return {k: math.nan for k in ("value", "low", "high") if figures[k] is None}
