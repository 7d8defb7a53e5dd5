"""Text without what two people write differently: case, blanks, punctuation, Unicode forms."""

from __future__ import annotations

import unicodedata

_APOSTROPHES = "'\u2018\u2019\u02bc`\u00b4"


class _Kept(dict[int, str]):
    """What is kept of each character, for `str.translate`."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        # Cf: zero-width characters, soft hyphens, byte order marks
        if category == "Cf" or character in _APOSTROPHES:
            kept = ""
        else:
            # Combining marks stay, which are vowels in Hindi or Thai; so do symbols and emoji.
            kept = " " if category[0] == "P" or category == "Cc" else character
        self[code] = kept
        return kept


_KEPT = _Kept()


def normal_form(text: str) -> str:
    """Return a text in NFKC, case-folded, without punctuation or zero-width characters.

    Words are joined by single spaces. Of a text that has nothing else, the punctuation is kept.

    Example:
        >>> normal_form("  It\u2019s  \uff21\u200b-1, please!")
        'its a 1 please'
        >>> normal_form(" ?! ")
        '?!'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    folded = text.casefold()
    words = folded.translate(_KEPT).split() or folded.split()
    # once more: a mark can have come beside its letter, and case-folding can part the two
    return " ".join(words) if text.isascii() else unicodedata.normalize("NFKC", " ".join(words))
