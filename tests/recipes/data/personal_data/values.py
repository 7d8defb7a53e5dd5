"""Made-up values for the labelled set, half for development, half held out.

Mail and web addresses are of reserved domains, telephone numbers of ranges kept for fiction where
a country has one, cards and accounts are those of test systems and standards. Secrets are put
together at run time, so that no scanner takes this file for a leak.
"""

from __future__ import annotations

import base64
import json
import random
import string

DEVELOPMENT, HELD_OUT = 0, 1

LANGUAGES = ("en", "de", "fr", "es", "it")


def _drawn(seed: str, length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    rng = random.Random(seed)
    text = "".join(rng.choice(alphabet) for _ in range(length - 2))
    return text[:3] + "7" + text[3:] + "q"


def _jwt(seed: str) -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": seed, "iat": 1516239022}]
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*encoded, _drawn(seed, 43)])


def _pem(name: str) -> str:
    body = "\n".join(_drawn(f"{name}{i}", 64) for i in range(3))
    return f"-----BEGIN {name}" + f"PRIVATE KEY-----\n{body}\n-----END {name}" + "PRIVATE KEY-----"


_UPPER = string.ascii_uppercase + string.digits
_HEX = "0123456789abcdef"

API_KEYS = (
    (
        "AK" + "IA" + _drawn("a", 16, _UPPER).upper(),
        "gh" + "p_" + _drawn("b", 36),
        "xo" + "xb-" + "123456789012-123456789012-" + _drawn("c", 24),
        "sk" + "_live_" + _drawn("d", 24),
        "AI" + "za" + _drawn("e", 35),
        "sk" + "-proj-" + _drawn("f", 48),
        "SG" + "." + _drawn("g", 22) + "." + _drawn("h", 43),
    ),
    (
        "AS" + "IA" + _drawn("i", 16, _UPPER).upper(),
        "github" + "_pat_" + _drawn("j", 82),
        "xo" + "xp-" + "210987654321-210987654321-" + _drawn("k", 24),
        "rk" + "_live_" + _drawn("l", 24),
        "AI" + "za" + _drawn("m", 35),
        "sk" + "-ant-" + _drawn("n", 60),
        "gl" + "pat-" + _drawn("o", 20),
        "h" + "f_" + _drawn("p", 34),
    ),
)

VALUES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "email": (
        (
            "anna.keller@example.com",
            "j_smith+shop@mail.example.org",
            "INFO@Example.NET",
            "o'brien@example.com",
            "marie-claire@sub.domain.example",
            "x@example.de",
        ),
        (
            "pedro.garcia99@example.es",
            "b.rossi@posta.example.it",
            "Lea.Martin@EXAMPLE.FR",
            "first.last@example.co.uk",
            "jürgen@example.de",
            "a.b.c@example.museum",
        ),
    ),
    "iban": (
        (
            "DE89 3704 0044 0532 0130 00",
            "FR1420041010050500013M02606",
            "ES91 2100 0418 4502 0005 1332",
            "NL91ABNA0417164300",
            "CH93 0076 2011 6238 5295 7",
        ),
        (
            "DE44500105175407324931",
            "IT60 X054 2811 1010 0000 0123 456",
            "GB29 NWBK 6016 1331 9268 19",
            "AT611904300234573201",
            "PT50 0002 0123 1234 5678 9015 4",
            "FR76 3000 6000 0112 3456 7890 189",
        ),
    ),
    "payment_card": (
        (
            "4111 1111 1111 1111",
            "5555555555554444",
            "3782 822463 10005",
            "4539-5787-6362-1486",
            "6011000990139424",
        ),
        (
            "4916 3385 0608 2832",
            "5425233430109903",
            "374245455400126",
            "3566-0020-2036-0505",
            "2223 0000 4841 0010",
            "30569309025904",
        ),
    ),
    "ip_address": (
        ("192.0.2.17", "198.51.100.254", "2001:db8::8a2e:370:7334", "203.0.113.9"),
        ("203.0.113.201", "2001:db8:85a3:0:0:8a2e:370:7334", "198.51.100.3", "192.0.2.144"),
    ),
    "mac_address": (
        ("00:00:5E:00:53:AF", "00-00-5e-00-53-01", "00:00:5e:00:53:7c"),
        ("00:00:5E:00:53:10", "00-00-5E-00-53-FF", "02:00:5e:10:00:0a"),
    ),
    "imei": (
        ("490154203237518", "35 693803 564380 9", "353879234252633"),
        ("352099001761481", "49-015420-323751-8", "356938035643809"),
    ),
    "api_key": API_KEYS,
    "access_token": (
        (_jwt("alpha"), _jwt("beta"), _jwt("gamma")),
        (_jwt("delta"), _jwt("epsilon"), _jwt("zeta")),
    ),
    "private_key": (
        (_pem("RSA "), _pem(""), _pem("EC ")),
        (_pem("OPENSSH "), _pem("ENCRYPTED "), _pem("DSA ")),
    ),
    "url_credentials": (
        (
            "https://" + "anna:s3cr3t99" + "@intranet.example.com/login",
            "postgres://" + "app:hunter2!" + "@db.example.org:5432/shop",
            "ftp://" + "user:Wq8rT" + "@ftp.example.net",
        ),
        (
            "mongodb+srv://" + "svc:Zz91kk" + "@cluster0.example.com/test",
            "https://" + "bob:p4ss" + "@192.0.2.10:8443/api",
            "redis://" + "cache:a7F2k9" + "@redis.example.org:6379",
        ),
    ),
    "password": (
        ("Sommer2024!", "hunter2#", "tr0ub4dor&3", "Kx9_pLm2"),
        ("Winter#1987", "c0rrect-h0rse", "Abc12345!", "q7W$e2rT"),
    ),
}
"""By kind: those for development, those held out. In every language."""

