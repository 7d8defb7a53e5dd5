"""Dates of birth: a date after words such as `born on`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from recipes.data.personal_data.context import last, line_before, words
from recipes.data.personal_data.kinds import Kind, Span

_MONTHS = (
    "jan(?:uary|uar|\\.)?|jänner|feb(?:ruary|ruar|\\.)?|mar(?:ch|\\.)?|märz|apr(?:il|\\.)?|may|mai"
    "|june?|juni|july?|juli|aug(?:ust|\\.)?|sept?(?:ember|\\.)?|oct(?:ober|\\.)?|okt(?:ober|\\.)?"
    "|nov(?:ember|\\.)?|dec(?:ember|\\.)?|dez(?:ember|\\.)?"
    "|janvier|février|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre"
    "|enero|febrero|marzo|abril|mayo|junio|julio|agosto|sep?tiembre|octubre|noviembre|diciembre"
    "|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre"
)
_DATE = re.compile(
    r"(?<![\w./-])(?:"
    r"\d{1,2}([./-]) ?\d{1,2}\1 ?(?:\d{4}|\d{2})"
    r"|(?:18|19|20)\d\d([./-])\d{1,2}\2\d{1,2}"
    r"|\d{1,2}(?:st|nd|rd|th|er|º|°|\.)?,?(?: of| de)? ?"
    rf"(?:{_MONTHS}),?(?: de[l]?)? (?:18|19|20)\d\d"
    r")(?![\w/]|[.-]\d)",
    re.IGNORECASE,
)
_MONTH_FIRST = re.compile(
    rf"(?<!\w)(?:{_MONTHS}) \d{{1,2}}(?:st|nd|rd|th)?,? (?:18|19|20)\d\d(?!\w)", re.IGNORECASE
)
_CONTEXT = words(
    *(
        "born(?:\\s+on)?\\b",
        "date[ _-]?of[ _-]?birth",
        "birth[ _-]?da(?:te|y)",
        "d\\.?o\\.?b\\.?\\b",
    ),
    *("geboren", "geb\\.", "geb\\b", "geburtstag", "geburtsdatum", "geburtsdat"),
    *("née?\\b", "né\\(e\\)", "naissance", "date de naiss", "anniversaire"),
    *("nacid[oa]s?\\b", "nací\\b", "nació\\b", "nacimiento", "f\\. ?nac", "cumpleaños"),
    *("nat[oa]\\b", "nascita", "data di nasc", "compleanno"),
)
_OTHER = words("order", "deliver", "expir", "since", "seit", "until", "bis\\b", "gültig", "depuis")
GATE = ("born", "birth", "dob", "d.o.b", "geb", "né", "naiss", "nac", "nat", "nasc", "anniv")
"""One of these is in every text with a date of birth, in lower case."""


def find_dates_of_birth(text: str) -> Iterator[Span]:
    """Find dates after words for birth, at most a short clause away."""
    for pattern in (_DATE, _MONTH_FIRST):
        for match in pattern.finditer(text):
            before = line_before(text, match.start())
            named = last(_CONTEXT, before)
            if (
                named >= 0
                and last(_OTHER, before) < named
                and not re.search(r"\d{3}", before[named:])
            ):
                yield Span(*match.span(), Kind.DATE_OF_BIRTH)
