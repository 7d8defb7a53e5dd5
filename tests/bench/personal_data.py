"""Personal data: precision and recall by kind, ours beside other libraries; and our speed.

    python -m tests.bench.personal_data

Libraries that are not installed are left out (`pip install presidio-analyzer` for the comparison).
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import time
from collections.abc import Iterable

from recipes.data.personal_data.kinds import Kind, Span
from recipes.data.personal_data.redact import Redactor, actions_of
from recipes.data.personal_data.scan import scan
from tests.recipes.data.personal_data.labelled import PARTS, Find, Labelled, Score, labelled, scores

OF_PRESIDIO = {
    "EMAIL_ADDRESS": Kind.EMAIL,
    "PHONE_NUMBER": Kind.PHONE,
    "IBAN_CODE": Kind.IBAN,
    "CREDIT_CARD": Kind.PAYMENT_CARD,
    "IP_ADDRESS": Kind.IP_ADDRESS,
    "MAC_ADDRESS": Kind.MAC_ADDRESS,
    **dict.fromkeys(
        (
            *("US_SSN", "US_ITIN", "UK_NINO", "UK_NHS", "IN_AADHAAR", "IN_PAN", "AU_TFN"),
            *("DE_TAX_ID", "DE_SOCIAL_SECURITY", "ES_NIF", "ES_NIE", "IT_FISCAL_CODE", "PL_PESEL"),
            *("FI_PERSONAL_IDENTITY_CODE", "SE_PERSONNUMMER", "KR_RRN", "SG_NRIC_FIN"),
        ),
        Kind.NATIONAL_ID,
    ),
}
SHORT = (
    "Where is my order from last week? It has not arrived yet.",
    "Please change the delivery to Monday 14 March, order 20240311.",
    "The card was charged twice, 49.90 each time.",
    "How do I reset my password?",
    "Thanks, that works.",
)


def presidio() -> dict[str, Find]:
    """Return Presidio's pattern recognizers, all languages, with words of context and without."""
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import (
        DeSocialSecurityRecognizer,
        DeTaxIdRecognizer,
        FiPersonalIdentityCodeRecognizer,
        SePersonnummerRecognizer,
    )

    languages = ["en", "de", "fr", "es", "it", "fi", "pl", "sv"]

    class Blank(SpacyNlpEngine):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.nlp = {language: spacy.blank(language) for language in languages}

    registry = RecognizerRegistry(supported_languages=languages)
    registry.load_predefined_recognizers(languages=languages)
    for one in (
        *(DeTaxIdRecognizer, DeSocialSecurityRecognizer),
        *(FiPersonalIdentityCodeRecognizer, SePersonnummerRecognizer),
    ):
        registry.add_recognizer(one())
    registry.remove_recognizer("SpacyRecognizer")
    engine = AnalyzerEngine(registry, nlp_engine=Blank(), supported_languages=languages)

    def find(text: str, threshold: float) -> Iterable[Span]:
        results = {
            (one.start, one.end, OF_PRESIDIO[one.entity_type])
            for language in languages
            for one in engine.analyze(text, language, score_threshold=threshold)
            if one.entity_type in OF_PRESIDIO
        }
        return [Span(*one) for one in sorted(results)]

    return {
        "presidio, score 0.4 and more": lambda text: find(text, 0.4),
        "presidio, any score": lambda text: find(text, 0.0),
    }


def detect_secrets() -> dict[str, Find]:
    """Return detect-secrets as it scans a line, its kinds joined into ours."""
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import default_settings

    kinds = {
        "Private Key": Kind.PRIVATE_KEY,
        "Basic Auth Credentials": Kind.URL_CREDENTIALS,
        "JSON Web Token": Kind.ACCESS_TOKEN,
        "Secret Keyword": Kind.PASSWORD,
        "Public IP (ipv4)": Kind.IP_ADDRESS,
    }

    def find(text: str) -> Iterable[Span]:
        spans = []
        with default_settings():
            for line in text.splitlines():
                for one in scan_line(line):
                    secret = one.secret_value or ""
                    if secret and secret in text:
                        start = text.index(secret)
                        kind = kinds.get(one.type, Kind.API_KEY)
                        spans.append(Span(start, start + len(secret), kind))
        return spans

    return {"detect-secrets": find}


def phone_matcher() -> dict[str, Find]:
    """Return the matcher of phonenumbers, all our regions."""
    import phonenumbers

    from recipes.data.personal_data.contact import REGIONS

    def find(text: str) -> Iterable[Span]:
        found = {
            (match.start, match.end)
            for region in REGIONS
            for match in phonenumbers.PhoneNumberMatcher(text, region)
        }
        return [Span(*one, Kind.PHONE) for one in sorted(found)]

    return {"phonenumbers' matcher": find}


def finders() -> dict[str, Find]:
    """Return every library that is installed."""
    found: dict[str, Find] = {"ours": scan}
    if importlib.util.find_spec("presidio_analyzer") is not None:
        found |= presidio()
    return found | detect_secrets() | phone_matcher()


def show(part: str, texts: list[Labelled]) -> None:
    """Print a table of precision and recall."""
    measured: dict[str, dict[Kind, Score]] = {}
    for name, find in finders().items():
        start = time.perf_counter()
        measured[name] = scores(texts, find)
        seconds = time.perf_counter() - start
        print(f"{name}: {seconds / len(texts) * 1e6:,.0f} us a text")
    print(f"\n{part}: precision / recall\n")
    print("| kind | spans | " + " | ".join(measured) + " |")
    print("|---|---|" + "---|" * len(measured))
    for kind in Kind:
        of = [one[kind] for one in measured.values()]
        cells = [f"{one.precision:.2f} / {one.recall:.2f}" if one.num_found else "-" for one in of]
        print(f"| {kind} | {of[0].num_true} | " + " | ".join(cells) + " |")
    print()


def speed(num_rows: int, megabytes: int) -> None:
    """Print how long rows take: short texts, and chats as large as the scale of issue 19."""
    texts = [one.text for part in PARTS.values() for one in labelled(part)]
    rng = random.Random(0)
    short = [f"{n}: {rng.choice(SHORT)}" for n in range(num_rows)]
    for n in range(0, num_rows, 10):
        short[n] = rng.choice(texts)
    _measure("short rows, one in ten with personal data", [{"text": text} for text in short])
    words = " ".join(SHORT).split()
    chats = []
    size = 0
    while size < megabytes * 1e6:
        turns = [
            {"role": role, "content": " ".join(rng.choices(words, k=60))}
            for role in ("user", "assistant", "user", "assistant")
        ]
        if len(chats) % 10 == 0:
            turns[2]["content"] += "\n" + rng.choice(texts)
        size += sum(len(turn["content"]) for turn in turns)
        chats.append({"messages": turns})
    _measure(f"chats of {size / 1e6:.0f} MB, one in ten with personal data", chats)


def _measure(name: str, rows: list[dict[str, object]]) -> None:
    for words, setting in (("search", "error"), ("redact", "redact")):
        redactor = Redactor(actions_of(setting), is_searching=True)  # type: ignore[arg-type]
        start = time.process_time()
        for row in rows:
            redactor(row, dict.fromkeys(row, frozenset(Kind)))
        seconds = time.process_time() - start
        found = sum(one.count for one in redactor.counts())
        print(f"{name}, {words}: {len(rows):,} rows in {seconds:.1f} s, {found:,} found")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--megabytes", type=int, default=70)
    given = parser.parse_args()
    for part, number in PARTS.items():
        show(part, labelled(number))
    speed(given.rows, given.megabytes)


if __name__ == "__main__":
    main()
