"""The group task: whether a classifier serves one group of people otherwise than another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.sparse import csr_array, hstack

from eval.classes import ClassModel, classify, is_multi_label
from eval.items import LabelledText, check_items
from eval.metrics.group import GroupCounts, null_mean, smallest_ratio
from eval.stats import mean_of
from eval.sums import OfSums, Values, divided, largest_gap, largest_of, one_hot
from eval.task import Metric, Progress, Sample, Task, fingerprint

MIN_GROUP = 30
"""Rows below which a group is withheld: its rates would be noise, and may point at persons."""

MIN_OF_A_CLASS = 5
"""Rows of a class that each group must have for its hit rate to be compared."""

_Rates = Callable[[GroupCounts], Values]


def group_gaps(rows: Sequence[LabelledText], labels: Sequence[str]) -> Task:
    """Return the task "serve all groups alike", on rows whose data names a group.

    A group of fewer than `MIN_GROUP` rows is withheld, and so is a row without a group; with
    fewer than two groups left every gap is undefined. Equalised odds and opportunity look at
    the classes of which every group has `MIN_OF_A_CLASS` rows; undefined if there are none. As
    a largest gap is above zero by chance alone, the mean gap of groups drawn by lot stands
    beside it.

    Where several classes may hold at once, each class is one yes or no of its own, given where
    its probability is at least a half; a row counts for ``accuracy_`` where all of them are right.

    Args:
        rows: texts with their class or classes; some with a group.
        labels: all classes, in the order of the model's outputs.

    Raises:
        EvaluationError: if no row has a group, two have one id, a label is unknown, or some rows
            have one label and some several.
    """
    grouped = [row for row in rows if row.group is not None]
    check_items("group_gaps", grouped)
    is_multi = is_multi_label(grouped, labels)
    sizes = Counter(str(row.group) for row in grouped)
    compared = sorted(name for name, size in sizes.items() if size >= MIN_GROUP)
    has = Counter((str(row.group), label) for row in grouped for label in _labels_of(row))
    watched = [
        i
        for i, label in enumerate(labels)
        if all(has[name, label] >= MIN_OF_A_CLASS for name in compared)
    ]
    tables = GroupTables(tuple(labels), tuple(compared), is_multi)

    def ask(model: ClassModel, progress: Progress) -> list[Sample]:
        p = classify(model, [row.text for row in grouped], labels, progress)
        return [
            _sample(row, labels, np.flatnonzero(x >= 0.5) if is_multi else [x.argmax()], compared)
            for row, x in zip(grouped, p, strict=True)
        ]

    def odds(counts: GroupCounts) -> Values:
        return np.take(counts.odds(), [*watched, *(len(labels) + i for i in watched)], axis=2)

    def opportunity(counts: GroupCounts) -> Values:
        return np.take(counts.hit_rates(), watched, axis=2)

    def ratio(sums_XK: Values) -> Values:
        if len(compared) < 2:
            return np.full(len(sums_XK), np.nan)
        return smallest_ratio(tables.counts(sums_XK).selection_rates())

    return Task(
        name="group_gaps",
        family="bias",
        version=2,
        num_items=len(grouped),
        fingerprint=fingerprint([list(labels), [asdict(row) for row in grouped]]),
        ask=ask,
        metrics=(
            Metric("demographic_parity_difference", tables.gap(GroupCounts.selection_rates), False),
            Metric(
                "null_demographic_parity_difference",
                tables.by_lot(GroupCounts.selection_rates),
                None,
            ),
            Metric("demographic_parity_ratio", OfSums(tables.terms, ratio), True),
            Metric("equalized_odds_difference", tables.gap(odds), False),
            Metric("null_equalized_odds_difference", tables.by_lot(odds), None),
            Metric("equal_opportunity_difference", tables.gap(opportunity), False),
            Metric("accuracy_gap", largest_gap(tables.right, tables.accuracies), False),
            *(
                Metric(f"accuracy_{name}", mean_of("correct", among=f"in_{name}"), True)
                for name in compared
            ),
        ),
        note=_note(sizes, set(compared), len(watched), len(rows) - len(grouped)),
    )


@dataclass(frozen=True)
class GroupTables:
    """Samples as counts by group and class. N samples, G groups, C classes, X tables."""

    labels: tuple[str, ...]
    groups: tuple[str, ...]
    is_multi_label: bool
    """Whether several classes may hold at once."""

    def gap(self, rates: _Rates) -> OfSums:
        """Return the largest gap between groups in some rates."""
        return largest_gap(self.terms, lambda sums_XK: rates(self.counts(sums_XK)))

    def by_lot(self, rates: _Rates) -> Callable[[Sequence[Sample]], float]:
        """Return the mean gap of groups that are drawn by lot, of the same sizes."""

        def mean(samples: Sequence[Sample]) -> float:
            codes = self._codes(samples)
            wanted, given = self._flags(samples)
            is_in = np.flatnonzero(np.array(codes) >= 0)
            wanted, given = wanted[is_in], given[is_in]

            def gap(drawn: Sequence[object]) -> float:
                codes = [int(str(code)) for code in drawn]
                cells = self._cells(codes, wanted, given)
                sums_K = np.asarray(cells.sum(axis=0), dtype=np.float64)
                return float(largest_of(rates(self.counts(sums_K.reshape(1, -1))))[0])

            return null_mean(gap, [codes[i] for i in is_in]) if len(is_in) else float("nan")

        return mean

    def terms(self, samples: Sequence[Sample]) -> csr_array[np.float64]:
        """Return what `counts` reads, shape (N, G + 3 G C)."""
        return self._cells(self._codes(samples), *self._flags(samples))

    def counts(self, sums_XK: Values) -> GroupCounts:
        """Return sums of terms as counts."""
        G, C = len(self.groups), len(self.labels)
        cells = sums_XK[:, G:].reshape(len(sums_XK), 3, G, C)
        return GroupCounts(sums_XK[:, :G], cells[:, 0], cells[:, 1], cells[:, 2])

    def right(self, samples: Sequence[Sample]) -> csr_array[np.float64]:
        """Return what `accuracies` reads, shape (N, 2 G)."""
        codes = self._codes(samples)
        right = [code if s.correct else -1 for s, code in zip(samples, codes, strict=True)]
        return csr_array(hstack([one_hot(part, len(self.groups)) for part in (codes, right)]))

    def accuracies(self, sums_XK: Values) -> Values:
        """Return the share of right answers of each group, shape (X, G, 1)."""
        G = len(self.groups)
        return divided(sums_XK[:, G:], sums_XK[:, :G])[:, :, None]

    def _codes(self, samples: Sequence[Sample]) -> list[int]:
        """Return the number of each sample's group; -1 where it is not compared."""
        return [
            next((k for k, name in enumerate(self.groups) if s.scores.get(f"in_{name}")), -1)
            for s in samples
        ]

    def _flags(
        self, samples: Sequence[Sample]
    ) -> tuple[csr_array[np.float64], csr_array[np.float64]]:
        """Return which classes each sample has and is given, shape (N, C) each."""
        return self._matrix(samples, "label"), self._matrix(samples, "predicted")

    def _matrix(self, samples: Sequence[Sample], kind: str) -> csr_array[np.float64]:
        if not self.is_multi_label:
            number = {label: i for i, label in enumerate(self.labels)}
            texts = [s.target if kind == "label" else s.prediction for s in samples]
            return one_hot([number[text] for text in texts], len(self.labels))
        keys = [f"{kind}_{i}" for i in range(len(self.labels))]
        flags = [[s.scores.get(key, 0.0) for key in keys] for s in samples]
        return csr_array(np.array(flags).reshape(len(samples), len(keys)))

    def _cells(
        self, codes: Sequence[int], wanted: csr_array[np.float64], given: csr_array[np.float64]
    ) -> csr_array[np.float64]:
        """Return group sizes, and each kind of flag in the columns of the sample's group."""
        G, C = len(self.groups), len(self.labels)
        of = np.array(codes, dtype=np.intp)
        parts = [one_hot(codes, G)]
        for flags in (wanted, given, wanted.multiply(given)):
            rows, columns = flags.nonzero()
            rows, columns = rows[of[rows] >= 0], columns[of[rows] >= 0]
            places = (rows, of[rows] * C + columns)
            parts.append(csr_array((np.ones(len(rows)), places), shape=(len(codes), G * C)))
        return csr_array(hstack(parts))


