"""One row cleaned: what is changed in it, and whether it is left out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from recipes import domains
from recipes.check.label_cells import in_one_spelling
from recipes.config import DataConfig, Recipe
from recipes.data import catalog
from recipes.data.dataset import data_row
from recipes.data.findings import FindingKind, Findings
from recipes.data.ids import normalize_id
from recipes.data.labels import quoted
from recipes.data.leakage import wanted_of
from recipes.data.nul_characters import nul_columns
from recipes.data.personal_data.kinds import Kind
from recipes.data.personal_data.reading import PersonalDataReader
from recipes.data.personal_data.redact import actions_of
from recipes.data.rows import Row, RowError
from recipes.data.split import DataRow

Part = Literal["train", "test"]

UNDECIDED = frozenset({catalog.REASONING_UNDECIDED})
"""Rows that a setting of the recipe makes usable as they are; they are not left out."""

_WITHOUT_TEXT = frozenset({catalog.TEXT_WITHOUT_CONTENT, catalog.MISSING_WORD_TEXT})
_COPIES = frozenset({catalog.DUPLICATE_ROWS, catalog.EXACT_LEAK, catalog.NORMALISED_LEAK})

MENDED = (
    frozenset(kind for kind in catalog.all_kinds() if kind.drops_row)
    | _WITHOUT_TEXT
    | _COPIES
    | {catalog.LABEL_SPELLINGS, catalog.LABEL_MAPPED, catalog.PERSONAL_DATA}
) - UNDECIDED
"""Findings that a cleaned copy does not have."""


@dataclass(frozen=True)
class Change:
    """What was changed at one place of the source. Holds no text of a row."""

    place: str
    code: str
    """Of the finding, or ``file-form`` where a file is written in another form."""

    change: str


@dataclass
class Noted(Findings):
    """Findings since the last look, so that memory does not grow with them."""

    pending: list[tuple[FindingKind, str, str]] = field(default_factory=list)

    def add(self, kind: FindingKind, place: str, detail: str = "", *, row: str = "") -> None:
        """Keep one occurrence until it is taken."""
        del row
        self.pending.append((kind, place, detail))

    def note(self, kind: FindingKind, text: str) -> None:
        """Keep nothing: notes are for a reader of findings."""

    def take(self) -> list[tuple[FindingKind, str, str]]:
        """Return the findings since the last call."""
        found, self.pending = self.pending, []
        return found


@dataclass
class _Seen:
    """What is known of the rows that were kept, as hashes."""

    copies: dict[Part, dict[Hashable, str]] = field(
        default_factory=lambda: {"train": {}, "test": {}}
    )
    exact: dict[str, str] = field(default_factory=dict)
    """Training rows: hash of the content: place. The next likewise."""

    alike: dict[str, str] = field(default_factory=dict)


class RowCleaner:
    """Cleans the rows of all files, training rows first.

    Args:
        recipe: the run.
        findings: its policy; kinds that the recipe ignores are not mended.
    """

    def __init__(self, recipe: Recipe, findings: Findings) -> None:
        ignored = {kind for kind in MENDED if findings.severity(kind) == "ignore"}
        if recipe.data.allow_duplicates_across_split:
            ignored |= {catalog.EXACT_LEAK, catalog.NORMALISED_LEAK}
        self._ignored = ignored - {catalog.LABEL_MAPPED}
        self.config = redacting(recipe.data, is_error=catalog.PERSONAL_DATA not in ignored)
        self._parsed_with = self.config.model_copy(update={"label_map": {}})
        self._parse = domains.parser_of(recipe)
        self.has_labels = recipe.recipe == "classification"
        self.texts = domains.text_columns(recipe)
        """Columns that reach the model; personal data is redacted in these and in ids."""

        self.personal_data = PersonalDataReader(
            self.config,
            self.texts,
            is_searching=self.config.personal_data_key is not None,
        )
        self.spellings: Mapping[str, str] = {}
        """After the recipe's own map: other spelling of a label: the one that is written."""

        self._seen = _Seen()

    def respell(self, label: str) -> str:
        """Return the spelling in which a label is written."""
        mapped = self.config.label_map.get(label, label)
        return self.spellings.get(mapped, mapped)

    def clean(self, row: Row, part: Part) -> tuple[dict[str, Any] | None, list[Change]]:
        """Return a row as it is written, None where it is left out, and what was changed."""
        group = self.config.group
        if group is not None and normalize_id(row.values.get(group)) is None:
            return None, [left_out(catalog.MISSING_GROUP, row.place, f"no value in {group!r}")]
        if nul := nul_columns(row.values, self.texts):
            return None, [left_out(catalog.NUL_CHARACTER, row.place, f"column {nul[0]!r}")]
        noted = Noted()
        changes: list[Change] = []
        parsed: DataRow[Any] | None = None
        try:
            row, found = self.personal_data.clean(flat(row))
            if found.redacted:
                row, detail = without_offsets(row, found.redacted, self.config)
                changes.append(_redacted(row.place, found.redacted, detail))
            row = self._with_labels(row, changes)
            parsed = self._data_row(row, noted)
        except RowError as error:
            noted.add(error.kind, row.place, str(error))
        reasons = [
            left_out(kind, place, detail)
            for kind, place, detail in noted.take()
            if (kind.drops_row and kind not in UNDECIDED)
            or (kind in _WITHOUT_TEXT and kind not in self._ignored)
        ]
        if not reasons and parsed is not None:
            reasons = self._copy_of(parsed, part)
        return (None, reasons) if reasons else (dict(row.values), changes)

    def _with_labels(self, row: Row, changes: list[Change]) -> Row:
        """Return a row with its labels in one spelling.

        Raises:
            RowError: if a label is of no form that can be.
        """
        if not self.has_labels:
            return row
        before = self.labels_in(row)
        values, column = in_one_spelling(row.values, self.config, self.respell)
        if column:
            respelled = [(label, self.respell(label)) for label in before]
            words = [f"{quoted(a)} to {quoted(b)}" for a, b in respelled if a != b]
            is_mapped = any(label in self.config.label_map for label in before)
            kind = catalog.LABEL_MAPPED if is_mapped else catalog.LABEL_SPELLINGS
            what = f"label {', '.join(words)}" if words else "label trimmed"
            changes.append(Change(row.place, kind.code, f"{what} in column {column!r}"))
        return replace(row, values=values)

    def labels_in(self, row: Row) -> tuple[str, ...]:
        """Return the labels of a row as they are read, before any map.

        Raises:
            RowError: if the row cannot be used.
        """
        label = self._data_row(row, Noted()).item.label
        return label if isinstance(label, tuple) else (label,)

    def _data_row(self, row: Row, noted: Noted) -> DataRow[Any]:
        given = normalize_id(row.values.get(self.config.columns.get("id", "id")))
        name = given or Path(row.place).name

        def note(kind: FindingKind, detail: str) -> None:
            noted.add(kind, row.place, detail)

        parsed = self._parse(row, self._parsed_with, name, note)
        made, _ = data_row(row, parsed, self._parsed_with, name, None)
        return made

    def _copy_of(self, row: DataRow[Any], part: Part) -> list[Change]:
        """Return why a row is left out as a copy of one that is kept; remember it otherwise."""
        seen = self._seen
        key = hash((row.key, wanted_of(row)))
        if key in seen.copies[part] and catalog.DUPLICATE_ROWS not in self._ignored:
            detail = f"the same as {seen.copies[part][key]}"
            return [left_out(catalog.DUPLICATE_ROWS, row.place, detail)]
        if part == "test":
            for kind, known, value in (
                (catalog.EXACT_LEAK, seen.exact, row.key),
                (catalog.NORMALISED_LEAK, seen.alike, row.alike_key),
            ):
                if value in known and kind not in self._ignored:
                    return [left_out(kind, row.place, f"in the training data at {known[value]}")]
        else:
            seen.exact.setdefault(row.key, row.place)
            seen.alike.setdefault(row.alike_key, row.place)
        seen.copies[part].setdefault(key, row.place)
        return []


