"""What a report page is made of: measurements and evidence in, no layout.

One page serves both a run's own ``report.html`` (one or two candidates: the adapter, the merged
model) and a comparison of many adapters. All texts may come from a model or from a customer's
data; the renderers treat every one of them as hostile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eval.decision import Decision
from eval.stats import Difference
from eval.task import Report, Sample


@dataclass(frozen=True)
class Privacy:
    """What a privately trained candidate promises, and how far that was checked."""

    epsilon: float
    """What was spent, at `delta`."""

    delta: float
    unit: str
    """Whose data is protected, such as ``example`` or ``customer_id``."""

    adjacency: str
    """The neighbouring relation that epsilon is stated for, in words."""

    accountants: Mapping[str, float]
    """Epsilon by each independent accountant."""

    without_amplification: float
    """Epsilon if nothing were gained from the random sampling of batches."""

    replace_one: float
    """Epsilon for neighbours in which one record is replaced."""

    mechanism: Mapping[str, str]
    """The mechanism's parameters: noise multiplier, clipping norm, sample rate, steps."""

    plain_words: tuple[str, ...]
    """Sentences that say what the promise means to a person without mathematics."""

    not_protected: tuple[str, ...]
    """What the promise does not cover."""

    self_test: tuple[tuple[str, bool, str], ...]
    """Each self-test of the mechanism: its name, whether it passed, what was seen."""


@dataclass(frozen=True)
class Candidate:
    """One model that is compared with the base."""

    name: str
    report: Report
    samples: Mapping[str, Sequence[Sample]]
    """By task; empty where samples were not kept."""

    differences: Mapping[str, Mapping[str, Difference]]
    """Candidate minus base on the same items: task, then metric."""

    decision: Decision | None = None
    """What the gate said; None if no gate was asked."""

    approval: str = ""
    """Who approved the decision and what is missing; empty where nobody was asked."""

    settings: Mapping[str, str] = field(default_factory=dict)
    """The flattened configuration: dotted key, value."""

    cost: Mapping[str, str] = field(default_factory=dict)
    privacy: Privacy | None = None
    """None if it was trained without differential privacy."""

    losses: Sequence[tuple[int, float]] = ()
    """Training loss by step."""

    eval_losses: Sequence[tuple[int, float]] = ()
    """Loss on held-out rows by step."""


@dataclass(frozen=True)
class Pair:
    """Two candidates, compared with one another."""

    first: int
    """Place among the page's candidates."""

    second: int
    differences: Mapping[str, Mapping[str, Difference]]
    """First minus second on the same items: task, then metric."""


@dataclass(frozen=True)
class Page:
    """All that one report shows."""

    title: str
    summary: str
    base_name: str
    base: Report
    base_samples: Mapping[str, Sequence[Sample]]
    candidates: tuple[Candidate, ...]
    provenance: Mapping[str, str]
    proof: Mapping[str, str] = field(default_factory=dict)
    """The merge's proof, row by row; empty if nothing was merged."""

    pairs: tuple[Pair, ...] = ()
    """Every two candidates; empty on the page of one run."""

    notes: tuple[str, ...] = ()
