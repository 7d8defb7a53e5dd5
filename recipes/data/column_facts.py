"""What the columns of a file hold: lengths, repetitions, forms, and words of their names."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from recipes.data.rows import plain_number

_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2})?")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")


@dataclass(frozen=True)
class Column:
    """One column of the rows that were looked at."""

    name: str
    values: tuple[Any, ...]
    """One for each row; None where a row has none, or an empty text."""

    @cached_property
    def filled(self) -> tuple[Any, ...]:
        """Values that are there."""
        return tuple(value for value in self.values if value is not None)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Values that are a text or number, as text."""
        return tuple(
            str(value) for value in self.filled if isinstance(value, str | int | float | bool)
        )

    @property
    def filled_share(self) -> float:
        """Share of the rows that have a value."""
        return len(self.filled) / max(1, len(self.values))

    @property
    def is_text(self) -> bool:
        """Whether nearly all values are one text or number each, and most rows have one."""
        return len(self.texts) >= 0.95 * max(1, len(self.filled)) and self.filled_share >= 0.4

    @cached_property
    def num_words(self) -> float:
        """Words of a value, on average; a run of 4 letters counts where blanks are rare."""
        counts = [max(len(text.split()), len(text) // 12) for text in self.texts]
        return sum(counts) / max(1, len(counts))

    @cached_property
    def num_distinct(self) -> int:
        """Different values."""
        return len(set(self.texts))

    @property
    def distinct_share(self) -> float:
        """Different values by values."""
        return self.num_distinct / max(1, len(self.texts))

    @cached_property
    def is_date(self) -> bool:
        """Whether most values are a date or time of day."""
        return _share(self.texts, lambda text: bool(_DATE.fullmatch(text.strip()))) > 0.8

    @cached_property
    def is_fraction(self) -> bool:
        """Whether values are numbers, and some are no whole ones."""
        is_number = _share(self.texts, lambda text: bool(_NUMBER.fullmatch(text.strip()))) > 0.95
        return is_number and any(not text.strip().lstrip("+-").isdigit() for text in self.texts)

    @cached_property
    def is_id(self) -> bool:
        """Whether values look like keys: short, one word, with digits, and no dates."""
        is_key = _share(self.texts, lambda text: " " not in text and any(map(str.isdigit, text)))
        return is_key > 0.9 and self.num_words < 4 and not self.is_date and not self.is_fraction

    @cached_property
    def question_share(self) -> float:
        """Share of the values that end with a question mark, full-width and Arabic ones too."""
        return _share(
            self.texts, lambda text: text.rstrip(' "»').endswith(("?", "\uff1f", "\u061f"))
        )

    @cached_property
    def lists(self) -> tuple[Sequence[Any], ...]:
        """Values that are a list, or a text that is a list in JSON."""
        return tuple(found for found in map(_as_list, self.filled) if found is not None)

    @property
    def is_lists(self) -> bool:
        """Whether most values are lists."""
        return bool(self.filled) and len(self.lists) > 0.8 * len(self.filled)

    @cached_property
    def item_keys(self) -> frozenset[str]:
        """Keys, in lower case, that the first object of most lists has."""
        firsts = [found[0] for found in self.lists if found and isinstance(found[0], dict)]
        keys = [frozenset(str(key).casefold() for key in first) for first in firsts]
        counted = {key for found in keys for key in found}
        return frozenset(k for k in counted if sum(k in found for found in keys) > len(keys) / 2)

    @property
    def is_objects(self) -> bool:
        """Whether all values are objects."""
        return bool(self.filled) and all(isinstance(value, dict) for value in self.filled)


def _share(texts: Sequence[str], is_such: Callable[[str], bool]) -> float:
    return sum(map(is_such, texts)) / max(1, len(texts))


def _as_list(value: Any) -> Sequence[Any] | None:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of rows, in the order in which they are met."""
    names = dict.fromkeys(name for row in rows for name in row if name)
    return [Column(name, tuple(_value(row.get(name)) for row in rows)) for name in names]


def _value(value: Any) -> Any:
    value = plain_number(value)
    return None if isinstance(value, str) and not value.strip() else value


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a column's name: lower case, without accents.

    Example:
        >>> words_of("CustomerNo"), words_of("Étiquette_2"), words_of("Kunden-Nr.")
        (('customer', 'no'), ('etiquette', '2'), ('kunden', 'nr'))
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    folded = unicodedata.normalize("NFKD", spaced).casefold()
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    return tuple(re.findall(r"[^\W_]+", plain))


def matches(name: str, words: frozenset[str]) -> float:
    """Return how well a name fits words: 1 for the whole name, less for one of its words.

    Example:
        >>> matches("Queue", frozenset({"queue"})), matches("Kundennummer", frozenset({"kunde"}))
        (1.0, 0.6)
    """
    found = words_of(name)
    if "".join(found) in words:
        return 1.0
    if any(word in words for word in found):
        return 0.8
    long = [word for word in words if len(word) >= 5]
    return 0.6 * any(
        part.startswith(word) or part.endswith(word) for part in found for word in long
    )
