"""Control strings in texts of rows, so that they are encoded as text and never as control tokens.

A control token is a token by which a tokenizer marks structure: the turns of a chat, their ends,
calls of tools, thoughts. Its string in a row's text (``<|im_end|>`` in a help-desk ticket) is
text. It is *escaped* with `ESCAPE`, and `tokenize` encodes what is escaped with a copy of the
tokenizer in which control tokens have other strings. A text without control strings is encoded by
the tokenizer itself.

Noncharacters of Unicode are the escapes, because they have no case and are no white space, so they
survive what a chat template does to a text, and because they are not meant for interchange. In a
text that holds them they are escaped as well.

The pillars import nothing of each other: `finetune.control_tokens` and `eval.control_tokens` are
the same text but for the import of their error, which a test holds.
"""

from __future__ import annotations

import json
import re
import secrets
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from finetune.errors import InputError as TokenizerError

ESCAPE = "\ufdd0"
"""Before a control string, or before one of these two characters: what follows is text."""

GUARD = "\ufdd1"
"""No control string reaches over this place."""

_FIRST_CODE = 0xF0000
"""Of plane 15, for private use: a control string that is hidden from templates is one character."""


@dataclass(frozen=True)
class ControlTokens:
    """The control tokens of one tokenizer with one chat template."""

    strings: tuple[str, ...]
    """Longest first."""

    normalize: Callable[[str], str] | None = None
    """What the tokenizer does to a text before it looks for some of them; None: nothing."""

    def find(self, text: str) -> tuple[str, ...]:
        """Return the control strings in a text, in order of appearance, each once."""
        return tuple(dict.fromkeys(self._strings.findall(text)))

    def matches(self, text: str) -> Iterator[re.Match[str]]:
        """Yield each place where a text has a control string."""
        return self._strings.finditer(text)

    def escape(self, text: str, *, is_followed: bool = True) -> str:
        """Return a text from which no control token is made.

        Args:
            text: of a row; returned as it is if it holds nothing to escape.
            is_followed: whether other text may follow, which could complete a control string.
        """
        escaped = self._unescaped.sub(lambda found: ESCAPE + found[0], text)
        if is_followed:
            stem = text.rstrip()  # a template may leave out the blanks at the end
            longest = min(len(stem), max(map(len, self.strings), default=0))
            begun = next((n for n in range(longest, 0, -1) if stem[-n:] in self._beginnings), 0)
            if begun:
                place = len(escaped) - (len(text) - len(stem)) - begun
                escaped = f"{escaped[:place]}{GUARD}{escaped[place:]}"
        if escaped == text and self.normalize and self.find(self.normalize(text)):
            return GUARD + text
        return escaped

    def escaped_in(self, escaped: str) -> tuple[str, ...]:
        """Return the control strings that are text in an escaped text, each once."""
        found = dict.fromkeys(self._escaped.findall(escaped))
        return tuple(string for string in found if string in self._numbers)

    def hide(self, escaped: str) -> str:
        """Return an escaped text in which a template finds no control string; `show` undoes it."""

        def code(found: re.Match[str]) -> str:
            number = self._numbers.get(found[1])
            return found[0] if number is None else ESCAPE + chr(_FIRST_CODE + number)

        return self._escaped.sub(code, escaped)

    def show(self, hidden: str) -> str:
        """Return the escaped text of a hidden one."""

        def string(found: re.Match[str]) -> str:
            is_code = found[1] not in (ESCAPE, GUARD)
            return ESCAPE + self.strings[ord(found[1]) - _FIRST_CODE] if is_code else found[0]

        return _HIDDEN.sub(string, hidden)

    def rename(self, escaped: str, names: tuple[str, ...]) -> str:
        """Return the text without escapes, and with other names for its control tokens."""

        def text(found: re.Match[str]) -> str:
            if found[0] == GUARD:
                return ""
            return found[1] if found[1] else names[self._numbers[found[0]]]

        return self._units.sub(text, escaped)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {string: number for number, string in enumerate(self.strings)}

    @cached_property
    def _beginnings(self) -> frozenset[str]:
        return frozenset(s[:size] for s in self.strings for size in range(1, len(s)))

    @cached_property
    def _any(self) -> str:
        return "|".join(map(re.escape, self.strings)) or r"(?!)"

    @cached_property
    def _strings(self) -> re.Pattern[str]:
        return re.compile(self._any)

    @cached_property
    def _unescaped(self) -> re.Pattern[str]:
        return re.compile(f"{ESCAPE}|{GUARD}|{self._any}")

    @cached_property
    def _escaped(self) -> re.Pattern[str]:
        return re.compile(f"{ESCAPE}({ESCAPE}|{GUARD}|{self._any})")

    @cached_property
    def _units(self) -> re.Pattern[str]:
        return re.compile(f"{self._escaped.pattern}|{GUARD}|{self._any}")


_HIDDEN = re.compile(f"{ESCAPE}({ESCAPE}|{GUARD}|[\U000f0000-\U000fffff])")


def plain(escaped: str) -> str:
    """Return an escaped text for people to read."""
    if ESCAPE not in escaped and GUARD not in escaped:
        return escaped
    return re.sub(f"{ESCAPE}([{ESCAPE}{GUARD}]?)|{GUARD}", lambda found: found[1] or "", escaped)


def control_strings_in(tokenizer: Any, text: str) -> tuple[str, ...]:
    """Return the tokenizer's control strings that occur in a text, each once."""
    return control_tokens(tokenizer).find(text)


