"""Ids of customers, documents and rows: one canonical form, and forms that could be either.

A privacy unit that is counted twice makes the stated epsilon untrue, and two customers taken for
one lose rows. So only forms that cannot mean two things are joined.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from recipes.data.rows import plain_number

_WHOLE_NUMBER = re.compile(r"([+-]?)(0|[1-9]\d*)(?:\.0*)?")
_EXPONENT = re.compile(r"[+-]?\d+(?:\.\d+)?[eE][+]?\d{1,3}")


def normalize_id(value: Any) -> str | None:
    """Return the canonical form of an id, however a file writes it; None for a missing one.

    A customer is ``3`` in CSV, ``3.0`` in a column that also has gaps, and ``"3 "`` where somebody
    typed it. Unicode forms (NFC), invisible characters, outer and repeated blanks, full-width
    digits, and ``.0`` after a whole number do not count. Case, leading zeros and exponents do.

    Example:
        >>> [normalize_id(value) for value in (" 3 ", "3.0", 3.0, float("nan"), "two  words")]
        ['3', '3', '3', None, 'two words']
        >>> [normalize_id(value) for value in ("007", "1E5", "AB12", True)]
        ['007', '1E5', 'AB12', 'true']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        value = f"{value:f}"
    value = plain_number(value)
    if value is None:
        return None
    text = unicodedata.normalize("NFC", str(value))
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = " ".join(text.split())
    digits = unicodedata.normalize("NFKC", text)
    if number := _WHOLE_NUMBER.fullmatch(digits):
        return ("-" if number[1] == "-" and number[2] != "0" else "") + number[2]
    return text or None


def loose_id(canonical: str) -> str:
    """Return a form under which ids that could be the same are equal.

    Case, leading zeros, exponents and compatibility characters do not count in it.

    Example:
        >>> loose_id("007"), loose_id("1E5"), loose_id("AB12")
        ('7', '100000', 'ab12')
    """
    text = unicodedata.normalize("NFKC", canonical).casefold()
    if _EXPONENT.fullmatch(text):
        number = Decimal(text)
        return f"{number:f}" if number == number.to_integral_value() else text
    return text.lstrip("0") or "0" if text.isdecimal() else text


def shown_id(text: str) -> str:
    """Return an id for a message; one that may be a name or an address is not shown.

    Example:
        >>> shown_id("C-0071"), shown_id("ann@example.com")
        ("'C-0071'", '(not shown)')
    """
    is_code = re.fullmatch(r"\s*[\w.+-]{1,24}\s*", text) and any(map(str.isdigit, text))
    return repr(text) if is_code else "(not shown)"


@dataclass
class IdForms:
    """The values of one column over all files, and the forms in which they are written."""

    _raw: dict[str, set[str]] = field(default_factory=dict)

    def add(self, value: Any) -> str | None:
        """Record a value and return its canonical form."""
        canonical = normalize_id(value)
        if canonical is not None:
            self._raw.setdefault(canonical, set()).add(str(value))
        return canonical

    @property
    def num_values(self) -> int:
        """Number of different ids."""
        return len(self._raw)

    def joined(self) -> dict[str, tuple[str, ...]]:
        """Return ids that are written in several forms: canonical form: forms."""
        return {key: tuple(sorted(raw)) for key, raw in self._raw.items() if len(raw) > 1}

    def ambiguous(self) -> tuple[tuple[str, ...], ...]:
        """Return the sets of different ids that could be one."""
        families: dict[str, list[str]] = {}
        for canonical in self._raw:
            families.setdefault(loose_id(canonical), []).append(canonical)
        return tuple(tuple(sorted(ids)) for ids in families.values() if len(ids) > 1)
