"""What training rows and test rows share, and rows that contradict one another.

The split of `recipes.data.split` keeps rows together that are equal in normal form, so leaks of
that kind are in files that the user splits. A nearly equal row can be on both sides of either: to
look for it takes long, so only `assay check` and training do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from eval.items import Dialogue, LabelledText, Question
from recipes.config import DataConfig
from recipes.data import catalog
from recipes.data.findings import FindingKind, Findings
from recipes.data.normal_form import normal_form
from recipes.data.similar_texts import Progress, similar_pairs
from recipes.data.split import DataRow

Rows = Sequence[DataRow[Any]]


def find_leaks(train: Rows, test: Rows, config: DataConfig, findings: Findings) -> None:
    """Record what is seen without comparing texts pair by pair.

    That is: test rows that are in the training rows, exactly or in normal form, or share their
    group or passage; rows that occur more than once in their part; the same input with different
    labels, answers or replies; and labels without a test row.

    Args:
        train: all rows that are not tested on, the validation rows included.
        test: rows that are tested on.
        config: names the group column.
        findings: receives what is found.
    """
    _find_copies(train, test, findings)
    _find_groups(train, test, config, findings)
    _find_passages(train, test, findings)
    for part in (train, test):
        _find_duplicates(part, findings)
    _find_conflicts([*train, *test], findings)
    _find_alike_conflicts([*train, *test], findings)
    _find_untested_classes(train, test, findings)


def find_near_leaks(
    train: Rows, test: Rows, findings: Findings, progress: Progress | None = None
) -> None:
    """Record test rows that are nearly the same as a training row, and not equal in normal form.

    Chats are compared without their system turns, questions with those on the same passage.

    Args:
        train: all rows that are not tested on, the validation rows included.
        test: rows that are tested on.
        findings: receives what is found.
        progress: for long work.
    """
    if findings.severity(catalog.NEAR_LEAK) == "ignore":
        return
    known = {row.alike_key for row in train}
    new = [row for row in test if row.alike_key not in known]
    rows = [*train, *new]
    scopes = None
    if any(isinstance(row.item, Question) for row in rows):
        scopes = [normal_form(row.item.context) for row in rows]
    pairs = similar_pairs(
        (normal_form(_compared(row.item)) for row in rows),
        [0] * len(train) + [1] * len(new),
        scopes=scopes,
        across_owners=True,
        progress=progress,
    )
    alike: dict[int, int] = {}
    for of_train, of_test in pairs:
        alike.setdefault(of_test, of_train)
    for of_test, of_train in sorted(alike.items()):
        detail = f"nearly the same as {rows[of_train].place}"
        _add(findings, catalog.NEAR_LEAK, rows[of_test], detail)


def _add(findings: Findings, kind: FindingKind, row: DataRow[Any], detail: str) -> None:
    findings.add(kind, row.place, detail, row=row.id)


def _compared(item: LabelledText | Question | Dialogue) -> str:
    if isinstance(item, LabelledText):
        return item.text
    if isinstance(item, Question):
        return item.question
    # a long system prompt that all chats begin with would make all of them alike
    return "\n".join(turn["content"] for turn in item.messages if turn["role"] != "system")


def _find_copies(train: Rows, test: Rows, findings: Findings) -> None:
    exact = {row.key: row.place for row in reversed(train)}
    normal = {row.alike_key: row.place for row in reversed(train)}
    for row in test:
        if row.key in exact:
            _add(findings, catalog.EXACT_LEAK, row, f"the same as {exact[row.key]}")
        elif row.alike_key in normal:
            detail = f"but for case, blanks and punctuation the same as {normal[row.alike_key]}"
            _add(findings, catalog.NORMALISED_LEAK, row, detail)


def _find_groups(train: Rows, test: Rows, config: DataConfig, findings: Findings) -> None:
    places = {row.group: row.place for row in reversed(train) if row.group is not None}
    for row in test:
        if row.group in places:
            detail = f"its {config.group} is in the training data too, first at {places[row.group]}"
            _add(findings, catalog.GROUP_LEAK, row, detail)


def _find_passages(train: Rows, test: Rows, findings: Findings) -> None:
    places = {row.passage: row.place for row in reversed(train) if row.passage}
    for row in test:
        if row.passage in places:
            _add(findings, catalog.PASSAGE_LEAK, row, f"first at {places[row.passage]}")


def _find_duplicates(rows: Rows, findings: Findings) -> None:
    for same in _same(rows, lambda row: row.key):
        first: dict[Hashable, str] = {}
        for row in same:
            wanted = wanted_of(row)
            if wanted in first:
                _add(findings, catalog.DUPLICATE_ROWS, row, f"the same as {first[wanted]}")
            else:
                first[wanted] = row.place


def wanted_of(row: DataRow[Any]) -> Hashable:
    """Return what a row says is right for its input; copies of a row agree in it.

    None where the input says it all, as for texts that may have several labels.
    """
    found = _question_and_wanted(row)
    return found[2] if found else None


def _find_conflicts(rows: Rows, findings: Findings) -> None:
    """Record rows that differ from most rows of the same input, or from the first of them."""
    for same in _same(rows, _question):
        answered = [(row, found) for row in same if (found := _question_and_wanted(row))]
        counts = Counter(wanted for _, (_, _, wanted) in answered)
        if len(counts) < 2:
            continue
        [(usual, _)] = counts.most_common(1)
        place = next(row.place for row, (_, _, wanted) in answered if wanted == usual)
        for row, (kind, _, wanted) in answered:
            if wanted != usual and not _overlap(wanted, usual):
                is_label = kind is catalog.CONFLICTING_LABELS
                detail = f"{wanted!r}, but {usual!r} at {place}" if is_label else f"not as {place}"
                _add(findings, kind, row, detail)


def _find_alike_conflicts(rows: Rows, findings: Findings) -> None:
    """Record labelled texts that differ in punctuation or Unicode form alone, and in their label.

    A warning, since such a mark can change the meaning, as in C and C++.
    """
    for same in _same(rows, _alike_text):
        counts = Counter(row.item.label for row in same)
        if len(counts) < 2 or len({row.loose_key for row in same}) < 2:
            continue  # none, or an error already
        [(usual, _)] = counts.most_common(1)
        place = next(row.place for row in same if row.item.label == usual)
        labels: dict[str, set[str]] = {}
        for row in same:
            labels.setdefault(row.loose_key, set()).add(row.item.label)
        for row in same:
            if row.item.label != usual and usual not in labels[row.loose_key]:
                detail = f"{row.item.label!r}, but {usual!r} at {place}"
                _add(findings, catalog.ALIKE_CONFLICTING_LABELS, row, detail)


def _alike_text(row: DataRow[Any]) -> Hashable | None:
    is_single = isinstance(row.item, LabelledText) and isinstance(row.item.label, str)
    return row.alike_key if is_single else None


def _overlap(one: Hashable, other: Hashable) -> bool:
    """Return whether an answer is accepted by both of two rows."""
    return isinstance(one, frozenset) and isinstance(other, frozenset) and bool(one & other)


def _same(rows: Rows, key: Callable[[DataRow[Any]], Hashable | None]) -> list[Rows]:
    """Return the rows of each key that several rows have; None is no key."""
    # a list for each key would be a million lists
    numbers = Counter(key(row) for row in rows)
    several: dict[Hashable, list[DataRow[Any]]] = {
        value: [] for value, count in numbers.items() if count > 1 and value is not None
    }
    if several:
        for row in rows:
            if (value := key(row)) in several:
                several[value].append(row)
    return [*several.values()]


def _question(row: DataRow[Any]) -> Hashable | None:
    found = _question_and_wanted(row)
    return found[1] if found else None


def _question_and_wanted(row: DataRow[Any]) -> tuple[FindingKind, Hashable, Hashable] | None:
    """Return the kind of a conflict, what is asked in a row, and what it says is right.

    None where several answers may be right: texts that may have several labels.
    """
    item = row.item
    if isinstance(item, LabelledText) and isinstance(item.label, str):
        return catalog.CONFLICTING_LABELS, row.loose_key, item.label
    if isinstance(item, Question):
        answers = frozenset(normal_form(answer) for answer in item.answers)
        return catalog.CONFLICTING_ANSWERS, row.loose_key, answers
    if isinstance(item, Dialogue) and len(item.messages) > 1:
        *before, reply = item.messages
        prompt = "\n".join(f"{turn['role']}: {turn['content']}" for turn in before)
        # hashes, so that not all texts are held twice
        return catalog.CONFLICTING_REPLIES, hash(prompt), hash(normal_form(reply["content"]))
    return None


def _find_untested_classes(train: Rows, test: Rows, findings: Findings) -> None:
    tested = set(_labels(test))
    counts = Counter(_labels(train))
    places: Mapping[str, DataRow[Any]] = {
        label: row for row in reversed(train) for label in _labels([row])
    }
    for label in sorted(counts.keys() - tested):
        detail = f"no test row has the label {label!r}, which {counts[label]} training rows have"
        _add(findings, catalog.CLASS_NOT_TESTED, places[label], detail)


def _labels(rows: Rows) -> Iterable[str]:
    return chain.from_iterable(
        (item.label,) if isinstance(item.label, str) else item.label
        for item in (row.item for row in rows)
        if isinstance(item, LabelledText)
    )
