"""`assay check FILE --fix DIR`: cleaned copies of a recipe's files, and a log of each change.

What cannot be decided without the owner of the data is left as it is. The source is only read.
"""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from finetune import scratch as scratches
from recipes.check.copies import change_of_form, copy_name, is_table, writer
from recipes.check.inspection import Inspection
from recipes.check.label_cells import label_columns
from recipes.check.row_cleaner import (
    MENDED,
    Change,
    Noted,
    Part,
    RowCleaner,
    left_out,
)
from recipes.config import DataConfig, Recipe
from recipes.console import OpenBar
from recipes.data import catalog
from recipes.data.dataset import new_findings
from recipes.data.findings import Finding, Findings
from recipes.data.labels import spellings
from recipes.data.readers import FileRead, files_of, read_rows
from recipes.data.readers.headers import shown_name
from recipes.data.rows import Row, RowError
from recipes.errors import InputError

LOG = "changes.jsonl"

_MOOT = frozenset(
    {
        *(catalog.LINES_ABOVE_HEADER, catalog.UNKNOWN_FILE, catalog.EMPTY_FILE),
        *(catalog.LABEL_MAP_UNUSED, catalog.BASE_UNAVAILABLE, catalog.DOUBLED_COLUMN),
    }
)
"""Findings that are not about a row, and that a copy does not have or cannot have."""


@dataclass(frozen=True)
class Copy:
    """One file that was written."""

    source: str
    path: Path
    part: Part
    is_table: bool
    num_rows: int
    num_left_out: int
    not_searched: tuple[str, ...] = ()
    """Columns that do not reach the model, in which personal data is left as it is."""


