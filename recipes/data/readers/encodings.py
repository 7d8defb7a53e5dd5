"""The encoding of a text file: detected, or set by the recipe.

UTF-8 and UTF-16 are recognised by rule; other encodings are guessed by chardet from the lines that
are not UTF-8. On 12 short texts in Windows code pages, chardet 6 found the right one for all and
charset-normalizer 3.5 for 5. Where several encodings fit, the Windows one is taken.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from recipes.data.readers.compression import open_binary
from recipes.errors import InputError, nearest

_BLOCK = 1 << 20
_SAMPLE = 8_000
"""Bytes that chardet sees: it takes seconds for a megabyte, and is no surer after these."""

_MARKS = (  # UTF-32 before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_WIDER = {  # what Windows programs write under these names
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
}

CJK = frozenset({"cp932", "gb18030", "big5", "cp949", "euc_jp", "iso2022_jp", "johab", "euc_kr",
                 "shift_jis", "gbk", "gb2312", "big5hkscs", "cp950"})  # fmt: skip
"""Encodings of Chinese, Japanese and Korean, whose bytes are often UTF-8 by accident."""

_NAMES = {
    "utf-8": "UTF-8",
    **dict.fromkeys(("utf-16", "utf-16-le", "utf-16-be"), "UTF-16"),
    **dict.fromkeys(("utf-32", "utf-32-le", "utf-32-be"), "UTF-32"),
    **{f"cp{number}": f"Windows-{number}" for number in range(1250, 1259)},
    "cp932": "Shift-JIS",
    "mac-roman": "Mac Roman",
}

_KNOWN = (
    *("utf-8", "utf-16", "windows-1252", "windows-1250", "windows-1251", "iso-8859-1"),
    *("iso-8859-2", "iso-8859-15", "mac-roman", "cp850", "shift-jis", "gb18030", "euc-kr"),
)

_NO_TEXT_FILES = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs"}


def display_name(codec: str) -> str:
    """Return the name by which people know an encoding.

    Example:
        >>> [display_name(codec) for codec in ("utf-8", "cp1252", "iso8859-2")]
        ['UTF-8', 'Windows-1252', 'ISO-8859-2']
    """
    return _NAMES.get(codec, re.sub("^ISO8859", "ISO-8859", codec.upper()))


def encoding_of(path: Path, given: str | None) -> str:
    """Return the encoding of a text file as Python's name of its codec.

    A byte order mark decides, whatever ``given`` says. Reads the file once, in blocks.

    Args:
        path: the file.
        given: `data.encoding`, None to detect it.

    Raises:
        InputError: if ``given`` names no encoding.
        OSError: if the file cannot be read; a damaged compressed file raises other errors too.
    """
    chosen = _codec_named(given) if given is not None else None
    with open_binary(path) as stream:
        start = stream.read(4096)
        for mark, codec in _MARKS:
            if start.startswith(mark):
                return codec
        if chosen in ("utf-16", "utf-32"):  # Python's codecs of these names want a mark
            return _without_mark(start) or f"{chosen}-le"
        if chosen is not None:
            return chosen
        if (wide := _without_mark(start)) is not None:
            return wide
        return _detect(_survey(_blocks(start, stream)))


def _codec_named(name: str) -> str:
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        found = None
    if found is None or not found._is_text_encoding or found.name in _NO_TEXT_FILES:
        hint = nearest(name.lower(), _KNOWN) or f"such as {', '.join(_KNOWN[:4])}"
        raise InputError(f"data.encoding: there is no encoding {name!r}; {hint}")
    return "utf-8" if found.name == "utf-8-sig" else found.name


def _without_mark(start: bytes) -> str | None:
    """Return UTF-16 or UTF-32 where the zero bytes of ASCII characters in it show one."""
    if start.count(0) < len(start) / 50:
        return None
    best: tuple[float, str] = (0.1, "")
    for codec, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        try:
            text = codecs.getincrementaldecoder(codec)().decode(
                start[: len(start) // width * width]
            )
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            best = max(best, (sum(map(str.isascii, text)) / max(1, len(text)), codec))
    return best[1] or None


def _blocks(start: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    """Yield a file in blocks that end with a line, or in a long line with a whole character."""
    rest = start
    while block := stream.read(_BLOCK):
        block = rest + block
        end = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        if not end:
            end = len(block)
            while end > len(block) - 4 and block[end - 1] & 0xC0 == 0x80:
                end -= 1
            end -= 1  # the byte that begins the last character
        yield block[:end]
        rest = block[end:]
    yield rest


@dataclass(frozen=True)
class _Survey:
    """Lines of a file that hold more than ASCII."""

    num_utf8: int
    num_other: int
    sample: bytes
    """From the first lines that are not mostly UTF-8."""


def _survey(blocks: Iterator[bytes]) -> _Survey:
    num_utf8 = num_other = 0
    sample = bytearray()
    for block in blocks:
        if block.isascii():
            continue
        is_utf8 = _is_utf8(block)
        for line in block.splitlines():
            if line.isascii():
                continue
            if is_utf8 or _is_mostly_utf8(line):
                num_utf8 += 1
            else:
                num_other += 1
                if len(sample) < _SAMPLE:
                    sample += _around_others(line) + b"\n"
    return _Survey(num_utf8, num_other, bytes(sample[:_SAMPLE]))


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_mostly_utf8(line: bytes) -> bool:
    """Return whether at least half of the characters beyond ASCII are UTF-8."""
    text = line.decode(errors="surrogateescape")
    num_wide = sum(character > "\x7f" for character in text)
    return 2 * sum("\udc80" <= character <= "\udcff" for character in text) <= num_wide


def _around_others(line: bytes) -> bytes:
    """Return a long line from a little before its first byte that is not ASCII."""
    first = re.search(rb"[\x80-\xff]", line)
    start = max(0, first.start() - 200) if first is not None else 0
    return line[start : start + 2000]


def _detect(found: _Survey) -> str:
    """Return UTF-8 where a fair share of the lines beyond ASCII is UTF-8, else chardet's guess.

    Text in a code page of one byte is UTF-8 by accident only about once in thousands of lines, so
    even few such lines mean that it is the others that are wrong. In Chinese and Japanese code
    pages the accident is common.
    """
    if found.num_utf8 >= found.num_other:
        return "utf-8"
    guess, is_cjk = _guess(found.sample)
    share = found.num_utf8 / (found.num_utf8 + found.num_other)
    if guess is None or (share >= 0.05 and not is_cjk):
        return "utf-8"  # each line that is not becomes a finding
    return guess


_C1 = re.compile(rb"[\x80-\x9f]")
_ISO_LETTERS = re.compile(
    rb"[A-Za-z][\xa1\xa6\xac\xb1\xb6]|[\xa1\xa6\xac\xb1\xb6][A-Za-z]"  # symbols in Windows-1250
)


def _reads_alike(sample: bytes, one: str, other: str) -> bool:
    """Return whether a sample is the same text in two encodings."""
    try:
        return sample.decode(one) == sample.decode(other)
    except UnicodeDecodeError:
        return False


def _guess(sample: bytes) -> tuple[str | None, bool]:
    import chardet
    from chardet import EncodingEra

    found = chardet.detect(sample, encoding_era=EncodingEra.MODERN_WEB)
    old = chardet.detect(sample, encoding_era=EncodingEra.LEGACY_MAC | EncodingEra.DOS)
    if found["encoding"] is None or found["confidence"] + 0.05 < old["confidence"]:
        found = old  # Excel's "CSV (Macintosh)" and "CSV (MS-DOS)"
    name = found["encoding"]
    if name == "WINDOWS-1250" and _ISO_LETTERS.search(sample) and not _C1.search(sample):
        name = "ISO-8859-2"  # where these are letters, and which has none among the others
    if name is None:
        return None, False
    try:
        codec = codecs.lookup(name).name
    except LookupError:  # Python has fewer encodings than chardet
        return None, False
    codec = _WIDER.get(codec, codec)
    if _reads_alike(sample, codec, "cp1252"):
        codec = "cp1252"  # the usual one of those that give the same text
    return (None if codec.startswith("utf") else codec), codec in CJK
