"""YAML 1.2 as people write it by hand: whatever is wrong is an error that names its line."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import (
    CommentedKeyMap,
    CommentedKeySeq,
    CommentedMap,
    CommentedOrderedMap,
    CommentedSeq,
    TaggedScalar,
)
from ruamel.yaml.constructor import ConstructorError, DuplicateKeyError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarbool import ScalarBoolean

MAX_DEPTH = 50
"""Most levels of a file. A recipe has five."""

MAX_VALUES = 100_000
"""Most values once aliases are written out: nested aliases grow exponentially."""


class NotYaml(ValueError):
    """A text is not YAML 1.2, or holds what no recipe can hold.

    Args:
        message: what was found and what was wanted.
        line: where, from 1; None where that is not known.
    """

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


class _Constructor(RoundTripConstructor):
    """Says where a value is that its tag or its form does not allow, such as month 13."""

    last_line: int | None = None
    """Of the value that was begun last, from 1."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        self.last_line = int(node.start_mark.line) + 1
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise ConstructorError(None, None, _why_not(node, error), node.start_mark) from error


def _why_not(node: Any, error: Exception) -> str:
    """Return why a node cannot be made into a value."""
    kind = str(node.tag or "").rpartition(":")[2] or "value"
    shown = f" {shortened(node.value)}" if isinstance(node.value, str) else ""
    names = {"int": "number", "float": "number", "timestamp": "date", "bool": "boolean"}
    if isinstance(error, ValueError) and kind in names:
        return f"{shown.strip() or 'this'} is no valid {names[kind]}; put quotes around a text"
    return f"this is no valid {names.get(kind, kind)}{':' * bool(shown)}{shown}"


def shortened(value: object) -> str:
    """Return a value as Python writes it, cut at 80 characters; any size and any type."""
    try:
        shown = repr(value if not isinstance(value, str) else value[:200])
    except ValueError:  # an integer of more than 4300 digits
        shown = "a number of more than 4,300 digits"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def parse(text: str) -> Any:
    """Read one YAML 1.2 document with its comments and lines.

    Raises:
        NotYaml: if it is not valid, or has values that no recipe can have: too deep, endless,
            under keys that are no words, with half of a character's escape.
    """
    yaml = YAML(typ="rt")
    yaml.Constructor = _Constructor
    try:
        _refuse_deep(yaml, text)
        document = yaml.load(text)
    except DuplicateKeyError as error:
        raise NotYaml("a key stands twice; keep one", _line_of(error)) from None
    except MarkedYAMLError as error:
        what = error.problem or error.context or "this cannot be read"
        raise NotYaml(f"not valid YAML 1.2: {what}", _line_of(error)) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"character U+{error.character:04X} is not allowed"
        raise NotYaml(f"not valid YAML 1.2: {what}", line) from None
    except NotYaml:
        raise
    except YAMLError as error:
        raise NotYaml(f"not valid YAML 1.2: {' '.join(str(error).split())}", None) from None
    except Exception as error:
        # The library has more faults than can be listed (0.19: a bare IndexError for `+_`, an
        # AttributeError for a mapping merged into itself). Each is about this text.
        why = f"{type(error).__name__}: {shortened(str(error))}"
        line = yaml.constructor.last_line or int(yaml.reader.line) + 1
        raise NotYaml(f"not valid YAML 1.2 ({why})", line) from None
    _check(document)
    return document


_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"


def _refuse_deep(yaml: YAML, text: str) -> None:
    """Raise if a text is nested too deep for the library, whose constructor calls itself."""
    depth = 0
    for event in yaml.parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise NotYaml(_TOO_DEEP, int(event.start_mark.line) + 1)


def _line_of(error: MarkedYAMLError) -> int | None:
    mark = error.problem_mark or error.context_mark
    return None if mark is None else int(mark.line) + 1


