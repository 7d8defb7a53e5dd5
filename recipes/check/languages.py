"""In which languages rows are written, as a language identifier guesses from a sample of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from recipes.data import catalog
from recipes.data.findings import Findings
from recipes.data.near_duplicates import text_of
from recipes.data.split import DataRow

MOST_ROWS = 2_000
"""Rows that are looked at."""

MOST_CHARACTERS = 300
"""Of each row."""

FEWEST_LETTERS = 20
"""A text with fewer is too short to tell."""

MIN_CONFIDENCE = 0.9
SURE = 0.97
"""Confidence from which a row is named for its language."""

RARE = 0.02
"""Share of rows below which a language is rare."""

UNKNOWN = "unknown"


def languages(rows: Sequence[DataRow[Any]], findings: Findings) -> dict[str, float]:
    """Return the share of each language, largest first, by its ISO 639-1 code.

    A text that is too short, or of which the identifier (py3langid, 97 languages; Lui and Baldwin
    2012) is not sure, counts as ``unknown``. Of many rows, a random sample is taken. Rows that are
    surely in a language that hardly any other row is in become findings.
    """
    if not rows:
        return {}
    identify = _identifier().classify
    rng = random.Random(0)  # noqa: S311 (a sample, not a secret)
    chosen = rng.sample(list(rows), min(len(rows), MOST_ROWS))
    counts: Counter[str] = Counter()
    sure: list[tuple[DataRow[Any], str]] = []
    for row in chosen:
        text = text_of(row)[:MOST_CHARACTERS]
        if sum(map(str.isalpha, text)) < FEWEST_LETTERS:
            counts[UNKNOWN] += 1
            continue
        language, confidence = identify(text)
        counts[language if confidence >= MIN_CONFIDENCE else UNKNOWN] += 1
        if confidence >= SURE:
            sure.append((row, language))
    for row, language in sure:
        if counts[language] < RARE * len(chosen):
            findings.add(catalog.OTHER_LANGUAGE, row.place, language, row=row.id)
    return {name: count / len(chosen) for name, count in counts.most_common()}


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