@dataclass(frozen=True)
class Fixed:
    """What was written and changed, and what is left for a person to decide."""

    log: Path
    copies: tuple[Copy, ...]
    changes: dict[str, int]
    """Number of changes by code."""

    undecided: tuple[Finding, ...]
    """Findings of the source that the copies may still have."""

    command: str
    """What checks the copies."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "files": [asdict(copy) | {"path": str(copy.path)} for copy in self.copies],
            "log": str(self.log),
            "changes": self.changes,
            "still_to_be_decided": {one.kind.code: one.count for one in self.undecided},
            "columns_not_searched": {
                str(copy.path): list(copy.not_searched) for copy in self.copies if copy.not_searched
            },
            "next": self.command,
        }

    def lines(self) -> list[str]:
        """Return it for a person."""
        found = [
            f"{copy.path}: {copy.num_rows:,} rows, {copy.num_left_out:,} left out"
            for copy in self.copies
        ]
        found.append(f"{self.log}: {sum(self.changes.values()):,} changes")
        found += [f"  {code}: {count:,}" for code, count in sorted(self.changes.items())]
        if any(copy.not_searched for copy in self.copies):
            found.append(
                "personal data was not searched for, and is as it was, in the columns that"
            )
            found.append("do not reach the model:")
            found += [
                f"  {copy.path.name}: {', '.join(map(shown_name, copy.not_searched))}"
                for copy in self.copies
                if copy.not_searched
            ]
        if self.undecided:
            found.append("still to be decided, as counted in the source:")
            found += [f"  {one.kind.code}: {one.count:,}" for one in self.undecided]
        return [*found, f"next: {self.command}"]


def refuse_folder(into: Path, config: DataConfig, folder: Path) -> None:
    """Refuse a folder for the copies that holds files or is part of the source.

    Args:
        into: where copies are to be written.
        config: names the source.
        folder: where its relative paths start.

    Raises:
        InputError: if it is refused.
    """
    if into.exists() and not into.is_dir():
        raise InputError(f"--fix {into}: it is a file; name a folder that is empty or not there")
    target = into.resolve()
    for pattern in (*config.train, *(config.test or ())):
        source = folder / (Path(pattern).expanduser() if pattern.startswith("~/") else pattern)
        if source.is_dir() and target.is_relative_to(source.resolve()):
            raise InputError(
                f"--fix {into}: it is within {source}, which the recipe reads; name another folder"
            )
    if into.is_dir() and any(into.iterdir()):
        raise InputError(f"--fix {into}: it holds files; name a folder that is empty or not there")


def fix(
    recipe: Recipe,
    file: Path,
    overrides: Sequence[str],
    into: Path,
    found: Inspection,
    open_bar: OpenBar,
) -> Fixed:
    """Write cleaned copies of the files of a recipe, all or none of them.

    A copy has no row that cannot be used, no row without content, no later copy of a row, no test
    row that is in the training rows; its labels are in one spelling; and the columns that reach
    the model have no personal data. Findings that the recipe ignores are left. The order of rows
    is kept. Rows are read, cleaned and written one by one; of each, hashes and its place are kept
    in memory.

    Args:
        recipe: the run.
        file: it was read from.
        overrides: of the command line, which the printed command repeats.
        into: folder of the copies; empty or not there.
        found: by `recipes.check.inspection.inspect`.
        open_bar: opens a progress bar.

    Raises:
        InputError: if ``into`` is refused, a file cannot be read whole, lacks a column, or no row
            would be left.
    """
    folder = file.resolve().parent
    refuse_folder(into, recipe.data, folder)
    _refuse_unread(found)
    policy = new_findings(recipe)
    cleaner = RowCleaner(recipe, policy)
    sources: list[tuple[Part, Path]] = [
        *(("train", path) for path in files_of(recipe.data.train, folder)),
        *(("test", path) for path in files_of(recipe.data.test or (), folder)),
    ]
    if cleaner.has_labels and policy.severity(catalog.LABEL_SPELLINGS) != "ignore":
        cleaner.spellings = _spellings([path for _, path in sources], cleaner)
    bar = open_bar("cleaned copies", sum(one.num_rows for one in found.files))
    with scratches.beside(into) as scratch:
        scratch.mkdir()
        scratch.chmod(0o755)
        with (scratch / LOG).open("w", encoding="utf-8", newline="\n") as stream:
            log = _Log(stream)
            taken = {LOG}
            copies = [
                _write_copy(path, part, cleaner, scratch, taken, log, bar) for part, path in sources
            ]
        kept = [copy for copy in copies if copy.num_rows]
        for copy in copies:
            if not copy.num_rows:
                copy.path.unlink()
        _refuse_nothing(recipe.data, kept)
        cleaner.personal_data.finish(Findings(), folder)
        scratch.replace(into)
    placed = tuple(_moved(copy, into) for copy in kept)
    reads = [read for read in found.files if is_table(read)]
    return Fixed(
        log=into / LOG,
        copies=placed,
        changes=dict(log.counts),
        undecided=_undecided(found.findings),
        command=_command(recipe.data, file, overrides, placed, reads),
    )


@dataclass
class _Log:
    """Writes changes, one a line."""

    stream: TextIO

    def __post_init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.counts[change.code] += 1
            self.remark(change)

    def remark(self, remark: Change) -> None:
        """Write what is no change, and is not counted as one."""
        self.stream.write(json.dumps(asdict(remark), ensure_ascii=False) + "\n")


def _spellings(paths: Sequence[Path], cleaner: RowCleaner) -> dict[str, str]:
    """Return the spelling of each label that is written in several, over all usable rows."""
    columns = label_columns(cleaner.config)
    counts: Counter[str] = Counter()
    for path in paths:
        for row in read_rows(path, cleaner.config, Noted()):
            given = {name: row.values[name] for name in columns if name in row.values}
            try:
                clean, _ = cleaner.personal_data.clean(Row(row.place, given))
                labels = cleaner.labels_in(Row(row.place, {**row.values, **clean.values}))
            except RowError:
                continue
            counts.update(cleaner.config.label_map.get(label, label) for label in labels)
    return spellings(counts)


def _write_copy(
    path: Path,
    part: Part,
    cleaner: RowCleaner,
    folder: Path,
    taken: set[str],
    log: _Log,
    advance: Callable[[int], None],
) -> Copy:
    """Write the copy of one file; a row that cannot be read is left out."""
    noted, reads = Noted(), list[FileRead]()
    rows = read_rows(path, cleaner.config, noted, reads)
    first = next(rows, None)
    [read] = reads
    copy = folder / copy_name(read, taken)
    if form := change_of_form(read):
        what = f"{form}; written as UTF-8, " + ("commas" if is_table(read) else "an object a line")
        log([Change(str(path), "file-form", f"{what}: {copy.name}")])
    num_rows = num_left_out = 0
    columns = set(read.columns)
    with writer(copy, read) as write:
        for row in _all(first, rows):
            num_left_out += _log_unread(noted, log)
            columns.update(row.values)
            values, changes = cleaner.clean(row, part)
            log(changes)
            if values is None:
                num_left_out += 1
            else:
                num_rows += 1
                write(values)
            advance(1)
        num_left_out += _log_unread(noted, log)
    searched = {*cleaner.texts, cleaner.config.columns.get("id", "id")}
    left = tuple(sorted(columns - searched))
    if left and num_rows:
        what = f"not searched for personal data: columns {', '.join(map(shown_name, left))}"
        log.remark(Change(str(path), "columns-not-searched", what))
    return Copy(str(path), copy, part, is_table(read), num_rows, num_left_out, left)


def _all(first: Row | None, rest: Iterator[Row]) -> Iterator[Row]:
    if first is not None:
        yield first
        yield from rest


def _log_unread(noted: Noted, log: _Log) -> int:
    """Log the rows that the reader left out since the last call, and return their number."""
    taken = noted.take()
    log(
        Change(place, kind.code, f"{detail}; only the first is written")
        for kind, place, detail in taken
        if kind is catalog.DOUBLED_COLUMN
    )
    found = [left_out(*one) for one in taken if one[0].drops_row]
    log(found)
    return len({change.place for change in found})


def _refuse_unread(found: Inspection) -> None:
    """Refuse to copy files of which a copy would hold less than the source."""
    for one in found.findings:
        if one.kind in catalog.OF_FILES:
            raise InputError(
                f"--fix: nothing was written, because of {one.kind.code} at "
                f"{one.occurrences[0].place}; correct it first"
            )


def _refuse_nothing(config: DataConfig, kept: Sequence[Copy]) -> None:
    parts = {copy.part for copy in kept}
    for part, is_wanted in (("train", True), ("test", config.test is not None)):
        if is_wanted and part not in parts:
            raise InputError(
                f"--fix: no row of data.{part} would be left, so nothing was written; correct the "
                "rows by the findings that assay check prints without --fix"
            )


def _moved(copy: Copy, into: Path) -> Copy:
    return Copy(**(vars(copy) | {"path": into / copy.path.name}))


def _undecided(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(
        one for one in findings if one.kind not in MENDED | _MOOT and one.severity != "ignore"
    )


def _command(
    config: DataConfig,
    file: Path,
    overrides: Sequence[str],
    copies: Sequence[Copy],
    tables: Sequence[FileRead],
) -> str:
    """Return the command that checks the copies, without settings that do not fit them."""
    settings: dict[str, Any] = {"train": _paths(copies, "train", file)}
    if config.test is not None:
        settings["test"] = _paths(copies, "test", file)
    if config.encoding is not None:
        settings["encoding"] = "utf-8"
    if config.delimiter is not None:
        settings["delimiter"] = ","
    if config.header_row is not None or any(read.header_row != 1 for read in tables):
        settings["header_row"] = 1
    for key in ("sheet", "rows_key"):
        if getattr(config, key) is not None:
            settings[key] = None
    if config.label_map:
        settings["label_map"] = {}
    ours = [f"data.{key}={json.dumps(value)}" for key, value in settings.items()]
    words = [f"--set {shlex.quote(one)}" for one in (*overrides, *ours)]
    return " ".join(["assay check", shlex.quote(str(file)), *words])


def _paths(copies: Sequence[Copy], part: Part, file: Path) -> list[str]:
    """Return paths of copies as the recipe would name them."""
    folder = file.resolve().parent
    found = [copy.path.resolve() for copy in copies if copy.part == part]
    return [
        os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)
        for path in found
    ]
