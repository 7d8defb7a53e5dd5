"""Street addresses in five languages: a name of a street with a house number."""

from __future__ import annotations

import re
from collections.abc import Iterator

from recipes.data.personal_data.context import has_any
from recipes.data.personal_data.kinds import Kind, Span

_UPPER = r"[A-ZÄÖÜÀÂÇÉÈÊËÎÏÔÙÛÑÁÍÓÚ]"
_WORD = rf"(?:{_UPPER}\w{{0,3}}\.|{_UPPER}[\w'\u2019-]*)"
_WORDS = rf"{_WORD}(?: {_WORD}){{0,5}}"
_TOWN_WORD = rf"{_UPPER}[\w'\u2019-]+"
_TOWN = rf"{_TOWN_WORD}(?:[ -](?:{_TOWN_WORD}|am|an|der|sur|la|le|les|en|de|del|sous))*"
_CONTINENTAL = rf"(?:,? ?\n?(?:[A-Z]{{1,2}}-)?\d{{4,5}} (?:{_TOWN}))?"

_ENGLISH = re.compile(
    r"(?<![\w.,-])(?:(?:Flat|Apt\.?|Unit|Suite) \w{1,5},? )?\d{1,5}[A-Za-z]?,? "
    rf"(?:[NSEW]\.? )?(?:{_WORD} ){{1,3}}"
    r"(?:Street|St\.?|Road|Rd\.?|Avenue|Ave\.?|Lane|Ln\.?|Drive|Dr\.?|Boulevard|Blvd\.?|Court|Ct\.?"
    r"|Terrace|Close|Crescent|Gardens|Square|Way|Parkway|Pkwy\.?|Place|Pl\.?|Grove|Mews|Highway)\b"
    rf"(?:,? (?:Flat|Apt\.?|Unit|Suite) \w{{1,5}})?"
    rf"(?:,? {_WORD}(?: {_WORD})?,? "
    r"(?:[A-Z]{2} \d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2})\b)?"
)
_GERMAN = re.compile(
    rf"(?<!\w)(?:(?:Am|An der|An den|Im|In der|Auf der|Auf dem|Zum|Zur|Unter den) )?"
    r"(?!(?:Der|Die|Das|Den|Dem|Ein|Eine|Dieser|Kein|Jeder|Mein|Ihr|Unser) )"
    rf"(?:{_UPPER}[\w-]{{0,40}}?(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|damm|ufer|steig|chaussee)"
    rf"|(?:{_WORD} ){{1,2}}(?:Stra(?:ß|ss)e|Str\.|Weg|Platz|Allee|Gasse|Damm|Ufer|Ring))"
    rf" ?\d{{1,4}} ?(?:[a-h]\b)?(?:[-/]\d{{1,3}})?{_CONTINENTAL}"
)
_FRENCH = re.compile(
    r"(?<![\w.,-])\d{1,4}(?: ?(?:bis|ter|quater|[A-D]))?,? "
    r"(?:[Rr]ue|[Aa]venue|[Aa]v\.|[Bb]oulevard|[Bb]d\.?|[Pp]lace|[Cc]hemin|[Aa]llée|[Ii]mpasse|[Qq]uai"
    r"|[Rr]oute|[Cc]ours|[Ss]quare|[Pp]assage)"
    r"(?: (?:de la|de l['\u2019]|des|du|de|d['\u2019]|la|le|les|l['\u2019]|aux|au))*"
    rf"(?: ?{_WORDS}| \d{{1,2}}(?:er)? {_WORDS}(?: \d{{4}})?)"
    rf"(?: (?:de|du|des|la|le|et) {_WORD}){{0,3}}{_CONTINENTAL}"
)
_SPANISH = re.compile(
    r"(?<!\w)(?:[Cc]alle|[Cc]/|[Aa]venida|[Aa]vda?\.|[Pp]laza|[Pp]za\.|[Pp]aseo|P\.º|[Cc]amino|[Rr]onda"
    r"|[Cc]arretera|[Tt]ravesía)"
    r"(?: (?:de los|de las|de la|del|de|los|las|la|el))*"
    rf" ?{_WORDS}(?: (?:de|del|y|la|los|las) {_WORDS}){{0,3}}"
    rf",? ?(?:n\.?[º°o]\.? ?|núm\.? ?|número )?\d{{1,4}}(?!\w)"
    rf"(?:,? \d{{1,2}}\.?[ºª°]?(?: ?[A-Z]|\b)(?![\w]))?{_CONTINENTAL}"
)
_ITALIAN = re.compile(
    r"(?<!\w)(?:[Vv]ia|[Vv]iale|[Pp]iazza|[Pp]\.za|[Cc]orso|[Vv]icolo|[Ll]argo|[Ss]trada|[Pp]iazzale)"
    r"(?: (?:della|dello|delle|dei|degli|del|di|dell['\u2019]|d['\u2019]|la|XX|IV))*"
    rf" ?{_WORDS},? ?(?:n\.? ?|n\.º ?)?\d{{1,4}}(?:/?[A-Ha-h]\b)?(?!\w){_CONTINENTAL}"
)
_LANGUAGES = (
    (
        _ENGLISH,
        *(" street", " st", " road", " rd", " ave", " lane", " ln", " drive", " dr", " boulevard"),
        *(" blvd", " court", " ct", " terrace", " close", " crescent", " gardens", " square"),
        *(" way", " parkway", " pkwy", " place", " pl", " grove", " mews", " highway"),
    ),
    (
        _GERMAN,
        *("straße", "strasse", "str.", "weg", "platz", "allee", "gasse", "damm", "ufer", "ring"),
        *("steig", "chaussee"),
    ),
    (
        _FRENCH,
        *("rue", "avenue", "av.", "boulevard", "bd", "place", "chemin", "allée", "impasse", "quai"),
        *("route", "cours", "square", "passage"),
    ),
    (
        _SPANISH,
        *("calle", "c/", "avenida", "avd", "plaza", "pza.", "paseo", "p.º", "camino", "ronda"),
        *("carretera", "travesía"),
    ),
    (_ITALIAN, "via", "piazza", "p.za", "corso", "vicolo", "largo", "strada"),
)


def find_street_addresses(text: str, lowered: str) -> Iterator[Span]:
    """Find streets with a house number; with postcode and town where they follow."""
    for pattern, *hints in _LANGUAGES:
        if has_any(lowered, hints):
            for match in pattern.finditer(text):
                end = match.end() - len(match.group()) + len(match.group().rstrip(" ,.\n"))
                yield Span(match.start(), end, Kind.STREET_ADDRESS)
