"""Labels as people write them: one spelling for each class, several labels in one cell.

Nothing is joined by a guess. Spellings that differ only in form are an error that offers the
`data.label_map` to paste.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from difflib import get_close_matches
from typing import Any

from recipes.data.python_lists import python_value
from recipes.data.rows import RowError, plain_number

MISSING_WORDS = frozenset(
    (
        "nan",
        "na",
        "n/a",
        "null",
        "none",
        "nil",
        "-",
        "--",
        "#n/a",
        "#na",
        "?",
        "unknown",
        "undefined",
    )
)
"""What programs and people write for "no value", in lower case."""

_SHORT_FORMS = {"y": "yes", "n": "no", "t": "true", "f": "false", "j": "ja", "o": "oui", "s": "si"}
_SEPARATORS = (";", "|", ",", "/", "+")
_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:\.0+)?")
MOST_TYPO_ROWS = 5
"""Most rows of a label that may be a slip for one with ten times as many."""


_PROGRAM_NOTE = re.compile(
    r"\[[^\]\n]{1,40}\]|<[^>\n]{1,40}>|sent from my [\w ]{2,20}|get outlook for \w+"
    r"|von meinem [\w ]{2,20} gesendet|envoyé de mon [\w ]{2,20}|enviado desde mi [\w ]{2,20}"
    r"|inviato da[l ] ?(?:mio )?[\w ]{2,20}|verzonden vanaf mijn [\w ]{2,20}",
    re.IGNORECASE,
)


def is_without_content(text: str) -> bool:
    """Return whether a text has no letter or digit, or is only the note of a mail program."""
    return not any(map(str.isalnum, text)) or bool(_PROGRAM_NOTE.fullmatch(text.strip(" .\r\n")))


def label_text(value: Any) -> str:
    """Return one label as text: trimmed, ``true`` and ``false`` for booleans, 3.0 as 3.

    Raises:
        RowError: if the value is no text, number or boolean.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    value = plain_number(value)
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str | float):
        raise RowError(f"a label must be a text, number or boolean, found {type(value).__name__}")
    return str(value).strip()


def split_cell(cell: str, separator: str) -> tuple[str, ...]:
    """Return the labels in one cell: a list in JSON's or Python's form, or parts by ``separator``.

    Example:
        >>> split_cell("a; b", ";"), split_cell("['a', 'b']", ";")
        (('a', 'b'), ('a', 'b'))
    """
    listed = list_in(cell)
    parts = cell.split(separator) if listed is None else listed
    return tuple(part for part in map(label_text, parts) if part)


def list_in(cell: str) -> list[Any] | None:
    """Return the list that a text holds in JSON's or Python's form, or None."""
    text = cell.strip()
    if not (text.startswith(("[", "(", "{")) and text.endswith(("]", ")", "}"))):
        return None
    for read in (json.loads, python_value):
        try:
            found = read(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, list | tuple | set | frozenset):
            return sorted(found, key=str) if isinstance(found, set | frozenset) else list(found)
    return None


def fold(label: str) -> str:
    r"""Return what spellings of one label have in common.

    Case, Unicode form (NFKC), invisible characters, inner white space, underscores and hyphens for
    blanks, and a number's form do not count.

    Example:
        >>> fold("Re\u200bfund ") == fold("refund"), fold("3.0") == fold("03"), fold("a_b")
        (True, True, 'a b')
    """
    text = unicodedata.normalize("NFKC", label).casefold()
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc"))
    if number := _NUMBER.fullmatch(text.strip()):
        return f"{number[1].replace('+', '')}{number[2]}"
    return " ".join(re.sub(r"[\s_-]+", " ", text).split()) or label


def spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Return a mapping from each other spelling of a label to its most frequent plain one.

    Short forms of yes and no (``y``, ``n``, ``t``, ``f``) are spellings where the long form is
    there too. So are ``1`` and ``0`` where no other number is. Where every label is a word for
    true or false, ``yes`` is a spelling of ``true``.

    Args:
        counts: label: rows.

    Example:
        >>> spellings({"YES": 1, "yes": 1, "Y": 1, "N": 2, "no": 2})
        {'Y': 'yes', 'YES': 'yes', 'N': 'no'}
        >>> spellings({"true": 5, "false": 4, "1": 2, "0": 2})
        {'1': 'true', '0': 'false'}
    """
    families: dict[str, list[str]] = {}
    folded = {label: fold(label) for label in counts}
    long_forms = _long_forms(set(folded.values()))
    for label, key in folded.items():
        families.setdefault(long_forms.get(key, key), []).append(label)
    found: dict[str, str] = {}
    for labels in families.values():
        best = min(labels, key=lambda label: _preference(label, counts[label], folded[label]))
        found |= {label: best for label in sorted(labels) if label != best}
    return found


def _long_forms(known: Set[str]) -> dict[str, str]:
    """Return what short forms stand for, where that is a label too: folded form: folded form."""
    found = {short: long for short, long in _SHORT_FORMS.items() if long in known}
    numbers = {key for key in known if _NUMBER.fullmatch(key)}
    for pair in _TRUTH:
        if known & set(pair) and numbers and numbers <= _BITS.keys():
            found |= {bit: pair[_BITS[bit]] for bit in numbers}
            break
    words = {found.get(key, key) for key in known}
    first, second = _TRUTH
    if words <= {*first, *second} and words & set(first) and words & set(second):
        found |= dict(zip(second, first, strict=True))
        found |= {key: found[long] for key, long in found.items() if long in found}
    return found


_TRUTH = (("true", "false"), ("yes", "no"))
_BITS = {"1": 0, "0": 1}


def _preference(label: str, count: int, folded: str) -> tuple[object, ...]:
    """Return what spellings are ordered by: seen as it is, frequent, long, short as a number."""
    is_clean = is_plain(label) and label == " ".join(label.split())
    is_short = folded in _SHORT_FORMS or folded in _BITS
    num_capitals = sum(map(str.isupper, label))
    is_number = _NUMBER.fullmatch(folded) is not None
    length = len(label) if is_number else 0
    return not is_clean, -count, is_short, length, num_capitals, label


def typos(counts: Mapping[str, int]) -> dict[str, str]:
    """Return rare labels that are spelled nearly like one with at least ten times their rows."""
    found = {}
    for label, count in counts.items():
        if count > MOST_TYPO_ROWS or len(label) < 5:
            continue
        others = [one for one in counts if counts[one] >= 10 * count and fold(one) != fold(label)]
        if near := get_close_matches(label, others, n=1, cutoff=0.88):
            found[label] = near[0]
    return found


def separator_in(counts: Mapping[str, int]) -> tuple[str, list[str]] | None:
    """Return the separator of labels that hold several, and those labels; None if there is none.

    A label holds several if all its parts are labels of their own, or are part of other labels
    that are divided in the same way.
    """
    for separator in _SEPARATORS:
        divided = {
            label: [part.strip() for part in label.split(separator)]
            for label in counts
            if separator in label.strip(separator)
        }
        pieces = Counter(part for parts in divided.values() for part in parts)
        whole = {fold(label) for label in counts if label not in divided}
        joined = [
            label
            for label, parts in divided.items()
            if all(fold(part) in whole or pieces[part] > 1 for part in parts) and all(parts)
        ]
        if joined:
            return separator, sorted(joined)
    return None


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Return labels in the order of a classifier's head: as numbers if all are, else as texts.

    Example:
        >>> in_order(["10", "2", "0"]), in_order(["b", "10", "2"])
        (('0', '2', '10'), ('10', '2', 'b'))
    """
    found = set(labels)
    if all(re.fullmatch(r"-?\d+", label) for label in found):
        return tuple(sorted(found, key=lambda label: (int(label), label)))
    return tuple(sorted(found))


def mapping_to_paste(mapping: Mapping[str, str]) -> str:
    """Return `label_map` as lines of YAML below `data:`, with invisible characters escaped.

    Example:
        >>> print(mapping_to_paste({"Refund": "refund"}))
        label_map:
          "Refund": "refund"
    """
    pairs = (f"  {quoted(key)}: {quoted(value)}" for key, value in mapping.items())
    return "\n".join(["label_map:", *pairs])


def quoted(label: str) -> str:
    """Return a label in double quotes, with what cannot be seen or told apart escaped."""
    shown = []
    for character in label:
        is_plain = character.isascii() and character.isprintable() and character not in '"\\'
        is_letter = unicodedata.category(character)[0] in "LNPS" and character not in '"\\'
        if is_plain or (is_letter and unicodedata.combining(character) == 0):
            shown.append(character)
        else:
            code = ord(character)
            shown.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return f'"{"".join(shown)}"'


def is_plain(label: str) -> bool:
    """Return whether a label looks as it is stored: composed, with nothing invisible."""
    return quoted(label) == f'"{label}"' and unicodedata.is_normalized("NFC", label)


def map_labels(labels: Sequence[str], label_map: Mapping[str, str]) -> tuple[str, ...]:
    """Return labels with a recipe's map applied; labels that become one stand once."""
    return tuple(dict.fromkeys(label_map.get(label, label) for label in labels))