def control_tokens(tokenizer: Any) -> ControlTokens:
    """Return the control tokens of a tokenizer.

    They are its special tokens, those it lists as ``chat_control_tokens``, and of its other added
    tokens those of the form ``<|...|>`` and those that its chat template writes, because many
    tokenizers do not call the tokens of turns, calls and thoughts special. (transformers 5.24 has
    the same rule but for the form; its ``sanitize_control_tokens`` encodes whole chats alone.) The
    other added tokens are vocabulary, such as runs of spaces and HTML tags: texts are encoded with
    them as they were in pretraining.
    """
    return _own(tokenizer).tokens


def tokenize(tokenizer: Any, escaped: str, *, add_special_tokens: bool = False) -> list[int]:
    """Return the tokens of an escaped text.

    Args:
        tokenizer: of transformers.
        escaped: from `ControlTokens.escape`, or a chat template's words around such texts.
        add_special_tokens: whether the tokenizer puts its own tokens around the text.

    Raises:
        TokenizerError: if something is escaped and the tokenizer is a slow one.
    """
    if ESCAPE in escaped or GUARD in escaped:
        return _own(tokenizer).encode(escaped, add_special_tokens, None)
    found = tokenizer(escaped, add_special_tokens=add_special_tokens, verbose=False)
    return list(found["input_ids"])


def tokenize_text(tokenizer: Any, text: str, *, max_length: int | None = None) -> list[int]:
    """Return the tokens of a row's text, with what the tokenizer puts around it.

    Args:
        tokenizer: of transformers.
        text: as it is in the row.
        max_length: the text, not what is put around it, is cut to so many tokens in all.

    Raises:
        TokenizerError: if the text holds a control string and the tokenizer is a slow one.
    """
    escaped = control_tokens(tokenizer).escape(text, is_followed=False)
    if escaped != text:
        return _own(tokenizer).encode(escaped, True, max_length)
    cut = {"truncation": max_length is not None, "max_length": max_length}
    return list(tokenizer(text, verbose=False, **cut)["input_ids"])


@dataclass
class _Own:
    """What is remembered of a tokenizer."""

    tokenizer: Any  # a weak proxy
    key: tuple[object, ...]
    tokens: ControlTokens
    names: tuple[str, ...] = ()
    copy: Any = field(default=None, repr=False)
    """The backend with control tokens renamed; made when it is needed first."""

    def encode(self, escaped: str, add_special_tokens: bool, max_length: int | None) -> list[int]:
        if not getattr(self.tokenizer, "is_fast", False):
            raise TokenizerError(
                "a text holds a control string of the tokenizer, and a slow tokenizer cannot "
                "encode it as text; remove such strings from the rows, or use a checkpoint with a "
                "tokenizer.json"
            )
        backend = self.tokenizer.backend_tokenizer
        if self.copy is None:
            # drawn for this process, so that no text can hold such a name
            secret = "".join(chr(0x100000 + secrets.randbelow(0xFFFE)) for _ in range(4))
            numbers = range(len(self.tokens.strings))
            self.names = tuple(f"{secret}{chr(_FIRST_CODE + number)}" for number in numbers)
            self.copy = _renamed(backend, dict(zip(self.tokens.strings, self.names, strict=True)))
        self.copy.post_processor = backend.post_processor
        self.copy.no_truncation()
        if max_length is not None:
            self.copy.enable_truncation(max_length, direction=self.tokenizer.truncation_side)
        text = self.tokens.rename(escaped, self.names)
        return list(self.copy.encode(text, add_special_tokens=add_special_tokens).ids)


_KNOWN: weakref.WeakKeyDictionary[Any, _Own] = weakref.WeakKeyDictionary()


def _own(tokenizer: Any) -> _Own:
    template = tokenizer.chat_template
    text = template if isinstance(template, str) else json.dumps(template)
    key = (text, len(tokenizer))
    known = _KNOWN.get(tokenizer)
    if known is None or known.key != key:
        known = _Own(weakref.proxy(tokenizer), key, _find(tokenizer, text))
        _KNOWN[tokenizer] = known
    return known


def _find(tokenizer: Any, template: str) -> ControlTokens:
    listed = getattr(tokenizer, "chat_control_tokens", None) or ()
    found = [
        token
        for token in tokenizer.added_tokens_decoder.values()
        if token.content.strip()
        and (token.special or token.content in listed or _is_mark(token.content, template))
    ]
    backend = tokenizer.backend_tokenizer if getattr(tokenizer, "is_fast", False) else None
    normalizer = None
    if backend is not None and any(token.normalized for token in found):
        normalizer = backend.normalizer
    strings = sorted((str(token.content) for token in found), key=lambda s: (-len(s), s))
    return ControlTokens(tuple(strings), normalizer.normalize_str if normalizer else None)


def _is_mark(string: str, template: str) -> bool:
    if re.fullmatch("<[|\uff5c].*[|\uff5c]>", string):
        return True
    return string in template and re.search(r"[^\w\s]", string) is not None


def _renamed(backend: Any, names: dict[str, str]) -> Any:
    """Return a copy of a tokenizer with other strings, and the same ids, for some of its tokens."""
    from tokenizers import Tokenizer

    values = json.loads(backend.to_str())
    values |= {"truncation": None, "padding": None}
    for token in values["added_tokens"]:
        if token["content"] in names:
            token |= {"content": names[token["content"]], "normalized": False}
    model = values["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
    else:  # Unigram has pieces with their scores, in the order of ids
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not _makes(merge, names)]
    return Tokenizer.from_str(json.dumps(values))


def _makes(merge: list[str] | str, names: dict[str, str]) -> bool:
    """Say whether a merge makes one of the strings, or begins from one."""
    pair = merge.split(" ") if isinstance(merge, str) else merge
    return "".join(pair) in names or any(piece in names for piece in pair)
