"""Addresses of machines: IP, MAC and IMEI."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from recipes.data.personal_data.context import line_before, words
from recipes.data.personal_data.kinds import Kind, Span

_IPV4 = re.compile(r"\d(?<![\w.+-].)\d{0,2}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\w|[.-]\w)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_MAC = re.compile(
    r"(?<![\w:.-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])"
)
_IMEI = re.compile(r"(?<![\w.,-])\d{2}[ -]?\d{6}[ -]?\d{6}[ -]?\d(?!\w)")
_VERSION = words(
    "versi[oó]n", "ver\\b", "v\\b", "release", "build", "firmware", "driver", "treiber"
)
_SECTION = words("section", "chapter", "clause", "abschnitt", "kapitel", "article", "§")
_IMEI_WORD = words("imei")


def find_ip_addresses(text: str) -> Iterator[Span]:
    """Find addresses of machines; not those that stand for no machine, as 127.0.0.1 or a mask."""
    for match in _IPV4.finditer(text):
        before = line_before(text, match.start(), 16)
        if _is_machine(match.group()) and not (_VERSION.search(before) or _SECTION.search(before)):
            yield Span(*match.span(), Kind.IP_ADDRESS)
    if text.count(":") < 2:
        return
    for match in _IPV6.finditer(text):
        found = match.group()
        if len(found) >= 7 and any(c.isdigit() for c in found) and _is_machine(found):
            yield Span(*match.span(), Kind.IP_ADDRESS)


def _is_machine(found: str) -> bool:
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return False
    is_mask = found.startswith("255.")
    return not (is_mask or address.is_loopback or address.is_unspecified or address.is_multicast)


def find_mac_addresses(text: str) -> Iterator[Span]:
    """Find hardware addresses, written in pairs."""
    for match in _MAC.finditer(text):
        digits = set(match.group().lower()) - {":", "-"}
        if len(digits) > 1:
            yield Span(*match.span(), Kind.MAC_ADDRESS)


def find_imeis(text: str) -> Iterator[Span]:
    """Find numbers of mobile telephones after the word, by their check digit."""
    from stdnum import luhn

    for match in _IMEI.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if luhn.is_valid(digits) and _IMEI_WORD.search(line_before(text, match.start(), 30)):
            yield Span(*match.span(), Kind.IMEI)


def canonical_ip(address: str) -> str:
    """Return one form for the spellings of one address."""
    return ipaddress.ip_address(address).compressed
