"""The rows of a file that are to be predicted: each one, in order, readable or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from os.path import basename
from pathlib import Path
from typing import Any

from eval.errors import EvaluationError
from recipes import chat, classification, domains, qa
from recipes.config import DataConfig, Recipe
from recipes.data.catalog import OF_FILES
from recipes.data.findings import FindingKind, Findings, Note
from recipes.data.nul_characters import nul_columns
from recipes.data.personal_data.reading import PersonalDataReader
from recipes.data.personal_data.redact import actions_of
from recipes.data.readers import FileRead, read_rows
from recipes.data.rows import MissingColumn, Row, RowError, plain_number
from recipes.errors import InputError

ParsePrompt = Callable[[Row, DataConfig, Note], Any]

_PARSERS: Mapping[str, ParsePrompt] = {
    "chat": chat.parse_prompt,
    "classification": classification.parse_prompt,
    "qa": qa.parse_prompt,
}


@dataclass(frozen=True)
class InputRow:
    """One row of the input: what the model is to be asked, or why it cannot be."""

    id: str | None
    """As the row has it."""

    place: str
    """``file:line`` or ``file[index]``, without the folder."""

    item: Any
    """A text, a `Question` or the turns of a chat; None where there is a problem."""

    problem: str | None = None


@dataclass
class _Faults(Findings):
    """Rows that cannot be read, until their turn comes, and what else there is to say of a file."""

    notes: dict[FindingKind, str] = field(default_factory=dict)
    _rows: list[InputRow] = field(default_factory=list)

    def add(self, kind: FindingKind, place: str, detail: str = "", *, row: str = "") -> None:
        """Keep a row that is dropped; of what is no row, keep the first of its kind."""
        del row
        if kind in OF_FILES:  # a part of a file is no file
            raise InputError(f"{place}: {detail or kind.meaning} {kind.way_out}")
        place = basename(place)  # noqa: PTH119 (no path: it has a line)
        if kind.drops_row:
            self._rows.append(InputRow(None, place, None, detail))
        else:
            self.notes.setdefault(kind, f"{place}: {kind.meaning} {kind.way_out}")

    def take(self) -> list[InputRow]:
        """Return the rows that were added since the last time."""
        taken, self._rows = self._rows, []
        return taken


class RowReader:
    """Reads rows as the recipe's own evaluation does, but for the answer, which is not known.

    Args:
        recipe: its columns, reading settings and redaction are used.

    Raises:
        InputError: if `data.columns` names a column that the recipe has not.
    """

    def __init__(self, recipe: Recipe) -> None:
        domains.refuse_unknown_columns(recipe)
        self._recipe = recipe
        self._parse = _PARSERS[recipe.recipe]
        self._texts = domains.text_columns(recipe)
        self._id = recipe.data.columns.get("id", "id")
        self.notes: tuple[str, ...] = ()
        """What there is to say of the file that was read last, besides its rows."""

    def read(self, path: Path) -> Iterator[InputRow]:
        """Yield every row of a file, in its order.

        Raises:
            InputError: if the file cannot be read as a whole, has no rows, or its header lacks a
                column that is needed.
        """
        faults = _Faults()
        reads: list[FileRead] = []
        redact = self._redactor()
        is_empty = True
        for row in read_rows(path, self._recipe.data, faults, reads):
            is_empty = False
            yield from faults.take()
            try:
                yield self._parsed(row, redact)
            except MissingColumn as error:
                if reads[-1].columns:  # those of all its rows
                    raise InputError(
                        f"{path}: {error}; here: --column OURS=THEIRS. {_how_to_read(reads[-1])}"
                    ) from None
                yield self._failed(row, error)
        for one in faults.take():
            is_empty = False
            yield one
        self.notes = tuple(faults.notes.values())
        if is_empty:
            raise InputError(f"{path}: holds no rows")

    def of_values(self, place: str, values: Mapping[str, Any]) -> InputRow:
        """Return the row of values that are no file's, under our own names of columns."""
        named = {self._recipe.data.columns.get(ours, ours): v for ours, v in values.items()}
        try:
            return self._parsed(Row(place, named), self._redactor())
        except MissingColumn as error:
            return self._failed(Row(place, named), error)

    def _redactor(self) -> PersonalDataReader | None:
        """Return what redacts texts as they were redacted for training; None for nothing.

        One of its own for each reading: equal values have one placeholder within a file.
        """
        data = self._recipe.data
        if "redact" not in actions_of(data.personal_data).values():
            return None
        return PersonalDataReader(data, self._texts, is_searching=False)

    def _parsed(self, row: Row, redact: PersonalDataReader | None) -> InputRow:
        try:
            if nul := nul_columns(row.values, self._texts):
                raise RowError(f"column {', '.join(map(repr, nul))} holds the character NUL")
            cleaned = row if redact is None else redact.clean(row)[0]
            item = self._parse(cleaned, self._recipe.data, _ignore)
        except MissingColumn:
            raise
        except (RowError, EvaluationError) as error:
            return self._failed(row, error)
        return InputRow(self._id_of(row), _place(row), item)

    def _failed(self, row: Row, error: Exception) -> InputRow:
        return InputRow(self._id_of(row), _place(row), None, str(error))

    def _id_of(self, row: Row) -> str | None:
        value = plain_number(row.values.get(self._id))
        return None if value is None or isinstance(value, dict | list) else str(value)


def _how_to_read(read: FileRead) -> str:
    """Return how a table was read, and what to set where that was wrong."""
    keys = (
        "sheet and header_row" if read.sheet is not None else "delimiter, header_row and encoding"
    )
    return f"It was {read.describe()}; if that is wrong, --set data.KEY=VALUE: {keys}"


def _place(row: Row) -> str:
    return basename(row.place)  # noqa: PTH119 (no path: it has a line)


def _ignore(kind: FindingKind, detail: str) -> None:
    """Note nothing: what does not keep a row from being asked concerns training alone."""