def _labels_of(row: LabelledText) -> tuple[str, ...]:
    return (row.label,) if isinstance(row.label, str) else row.label


def _sample(
    row: LabelledText, labels: Sequence[str], given: Collection[int], compared: Collection[str]
) -> Sample:
    wanted = [labels.index(label) for label in _labels_of(row)]
    is_right = set(given) == set(wanted)
    flags = {}
    if not isinstance(row.label, str):  # a text of several names is no name
        flags = {f"predicted_{i}": 1.0 for i in given} | {f"label_{i}": 1.0 for i in wanted}
    return Sample(
        id=row.id,
        prompt=row.text,
        prediction=" | ".join(labels[i] for i in given),
        target=" | ".join(labels[i] for i in sorted(wanted)),
        correct=is_right,
        scores={
            "correct": float(is_right),
            **{f"in_{name}": float(row.group == name) for name in compared},
            **flags,
        },
    )


def _note(sizes: Counter[str], compared: set[str], num_classes: int, num_without: int) -> str:
    shown = ", ".join(f"{name} (n={sizes[name]})" for name in sorted(compared)) or "none"
    num_withheld = len(sizes) - len(compared)
    return (
        f"Gaps of the classifier between groups: {shown}. Withheld: {num_withheld} groups of fewer "
        f"than {MIN_GROUP} rows, and {num_without} rows without a group. Odds and opportunity are "
        f"compared on the {num_classes} classes of which each group has at least "
        f"{MIN_OF_A_CLASS} rows. Largest gaps are above zero by chance: read each beside its null_ "
        "figure, the mean gap of groups drawn by lot."
    )
