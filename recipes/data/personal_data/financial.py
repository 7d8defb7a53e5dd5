"""Bank accounts and payment cards, by their check digits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from recipes.data.personal_data.kinds import Kind, Span

_IBAN = re.compile(r"[A-Za-z](?<![A-Za-z0-9].)[A-Za-z]\d{2}(?:[ -]?[A-Za-z0-9]{1,4}+){3,9}+")
"""May end within a word that follows; nothing is tried twice, so hostile texts cost no more.

What must not be before a match is looked for after its first character: a pattern that begins with
a set of characters is searched for several times faster.
"""

_CARD = re.compile(r"\d(?<![\w.,-].)(?:[ \u00a0-]?\d){11,18}(?![\w-]|[.,]\d)")
_ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[68]\d)\d{11}"  # Diners Club
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15}"  # Maestro
)


def find_ibans(text: str) -> Iterator[Span]:
    """Find bank account numbers whose length, structure and check digits hold."""
    from stdnum import iban

    for match in _IBAN.finditer(text):
        start, end = match.span()
        while end - start >= 15:  # words may follow within the pattern
            is_whole = not text[end : end + 1].isalnum()
            if is_whole and iban.is_valid(text[start:end]):
                yield Span(start, end, Kind.IBAN)
                break
            cut = max(text.rfind(" ", start, end), text.rfind("-", start, end))
            if cut < 0:
                break
            end = cut


def find_cards(text: str) -> Iterator[Span]:
    """Find card numbers of a known issuer whose check digit holds."""
    from stdnum import luhn

    for match in _CARD.finditer(text):
        groups = re.split(r"[ \u00a0-]", match.group())
        if len(groups) > 1 and (len(groups) > 5 or min(map(len, groups[:-1])) < 4):
            continue
        digits = "".join(groups)
        if len(set(digits)) > 1 and _ISSUER.fullmatch(digits) and luhn.is_valid(digits):
            yield Span(*match.span(), Kind.PAYMENT_CARD)
