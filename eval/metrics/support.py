"""Support: whether what an answer says stands in the passage it was given.

A lexical check that needs no second model, in the family of ROUGE precision against the source
(Maynez et al. 2020, arXiv:2005.00661, on what such overlap can and cannot see). It finds invented
numbers and names well. It does not see a wrong relation between right words, and takes a free
paraphrase for unsupported. Words are what spaces and punctuation part, and names are told by
their capitals: read it with care in languages without spaces, or with capital nouns.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eval.metrics.metric import LocalMetric, check_columns

DEFAULT_THRESHOLD = 0.5

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[^\W_]+(?:[.,'’&-][^\W_]+)*")  # noqa: RUF001 (the apostrophe of print)
_POSSESSIVE = re.compile(r"['’]s$")  # noqa: RUF001
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
_UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen"""
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety hundred"
_NUMBER_WORDS = {word: str(10 * i) for i, word in enumerate(_TENS.split())}
_NUMBER_WORDS |= {word: str(i) for i, word in enumerate(_UNITS.split())}
_STOP_LIST = """a about above after again all also am an and any are as at be because been before
    being below between both but by can cannot could did do does doing down during each either
    every for from further had has have having he her here hers him his how however i if in into is
    it its itself just may me might more most must my no nor not of off on once one only or other
    our ours out over own per same shall she should since so some such than that the their theirs
    them then there these they this those through to too under until up upon us very was we were
    what when where which while who whom whose why will with within would yes yet you your yours"""
_STOP_WORDS = frozenset(_STOP_LIST.split())


@dataclass(frozen=True)
class Support:
    """How far an answer is covered by a passage."""

    supported: bool
    share: float
    """Share of the content n-grams that occur, in the sentence where it is lowest; NaN if none."""

    unsupported_numbers: tuple[str, ...]
    unsupported_entities: tuple[str, ...]
    has_unsupported_words: bool = False
    """Whether in some sentence too few of the content n-grams occur."""


def support(answer: str, passage: str, *, threshold: float = DEFAULT_THRESHOLD) -> Support:
    """Check an answer against the passage that it should rest on.

    An answer is supported when all of this holds:

    - every number in it occurs in the passage; ``1,000`` equals ``1000`` and ``thirty`` equals
      ``30``; units are not compared;
    - every name in it (a run of capitalised words, in any case) occurs there as a whole. A
      single capitalised word that opens a longer sentence is no name;
    - in each of its sentences, at least ``threshold`` of the content words and of the pairs of
      neighbouring content words occur there.

    An answer without content words has a share of NaN; if it has no number either ("Yes.", or
    nothing), it claims nothing that could be checked, and is supported. Whether it is right is
    for other metrics.

    Example:
        >>> found = support("They pay claims within 45 days.", "We pay claims within 30 days.")
        >>> found.supported, found.unsupported_numbers
        (False, ('45',))
    """
    known = {gram for sentence in _sentences(passage) for gram in _grams(_content(sentence))}
    flat = _flat(passage)
    known_numbers = {*_numbers(passage), *(["1"] if " 1 " in flat else [])}
    numbers = [x for x in _numbers(answer) if x not in known_numbers]
    names = [x for s in _sentences(answer) for x in _names(s) if _flat(x) not in flat]
    shares = [
        sum(gram in known for gram in grams) / len(grams)
        for grams in map(_grams, map(_content, _sentences(answer)))
        if grams
    ]
    has_unsupported_words = any(x < threshold for x in shares)
    return Support(
        supported=not numbers and not names and not has_unsupported_words,
        share=min(shares, default=math.nan),
        unsupported_numbers=tuple(dict.fromkeys(numbers)),
        unsupported_entities=tuple(dict.fromkeys(names)),
        has_unsupported_words=has_unsupported_words,
    )


def _sentences(text: str) -> list[str]:
    return _SENTENCE_END.split(text)


def _words(text: str) -> list[str]:
    return [_POSSESSIVE.sub("", word) for word in _WORD.findall(text)]


def _fold(word: str) -> str:
    word = word.casefold()
    return _NUMBER_WORDS.get(word) or (_number(word) if _NUMBER.fullmatch(word) else word)


def _flat(text: str) -> str:
    """Return the folded words between single spaces, so that ``in`` finds whole words only."""
    return f" {' '.join(map(_fold, _words(text)))} "


def _content(sentence: str) -> list[str]:
    """Return the folded words but for stop words and numbers, which are compared by themselves."""
    folded = map(_fold, _words(sentence))
    return [word for word in folded if word not in _STOP_WORDS and not _NUMBER.fullmatch(word)]


def _grams(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [*((word,) for word in words), *itertools.pairwise(words)]


def _number(digits: str) -> str:
    if _THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    if digits.count(".") == 1:
        return digits.rstrip("0").rstrip(".")
    return digits.lstrip("0") or "0"


def _numbers(text: str) -> list[str]:
    """Return the numbers in digits and in words, but for "one", which is mostly a pronoun."""
    words = (word.casefold() for word in _words(text))
    return [
        *map(_number, _NUMBER.findall(text)),
        *(_NUMBER_WORDS[word] for word in words if word in _NUMBER_WORDS and word != "one"),
    ]


def _names(sentence: str) -> Iterator[str]:
    """Yield the runs of capitalised words that only spaces part."""
    matches = list(_WORD.finditer(sentence))
    runs: list[list[re.Match[str]]] = []
    for match in matches:
        if not match[0][0].isupper() or match[0].casefold() in _STOP_WORDS:
            continue
        if runs and sentence[runs[-1][-1].end() : match.start()].isspace():
            runs[-1].append(match)
        else:
            runs.append([match])
    for run in runs:
        is_lone_opening = run == matches[:1] and len(matches) > 1
        if not (is_lone_opening and run[0][0][1:].islower()):
            yield " ".join(_POSSESSIVE.sub("", match[0]) for match in run)


class LexicalSupport(LocalMetric):
    """Rates of unsupported answers, and of those with invented words, numbers or names.

    Predictions are answers and references are the passages that they should rest on.
    """

    paper = "Maynez et al. 2020, arXiv:2005.00661"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        n = check_columns("support", predictions=predictions, references=references)
        found = [*map(support, predictions, references)]
        return {
            "unsupported_rate": sum(not s.supported for s in found) / n,
            "unsupported_ngram_rate": sum(s.has_unsupported_words for s in found) / n,
            "unsupported_number_rate": sum(bool(s.unsupported_numbers) for s in found) / n,
            "unsupported_entity_rate": sum(bool(s.unsupported_entities) for s in found) / n,
        }
