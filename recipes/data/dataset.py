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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from os.path import basename
from pathlib import Path
from sys import intern
from typing import Any, Generic, TypeVar

from recipes.config import DataConfig, Recipe
from recipes.console import OpenBar
from recipes.data import catalog
from recipes.data.dates import DateCheck
from recipes.data.findings import FindingKind, Findings, Note
from recipes.data.ids import IdForms, difference, in_words, normalize_id
from recipes.data.leakage import find_leaks
from recipes.data.missing_columns import HEAD_ROWS, FileColumns, GuessColumns, find_idle
from recipes.data.normal_form import normal_form
from recipes.data.nul_characters import nul_columns
from recipes.data.personal_data.reading import NOT_SEARCHED, PersonalData, PersonalDataReader
from recipes.data.read_progress import ReadProgress, open_progress
from recipes.data.readers import FileRead, UnreadableFile, files_of, read_rows
from recipes.data.rows import MissingColumn, Need, Parsed, Row, RowError
from recipes.data.split import DataRow, split
from recipes.errors import Problem
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
    """Of all files."""

    missing: set[str] = field(default_factory=set)
    """Names of columns that no row of a file has, and that are reported."""

    groups: IdForms = field(default_factory=IdForms)
    files: list[FileRead] = field(default_factory=list)
    progress: ReadProgress | None = None
    guess_columns: GuessColumns | None = None
    """Names the likely columns where a file lacks one."""

    texts: Collection[str] | None = None
    """Columns (theirs) whose texts reach the model; None for all."""


_UNREAD = catalog.OF_FILES | {catalog.EMPTY_FILE}

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
        InputError: if a setting cannot be.
    """
    rows: list[DataRow[Item]] = []
    findings = reading.findings
    ids: Counter[str] = Counter()
    for path in paths:
        if reading.progress is not None:
            reading.progress.begin(path.stat().st_size)
        source, read = _open(path, config, reading)
        head = list(islice(source, HEAD_ROWS))
        columns = FileColumns(path, config, findings, reading.guess_columns)
        columns.look_at(head, read(), lambda row: _unmet_by(row, config, parse))
        settings, can_parse = columns.settings, columns.can_parse
        if reading.personal_data is not None:
            reading.personal_data.read_too(columns.likely.values())
        dates = DateCheck(findings)
        unowned: list[DataRow[Item]] = []
        for row in chain(head, source):
            columns.names.update(row.values)
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

            dates.look_at(row, unique)
            if reading.personal_data is not None and found is not None:
                reading.personal_data.add_findings(row, found, findings, unique)
            group = _group_of(original, settings, reading.groups)  # a redacted one joins nothing
            if group is None and settings.group is not None:
                columns.lacks_group(row, unique)
            if nul := nul_columns(row.values, reading.texts):
                note(catalog.NUL_CHARACTER, f"column {', '.join(map(repr, nul))}")
                continue
            if not can_parse:
                continue
            try:
                parsed = parse(row, settings, unique, note)
            except MissingColumn as error:
                columns.lacks(row, unique, error)
                continue
            except RowError as error:
                columns.is_met()
                note(error.kind, str(error))
                continue
            columns.is_met()
            made, size = data_row(row, parsed, settings, unique, group)
            (rows if group is not None or settings.group is None else unowned).append(made)
            if reading.progress is not None:
                reading.progress.add_row(size)
        if columns.finish():
            rows += unowned
        dates.finish()
        reading.columns |= columns.names
        reading.missing |= columns.missing
        if reading.progress is not None:
            reading.progress.end()
        if not columns.names and not findings.count_in(path):
            findings.add(catalog.EMPTY_FILE, str(path))
    return rows


def _open(
    path: Path, config: DataConfig, reading: Reading
) -> tuple[Iterator[Row], Callable[[], FileRead | None]]:
    """Return the rows of a file, and what says how it is read once the first was taken.

    Where it cannot be read, or not to its end, that is a finding, and its rows end.
    """
    number = len(reading.files)

    def rows() -> Iterator[Row]:
        try:
            yield from read_rows(path, config, reading.findings, reading.files)
        except UnreadableFile as error:
            reading.findings.add(catalog.UNREADABLE_FILE, error.place, error.what)

    return rows(), lambda: reading.files[number] if len(reading.files) > number else None


def _unmet_by(row: Row, config: DataConfig, parse: Parse[Item]) -> tuple[Need, ...]:
    """Return the columns that a row lacks."""
    try:
        parse(row, config, "", _ignore)
    except MissingColumn as error:
        return error.needs
    except RowError:
        pass
    return ()


def _ignore(kind: FindingKind, detail: str) -> None:
    """Note nothing."""


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


def _group_of(row: Row, config: DataConfig, groups: IdForms) -> str | None:
    if config.group is None:
        return None
    return groups.add(row.values.get(config.group), row.place)


def _find_group_faults(config: DataConfig, groups: IdForms, findings: Findings) -> None:
    column = f"column {config.group!r}"
    if joined := groups.joined():
        examples = "; ".join(in_words(forms) for forms in joined[:3])
        detail = f"{column}: {len(joined)} value{'s'[: len(joined) - 1]}, such as {examples}"
        findings.add(catalog.ID_FORMS_JOINED, joined[0][0].place, detail)
    families = groups.ambiguous()
    for forms in families:
        detail = f"{column}: {in_words(forms)}, which differ in {difference(forms)}"
        findings.add(catalog.AMBIGUOUS_IDS, forms[0].place, detail)
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
    guess_columns: GuessColumns | None = None,
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
        guess_columns: names the likely columns where a file lacks one; None for none.

    Raises:
        DataErrors: if there are errors and no ``findings`` to collect them.
        InputError: if a file is missing, or a setting cannot be.
    """
    collected = findings if findings is not None else data_findings(config)
    train_files = files_of(config.train, folder, collected)
    test_files = files_of(config.test, folder, collected) if config.test is not None else []
    personal = PersonalDataReader(config, texts, is_searching=scan_personal_data)
    progress = open_progress(open_bar, [*train_files, *test_files])
    reading = Reading(
        collected, personal, progress=progress, guess_columns=guess_columns, texts=texts
    )
    train = read_data(train_files, config, parse, reading)
    test = read_data(test_files, config, parse, reading)
    personal_data = personal.finish(collected, folder)
    find_idle(config, reading.columns, reading.missing, collected)
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
    is_unread = any(one.kind in _UNREAD for one in collected.errors())
    if (not fit or not test) and not is_unread:  # else it follows from that
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
