"""What is wrong with the labels of all rows together: spellings, lists in cells, tiny classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from eval.items import LabelledText
from recipes.config import DataConfig
from recipes.data import catalog
from recipes.data.dataset import DataSplit
from recipes.data.findings import FindingKind, Findings
from recipes.data.labels import (
    fold,
    list_in,
    mapping_to_paste,
    quoted,
    separator_in,
    spellings,
    typos,
)
from recipes.data.split import DataRow
from recipes.errors import nearest


def labels_in(item: LabelledText) -> tuple[str, ...]:
    """Return the labels of an item, one or several."""
    return item.label if isinstance(item.label, tuple) else (item.label,)


def find_label_faults(parts: DataSplit[LabelledText], data: DataConfig, findings: Findings) -> None:
    """Record what is wrong with the labels of all rows together."""
    rows = (*parts.train, *parts.validation, *parts.test)
    if not rows:
        return
    forms = Counter(isinstance(row.item.label, tuple) for row in rows)
    if len(forms) > 1:
        where, detail = rows[0].place, f"{forms[True]} rows have a list, {forms[False]} one label"
        findings.add(catalog.MIXED_LABEL_FORMS, where, detail)
    known = {label for row in parts.train for label in labels_in(row.item)}
    if len(known) < 2:
        detail = f"the training rows have {len(known)} label{'' if len(known) == 1 else 's'}"
        findings.add(catalog.ONE_CLASS, rows[0].place, detail)
    for row in (*parts.test, *parts.validation):
        for label in labels_in(row.item):
            if label not in known:
                detail = f"its label {quoted(label)} is in no training row"
                findings.add(catalog.LABEL_NOT_LEARNED, row.place, detail, row=row.id)
    _find_spellings(rows, data, findings)
    _find_unused_map(rows, data, findings)


def _find_spellings(
    rows: Sequence[DataRow[LabelledText]], data: DataConfig, findings: Findings
) -> None:
    places: dict[str, list[DataRow[LabelledText]]] = {}
    for row in rows:
        for label in labels_in(row.item):
            places.setdefault(label, []).append(row)
    counts = {label: len(found) for label, found in places.items()}

    def add(kind: FindingKind, label: str, detail: str) -> None:
        for row in places[label]:
            findings.add(kind, row.place, detail, row=row.id)

    mapping = spellings(counts)
    for label, best in mapping.items():
        add(catalog.LABEL_SPELLINGS, label, f"{quoted(label)} for {quoted(best)}")
    if mapping:
        findings.paste(catalog.LABEL_SPELLINGS, mapping_to_paste(data.label_map | mapping))
    for label, near in typos(counts).items():
        add(catalog.LABEL_TYPOS, label, f"{quoted(label)} for {quoted(near)}?")
    for label, count in counts.items():
        if count <= 2 and label not in mapping:
            add(catalog.TINY_CLASS, label, f"{quoted(label)} has {count} row{'s'[: count - 1]}")
    if data.label_separator is None:
        _find_lists(counts, findings, add)
    kept = [label for label in counts if label not in mapping]
    numbers = [label for label in kept if fold(label).lstrip("-").isdecimal()]
    if 0 < len(numbers) < len(kept):
        for label in min(numbers, [label for label in kept if label not in numbers], key=len):
            add(catalog.NUMBERS_AMONG_LABELS, label, f"label {quoted(label)}")


def _find_lists(
    counts: Mapping[str, int], findings: Findings, add: Callable[[FindingKind, str, str], None]
) -> None:
    listed = [label for label in counts if list_in(label) is not None]
    divided = None if listed else separator_in(counts)
    separator, labels = (";", listed) if divided is None else divided
    for label in labels:
        add(catalog.LABEL_LISTS, label, f"the cell is {quoted(label)}")
    if labels:
        setting = f"label_separator: {quoted(separator)}"
        comment = "  # lists are read as they are" * bool(listed)
        findings.paste(catalog.LABEL_LISTS, setting + comment)


def _find_unused_map(
    rows: Sequence[DataRow[LabelledText]], data: DataConfig, findings: Findings
) -> None:
    used = {one.detail for one in findings.occurrences(catalog.LABEL_MAPPED)}
    present = {label for row in rows for label in labels_in(row.item)}
    for label, target in data.label_map.items():
        if label not in used:
            hint = nearest(label, present) or "no label is like it"
            detail = f"{quoted(label)} is in no row; {hint}"
            findings.add(catalog.LABEL_MAP_UNUSED, "data.label_map", detail)
        if target in data.label_map:
            detail = f"{quoted(label)} becomes {quoted(target)}, which is mapped itself"
            findings.add(catalog.LABEL_MAP_UNUSED, "data.label_map", detail)
