"""The group task: whether a classifier serves one group of people otherwise than another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict

from eval.classes import ClassModel, classify, is_multi_label
from eval.errors import EvaluationError
from eval.items import LabelledText, check_items
from eval.metrics.accuracy import accuracy
from eval.metrics.group import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equal_opportunity_difference,
    equalized_odds_difference,
    null_mean,
)
from eval.stats import mean_of
from eval.task import Metric, Progress, Sample, Task, fingerprint

MIN_GROUP = 30
"""Rows below which a group is withheld: its rates would be noise, and may point at persons."""

MIN_OF_A_CLASS = 5
"""Rows of a class that each group must have for its hit rate to be compared."""

_Columns = tuple[list[str], list[str], list[str]]


def group_gaps(rows: Sequence[LabelledText], labels: Sequence[str]) -> Task:
    """Return the task "serve all groups alike", on rows whose data names a group.

    A group of fewer than `MIN_GROUP` rows is withheld, and so is a row without a group; with
    fewer than two groups left every gap is undefined. Equalised odds and opportunity look at
    the classes of which every group has `MIN_OF_A_CLASS` rows; undefined if there are none. As
    a largest gap is above zero by chance alone, the mean gap of groups drawn by lot stands
    beside it.

    Args:
        rows: texts with one class; some with a group.
        labels: all classes, in the order of the model's outputs.

    Raises:
        EvaluationError: if no row has a group, rows have several classes, two have one id, or a
            label is unknown.
    """
    grouped = [row for row in rows if row.group is not None]
    check_items("group_gaps", grouped)
    if is_multi_label(grouped, labels):
        raise EvaluationError("group_gaps needs rows with one label each, not a list of labels")
    sizes = Counter(str(row.group) for row in grouped)
    compared = {name for name, size in sizes.items() if size >= MIN_GROUP}
    cells = Counter((str(row.group), row.label) for row in grouped)
    classes = {
        label for label in labels if all(cells[name, label] >= MIN_OF_A_CLASS for name in compared)
    }

    def ask(model: ClassModel, progress: Progress) -> list[Sample]:
        p = classify(model, [row.text for row in grouped], labels, progress)
        return [
            _sample(row, labels[int(probs.argmax())], sorted(compared))
            for row, probs in zip(grouped, p, strict=True)
        ]

    def gap(figure: Callable[[_Columns], float]) -> Callable[[Sequence[Sample]], float]:
        return lambda samples: figure(_columns(samples)) if len(compared) > 1 else float("nan")

    def by_lot(figure: Callable[[_Columns], float]) -> Callable[[Sequence[Sample]], float]:
        def mean(columns: _Columns) -> float:
            given, wanted, groups = columns
            return null_mean(lambda drawn: figure((given, wanted, [*map(str, drawn)])), groups)

        return gap(mean)

    def parity(columns: _Columns) -> float:
        return demographic_parity_difference(columns[0], columns[2], min_n=1)

    def odds(columns: _Columns) -> float:
        return equalized_odds_difference(*columns, min_n=1, classes=classes)

    return Task(
        name="group_gaps",
        family="bias",
        version=1,
        num_items=len(grouped),
        fingerprint=fingerprint([list(labels), [asdict(row) for row in grouped]]),
        ask=ask,
        metrics=(
            Metric("demographic_parity_difference", gap(parity), False),
            Metric("null_demographic_parity_difference", by_lot(parity), None),
            Metric(
                "demographic_parity_ratio",
                gap(lambda c: demographic_parity_ratio(c[0], c[2], min_n=1)),
                True,
            ),
            Metric("equalized_odds_difference", gap(odds), False),
            Metric("null_equalized_odds_difference", by_lot(odds), None),
            Metric(
                "equal_opportunity_difference",
                gap(lambda c: equal_opportunity_difference(*c, min_n=1, classes=classes)),
                False,
            ),
            Metric("accuracy_gap", gap(_accuracy_gap), False),
            *(
                Metric(f"accuracy_{name}", mean_of("correct", among=f"in_{name}"), True)
                for name in sorted(compared)
            ),
        ),
        note=_note(sizes, compared, len(classes), len(rows) - len(grouped)),
    )


def _sample(row: LabelledText, predicted: str, compared: Collection[str]) -> Sample:
    assert isinstance(row.label, str)  # noqa: S101 (checked with all rows)
    return Sample(
        id=row.id,
        prompt=row.text,
        prediction=predicted,
        target=row.label,
        correct=predicted == row.label,
        scores={
            "correct": float(predicted == row.label),
            **{f"in_{name}": float(row.group == name) for name in compared},
        },
    )


def _columns(samples: Sequence[Sample]) -> _Columns:
    """Return predictions, labels and groups of the samples that are compared."""
    group_of = [
        next((key for key, holds in s.scores.items() if key.startswith("in_") and holds), "")
        for s in samples
    ]
    found = [(s, group) for s, group in zip(samples, group_of, strict=True) if group]
    return (
        [s.prediction for s, _ in found],
        [s.target for s, _ in found],
        [group for _, group in found],
    )


def _accuracy_gap(columns: _Columns) -> float:
    given, wanted, groups = columns
    shares = []
    for name in set(groups):
        mine = [i for i, group in enumerate(groups) if group == name]
        shares.append(accuracy([given[i] for i in mine], [wanted[i] for i in mine]))
    return max(shares) - min(shares) if len(shares) > 1 else float("nan")


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
