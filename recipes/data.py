"""A company's rows: checked, split without leakage, and written down.

A row that cannot be used is named by file and line. What a usable row is, is the domain's business
(`recipes.chat`, `recipes.classification`, `recipes.qa`); what a file is, that of `recipes.rows`.
"""

from __future__ import annotations

import glob
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

from recipes.config import DataConfig
from recipes.errors import InputError, Problem, Problems, nearest
from recipes.files import sha256_file
from recipes.linked import linked
from recipes.rows import MissingColumn, Row, RowError, has_header, name_of, read_rows

Item = TypeVar("Item")


@dataclass(frozen=True)
class Checked(Generic[Item]):
    """A usable row: the domain's item, and what the split must know of it."""

    id: str
    place: str
    item: Item
    key: str
    """Hash of its content; rows of one key are duplicates."""

    loose_key: str
    """The same but for case and white space; rows of one loose key are alike."""

    label: str
    """What the split is stratified by; empty where nothing."""

    group: str | None

    digest: str
    """Hash of the whole row, its label or answer included."""


@dataclass(frozen=True)
class Parts(Generic[Item]):
    """The rows of a run in their three parts."""

    train: tuple[Checked[Item], ...]
    validation: tuple[Checked[Item], ...]
    """Held back from the training rows to choose the checkpoint."""

    test: tuple[Checked[Item], ...]
    dropped: tuple[Problem, ...]
    files: Mapping[str, str]
    """Path: ``sha256:...``."""

    num_duplicates: int
    """Rows whose content another row of the same part has too; they are kept."""

    num_alike_across: int
    """Test rows that differ from a training row only in case or white space."""

    def manifest(self) -> dict[str, Any]:
        """Return what data.json holds: hashes, counts, row ids; no text."""
        return {
            "schema": 1,
            "files": dict(self.files),
            "rows": {
                "train": len(self.train),
                "validation": len(self.validation),
                "test": len(self.test),
                "dropped": len(self.dropped),
                "duplicates_within_a_part": self.num_duplicates,
                "test_rows_alike_a_training_row": self.num_alike_across,
            },
            "fingerprint": fingerprint(self.train),
            "train": [row.id for row in self.train],
            "validation": [row.id for row in self.validation],
            "test": [row.id for row in self.test],
            "dropped": [{"where": p.where, "why": p.what} for p in self.dropped],
        }


def fingerprint(rows: Sequence[Checked[Any]]) -> str:
    """Return ``sha256:...`` over whole rows, labels included, in whatever order they stand."""
    digest = hashlib.sha256("\n".join(sorted(row.digest for row in rows)).encode())
    return "sha256:" + digest.hexdigest()


def files_of(patterns: Sequence[str], folder: Path) -> list[Path]:
    """Expand paths, globs and ``sample:`` names; relative ones start at the recipe's folder.

    Raises:
        InputError: if a pattern names no file, or a file is empty.
    """
    found: list[Path] = []
    for pattern in patterns:
        if pattern.startswith("sample:"):
            root = resources.files("recipes") / "samples"
            matches = [str(root / pattern.removeprefix("sample:"))]
        else:
            named = _expanded(pattern)
            path, literal = Path(glob.escape(str(folder))) / named, folder / named
            matches = (
                [str(literal)]
                if literal.is_file()  # a name with brackets is one
                else sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
            )
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            is_folder = any(Path(match).is_dir() for match in matches)
            raise InputError(
                f"data: there is no file {pattern} (looked in {folder})"
                + (f"; it is a folder: name its files, as {pattern}/*.jsonl" if is_folder else "")
            )
        for file in files:
            if any("\udc80" <= character <= "\udcff" for character in str(file)):
                raise InputError(f"data: the name of a file in {folder} is not UTF-8; rename it")
            if file.stat().st_size == 0:
                raise InputError(f"data: the file {file} is empty; give it rows, or leave it out")
        found += files
    return list(dict.fromkeys(found))  # two patterns may name one file


def _expanded(pattern: str) -> Path:
    """Expand the user's own ``~`` only: ``~$plan.xlsx`` is a file that Excel leaves."""
    return Path(pattern).expanduser() if pattern.startswith("~/") else Path(pattern)


