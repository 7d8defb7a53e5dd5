"""Names of persons: where somebody introduces themselves; everywhere with a model for names."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from recipes.data.personal_data.context import has_any
from recipes.data.personal_data.kinds import Kind, Span

_NAME = r"[^\W\d_a-z](?:[\w-]|['\u2019](?=[^\W\d_a-z]))+"
_PARTICLE = r"(?:van|von|de|der|den|del|della|di|da|du|la|le|zu|y|bin|al|ter|dos|O')"
_FULL = rf"{_NAME}(?: {_NAME}| {_PARTICLE}(?= )){{0,3}}? (?:{_PARTICLE} ){{0,3}}{_NAME}"
_INTRODUCED = re.compile(
    r"(?<!\w)(?:[Mm]y (?:full )?name(?: is|'s|\u2019s|:)|[Mm]ein Name ist|[Ii]ch hei(?:ß|ss)e"
    r"|[Jj]e m['\u2019]appelle|[Mm]on nom est|[Mm]e llamo|[Mm]i nombre es|[Mm]i chiamo"
    r"|[Ii]l mio nome è)"
    rf" (?:(?:Mr|Mrs|Ms|Dr|Herr|Frau|M|Mme|Sr|Sra|Sig)\.? )?({_FULL}(?: {_NAME}){{0,3}})"
)
_TITLED = re.compile(
    r"(?<!\w)(?:Mrs?\.?|Ms\.?|Herrn?|Frau|Mme|Madame|Monsieur|Señora?|Sra?\.|Signora?|Sig\.(?:ra)?)"
    rf" ({_FULL})(?!\w)"
)
_SIGNED = re.compile(
    r"(?:[Rr]egards|[Ss]incerely|[Tt]hanks|[Tt]hank you|[Bb]est wishes|[Cc]heers"
    r"|Gr(?:ü|ue)(?:ß|ss)en?|[Cc]ordialement|[Ss]alutations|[Ss]aludos|[Aa]tentamente|[Ss]aluti)"
    r",?[ \t]*\n\s*"
    rf"({_FULL})(?=[ \t]*(?:\n|$))"
)
_INTRODUCTIONS = ("name", "nombre", "nome", "nom est", "heiße", "heisse", "appelle", "amo ")
_TITLES = ("Mr", "Ms", "Herr", "Frau", "Mme", "Mada", "Monsieur", "Señor", "Sr", "Sig")
_LABELS = frozenset({"PER", "PERSON", "PS", "persName"})


def find_introduced_names(text: str, lowered: str) -> Iterator[Span]:
    """Find a first and a last name after words such as `my name is`, a title or a greeting."""
    if has_any(lowered, _INTRODUCTIONS):
        for match in _INTRODUCED.finditer(text):
            yield Span(*match.span(1), Kind.PERSON_NAME)
    if "\n" in text:
        for match in _SIGNED.finditer(text):
            yield Span(*match.span(1), Kind.PERSON_NAME)
    if has_any(text, _TITLES):
        for match in _TITLED.finditer(text):
            yield Span(*match.span(1), Kind.PERSON_NAME)


def find_modelled_names(text: str) -> Iterator[Span]:
    """Find names by the installed model; none where there is none."""
    model = _model()
    if model is None or not any(character.isalpha() for character in text):
        return
    for entity in model(text[: model.max_length]).ents:
        if entity.label_ in _LABELS:
            yield Span(entity.start_char, entity.end_char, Kind.PERSON_NAME)


def model_name() -> str | None:
    """Return the installed spaCy model that names are searched with, or None."""
    if importlib.util.find_spec("spacy") is None:
        return None
    from spacy.util import get_installed_models

    installed = sorted(get_installed_models())
    several = [name for name in installed if name.startswith("xx_")]
    return next(iter(several or installed), None)


@cache
def _model() -> Any | None:
    name = model_name()
    if name is None:
        return None
    import spacy

    model = spacy.load(name, exclude=["lemmatizer", "parser", "attribute_ruler"])
    return model if any(pipe in model.pipe_names for pipe in ("ner", "entity_ruler")) else None