LOCAL: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "phone": {
        "en": (
            ("+44 20 7946 0958", "(202) 555-0123", "07700 900123", "202-555-0147"),
            ("+1 212 555 0199", "020 7946 0321", "+44 7700 900456", "(415) 555-0132"),
        ),
        "de": (
            ("+49 30 23125 123", "0170 1234567", "030/23125456", "+49 (0)171 3920012"),
            ("0049 40 66969 123", "0151 23456789", "+49 221 4710 555", "089 99998 045"),
        ),
        "fr": (
            ("01 99 00 12 34", "+33 6 39 98 12 34", "06.12.34.56.78", "+33 1 99 00 56 78"),
            ("02 61 91 12 34", "+33 (0)7 56 78 90 12", "0612345678", "04 65 71 23 45"),
        ),
        "es": (
            ("612 345 678", "+34 91 123 45 67", "91 123 45 67", "+34 612345678"),
            ("655 12 34 56", "+34 933 123 456", "722123456", "0034 699 876 543"),
        ),
        "it": (
            ("333 1234567", "+39 06 1234 5678", "06 12345678", "+39 347 123 4567"),
            ("347 7654321", "+39 02 8765 4321", "02 87654321", "0039 320 1234567"),
        ),
    },
    "national_id": {
        "en": (
            ("536-90-4399", "AB 12 34 56 C", "ACUPA7085R", "316-90-9399"),
            ("836-90-4379", "JG 10 37 59 A", "ACUPA7081J", "131052-308T"),
        ),
        "de": (
            ("36574261809", "37 084 261 909", "756.9217.0769.85", "365 742 618 09"),
            ("36574222800", "7569227476980", "32 578 961 809", "756.9197.0169.95"),
        ),
        "fr": (
            ("2 95 10 99 126 111 93", "295125712611393", "85.07.30-033.28"),
            ("2 95 75 99 129 111 73", "291139912713193", "88.07.15-563.11"),
        ),
        "es": (
            ("54362315K", "X2482300W", "54.682.315-E"),
            ("24364519K", "X6489300B", "58390305-K"),
        ),
        "it": (
            ("RCCMNL83S18D969H", "RCCMNL93S17D969H"),
            ("RCCMNL83S18D569Z", "RCC MNL 53S12 D966H"),
        ),
    },
    "street_address": {
        "en": (
            ("221 Baker Street", "12 Acacia Avenue", "1600 Maple Drive, Springfield, IL 62704"),
            ("48 Old Mill Lane", "7B Station Road", "350 North Elm St, Portland, OR 97205"),
        ),
        "de": (
            ("Musterstraße 12", "Lange Str. 5a, 10115 Berlin", "Am Kirchweg 3"),
            ("Goethestrasse 44", "Neuer Platz 7, 80331 München", "Bahnhofsallee 19"),
        ),
        "fr": (
            ("12 rue de la Paix", "4 bis avenue Victor Hugo, 75016 Paris", "27, chemin des Vignes"),
            ("8 boulevard Saint-Michel", "15 rue du Moulin, 69003 Lyon", "103 allée des Tilleuls"),
        ),
        "es": (
            ("Calle Mayor 15", "Avenida de la Constitución, 8, 41001 Sevilla", "C/ Alcalá 42"),
            ("Plaza del Sol 3", "Paseo de Gracia, nº 77, 08008 Barcelona", "Calle de Toledo 120"),
        ),
        "it": (
            ("Via Roma 10", "Piazza del Duomo 4, 20122 Milano", "Corso Vittorio Emanuele 88"),
            ("Viale dei Mille 23", "Via della Repubblica, 5, 40121 Bologna", "Vicolo Stretto 2"),
        ),
    },
    "date_of_birth": {
        "en": (
            ("12 March 1984", "03/04/1979", "July 4, 1991"),
            ("1990-11-23", "2nd May 1968", "11/30/1985"),
        ),
        "de": (
            ("12.03.1984", "4. Juli 1991", "1.1.80"),
            ("23.11.1990", "2. Mai 1968", "07.09.1975"),
        ),
        "fr": (
            ("12 mars 1984", "03/04/1979", "1er juillet 1991"),
            ("23/11/1990", "2 mai 1968", "07-09-1975"),
        ),
        "es": (
            ("12 de marzo de 1984", "03/04/1979", "4-7-1991"),
            ("23/11/1990", "2 de mayo de 1968", "07.09.1975"),
        ),
        "it": (
            ("12 marzo 1984", "03/04/1979", "4.7.1991"),
            ("23/11/1990", "2 maggio 1968", "07-09-1975"),
        ),
    },
    "person_name": {
        "en": (
            ("Anna Keller", "John O'Brien", "Mary Anne Smith"),
            ("Peter Vance", "Grace Hopper-Lee", "Tom de Vries"),
        ),
        "de": (("Jürgen Müller", "Anna von Berg"), ("Sabine Schröder", "Karl Heinz Öztürk")),
        "fr": (("Élodie Martin", "Jean-Luc Bernard"), ("Marie du Pont", "Hélène Girard")),
        "es": (("María García López", "Pedro Núñez"), ("José de la Torre", "Lucía Fernández")),
        "it": (("Giulia Bianchi", "Marco De Luca"), ("Paolo di Stefano", "Chiara Rossi")),
    },
}
"""By kind and language."""


def values(kind: str, language: str, part: int) -> tuple[str, ...]:
    """Return the values of a kind in a language, of one part of the set."""
    found = VALUES[kind] if kind in VALUES else LOCAL[kind][language]
    return found[part]


KINDS = (*VALUES, *LOCAL)