def check_rows(
    paths: Sequence[Path],
    config: DataConfig,
    parse: Callable[[Row, Mapping[str, str], str], tuple[Item, str, str]],
    bad: list[Problem],
    seen: set[str] | None = None,
) -> list[Checked[Item]]:
    """Read files and turn rows into items.

    Args:
        paths: the files.
        config: names of columns and of the group column.
        parse: from a row, the names of columns and the row's id to the item, the text that makes
            it a duplicate of another, and the label it is stratified by.
        bad: receives every row that cannot be used.
        seen: receives the names of all columns.

    Raises:
        InputError: if a file cannot be read, or its header lacks a column that is needed.
    """
    rows: list[Checked[Item]] = []
    ids: Counter[str] = Counter()
    for path in paths:
        before = len(rows) + len(bad)
        for row in read_rows(path, bad):
            place = Path(row.place).name
            if seen is not None:
                seen.update(row.values)
            name = name_of(row.values.get(config.columns.get("id", "id"))) or place
            ids[name] += 1
            unique = name if ids[name] == 1 else f"{name}#{ids[name]}"
            try:
                item, content, label = parse(row, config.columns, unique)
                group = None
                if config.group is not None:
                    group = name_of(row.values.get(config.group))
                    if group is None:
                        raise RowError(f"no value in the group column {config.group!r}")
            except RowError as error:
                if isinstance(error, MissingColumn) and has_header(path):
                    raise InputError(
                        f"{path}: {error}. Its first row must name the columns, and commas (tabs "
                        "in .tsv) part them"
                    ) from None
                bad.append(Problem(row.place, str(error)))
                continue
            loose = " ".join(content.casefold().split())
            whole = json.dumps(row.values, sort_keys=True, default=str)
            keys = _hash(content), _hash(loose)
            rows.append(Checked(unique, row.place, item, *keys, label, group, _hash(whole)))
        if len(rows) + len(bad) == before:
            bad.append(Problem(str(path), "the file holds no rows"))
    return rows


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def split(
    rows: Sequence[Checked[Item]], fraction: float, seed: int
) -> tuple[list[Checked[Item]], list[Checked[Item]]]:
    """Split off about ``fraction`` of the rows: seeded, stratified by label, groups kept whole.

    Rows of one group and rows that are alike never straddle the split. A label with a single
    unit stays in the first part. The order of rows is kept within each part.
    """
    units = _units(rows)
    by_label: dict[str, list[list[int]]] = {}
    for unit in units:
        label = Counter(rows[i].label for i in unit).most_common(1)[0][0]
        by_label.setdefault(label, []).append(unit)
    rng = random.Random(f"{seed}/split")  # noqa: S311 (an order, not a secret)
    second: set[int] = set()
    for label in sorted(by_label):
        units = by_label[label]
        rng.shuffle(units)
        wanted = fraction * sum(len(unit) for unit in units)
        taken = 0
        for unit in units[:-1]:  # one unit of each label always stays
            if taken + len(unit) / 2 > wanted:
                break
            second.update(unit)
            taken += len(unit)
    first_rows = [row for i, row in enumerate(rows) if i not in second]
    return first_rows, [row for i, row in enumerate(rows) if i in second]


def _units(rows: Sequence[Checked[Any]]) -> list[list[int]]:
    """Return the sets of rows that must stay together: same group, or alike."""
    seen: dict[tuple[str, str], int] = {}
    pairs = []
    for i, row in enumerate(rows):
        pairs.append((i, seen.setdefault(("content", row.loose_key), i)))
        if row.group is not None:
            pairs.append((i, seen.setdefault(("group", row.group), i)))
    return linked(len(rows), pairs)


def prepare(
    config: DataConfig,
    folder: Path,
    parse: Callable[[Row, Mapping[str, str], str], tuple[Item, str, str]],
    *,
    seed: int,
    validation_fraction: float,
) -> Parts[Item]:
    """Read all files of a recipe and split them into train, validation and test.

    Raises:
        Problems: if rows are bad (unless ``drop_bad_rows``), or stand on both sides of a given
            split.
        InputError: if a file is missing or empty, or too few rows are left.
    """
    bad: list[Problem] = []
    train_files = files_of(config.train, folder)
    test_files = files_of(config.test, folder) if config.test is not None else []
    seen: set[str] = set()
    train = check_rows(train_files, config, parse, bad, seen)
    test = check_rows(test_files, config, parse, bad, seen)
    _refuse_idle_columns(config, seen)
    if bad and not config.drop_bad_rows:
        count = len(bad)
        raise Problems(
            f"the data has {count} bad row{'s' if count > 1 else ''}:",
            bad,
            "Correct them, or set data.drop_bad_rows: true to leave them out (counted and listed).",
        )
    if config.test is None:
        train, test = split(train, config.test_fraction, seed)
    else:
        _refuse_leakage(train, test, config)
    if config.max_train_rows is not None and len(train) > config.max_train_rows:
        rng = random.Random(f"{seed}/rows")  # noqa: S311 (an order, not a secret)
        train = rng.sample(train, config.max_train_rows)
    fit, validation = (
        split(train, validation_fraction, seed) if validation_fraction else (train, [])
    )
    if not fit or not test:
        raise InputError(
            f"data: {len(fit)} rows are left to train on and {len(test)} to test on, of "
            f"{', '.join(str(f) for f in train_files)}; give more rows, or change "
            "data.test_fraction"
        )
    alike = {row.loose_key for row in train}
    paths = [*train_files, *test_files]
    return Parts(
        train=tuple(fit),
        validation=tuple(validation),
        test=tuple(test),
        dropped=tuple(bad),
        files={str(p): "sha256:" + sha256_file(p) for p in paths},
        num_duplicates=sum(len(p) - len({row.key for row in p}) for p in (train, test)),
        num_alike_across=sum(row.loose_key in alike for row in test),
    )


def _refuse_idle_columns(config: DataConfig, seen: Set[str]) -> None:
    """Refuse a name that no row has: what it was to turn on would silently be off."""
    for ours, theirs in config.columns.items():
        if seen and theirs not in seen:
            raise InputError(
                f"data.columns: {ours}: no row has a column {theirs!r}; "
                + (nearest(theirs, seen) or f"they have {', '.join(sorted(seen))}")
            )


def _refuse_leakage(
    train: Sequence[Checked[Item]], test: Sequence[Checked[Item]], config: DataConfig
) -> None:
    places = {row.key: row.place for row in train}
    twice = [
        Problem(row.place, f"the same as {places[row.key]}") for row in test if row.key in places
    ]
    if twice and not config.allow_duplicates_across_split:
        raise Problems(
            f"{len(twice)} test rows stand in the training data word for word:",
            twice,
            "A score on them is memory, not skill. Remove them from one side, or set "
            "data.allow_duplicates_across_split: true.",
        )
    groups = {row.group for row in train if row.group is not None}
    straddling = [
        Problem(row.place, f"its {config.group} is in the training data too")
        for row in test
        if row.group in groups
    ]
    if straddling:
        raise Problems(
            f"{len(straddling)} test rows belong to a {config.group} of the training data:",
            straddling,
            "Split the files by that column, or set data.group: null.",
        )
