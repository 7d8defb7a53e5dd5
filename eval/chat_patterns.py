"""Rendered turns of chats with the same roles: rendered once, then filled with contents.

Templates that only write contents (`content_flow.only_writes_contents`) render two chats with the
same roles to the same text but for the contents. Such a chat is rendered once with marks for its
contents, which gives a `Pattern`; others with its roles are that pattern with their own contents.

The pillars import nothing of each other: `finetune.chat_patterns` and `eval.chat_patterns` are the
same text but for their imports, which a test holds.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.content_flow import LEFT, MARK, RIGHT, only_writes_contents
from eval.control_tokens import ESCAPE, GUARD
from eval.errors import EvaluationError as ChatError
from eval.thoughts import takes_thoughts

MOST_SHAPES = 2_000
"""Shapes of chats that are remembered of a tokenizer."""

MOST_TURNS = 100
"""Messages of the longest chat that is remembered; few others have its roles."""

_FIRST_CODE = 0x100000
_BETWEEN = "\ufdd4"
_PLACE = re.compile(
    f"(?:({LEFT})({_BETWEEN}*))?{MARK}([\U00100000-\U0010ffff])(?:({_BETWEEN}*)({RIGHT}))?"
)
_NEVER = (LEFT, RIGHT, MARK, ESCAPE, GUARD)
"""Once the places are found, what no text of a template may hold."""


@dataclass(frozen=True)
class RenderedTurn:
    """A turn of the assistant in the form in which it is generated, with what stands before it."""

    number: int
    """Of the message."""

    prompt: str
    """What follows the turn before it, up to where generation begins."""

    lead: str
    """What is generated before the content, such as a thought."""

    content: str
    tail: str
    """What follows the content up to the next turn: the end of the turn."""

    @property
    def reply(self) -> str:
        """What is generated, and what the template writes after it."""
        return self.lead + self.content + self.tail


Shape = tuple[tuple[str, ...], tuple[int, ...]]
"""The roles of a chat, and the numbers of the wanted turns."""

Render = Callable[[Sequence[Mapping[str, Any]]], list[RenderedTurn]]
"""From messages to the wanted turns; it raises `ChatError` where the template refuses them."""


@dataclass(frozen=True)
class Pattern:
    """Turns with places for the parts of contents: white space, words, and white space again."""

    numbers: tuple[int, ...]
    """Of the turns."""

    formats: tuple[tuple[str, str, str, str], ...]
    """Prompt, lead, content and tail of each turn, for `str.format` with the texts of the places.
    """

    places: tuple[tuple[int, int], ...]
    """The number of the content at each place, and of the part."""

    def fill(self, contents: Sequence[str], show: Callable[[str], str]) -> list[RenderedTurn]:
        """Return the turns of a chat.

        Args:
            contents: of the messages, as the template is given them (`control_tokens.hide`); each
                is more than white space.
            show: undoes the hiding.
        """
        parts = [_parts(content, show) for content in contents]
        texts = [parts[number][part] for number, part in self.places]
        return [
            RenderedTurn(number, *(one.format(*texts) for one in formats))
            for number, formats in zip(self.numbers, self.formats, strict=True)
        ]

    @staticmethod
    def of(roles: Sequence[str], render: Render) -> Pattern | None:
        """Return the pattern of chats with these roles; None if the places cannot be told."""
        messages = [
            {"role": role, "content": f"{LEFT}{MARK}{chr(_FIRST_CODE + number)}{RIGHT}"}
            for number, role in enumerate(roles)
        ]
        try:
            turns = render(messages)
        except ChatError:
            return None
        places: list[tuple[int, int]] = []

        def place(number: int, part: int) -> str:
            places.append((number, part))
            return f"{{{len(places) - 1}}}"

        def places_of(found: re.Match[str]) -> str:
            left, after_left, code, before_right, right = found.groups(default="")
            number = ord(code) - _FIRST_CODE
            first = place(number, 0) if left else ""
            words = place(number, 1)
            return first + after_left + words + before_right + (place(number, 2) if right else "")

        texts = [text for one in turns for text in (one.prompt, one.lead, one.content, one.tail)]
        whole = _BETWEEN.join(texts).replace("{", "{{").replace("}", "}}")
        formats = _PLACE.sub(places_of, whole).split(_BETWEEN)
        if len(formats) != len(texts) or any(one in text for text in formats for one in _NEVER):
            return None
        return Pattern(
            numbers=tuple(one.number for one in turns),
            formats=tuple(zip(*(formats[i::4] for i in range(4)), strict=True)),
            places=tuple(places),
        )


def _parts(content: str, show: Callable[[str], str]) -> tuple[str, str, str]:
    """Return the white space before the words of a content, the words, and that after them."""
    words = content.strip()
    start = len(content) - len(content.lstrip())
    return content[:start], show(words), content[start + len(words) :]


@dataclass
class _Known:
    """What is remembered of a tokenizer."""

    key: tuple[object, ...]
    patterns: dict[Shape, Pattern | None] = field(default_factory=dict)
    """None: a shape of which chats must be rendered."""

    seen: set[Shape] = field(default_factory=set)


_KNOWN: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


def shape_of(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], wanted: Sequence[int]
) -> Shape | None:
    """Return the shape of a chat; None if it must be rendered.

    Args:
        tokenizer: with a chat template.
        messages: up to the last wanted turn.
        wanted: numbers of turns.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str) or not wanted or len(messages) > MOST_TURNS:
        return None
    if takes_thoughts(tokenizer) or not only_writes_contents(template):
        return None
    for message in messages:
        if message.get("reasoning_content") or not message["content"].strip():
            return None
    return tuple(message["role"] for message in messages), tuple(wanted)


