"""Ids of customers, documents and rows: one canonical form, and forms that could be either.

A privacy unit that is counted twice makes the stated epsilon untrue, and two customers taken for
one lose rows. So only forms that cannot mean two things are joined.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

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
    return repr(text) if is_code else _NOT_SHOWN


_NOT_SHOWN = "(not shown)"


class IdForm(NamedTuple):
    """One form in which an id is written, and where first."""

    text: str
    place: str


def in_words(forms: Sequence[IdForm]) -> str:
    """Return the forms of an id for a message that is placed at the first of them.

    Example:
        >>> in_words([IdForm("7", "a.csv:2"), IdForm("007", "b.csv:9")])
        "'7' and '007' at b.csv:9"
        >>> in_words([IdForm("ann@x.org", "a.csv:2"), IdForm("Ann@x.org", "b.csv:9")])
        'a value (not shown) and another at b.csv:9'
    """
    first, *others = ((shown_id(form.text), form.place) for form in forms)
    is_shown = first[0] != _NOT_SHOWN
    words = [first[0] if is_shown else f"a value {_NOT_SHOWN}"]
    words += [f"{'another' if text == _NOT_SHOWN else text} at {place}" for text, place in others]
    return " and ".join(words)


def difference(forms: Sequence[IdForm]) -> str:
    """Return in what ids differ that could be one.

    Example:
        >>> difference([IdForm("7", "a.csv:2"), IdForm("007", "a.csv:3")])
        'leading zeros'
    """
    texts = [form.text for form in forms]
    found = []
    if len({text.lower() for text in texts}) < len(texts):
        found.append("case")
    if any(text.isdecimal() and text[0] == "0" != text for text in texts):
        found.append("leading zeros")
    if any(map(_EXPONENT.fullmatch, texts)):
        found.append("exponents")
    return " and ".join(found) or "the form of a character"


@dataclass
class IdForms:
    """The values of one column over all files, and the forms in which they are written."""

    _forms: dict[str, dict[str, str]] = field(default_factory=dict)
    """Canonical form: form: its first place."""

    def add(self, value: Any, place: str = "") -> str | None:
        """Record a value and return its canonical form."""
        canonical = normalize_id(value)
        if canonical is not None:
            self._forms.setdefault(canonical, {}).setdefault(str(value), place)
        return canonical

    @property
    def num_values(self) -> int:
        """Number of different ids."""
        return len(self._forms)

    def joined(self) -> tuple[tuple[IdForm, ...], ...]:
        """Return the forms of each id that is written in several, in order of appearance."""
        return tuple(
            tuple(IdForm(text, place) for text, place in forms.items())
            for forms in self._forms.values()
            if len(forms) > 1
        )

    def ambiguous(self) -> tuple[tuple[IdForm, ...], ...]:
        """Return the sets of different ids that could be one, in order of appearance."""
        families: dict[str, list[IdForm]] = {}
        for canonical, forms in self._forms.items():
            first = IdForm(canonical, next(iter(forms.values())))
            families.setdefault(loose_id(canonical), []).append(first)
        return tuple(tuple(ids) for ids in families.values() if len(ids) > 1)
