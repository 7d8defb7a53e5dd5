"""Find personal data and secrets in a text."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator

from recipes.data.personal_data import (
    addresses,
    contact,
    dates,
    financial,
    names,
    national_ids,
    network,
    secrets,
)
from recipes.data.personal_data.context import has_any
from recipes.data.personal_data.kinds import ALL, PLACEHOLDER, Kind, Span

_DIGITS = re.compile(r"\d(?:[^\w\n]{0,3}\d){6}")
"""Seven digits: in every telephone number, account, card, and most personal numbers."""

_NUMBER = re.compile(r"\d")
_SPACE = re.compile(r"\s")
_REACH = 160
"""Characters around a digit that decide what it is."""

_LETTERED_ID = re.compile(
    r"[A-Z]{2}\d|[A-Za-z] ?\d\d[A-Za-z]\d\d|[A-Z] ?\d\d \d\d|[XYZxyz][ -]?\d{7}"
)
_RANK = {kind: rank for rank, kind in enumerate(Kind)}


def scan(text: str, kinds: frozenset[Kind] = ALL) -> tuple[Span, ...]:
    """Return where personal data of the given kinds is, in order and without overlap.

    Of overlapping matches, the one whose kind is first in `Kind` stays, then the longer one. What
    redaction has already replaced is never found again.

    Args:
        text: any text.
        kinds: to search for.
    """
    found = [span for span in _find(text, kinds) if span.kind in kinds]
    if not found:
        return ()
    found.sort(key=lambda span: (_RANK[span.kind], span.start - span.end, span.start))
    taken = [match.span() for match in PLACEHOLDER.finditer(text)] if "<" in text else []
    kept: list[Span] = []
    for span in found:
        at = bisect(taken, (span.start, span.end))
        is_free_before = at == 0 or taken[at - 1][1] <= span.start
        if is_free_before and (at == len(taken) or span.end <= taken[at][0]):
            taken.insert(at, (span.start, span.end))
            kept.append(span)
    return tuple(sorted(kept, key=lambda span: span.start))


def _find(text: str, kinds: frozenset[Kind]) -> Iterator[Span]:
    """Run the detectors whose hints are in the text: most are slow, and most texts hold nothing."""
    lowered = text.replace("\u0130", "I").lower()  # the one letter that lower() makes two of
    if Kind.EMAIL in kinds and "@" in text:
        yield from contact.find_emails(text)
    if Kind.PERSON_NAME in kinds:
        yield from names.find_introduced_names(text, lowered)
        yield from names.find_modelled_names(text)
    yield from _find_secrets(text, lowered, kinds)
    for start, end in _around_digits(text):
        part = text[start:end]
        for span in _find_by_digits(part, part.lower(), kinds):
            yield Span(start + span.start, start + span.end, span.kind)


def _around_digits(text: str) -> list[tuple[int, int]]:
    """Return the parts of a text near digits, whole words; a short text with digits is one part."""
    first = _NUMBER.search(text)
    if first is None:
        return []
    if len(text) <= 4 * _REACH:
        return [(0, len(text))]
    parts: list[tuple[int, int]] = []
    at: re.Match[str] | None = first
    while at is not None:
        start, end = max(0, at.start() - _REACH), min(len(text), at.end() + _REACH)
        if parts and start <= parts[-1][1]:
            start = parts.pop()[0]
        while start > 0 and not text[start - 1].isspace():
            start -= 1
        if end < len(text):
            space = _SPACE.search(text, end)
            end = space.start() if space else len(text)
        parts.append((start, end))
        at = _NUMBER.search(text, max(at.end(), end - _REACH))
    return parts


def _find_secrets(text: str, lowered: str, kinds: frozenset[Kind]) -> Iterator[Span]:
    if Kind.PRIVATE_KEY in kinds:
        yield from secrets.find_private_keys(text)
    if Kind.URL_CREDENTIALS in kinds:
        yield from secrets.find_url_credentials(text)
    if Kind.PASSWORD in kinds:
        yield from secrets.find_passwords(text, lowered)
    if max(map(len, text.split()), default=0) < secrets.SHORTEST_KEY:
        return
    if Kind.ACCESS_TOKEN in kinds:
        yield from secrets.find_tokens(text)
    if Kind.API_KEY in kinds:
        yield from secrets.find_api_keys(text, lowered)


def _find_by_digits(text: str, lowered: str, kinds: frozenset[Kind]) -> Iterator[Span]:
    if _DIGITS.search(text):
        yield from _find_numbers(text, lowered, kinds)
    elif Kind.NATIONAL_ID in kinds and _LETTERED_ID.search(text):
        yield from national_ids.find_national_ids(text)
    if Kind.IP_ADDRESS in kinds and (text.count(".") > 2 or text.count(":") > 1):
        yield from network.find_ip_addresses(text)
    if Kind.MAC_ADDRESS in kinds and (text.count(":") > 4 or text.count("-") > 4):
        yield from network.find_mac_addresses(text)
    if Kind.DATE_OF_BIRTH in kinds and has_any(lowered, dates.GATE):
        yield from dates.find_dates_of_birth(text)
    if Kind.STREET_ADDRESS in kinds:
        yield from addresses.find_street_addresses(text, lowered)


def _find_numbers(text: str, lowered: str, kinds: frozenset[Kind]) -> Iterator[Span]:
    if Kind.IBAN in kinds:
        yield from financial.find_ibans(text)
    if Kind.PAYMENT_CARD in kinds:
        yield from financial.find_cards(text)
    if Kind.IMEI in kinds and "imei" in lowered:
        yield from network.find_imeis(text)
    if Kind.NATIONAL_ID in kinds:
        yield from national_ids.find_national_ids(text)
    if Kind.PHONE in kinds:
        yield from contact.find_phones(text)