def turns_of(
    tokenizer: Any,
    shape: Shape,
    contents: Sequence[str],
    *,
    show: Callable[[str], str],
    render: Render,
    messages: Sequence[Mapping[str, Any]],
) -> list[RenderedTurn]:
    """Return the wanted turns of a chat, by the pattern of its shape where there is one.

    The second chat of a shape makes the pattern, and is compared with it. Where ends of contents
    are white space, a pattern may tell a lead or tail from the content where rendering does not.

    Args:
        tokenizer: with a chat template.
        shape: of the chat.
        contents: of the messages, as the template is given them.
        show: undoes the hiding of control strings.
        render: from messages to turns.
        messages: of the chat.

    Raises:
        ChatError: if the template refuses the chat, or rewrites it.
    """
    known = _known(tokenizer)
    if pattern := known.patterns.get(shape):
        return pattern.fill(contents, show)
    turns = render(messages)
    if shape in known.patterns:
        return turns
    if shape in known.seen:
        made = Pattern.of(shape[0], render) if _renders_as_usual(tokenizer) else None
        if made is not None and _texts(made.fill(contents, show)) != _texts(turns):
            made = None
        known.patterns[shape] = made
    elif len(known.seen) < MOST_SHAPES:
        known.seen.add(shape)
    return turns


def _texts(turns: Sequence[RenderedTurn]) -> list[tuple[str, str]]:
    return [(turn.prompt, turn.reply) for turn in turns]


def _known(tokenizer: Any) -> _Known:
    special = getattr(tokenizer, "special_tokens_map", None)
    key = (tokenizer.chat_template, len(tokenizer), repr(special))
    known = _KNOWN.get(tokenizer)
    if known is None or known.key != key:
        known = _KNOWN[tokenizer] = _Known(key)
    return known


def _renders_as_usual(tokenizer: Any) -> bool:
    """Return whether the template alone makes the text."""
    from transformers import PreTrainedTokenizerBase

    apply = getattr(tokenizer.apply_chat_template, "__func__", None)
    return apply is PreTrainedTokenizerBase.apply_chat_template
