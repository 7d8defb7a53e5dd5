"""Count personal data in rows, and replace what the recipe wants redacted by placeholders."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recipes.data.personal_data.contact import canonical_phone
from recipes.data.personal_data.kinds import Kind, Span, placeholder
from recipes.data.personal_data.network import canonical_ip
from recipes.data.personal_data.scan import scan

Action = Literal["error", "redact", "keep"]

_NEVER_LEARNED = frozenset({"role", "from", "type", "id", "tool_call_id", "weight"})
"""Keys of turns and tool calls whose values are words of the format."""

_TURN_KEYS = frozenset({"content", "value", "text", "arguments", "parameters", "function"})
_LONGEST_FIELD = 200
"""Characters up to which a value is read together with its key, as `phone: 0170 1234567`."""

_LONGEST_KNOWN = 40
_MOST_KNOWN = 2_000
"""Short texts whose search is remembered."""

_SHORTEST_NUMBER = 10**8
"""Smaller whole numbers are not searched."""


@dataclass(frozen=True)
class Count:
    """How often one kind was found in one column, and what was done about it."""

    kind: Kind
    column: str
    count: int
    action: Action


@dataclass(frozen=True)
class Cleaned:
    """A row after redaction."""

    values: dict[str, Any]
    redacted: Mapping[tuple[Kind, str], int]
    """Occurrences that were replaced, by kind and column."""

    kept: Mapping[tuple[Kind, str], int]
    """Occurrences of the other kinds that were searched for; they are still there."""


def actions_of(setting: Action | Mapping[str, Action]) -> dict[Kind, Action]:
    """Return what `data.personal_data` says of each kind; a kind it does not name is an error."""
    if isinstance(setting, str):
        return dict.fromkeys(Kind, setting)
    return {kind: setting.get(kind, "error") for kind in Kind}


class Redactor:
    """Replaces personal data in rows by placeholders that are the same for the same value.

    Values are numbered by first appearance, so the same files in the same order give the same
    rows. Originals are held in memory only.

    Args:
        actions: by kind. Kinds to be redacted are always searched for.
        is_searching: whether the other kinds are searched for and counted too.
    """

    def __init__(self, actions: Mapping[Kind, Action], *, is_searching: bool = False) -> None:
        self.actions = actions
        self.to_redact = frozenset(kind for kind in actions if actions[kind] == "redact")
        self.to_count = frozenset(actions) - self.to_redact if is_searching else frozenset()
        self._numbers: dict[tuple[Kind, str], int] = {}
        self._used: Counter[Kind] = Counter()
        self._originals: dict[str, dict[str, None]] = {}
        self._counts: Counter[tuple[Kind, str]] = Counter()
        self._known: dict[tuple[str, frozenset[Kind], str], tuple[Span, ...]] = {}

    def __call__(
        self, values: Mapping[str, Any], columns: Mapping[str, frozenset[Kind]]
    ) -> Cleaned:
        """Return a row with the texts in its columns redacted, however deep they are nested.

        Args:
            values: by column.
            columns: to look at, each with the kinds that may be in it.

        Raises:
            RecursionError: if a value is nested deeper than Python's stack.
        """
        if not self.to_redact and not self.to_count:
            return Cleaned(dict(values), {}, {})
        clean = dict(values)
        redacted: Counter[tuple[Kind, str]] = Counter()
        kept: Counter[tuple[Kind, str]] = Counter()
        for column, kinds in columns.items():
            if clean.get(column) is not None:
                walk = _Walk(self, kinds)
                clean[column] = walk.value(clean[column])
                for kind, n in walk.redacted.items():
                    redacted[kind, column] += n
                for kind, n in walk.kept.items():
                    kept[kind, column] += n
        if redacted or kept:
            self._counts.update(redacted)
            self._counts.update(kept)
        return Cleaned(clean, redacted, kept)

    def redact(
        self, text: str, kinds: frozenset[Kind], context: str = ""
    ) -> tuple[str, Counter[Kind]]:
        """Return a text without personal data of the given kinds, and how many were replaced.

        Searches until nothing is left: a placeholder is shorter or longer than what it replaces,
        which can bring a word into reach of a number.
        """
        counts: Counter[Kind] = Counter()
        while spans := _spans(text, kinds, context):
            parts, end = [], 0
            for span in spans:
                parts += [
                    text[end : span.start],
                    self._placeholder(text[span.start : span.end], span),
                ]
                end = span.end
                counts[span.kind] += 1
            text = "".join([*parts, text[end:]])
        return text, counts

    def spans(self, text: str, kinds: frozenset[Kind], context: str) -> tuple[Span, ...]:
        """Search a text as `redact` does; short ones, such as labels, recur and are remembered."""
        if len(text) > _LONGEST_KNOWN:
            return _spans(text, kinds, context)
        key = text, kinds, context
        found = self._known.get(key)
        if found is None:
            found = _spans(text, kinds, context)
            if len(self._known) < _MOST_KNOWN:
                self._known[key] = found
        return found

    def _placeholder(self, original: str, span: Span) -> str:
        key = span.kind, canonical(span.kind, original)
        if key not in self._numbers:
            self._used[span.kind] += 1
            self._numbers[key] = self._used[span.kind]
        name = placeholder(span.kind, self._numbers[key])
        self._originals.setdefault(name, {})[original] = None
        return name

    def counts(self) -> tuple[Count, ...]:
        """Return all that was found so far, by kind and column."""
        order = list(Kind)
        found = sorted(self._counts.items(), key=lambda one: (order.index(one[0][0]), one[0][1]))
        return tuple(
            Count(kind, column, count, self.actions[kind]) for (kind, column), count in found
        )

    def originals(self) -> dict[str, tuple[str, ...]]:
        """Return the originals of each placeholder, in order of appearance. Never to be logged."""
        return {name: tuple(spellings) for name, spellings in self._originals.items()}


class _Walk:
    """One value of a row, walked through to its texts."""

    def __init__(self, redactor: Redactor, kinds: frozenset[Kind]) -> None:
        self._redactor = redactor
        self._to_redact = redactor.to_redact & kinds
        self._to_count = redactor.to_count & kinds
        self.redacted: Counter[Kind] = Counter()
        self.kept: Counter[Kind] = Counter()

    def value(self, value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return self._text(value, key)
        if isinstance(value, dict):
            return {
                self._key(name): inner if name in _NEVER_LEARNED else self.value(inner, str(name))
                for name, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(inner, key) for inner in value]
        if isinstance(value, int) and not isinstance(value, bool) and value >= _SHORTEST_NUMBER:
            text = self._text(str(value), key)
            return value if text == str(value) else text
        return value

    def _key(self, name: Any) -> Any:
        """Return a key; objects whose keys are data have names or addresses there."""
        is_word = not isinstance(name, str) or name.isidentifier()
        return name if is_word else self._text(name, "")

    def _text(self, text: str, key: str) -> Any:
        if text[:1] in ("{", "["):
            inner = _parsed(text)
            if inner is not None:
                clean = self.value(inner, key)
                return text if clean == inner else json.dumps(clean, ensure_ascii=False)
        context = (
            f"{key}: " if key and key not in _TURN_KEYS and len(text) <= _LONGEST_FIELD else ""
        )
        if self._to_redact:
            text, counts = self._redactor.redact(text, self._to_redact, context)
            self.redacted.update(counts)
        if self._to_count and (spans := self._redactor.spans(text, self._to_count, context)):
            self.kept.update(span.kind for span in spans)
        return text


def _parsed(text: str) -> dict[str, Any] | list[Any] | None:
    """Return the JSON in a text: its escapes hide data, and a number redacted in it breaks it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _spans(text: str, kinds: frozenset[Kind], context: str) -> tuple[Span, ...]:
    """Search a text after the words that say what it is; the words are not part of it."""
    if not context:
        return scan(text, kinds)
    return tuple(_after(scan(context + text, kinds), len(context)))


def _after(spans: tuple[Span, ...], offset: int) -> Iterator[Span]:
    for span in spans:
        if span.end > offset:
            yield Span(max(0, span.start - offset), span.end - offset, span.kind)


def canonical(kind: Kind, original: str) -> str:
    """Return one form for all spellings of a value, so that they get one placeholder.

    Example:
        >>> canonical(Kind.IBAN, "de89 3704") == canonical(Kind.IBAN, "DE893704")
        True
    """
    if kind is Kind.PHONE:
        return canonical_phone(original)
    if kind is Kind.IP_ADDRESS:
        return canonical_ip(original)
    if kind in (Kind.IBAN, Kind.PAYMENT_CARD, Kind.NATIONAL_ID, Kind.IMEI, Kind.MAC_ADDRESS):
        return "".join(character for character in original if character.isalnum()).upper()
    if kind in (Kind.EMAIL, Kind.PERSON_NAME, Kind.STREET_ADDRESS, Kind.DATE_OF_BIRTH):
        return " ".join(original.casefold().split())
    return original
