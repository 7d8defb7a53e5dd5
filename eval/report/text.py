"""Texts and numbers made fit to be read: nothing that misleads the eye, no digit too many.

Escaping makes a text harmless to the parser. It does not make it harmless to the reader: a bidi
override reverses what is seen, an ANSI escape recolours a terminal. `clean` removes these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context

_LINE_BREAKS = re.compile("\r\n?|[\u2028\u2029\x85]")
_ANSI_SEQUENCE = re.compile("(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]")
_DECEPTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls, except tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # directional marks, overrides, isolates
    "\u00ad\u200b\u2060-\u2064\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"  # text that is not seen
)
_NOT_A_CHARACTER = re.compile("[\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

UNDEFINED = "undefined"
MINUS = "\u2212"
_SUPERSCRIPTS = str.maketrans(
    "-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)


def clean(text: str) -> str:
    r"""Strip what deceives the eye; keep tabs, newlines and every visible character.

    ANSI colour sequences, C0 and C1 controls, directional overrides and invisible characters go.
    What cannot be encoded (a lone surrogate) becomes U+FFFD.

    Example:
        >>> clean("\x1b[31mred\x1b[0m \u202eevil\u202c")
        'red evil'
    """
    text = _LINE_BREAKS.sub("\n", text)
    return _NOT_A_CHARACTER.sub("\ufffd", _DECEPTIVE.sub("", _ANSI_SEQUENCE.sub("", text)))


def clip(text: str, max_characters: int) -> str | None:
    """Return the beginning of a long text, cut between words; None if it is short enough."""
    if len(text) <= max_characters:
        return None
    head = text[:max_characters]
    cut = max(head.rfind(" "), head.rfind("\n"))
    return head[: cut if cut > max_characters // 2 else max_characters].rstrip()


def number(value: float, digits: int = 3) -> str:
    """Write one number with so many significant digits.

    Example:
        >>> number(0.123456), number(1234567.0), number(float("nan"))
        ('0.123', '1,234,567', 'undefined')
    """
    if not math.isfinite(value):
        return _not_finite(value)
    return _fixed(value, 0 if value == 0 else digits - 1 - math.floor(math.log10(abs(value))))


def epsilon(value: float) -> str:
    """Write a privacy loss with four digits, rounded up: a rounded epsilon stays true.

    Example:
        >>> epsilon(7.9913), epsilon(8.0)
        ('7.992', '8')
    """
    if not math.isfinite(value):
        return _not_finite(value)
    rounded = Context(prec=4, rounding=ROUND_CEILING).create_decimal(repr(float(value)))
    return f"{rounded.normalize():f}".replace("-", MINUS)


def scientific(value: float) -> str:
    r"""Write a small probability such as delta.

    Example:
        >>> scientific(1e-5) == "1 \N{MULTIPLICATION SIGN} 10\N{SUPERSCRIPT MINUS}⁵"
        True
    """
    if not math.isfinite(value):
        return _not_finite(value)
    if value == 0 or 0.01 <= abs(value) < 1000:
        return number(value)
    rounded = Context(prec=3, rounding=ROUND_HALF_EVEN).create_decimal(repr(value))
    mantissa, _, exponent = f"{rounded:e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa} \u00d7 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def interval(value: float, low: float, high: float, *, signed: bool = False) -> tuple[str, str]:
    """Write a figure and its interval with the digits that the interval's width supports.

    With ``signed``, both get a plus or minus, and an end that is not zero is never written as
    zero, so that "beyond noise" can be seen.

    Example:
        >>> interval(0.71234, 0.6612, 0.7589)
        ('0.712', '[0.661, 0.759]')
        >>> interval(float("nan"), float("nan"), float("nan"))
        ('undefined', '')
    """
    if not math.isfinite(value):
        return _not_finite(value), ""
    ends = [end for end in (low, high) if math.isfinite(end)]
    decimals = _decimals(value, ends)
    if signed:
        while decimals < 9 and any(end != 0 and round(end, decimals) == 0 for end in ends):
            decimals += 1
    low_text, high_text = (_fixed(end, decimals, signed=signed) for end in (low, high))
    return _fixed(value, decimals, signed=signed), f"[{low_text}, {high_text}]"


def _decimals(value: float, ends: Sequence[float]) -> int:
    width = max(ends) - min(ends) if len(ends) == 2 else 0.0
    scale = width / 2 if width > 0 else abs(value)
    if scale == 0:
        return 0
    return max(0, (1 if width > 0 else 2) - math.floor(math.log10(scale)))


def _fixed(value: float, decimals: int, *, signed: bool = False) -> str:
    if not math.isfinite(value):
        return _not_finite(value)
    if decimals > 9 or abs(value) >= 1e12:
        return f"{value:.3g}".replace("-", MINUS)
    text = f"{value:,.{max(0, decimals)}f}"
    is_zero = not any(digit in "123456789" for digit in text)
    if is_zero:
        return text.lstrip("-")
    return ("+" + text if signed and value > 0 else text).replace("-", MINUS)


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return UNDEFINED
    return "infinite" if value > 0 else f"{MINUS}infinite"
