"""E-mail addresses, and telephone numbers by the numbering plans of their countries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from recipes.data.personal_data.context import NUMBERED_THING, last, line_before, words
from recipes.data.personal_data.kinds import Kind, Span

_LOCAL = r"[\w!#$%&'*+/=?^`{|}~-]"
_EMAIL = re.compile(
    rf"(?<![\w.+-]){_LOCAL}+(?:\.{_LOCAL}+)*@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{{2,24}}(?![\w@])"
)

REGIONS = ("DE", "GB", "FR", "IT", "ES", "US", "CH", "AT", "NL", "BE", "PL", "PT", "SE", "DK", "IE")
"""Countries whose national formats are searched, the first that fits decides."""

_NUMBER = re.compile(
    r"(?<![\w+.,:#/=-])(?:\+|00)?\(?\d(?:[ \u00a0()./\u2011\u2013-]{0,3}\d){6,16}(?![\w@])"
)
_GROUP = re.compile(r"\d+")
_DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{2,4}(?![./-]?\d)")
_YEARS = re.compile(r"(?:19|20)\d\d ?[-\u2013/] ?(?:19|20)\d\d")
_THOUSANDS = re.compile(r"\d{1,3}(?:[. \u00a0]\d{3})+")
_CONTEXT = words(
    *("tel", "phone", "call", "mobile", "cell", "whatsapp", "fax", "sms", "dial", "ring", "reach"),
    *("text me", "contact", "my number", "telefon", "handy", "mobil", "ruf", "anruf", "rückruf"),
    *("erreich", "meine nummer", "durchwahl", "appel", "rappel", "télé", "joindre", "portable"),
    *("mon numéro", "fixe", "llam", "móvil", "movil", "mi número", "marcar", "marque", "chiam"),
    *("cellulare", "il mio numero", "recapito", "numero di tel", "phone number", "signal", "viber"),
    *("teléf", "contacta", "contatt", "kontakt", "ligar", "hotline", "voicemail", "landline"),
)
_LIKE_A_PHONE = re.compile(r"[+0(]|\d{3}[ ./-]|1[ .-]")
"""How a number begins that may be one without a word before it."""

_GROUPED = (  # written as people write telephone numbers, so that no word before it is needed
    re.compile(r"0\d{1,5}[ /\u2011-]\(?\d{2,}(?:[ -]?\d+)*"),
    re.compile(r"\(0\d{1,5}\) ?\d{2,}(?:[ -]?\d+)*"),
    re.compile(r"0\d(?:[ .]\d\d){4}"),
    re.compile(r"(?:1[ -.])?(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-. ]\d{4}"),
    re.compile(r"[6789]\d\d(?: \d\d){3}"),
    re.compile(r"3\d\d[ /.-]\d{6,7}"),
)


def find_emails(text: str) -> Iterator[Span]:
    """Find e-mail addresses."""
    if "@" not in text:
        return
    at = text.find("@")
    while at >= 0:  # from each @ outwards: a search from the left is slow on long words
        start = max(0, at - 65)
        match = _email_around(text, start, at)
        if match is not None:
            yield Span(*match, Kind.EMAIL)
        at = text.find("@", max(at + 1, match[1] if match else 0))


def _email_around(text: str, start: int, at: int) -> tuple[int, int] | None:
    if not text[at + 1 : at + 2].isalnum() or text[at - 1 : at].isspace():
        return None
    for match in _EMAIL.finditer(text, start, min(len(text), at + 256)):
        if match.start() < at < match.end():
            first = match.start()
            while text[first] in "'`{|/=*":  # quotation marks and the like before an address
                first += 1
            return (first, match.end()) if first < at else None
    return None


def find_phones(text: str) -> Iterator[Span]:
    """Find telephone numbers: international ones, and national ones by format or context."""
    for match in _NUMBER.finditer(text):
        span = _phone_in(text, match.start(), match.end())
        if span is not None:
            yield Span(*span, Kind.PHONE)


def _phone_in(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the telephone number in a run of digits and separators, which may hold more."""
    candidate = text[start:end]
    if _DATE.match(candidate) or _YEARS.fullmatch(candidate):
        return None
    before = line_before(text, start)
    named = last(_CONTEXT, before)
    if named < 0 and not _LIKE_A_PHONE.match(candidate):
        return None
    other = last(NUMBERED_THING, before)
    has_context = named > other
    ends = [group.end() for group in _GROUP.finditer(candidate)]
    for stop in ends[:-4:-1]:
        number = candidate[:stop]
        if number.count("(") != number.count(")"):
            continue
        if _is_phone(number, has_context=has_context, is_other=other > named):
            return start, start + stop
    return None


@lru_cache(maxsize=65_536)
def _is_phone(number: str, *, has_context: bool, is_other: bool) -> bool:
    digits = re.sub(r"\D", "", number)
    if not 7 <= len(digits) <= 15 or len(set(digits)) < 3:
        return False
    if number.startswith("+"):
        return _e164(number, None, is_strict=False) is not None
    if number.startswith("00") and not number.startswith("000"):
        return not is_other and _e164("+" + number[2:], None, is_strict=True) is not None
    if is_other:
        return False
    is_grouped = any(pattern.fullmatch(number) for pattern in _GROUPED)
    if not has_context:
        return is_grouped and _national(number) is not None
    if _national(number) is not None:
        return True
    if re.fullmatch(r"\d{3}[- ]\d{4}", number):  # local, as in North America
        return True
    is_possible = any(_e164(number, region, is_strict=False) for region in REGIONS)
    return is_possible and number.startswith(("0", "(0")) and len(digits) >= 9


def _national(number: str) -> str | None:
    for region in REGIONS:
        found = _e164(number, region, is_strict=True)
        if found is not None:
            return found
    return None


@lru_cache(maxsize=65_536)
def _e164(number: str, region: str | None, *, is_strict: bool) -> str | None:
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    holds = phonenumbers.is_valid_number if is_strict else phonenumbers.is_possible_number
    if not holds(parsed):
        return None
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


def canonical_phone(number: str) -> str:
    """Return one form for the spellings of one telephone number: E.164 where it is known.

    Example:
        >>> canonical_phone("0170 1234567") == canonical_phone("+49 (0)170-1234567")
        True
    """
    if number.startswith("00"):
        number = "+" + number[2:]
    if number.startswith("+"):
        return _e164(number, None, is_strict=False) or re.sub(r"\D", "", number)
    return _national(number) or re.sub(r"\D", "", number)
