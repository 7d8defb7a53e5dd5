"""Personal data while rows are read: redacted, counted, and reported as findings."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.config import DataConfig
from recipes.data import catalog
from recipes.data.findings import Findings
from recipes.data.personal_data import in_words, key_file
from recipes.data.personal_data.kinds import ALL, Kind
from recipes.data.personal_data.names import model_name
from recipes.data.personal_data.redact import Action, Cleaned, Count, Redactor, actions_of
from recipes.data.personal_data.scan import scan
from recipes.data.rows import Row, RowError

_IN_IDS = frozenset({Kind.EMAIL, Kind.PHONE, Kind.IBAN})
"""What an id is searched for, as it is printed and kept in results. Other kinds are numbers, as
ids are."""


@dataclass(frozen=True)
class PersonalData:
    """What was found in all rows of a recipe, without any of it."""

    counts: tuple[Count, ...] = ()
    is_searched: bool = False
    """Whether every kind was searched for, not just those that are redacted."""

    name_model: str | None = None
    """The model that names of persons were searched with; None: introductions alone."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "found": [
                {"kind": one.kind.value, "column": one.column, "count": one.count}
                | {"action": one.action}
                for one in self.counts
            ],
            "all_kinds_searched": self.is_searched,
            "model_for_names": self.name_model,
        }

    def in_words(self) -> str:
        """Return it in one line."""
        return in_words(self.to_json())


NOT_SEARCHED = PersonalData()


class PersonalDataReader:
    """Looks for personal data in each row that is read.

    Args:
        config: what is to be done about each kind, and the columns of ids and groups.
        texts: columns (theirs) whose texts reach the model; None for all but the group's.
        is_searching: whether kinds that are not redacted are searched for too.
    """

    def __init__(
        self, config: DataConfig, texts: Collection[str] | None, *, is_searching: bool
    ) -> None:
        self._config = config
        self._id = config.columns.get("id", "id")
        self._texts = None if texts is None else frozenset(texts)
        self._is_searching = is_searching
        actions = actions_of(config.personal_data)
        self._redactor = Redactor(actions, is_searching=is_searching)
        self._not_in_ids = frozenset(kind for kind in _IN_IDS if actions[kind] == "error")
        self._labels = tuple(config.columns.get(name, name) for name in ("label", "labels"))
        masked: dict[Kind, Action] = dict.fromkeys(self._not_in_ids, "redact")
        self._mask = Redactor(masked)

    def read_too(self, columns: Iterable[str]) -> None:
        """Search these columns too, where it is not all of them."""
        if self._texts is not None:
            self._texts |= frozenset(columns)

    def clean(self, row: Row) -> tuple[Row, Cleaned]:
        """Return a row after redaction, and what was found in it.

        An id that is personal data is removed, and a label is replaced by a placeholder, unless the
        recipe keeps it: both are printed.

        Raises:
            RowError: if it is nested too deep to be searched.
        """
        texts = self._texts if self._texts is not None else set(row.values) - {self._config.group}
        columns = {name: ALL for name in row.values if name in texts and name != self._id}
        if self._id in row.values:
            columns[self._id] = _IN_IDS
        try:
            found = self._redactor(row.values, columns)
        except RecursionError:
            raise RowError("it is nested too deep") from None
        id_text = str(found.values.get(self._id, ""))
        if id_text and scan(id_text, self._not_in_ids):
            del found.values[self._id]
        for label in self._labels:
            if _may_be_personal(found.values.get(label)):
                shown = self._mask(found.values, {label: self._not_in_ids})
                found.values[label] = shown.values[label]
        return Row(row.place, found.values, row.annotations, bool(found.redacted)), found

    def add_findings(self, row: Row, found: Cleaned, findings: Findings, name: str) -> None:
        """Record what the recipe wants to be an error: kinds and columns, no texts."""
        for (kind, column), count in found.kept.items():
            if self._redactor.actions[kind] == "error":
                times = f", {count} times" if count > 1 else ""
                detail = f"{kind.value} in column {column!r}{times}"
                findings.add(catalog.PERSONAL_DATA, row.place, detail, row=name)

    def finish(self, findings: Findings, folder: Path) -> PersonalData:
        """Write the key file if the recipe names one, and return what was found.

        Args:
            findings: receives the totals, and the setting to paste.
            folder: where the key's relative path starts.

        Raises:
            InputError: if the key file cannot be written where the recipe wants it.
        """
        counts = self._redactor.counts()
        errors = [one for one in counts if one.action == "error"]
        for one in errors:
            text = f"{one.kind.value} in column {one.column!r}: {one.count:,}"
            findings.note(catalog.PERSONAL_DATA, text)
        if errors:
            setting = self._config.personal_data
            wanted = dict(setting) if isinstance(setting, dict) else {}
            wanted |= {one.kind.value: "redact" for one in errors}
            pairs = (f"  {kind}: {action}" for kind, action in wanted.items())
            findings.paste(catalog.PERSONAL_DATA, "\n".join(["personal_data:", *pairs]))
            if model_name() is None:
                findings.note(catalog.PERSONAL_DATA, _NAMES_NOT_SEARCHED)
        path = self._config.personal_data_key
        originals = self._redactor.originals()
        if self._is_searching and path is not None and originals:
            key_file.write(folder / Path(path).expanduser(), originals)
        name = model_name() if counts or self._is_searching else None
        return PersonalData(counts, self._is_searching, name)


def _may_be_personal(label: Any) -> bool:
    """Return whether a label, or one of several, may be a mail address or a number of a person."""
    if isinstance(label, list | tuple):
        return any(map(_may_be_personal, label))
    text = str(label)
    return "@" in text or sum(map(str.isdigit, text)) >= _FEWEST_DIGITS


_FEWEST_DIGITS = 6
"""Of a telephone number or an IBAN."""

_NAMES_NOT_SEARCHED = (
    "Names of persons were not searched for, except after words such as 'my name is': no model for "
    "names is installed. Install one with: pip install 'assay[names]', then a spaCy model, such as "
    "python -m spacy download xx_ent_wiki_sm"
)