def _check(document: Any) -> None:
    """Raise if values are endless, too many, or not such as pass between programs."""
    waiting: list[tuple[Any, int, int | None]] = [(document, 0, 1)]
    count = 0
    while waiting:
        node, depth, line = waiting.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise NotYaml(_TOO_DEEP, line)
        if count > MAX_VALUES:
            raise NotYaml(f"more than {MAX_VALUES:,} values, with its aliases written out", line)
        if isinstance(node, CommentedMap | CommentedSeq) and (tag := _other_tag(node)):
            raise NotYaml(f"the tag {shortened(tag)} has no meaning here", line)
        if isinstance(node, CommentedMap):
            names = set()
            for key, value in node.items():
                at = _line_of_key(node, key) or line
                if isinstance(key, CommentedKeyMap | CommentedKeySeq | tuple | TaggedScalar):
                    raise NotYaml("a key must be a word, not a list, mapping or tagged value", at)
                name = key_text(key)
                if name in names:
                    raise NotYaml(f"the key {shortened(name)} stands twice; keep one", at)
                names.add(name)
                _check_text(name, at)
                waiting.append((value, depth + 1, at))
        elif isinstance(node, CommentedSeq):
            waiting += [(value, depth + 1, line) for value in node]
        elif isinstance(node, str):
            _check_text(node, line)
        elif isinstance(node, datetime.date):
            raise NotYaml("a date has no meaning here; put quotes around it for a text", line)
        elif isinstance(node, TaggedScalar) and node.tag.value not in _TEXT_TAGS:
            raise NotYaml(f"the tag {shortened(node.tag.value)} has no meaning here", line)
        elif isinstance(node, TaggedScalar):
            _check_text(str(node.value), line)
        elif node is not None and not isinstance(node, bool | int | float | ScalarBoolean):
            kind = {"bytes": "binary", "CommentedSet": "set"}.get(type(node).__name__, "")
            raise NotYaml(f"a value of the kind {kind or type(node).__name__} has no meaning", line)


_TEXT_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "value", "merge"))
"""Of texts: ``!!str``, and what the library gives the plain words ``=`` and ``<<``."""


def _other_tag(node: CommentedMap | CommentedSeq) -> str | None:
    """Return the tag of a collection that is not of the two that YAML has of itself."""
    if isinstance(node, CommentedOrderedMap):
        return "!!omap"
    tag = node.tag.value
    return None if tag in (None, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq") else str(tag)


def _check_text(text: str, line: int | None) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise NotYaml("half a character (a lone surrogate); write \\U and 8 digits for it", line)


def _line_of_key(node: CommentedMap, key: Any) -> int | None:
    if key not in (node.lc.data or ()):
        return None  # merged in from an anchor
    return int(node.lc.key(key)[0]) + 1


def key_text(key: Any) -> str:
    """Return a key as text, as YAML writes it: true for a boolean, null for none."""
    if key is None:
        return "null"
    if isinstance(key, bool | ScalarBoolean):
        return "true" if key else "false"
    try:
        return str(key)
    except ValueError:
        return shortened(key)


def plain(node: Any) -> Any:
    """Turn what `parse` returned into plain values, which pydantic's strict mode accepts."""
    if isinstance(node, CommentedMap):
        return {key_text(key): plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [plain(value) for value in node]
    if isinstance(node, ScalarBoolean):  # one with an anchor, which is an int to Python
        return bool(node)
    if isinstance(node, TaggedScalar):  # a text, as `parse` has made sure
        return str(node.value)
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def quoted_if_needed(text: str) -> str:
    """Return a text as a YAML scalar for any place, on one line, in quotes only if it needs them.

    Example:
        >>> quoted_if_needed("Message text"), quoted_if_needed("no: 1"), quoted_if_needed("7")
        ('Message text', '"no: 1"', '"7"')
    """
    if text.isprintable():
        try:
            if plain(parse(f"[{{a: {text}}}]")) == [{"a": text}]:
                return text
        except NotYaml:
            pass
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    shown = (c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped)
    return f'"{"".join(shown)}"'


def line_of(document: Any, location: Sequence[int | str]) -> int:
    """Return the line on which a key stands, or its nearest parent that is in the text."""
    line = 1
    for part in location:
        if isinstance(document, CommentedMap):
            key = next((key for key in document if key_text(key) == part), None)
            if key is None or (at := _line_of_key(document, key)) is None:
                break
            line, document = at, document[key]
        elif isinstance(document, CommentedSeq) and isinstance(part, int) and part < len(document):
            line = document.lc.item(part)[0] + 1
            document = document[part]
        else:
            break
    return line


class Representer(RoundTripRepresenter):
    """Escapes what cannot be seen: within single quotes, U+0085 or U+2028 would become a blank."""


def _text_node(representer: Representer, text: str) -> Any:
    style = None if text.replace("\n", "").isprintable() else '"'
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Representer.add_representer(str, _text_node)
