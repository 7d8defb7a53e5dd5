"""A company's rows: checked, split without leakage, and written down.

The domains (`recipes.chat`, `recipes.classification`, `recipes.qa`) know what a usable row is;
`recipes.data.readers` know how a file is read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from os.path import basename
from pathlib import Path
from sys import intern
from typing import Any, Generic, TypeVar

from recipes.config import DataConfig, Recipe
from recipes.console import OpenBar
from recipes.data import catalog
from recipes.data.dates import impossible_dates
from recipes.data.findings import FindingKind, Findings, Note
from recipes.data.ids import IdForms, normalize_id, shown_id
from recipes.data.leakage import find_leaks
from recipes.data.normal_form import normal_form
from recipes.data.personal_data.reading import NOT_SEARCHED, PersonalData, PersonalDataReader
from recipes.data.read_progress import ReadProgress, open_progress
from recipes.data.readers import FileRead, files_of, has_header, read_rows
from recipes.data.rows import MissingColumn, Parsed, Row, RowError
from recipes.data.split import DataRow, split
from recipes.errors import InputError, Problem, nearest
from recipes.files import sha256_file

Item = TypeVar("Item")


@dataclass(frozen=True)
class DataSplit(Generic[Item]):
    """The rows of a run in their three parts."""

    train: tuple[DataRow[Item], ...]
    validation: tuple[DataRow[Item], ...]
    """Held back from the training rows to choose the checkpoint."""

    test: tuple[DataRow[Item], ...]
    dropped: tuple[Problem, ...]
    files: Mapping[str, str]
    """Path: ``sha256:...``."""

    num_duplicates: int
    """Rows whose content another row of the same part has too; they are kept."""

    num_alike_across: int
    """Test rows that differ from a training row only in case or white space."""

    reads: tuple[FileRead, ...] = ()
    """How each file was read."""

    personal_data: PersonalData = NOT_SEARCHED
    """What was found in the texts of all rows, and what was done about it."""

    def manifest(self) -> dict[str, Any]:
        """Return what data.json holds: hashes, counts, row ids; no text."""
        return {
            "schema": 1,
            "files": dict(self.files),
            "reads": [read.to_json() for read in self.reads],
            "rows": {
                "train": len(self.train),
                "validation": len(self.validation),
                "test": len(self.test),
                "dropped": len(self.dropped),
                "duplicates_within_a_part": self.num_duplicates,
                "test_rows_alike_a_training_row": self.num_alike_across,
            },
            "personal_data": self.personal_data.to_json(),
            "fingerprint": fingerprint(self.train),
            "train": [row.id for row in self.train],
            "validation": [row.id for row in self.validation],
            "test": [row.id for row in self.test],
            "dropped": [{"where": p.where, "why": p.what} for p in self.dropped],
        }


def fingerprint(rows: Sequence[DataRow[Any]]) -> str:
    """Return ``sha256:...`` over whole rows, labels included, in whatever order they stand."""
    digest = hashlib.sha256("\n".join(sorted(row.digest for row in rows)).encode())
    return "sha256:" + digest.hexdigest()


@dataclass
class Reading:
    """What is collected while files are read."""

    findings: Findings
    personal_data: PersonalDataReader | None = None
    """Redacts and counts personal data in every row; None leaves rows as they are."""

    columns: set[str] = field(default_factory=set)
    groups: IdForms = field(default_factory=IdForms)
    files: list[FileRead] = field(default_factory=list)
    progress: ReadProgress | None = None


Parse = Callable[[Row, DataConfig, str, Note], Parsed[Item]]
"""A domain's parser: from a row, the settings of the data, the row's id and a function that
records findings at the row, to the parsed row. It raises `RowError` for a row it cannot use."""


def read_data(
    paths: Sequence[Path],
    config: DataConfig,
    parse: Parse[Item],
    reading: Reading,
) -> list[DataRow[Item]]:
    """Read files and turn rows into items; rows that cannot be used become findings.

    Args:
        paths: the files.
        config: how they are read.
        parse: of the domain.
        reading: receives what is wrong, the columns, the values of the group column, how each file
            was read, and personal data.

    Raises:
        InputError: if a file cannot be read, or its header lacks a column that is needed.
    """
    rows: list[DataRow[Item]] = []
    findings = reading.findings
    ids: Counter[str] = Counter()
    for path in paths:
        is_empty = True
        if reading.progress is not None:
            reading.progress.begin(path.stat().st_size)
        for row in read_rows(path, config, findings, reading.files):
            is_empty = False
            reading.columns.update(row.values)
            original, found = row, None
            if reading.personal_data is not None:
                try:
                    row, found = reading.personal_data.clean(row)
                except RowError as error:
                    findings.add(error.kind, row.place, str(error))
                    continue
            given = normalize_id(row.values.get(config.columns.get("id", "id")))
            name = given or basename(row.place)  # noqa: PTH119 (a Path takes ten times as long)
            ids[name] += 1
            unique = name if ids[name] == 1 else f"{name}#{ids[name]}"

            def note(kind: FindingKind, detail: str, row: Row = row, unique: str = unique) -> None:
                findings.add(kind, row.place, detail, row=unique)

            for column in impossible_dates(row.values):
                note(catalog.IMPOSSIBLE_DATE, f"column {column!r}")
            if reading.personal_data is not None and found is not None:
                reading.personal_data.add_findings(row, found, findings, unique)
            group, is_owned = None, True
            try:
                group = _group_of(original, config, reading.groups)  # a redacted one joins nothing
            except RowError as error:
                note(error.kind, str(error))
                is_owned = False
            try:
                parsed = parse(row, config, unique, note)
            except RowError as error:
                if isinstance(error, MissingColumn) and has_header(path):
                    raise InputError(f"{path}: {error}. {how_to_read(reading.files[-1])}") from None
                note(error.kind, str(error))
                continue
            if not is_owned:
                continue
            made, size = data_row(row, parsed, config, unique, group)
            rows.append(made)
            if reading.progress is not None:
                reading.progress.add_row(size)
        if reading.progress is not None:
            reading.progress.end()
        if is_empty and not findings.count_in(path):
            findings.add(catalog.EMPTY_FILE, str(path))
    return rows


def data_row(
    row: Row, parsed: Parsed[Item], config: DataConfig, name: str, group: str | None
) -> tuple[DataRow[Item], int]:
    """Return what the split and the search for leaks know of a row, and its size as JSON."""
    whole = json.dumps(row.values, sort_keys=True, default=str)
    key, loose_key, normal_key = _keys(parsed.content)
    passage = _key(normal_form(parsed.passage)) if parsed.passage else ""
    made = DataRow(
        *(name, row.place, parsed.item, key, loose_key, intern(parsed.label), group),
        hashlib.sha256(whole.encode()).hexdigest(),
        passage=passage if config.keep_passages_together else "",
        normal_key=normal_key if config.keep_alike_together else "",
    )
    return made, len(whole)


def how_to_read(read: FileRead) -> str:
    """Return how a table was read, and what to set where that was wrong."""
    settings = {"csv": "delimiter, data.header_row", "tsv": "delimiter, data.header_row"}
    ways = settings.get(read.kind, "sheet, data.header_row" if read.sheet is not None else "")
    number = f" (row {read.header_row})" if read.header_row is not None else ""
    return (
        f"It was {read.describe()}; {len(read.columns)} columns are named{number}"
        + (f". If that is wrong, set data.{ways}" if ways else "")
        + ("" if read.encoding is None else ", data.encoding")
    )


def _group_of(row: Row, config: DataConfig, groups: IdForms) -> str | None:
    if config.group is None:
        return None
    group = groups.add(row.values.get(config.group))
    if group is None:
        raise RowError(f"no value in column {config.group!r}", catalog.MISSING_GROUP)
    return group


def _find_group_faults(config: DataConfig, groups: IdForms, findings: Findings) -> None:
    column = config.group or ""
    if joined := groups.joined():
        shown = "; ".join(
            " and ".join(map(shown_id, forms[:3])) for forms in [*joined.values()][:3]
        )
        detail = f"{len(joined)} values, such as {shown}"
        findings.add(catalog.ID_FORMS_JOINED, f"column {column!r}", detail)
    families = groups.ambiguous()
    for ids in families:
        detail = " and ".join(map(shown_id, ids))
        findings.add(catalog.AMBIGUOUS_IDS, f"column {column!r}", detail)
    if families:
        apart = groups.num_values
        together = apart - sum(len(ids) - 1 for ids in families)
        note = f"taken as different: {apart} values; taken as the same: {together}"
        findings.note(catalog.AMBIGUOUS_IDS, note)


def _keys(content: str) -> tuple[str, str, str]:
    """Return the keys of a content as it is, but for case and blanks, and in normal form."""
    loose = " ".join(content.casefold().split())
    normal = normal_form(content)
    key = _key(content)
    loose_key = key if loose == content else _key(loose)  # one object, not two
    return key, loose_key, loose_key if normal == loose else _key(normal)


def _key(text: str) -> str:
    """Return a hash of 120 bits in 20 characters: a million rows hold three each."""
    return base64.b64encode(hashlib.blake2b(text.encode(), digest_size=15).digest()).decode()


def prepare(
    config: DataConfig,
    folder: Path,
    parse: Parse[Item],
    *,
    seed: int,
    validation_fraction: float,
    findings: Findings | None = None,
    texts: Collection[str] | None = None,
    scan_personal_data: bool = False,
    open_bar: OpenBar | None = None,
) -> DataSplit[Item]:
    """Read all files of a recipe and split them into train, validation and test.

    Args:
        config: the `data` section of a recipe.
        folder: where relative paths start.
        parse: of the domain.
        seed: of the split.
        validation_fraction: share of the training rows held back.
        findings: receives what is wrong; without it, errors are raised.
        texts: columns (theirs) whose texts reach the model; None for all but the group's.
        scan_personal_data: whether every kind of personal data is searched for. Else just those
            that are redacted are, which gives the same rows.
        open_bar: opens a progress bar; None for none.

    Raises:
        DataErrors: if there are errors and no ``findings`` to collect them.
        InputError: if a file is missing or cannot be read at all.
    """
    collected = findings if findings is not None else data_findings(config)
    train_files = files_of(config.train, folder, collected)
    test_files = files_of(config.test, folder, collected) if config.test is not None else []
    personal = PersonalDataReader(config, texts, is_searching=scan_personal_data)
    progress = open_progress(open_bar, [*train_files, *test_files])
    reading = Reading(collected, personal, progress=progress)
    train = read_data(train_files, config, parse, reading)
    test = read_data(test_files, config, parse, reading)
    personal_data = personal.finish(collected, folder)
    _refuse_idle_columns(config, reading.columns)
    _find_group_faults(config, reading.groups, collected)
    if config.test is None:
        train, test = split(train, config.test_fraction, seed)
    find_leaks(train, test, config, collected)
    if config.max_train_rows is not None and len(train) > config.max_train_rows:
        rng = random.Random(f"{seed}/rows")  # noqa: S311 (an order, not a secret)
        train = rng.sample(train, config.max_train_rows)
    fit, validation = (
        split(train, validation_fraction, seed) if validation_fraction else (train, [])
    )
    if not fit or not test:
        collected.add(
            catalog.TOO_FEW_ROWS,
            ", ".join(str(f) for f in train_files),
            f"{len(fit)} rows are left to train on and {len(test)} to test on",
        )
    if findings is None:
        collected.raise_errors()
    alike = {row.loose_key for row in train}
    paths = [*train_files, *test_files]
    return DataSplit(
        train=tuple(fit),
        validation=tuple(validation),
        test=tuple(test),
        dropped=collected.dropped(),
        files={str(p): "sha256:" + sha256_file(p) for p in paths},
        num_duplicates=sum(len(p) - len({row.key for row in p}) for p in (train, test)),
        num_alike_across=sum(row.loose_key in alike for row in test),
        reads=tuple(reading.files),
        personal_data=personal_data,
    )


def data_findings(config: DataConfig) -> Findings:
    """Return an empty collection under the policy of the `data` section."""
    policy = dict(config.findings)
    if config.allow_duplicates_across_split:
        policy.setdefault(catalog.EXACT_LEAK.code, "warning")
        policy.setdefault(catalog.NORMALISED_LEAK.code, "warning")
    return Findings(policy, drop_bad_rows=config.drop_bad_rows)


def new_findings(recipe: Recipe) -> Findings:
    """Return an empty collection under the policy of a recipe."""
    findings = data_findings(recipe.data)
    if recipe.train.allow_truncation:
        for kind in (catalog.ROW_TOO_LONG, catalog.NOTHING_LEARNED):
            findings.policy.setdefault(kind.code, "warning")
    if recipe.privacy is not None and recipe.privacy.unit == recipe.data.group:
        findings.policy.setdefault(catalog.AMBIGUOUS_IDS.code, "error")
    return findings


def _refuse_idle_columns(config: DataConfig, seen: Set[str]) -> None:
    """Refuse a name that no row has: what it was to turn on would silently be off."""
    for ours, theirs in config.columns.items():
        if seen and theirs not in seen:
            raise InputError(
                f"data.columns: {ours}: no row has a column {theirs!r}; "
                + (nearest(theirs, seen) or f"they have {', '.join(sorted(seen))}")
            )
    if config.group is not None and seen and config.group not in seen:
        hint = nearest(config.group, seen)
        raise InputError(
            f"data.group: no row has a column {config.group!r}; {hint + ' ' if hint else ''}"
            f"the columns are {', '.join(sorted(seen))}"
        )
