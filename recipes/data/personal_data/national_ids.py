"""Numbers that states give to persons, by their format, check digits and the words before them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from recipes.data.personal_data.context import NUMBERED_THING, last, line_before, words
from recipes.data.personal_data.kinds import Kind, Span

Evidence = Literal["number", "format", "name"]
"""What makes a match a personal number: the number alone, which has a strong check; its format,
unless it is named as something else; or its name before it, because the check is weak."""


@dataclass(frozen=True)
class Scheme:
    """How one country's number is written and checked."""

    country: str
    written: str
    """Its form, as a regular expression."""

    pattern: re.Pattern[str]
    """The same, as a whole word."""

    module: str | None
    """Of python-stdnum, which checks it; None where the pattern is all there is."""

    named: re.Pattern[str]
    """Words that name it."""

    evidence: Evidence


def _scheme(
    country: str, pattern: str, module: str | None, named: str, evidence: Evidence = "name"
) -> Scheme:
    whole = re.compile(rf"(?<![\w.,/+-]){pattern}(?![\w]|[-/.]\w)")
    return Scheme(country, pattern, whole, module, words(*named.split("|")), evidence)


_TAX = "tax|steuer|tin\\b|national id|personal id|identity|identif|id n|id:|ssn"
_RUN = re.compile(r"\d[^\W_]*")
_SHORT_WORDS = re.compile(r"(?:(?<![^\W_])[A-Za-z]{1,3} )?(?<![^\W_])([A-Za-z]{1,3}) $")
_SEVEN_DIGITS = re.compile(r"\d(?:[^\w\n]{0,2}[A-Z]?[^\w\n]?\d){6}")
_LETTER_FIRST = re.compile(r"(?:\(\?![^)]*\))?\[[A-Z]")
SCHEMES = (
    _scheme(
        "DE",
        r"(?:\d{2} ?\d{3} ?\d{3} ?\d{3}|\d{3} \d{3} \d{3} \d{2})",
        "de.idnr",
        f"idnr|id-nr|{_TAX}",
    ),
    _scheme(
        *("DE", r"\d{2} ?[0-3]\d[01]\d{3} ?[A-Z] ?\d{3}", None),
        "sozialversicherung|rentenversicherung|sv-?nummer|svnr|rvnr|social security",
    ),
    _scheme(
        "AT", r"\d{4} ?[0-3]\d[01]\d{3}", "at.vnr", "sozialversicherung|sv-?n|svnr|versicherung"
    ),
    _scheme("CH", r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}", "ch.ssn", "ahv|avs", evidence="number"),
    _scheme(
        *(
            "FR",
            r"[1-478] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}",
            "fr.nir",
            "nir|sécu",
        ),
        evidence="number",
    ),
    _scheme(
        "FR", r"[0-3]\d(?: ?\d{2}){2}(?: ?\d{3}){1,3}|[0-3]\d{12}", "fr.nif", "fiscal|spi\\b|nif\\b"
    ),
    _scheme("ES", r"\d{2}\.?\d{3}\.?\d{3}[ -]?[A-Za-z]", "es.dni", "dni|nif", evidence="number"),
    _scheme("ES", r"[XYZxyz][ -]?\d{7}[ -]?[A-Za-z]", "es.nie", "nie\\b", evidence="number"),
    _scheme(
        "IT",
        r"[A-Za-z]{3} ?[A-Za-z]{3} ?\d{2}[A-Za-z]\d{2} ?[A-Za-z]\d{3}[A-Za-z]",
        "it.codicefiscale",
        "codice fiscale|c\\.? ?f\\.?\\b",
        evidence="number",
    ),
    _scheme(
        "NL",
        r"\d{4}[. ]?\d{2}[. ]?\d{3}|\d{3}[. ]\d{3}[. ]\d{3}",
        "nl.bsn",
        f"bsn|burgerservice|sofi|{_TAX}",
    ),
    _scheme(
        *("BE", r"\d{2}[. ]?[01]\d[. ]?[0-3]\d[- ]?\d{3}[. ]?\d{2}", "be.nn"),
        "rijksregister|registre national|insz|niss|nationaal nummer|numéro national",
        evidence="number",
    ),
    _scheme("PL", r"\d{11}", "pl.pesel", "pesel"),
    _scheme("PT", r"[123]\d{2}[ .]?\d{3}[ .]?\d{3}", "pt.nif", f"nif\\b|contribuinte|{_TAX}"),
    _scheme(
        *("SE", r"(?:19|20)?\d{2}[01]\d[0-3]\d[-+]\d{4}", "se.personnummer", "person"),
        evidence="number",
    ),
    _scheme("SE", r"(?:19|20)?\d{2}[01]\d[0-3]\d{5}", "se.personnummer", "personn"),
    _scheme("DK", r"[0-3]\d[01]\d{3}[- ]?\d{4}", "dk.cpr", "cpr|personn"),
    _scheme("NO", r"[0-7]\d[0-8]\d{3} ?\d{5}", "no.fodselsnummer", "fødsels|fodsels|personn"),
    _scheme("FI", r"[0-3]\d[01]\d{3}[-+A-FU-Y]\d{3}[0-9A-Y]", "fi.hetu", "hetu", evidence="number"),
    _scheme("IS", r"[0-3]\d[01]\d{3}-?\d{4}", "is_.kennitala", "kennitala"),
    _scheme(
        *(
            "GB",
            r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] \d{2} \d{2} \d{2} [A-D]",
            None,
        ),
        "nino|national insurance|ni n",
        evidence="format",
    ),
    _scheme(
        *("GB", r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]", None),
        "nino|national insurance|ni n|ni:|insurance n",
    ),
    _scheme("GB", r"\d{3}[ -]?\d{3}[ -]?\d{4}", "gb.nhs", "nhs"),
    _scheme("IE", r"\d{7}[A-Wa-w][A-IWa-iw]?", "ie.pps", "pps"),
    _scheme("US", r"\d{3}-\d{2}-\d{4}", "us.ssn", "ssn|social security", evidence="format"),
    _scheme("US", r"\d{3} ?\d{2} ?\d{4}", "us.ssn", "ssn|social security|social"),
    _scheme(
        "CA", r"\d{3}[ -]?\d{3}[ -]?\d{3}", "ca.sin", "sin\\b|social insurance|assurance sociale"
    ),
    _scheme("BR", r"\d{3}\.\d{3}\.\d{3}-\d{2}", "br.cpf", "cpf", evidence="number"),
    _scheme("BR", r"\d{11}", "br.cpf", "cpf"),
    _scheme("MX", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d", "mx.curp", "curp", evidence="number"),
    _scheme("IN", r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", "in_.aadhaar", "aadhaar|aadhar|uidai|uid\\b"),
    _scheme("IN", r"[A-Z]{3}P[A-Z]\d{4}[A-Z]", "in_.pan", "pan\\b", evidence="number"),
    _scheme("CN", r"[1-9]\d{16}[\dXx]", "cn.ric", "身份", evidence="number"),
    _scheme("KR", r"\d{2}[01]\d[0-3]\d-\d{7}", "kr.rrn", "주민", evidence="number"),
    _scheme("AU", r"\d{3} ?\d{3} ?\d{3}", "au.tfn", "tfn|tax file"),
    _scheme("ZA", r"\d{6} ?\d{4} ?\d{2} ?\d", "za.idnr", "south african id|id n|identity"),
    _scheme("CZ", r"\d{2}[0-8]\d[0-3]\d/\d{4}", "cz.rc", "rodn", evidence="number"),
    _scheme("RO", r"[1-8]\d{12}", "ro.cnp", "cnp"),
    _scheme("BG", r"\d{10}", "bg.egn", "егн|egn"),
    _scheme("HR", r"\d{11}", "hr.oib", "oib"),
    _scheme("EE", r"[1-6]\d{10}", "ee.ik", "isikukood"),
    _scheme("TR", r"[1-9]\d{10}", "tr.tckimlik", "kimlik|tckn"),
    _scheme("IL", r"\d{9}", "il.idnr", "teudat|israeli id"),
    _scheme("CL", r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]", "cl.rut", "rut\\b|run\\b", evidence="number"),
)


_BY_FIRST = {
    is_lettered: tuple(
        one for one in SCHEMES if bool(_LETTER_FIRST.match(one.written)) == is_lettered
    )
    for is_lettered in (False, True)
}


def find_national_ids(text: str) -> Iterator[Span]:
    """Find personal numbers of the countries in `SCHEMES`."""
    for start in _starts(text):
        is_lettered = not text[start].isdigit()
        if is_lettered or _SEVEN_DIGITS.match(text, start):
            for scheme in _BY_FIRST[is_lettered]:
                match = scheme.pattern.match(text, start)
                if match is not None and _holds(scheme, text, match):
                    yield Span(*match.span(), Kind.NATIONAL_ID)


def _starts(text: str) -> Iterator[int]:
    """Return where a personal number may start: at words with digits, or up to two before these.

    To try each pattern there takes a tenth of the time of searching with it.
    """
    end = 0
    for digits in _RUN.finditer(text):
        start = digits.start()
        if start < end:
            continue  # of the same word as the digits before
        while start > end and text[start - 1].isalnum():
            start -= 1
        end = digits.end()
        if text[start - 1 : start] == " ":
            words = _SHORT_WORDS.search(text, max(0, start - 8), start)
            if words is not None:
                yield from {words.start(), words.start(1)}
        yield start


def _holds(scheme: Scheme, text: str, match: re.Match[str]) -> bool:
    before = line_before(text, match.start())
    named = last(scheme.named, before)
    if scheme.evidence == "name" and named < 0:
        return False
    if scheme.evidence != "number" and last(NUMBERED_THING, before) > named:
        return False
    if scheme.module is None:
        return True
    validator = importlib.import_module(f"stdnum.{scheme.module}")
    number = match.group()
    return bool(validator.is_valid(number) or validator.is_valid(re.sub(r"[. ]", "", number)))