def left_out(kind: FindingKind, place: str, detail: str) -> Change:
    """Return the change of a row that is left out."""
    return Change(place, kind.code, f"left out: {detail}" if detail else "left out")


def redacting(config: DataConfig, *, is_error: bool) -> DataConfig:
    """Return settings by which personal data is redacted.

    Args:
        config: the recipe's.
        is_error: whether kinds that the recipe wants to be errors are redacted too.
    """
    wanted = {"redact", "error"} if is_error else {"redact"}
    actions = actions_of(config.personal_data)
    personal_data = {kind.value: "redact" if actions[kind] in wanted else "keep" for kind in Kind}
    return config.model_copy(update={"personal_data": personal_data})


def flat(row: Row) -> Row:
    """Return a question of the SQuAD format with its offsets and its mark as columns.

    They are what the reader keeps beside the columns; a file of rows has no other place for them.
    """
    if not row.annotations:
        return row
    pairs = dict.fromkeys(
        (text, start if isinstance(start, int) else None)
        for text, start in row.annotations["answers"]
    )
    answers = {
        "text": [text for text, _ in pairs],
        "answer_start": [start for _, start in pairs],
    }
    is_impossible = row.annotations["is_impossible"]
    return Row(row.place, {**row.values, "answers": answers, "is_impossible": is_impossible})


def without_offsets(
    row: Row, redacted: Mapping[tuple[Kind, str], int], config: DataConfig
) -> tuple[Row, str]:
    """Return a row without offsets into a text that redaction has changed, and what to log."""
    column = config.columns.get("answers", "answers")
    texts = {config.columns.get("context", "context"), column}
    answers = row.values.get(column)
    is_moved = any(changed in texts for _, changed in redacted)
    if not (is_moved and isinstance(answers, dict) and "answer_start" in answers):
        return row, ""
    rest = {key: value for key, value in answers.items() if key != "answer_start"}
    return replace(row, values={**row.values, column: rest}), "; answer_start removed"


def _redacted(place: str, redacted: Mapping[tuple[Kind, str], int], detail: str) -> Change:
    words = [
        f"{kind.value} in column {column!r}" + (f", {count} times" if count > 1 else "")
        for (kind, column), count in redacted.items()
    ]
    return Change(place, catalog.PERSONAL_DATA.code, f"redacted: {'; '.join(words)}{detail}")
