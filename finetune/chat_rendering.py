"""Chats as text by a chat template: whole, up to a reply, and taken apart into the turns.

All texts here are *escaped* (`control_tokens`): `control_tokens.tokenize` turns them into tokens in
which control tokens are the template's own. What else is in a text of a row never is, but for tags
of tools where they stand as the template for tools writes them: a turn of the assistant may hold
blocks of ``<tool_call>``, one of the user may be blocks of ``<tool_response>`` and nothing else,
and a system turn may end in the instructions for calls.

The pillars import nothing of each other: `finetune.chat_rendering` and `eval.chat_rendering` are
the same text but for their imports, which a test holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jinja2

from finetune.chat_patterns import RenderedTurn, shape_of, turns_of
from finetune.control_tokens import control_tokens
from finetune.errors import InputError as ChatError
from finetune.thoughts import (
    CLOSE,
    OPEN,
    opens_thought,
    split_thought,
    takes_key,
    takes_thoughts,
    with_thought,
    without_thoughts,
)

REWRITES = (
    "the chat template rewrites earlier turns, so the tokens of a turn cannot be told apart; use a "
    "template that only appends (base.chat_template)"
)

_MARK = "\ufdd2"
"""With a character after it: where a text of a message begins or ends in a rendered chat."""

_FIRST_CODE = 0x100000
_MARKS = re.compile(f"{_MARK}([\U00100000-\U0010ffff])")
_MOST_MESSAGES = 16_000

_CALL = r"<tool_call>\n(\{[^\n]*\})\n</tool_call>"
_RESULT = r"<tool_response>\n(.*?)\n</tool_response>"
_RESULTS = re.compile(rf"{_RESULT}(?:\n{_RESULT})*", re.DOTALL)
_OWN_BLOCKS = {  # group 1 is text again
    "assistant": re.compile(rf"^{_CALL}$", re.MULTILINE),
    "user": re.compile(rf"{_RESULT}(?=\n<tool_response>\n|\Z)", re.DOTALL),
    "system": re.compile(rf"<tool_call></tool_call> XML tags:\n{_CALL}\s*\Z"),
}


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    is_prompt: bool,
    is_continued: bool = False,
) -> str:
    """Return the chat as text; with ``is_prompt``, up to where the assistant's next words begin.

    With ``is_continued`` the text ends within the last turn, which the model is to go on with.

    Thoughts are given to the template as it takes them: in ``reasoning_content``, or in tags
    before the content.

    Raises:
        ChatError: if the chat template refuses these messages.
    """
    return _render(tokenizer, [_message(tokenizer, m) for m in messages], is_prompt, is_continued)


def rendered_turns(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], wanted: Sequence[int]
) -> list[RenderedTurn]:
    """Return turns of the assistant, each as it is generated, after all that is before it.

    Joined, the turns are the chat. For a template that only appends they are the chat as the
    template writes it, and the text before each turn is its prompt. A template that drops the
    thoughts of earlier turns, or puts an empty one before the last answer alone, has no such text.
    There each wanted turn keeps the thought, empty or not, that it is generated with, and turns
    that are not wanted have the form that the template gives to earlier turns (ADR 14).

    Time grows in proportion to the chat, where the template treats turns alike. Where it only
    writes contents, chats with the same roles are rendered once (`chat_patterns`).

    Args:
        tokenizer: with a chat template.
        messages: of the chat; those after the last wanted turn are left out.
        wanted: numbers of the assistant's turns that are returned, ascending.

    Raises:
        ChatError: if the template refuses the chat, or rewrites more of it than thoughts.
    """
    messages = messages[: wanted[-1] + 1] if wanted else []
    shape = shape_of(tokenizer, messages, wanted)
    if shape is None:
        return _turns_by_rendering(tokenizer, messages, wanted)
    contents = [_message(tokenizer, message)["content"] for message in messages]
    if any(_MARK in content for content in contents):
        return _turns_by_rendering(tokenizer, messages, wanted)
    return turns_of(
        *(tokenizer, shape, contents),
        show=control_tokens(tokenizer).show,
        render=lambda messages: _turns_by_rendering(tokenizer, messages, wanted),
        messages=messages,
    )


def _turns_by_rendering(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], wanted: Sequence[int]
) -> list[RenderedTurn]:
    if takes_thoughts(tokenizer) or len(wanted) > 2:
        found = _Chat(tokenizer, messages).turns(wanted)
        if found is not None:
            return found
    return _turns_one_by_one(tokenizer, messages, wanted)


def _turns_one_by_one(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], wanted: Sequence[int]
) -> list[RenderedTurn]:
    """Render the chat up to each turn, and after it."""
    given = [_message(tokenizer, message) for message in messages]
    turns = []
    done = ""
    for number in wanted:
        before = _render(tokenizer, given[:number], is_prompt=True)
        after = _render(tokenizer, given[: number + 1], is_prompt=False)
        if not before.startswith(done) or not after.startswith(before):
            raise ChatError(REWRITES)
        turns.append(RenderedTurn(number, before[len(done) :], "", after[len(before) :], ""))
        done = after
    return turns


@dataclass(frozen=True)
class _Form:
    """How one kind of turn is generated. Texts in it have marks for a thought."""

    before: str
    """From the content before it to where generation begins."""

    lead: str
    after: str


class _Chat:
    """A chat that is rendered with marks around each content and thought.

    The marks say where in the text each content is. What is between two contents is the
    template's, and hardly differs between turns: it is compared with the true prompt of the first
    turn of each kind and of the last turn.
    """

    def __init__(self, tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> None:
        self._tokenizer = tokenizer
        self._messages = messages
        self._marked = [
            _message(tokenizer, message, partial(_marked_part, 4 * i))
            for i, message in enumerate(messages)
        ]

    def turns(self, wanted: Sequence[int]) -> list[RenderedTurn] | None:
        """Return the turns; None if the marks do not show where they are."""
        if len(self._messages) > _MOST_MESSAGES:
            return None
        parts = self._parts(len(self._messages), is_prompt=False)
        whole = render(self._tokenizer, self._messages, is_prompt=False)
        if parts is None or _MARKS.sub("", "".join(parts)) != whole:
            return None
        chosen = frozenset(wanted)
        forms: dict[tuple[object, ...], _Form] = {}
        turns: list[RenderedTurn] = []
        prompt, tail = "", ""
        for number in range(len(self._messages)):
            between, content = parts[2 * number], parts[2 * number + 1]
            if not between.startswith(tail):
                return None
            if number not in chosen:
                prompt += _MARKS.sub("", between[len(tail) :] + content)
                tail = ""
                continue
            role_before = self._messages[number - 1]["role"] if number else ""
            thought = self._thought(number)
            after = parts[2 * number + 2]
            blank_after = after[: len(after) - len(after.lstrip())]  # the content's, too
            kind = (role_before, _without_thought(between), bool(thought), blank_after)
            form = forms.get(kind)
            if form is None or number == wanted[-1]:
                form = self._form(number, parts, bool(thought))
            if form is None or not form.before.startswith(tail):
                return None
            forms[kind] = form
            turns.append(
                RenderedTurn(
                    number,
                    prompt + _MARKS.sub("", form.before[len(tail) :]),
                    _MARKS.sub("", _with_own_thought(form.lead, thought)),
                    _MARKS.sub("", content),
                    form.after,
                )
            )
            prompt, tail = "", form.after
        return turns if parts[-1].startswith(tail) else None

    def _parts(self, end: int, *, is_prompt: bool) -> list[str] | None:
        """Return the chat up to a message: what is between contents, and contents, in turn."""
        text = _render(self._tokenizer, self._marked[:end], is_prompt)
        parts, place = [], 0
        number = 0
        for found in _MARKS.finditer(text):
            code = ord(found[1]) - _FIRST_CODE
            if code % 4 > 1:
                continue  # of a thought, which may be dropped
            if code != 4 * (number // 2) + number % 2:
                return None
            parts.append(text[place : found.start()])
            place = found.end()
            number += 1
        parts.append(text[place:])
        return parts if number == 2 * end else None

    def _thought(self, number: int) -> str:
        thought, _ = texts_of(self._tokenizer, self._messages[number])
        return control_tokens(self._tokenizer).escape(thought)

    def _form(self, number: int, whole: Sequence[str], has_thought: bool) -> _Form | None:
        """Return how a turn is generated; None if that cannot be said."""
        asked = self._parts(number, is_prompt=True)
        given = self._parts(number + 1, is_prompt=False)
        if asked is None or given is None:
            return None
        before, between, after = asked[-1], given[-3], given[-1]
        if not _is_beginning(asked[:-1], whole) or not _is_beginning(given[:-1], whole):
            return None
        if not without_thoughts(whole[2 * number + 2]).startswith(without_thoughts(after)):
            return None
        lead = _lead(before, between, has_thought)
        return None if lead is None else _Form(before, lead, after)


def _is_beginning(parts: Sequence[str], whole: Sequence[str]) -> bool:
    """Return whether a chat begins with these parts, but for thoughts."""
    return all(
        mine == theirs or _without_thought(mine) == _without_thought(theirs)
        for mine, theirs in zip(parts, whole, strict=False)
    )


def _lead(before: str, between: str, has_thought: bool) -> str | None:
    """Return what is generated before a content, from a prompt's end and the finished turn's."""
    block = with_thought(_marked("-", 2) if has_thought else "", "")
    opened = before[before.rindex(OPEN) :] if opens_thought(before) else ""
    if between.startswith(before):
        lead = between[len(before) :]
        if not has_thought or _MARK in lead:
            return lead
        rest = without_thoughts(opened + lead) if CLOSE in lead else lead
        return block[len(opened) :] + rest
    if not opened or not between.startswith(before[: -len(opened)]):
        return None
    rest = between[len(before) - len(opened) :]
    if not rest.strip():  # the template leaves thoughts out
        return block[len(opened) :] if block.startswith(opened) else None
    if rest.startswith(OPEN) and CLOSE in rest:  # with other blanks than the prompt has
        return rest.removeprefix(OPEN).lstrip()
    return None


def texts_of(tokenizer: Any, message: Mapping[str, Any]) -> tuple[str, str]:
    """Return the thought of a message, empty if there is none, and its answer.

    A thought within the content is found where the chat template tells thoughts from answers.
    """
    thought, content = message.get("reasoning_content"), message["content"]
    if thought is None and message["role"] == "assistant" and takes_thoughts(tokenizer):
        thought, content = split_thought(content)
    return (thought or "").strip(), content


def _message(
    tokenizer: Any,
    message: Mapping[str, Any],
    mark: Callable[[str, int], str] = lambda text, _: text,
) -> dict[str, str]:
    """Return a message as the template is given it."""
    tokens = control_tokens(tokenizer)

    def hidden(text: str) -> str:
        return tokens.hide(tokens.escape(text))

    role = message["role"]
    thought, content = texts_of(tokenizer, message)
    content = mark(_but_own_tags(content, role, hidden), 0)
    found = {"role": tokens.hide(tokens.escape(role, is_followed=False)), "content": content}
    if not thought:
        return found
    thought = mark(hidden(thought), 2)
    if takes_key(tokenizer):
        return found | {"reasoning_content": thought}
    return found | {"content": with_thought(thought, content)}


def _but_own_tags(content: str, role: str, hidden: Callable[[str], str]) -> str:
    """Hide the control strings of a content but for its tags of tools."""
    if "<tool_" not in content or role not in _OWN_BLOCKS:
        return hidden(content)
    if role == "user" and not _RESULTS.fullmatch(content):
        return hidden(content)
    pieces, done = [], 0
    for block in _OWN_BLOCKS[role].finditer(content):
        first, last = content[block.start() : block.start(1)], content[block.end(1) : block.end()]
        pieces += [hidden(content[done : block.start()]), first, hidden(block[1]), last]
        done = block.end()
    return "".join([*pieces, hidden(content[done:])])


def _render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    is_prompt: bool,
    is_continued: bool = False,
) -> str:
    how = {"continue_final_message": True} if is_continued else {}
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=is_prompt, **how
        )
    except jinja2.TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ChatError(
            f"the chat template refuses a chat with the roles {roles}: {error}"
        ) from error
    return control_tokens(tokenizer).show(str(text))


def _marked(text: str, code: int) -> str:
    """Return a text with a mark where it begins and one where it ends, but for white space."""
    inner = text.strip()
    start = text.index(inner)
    first, last = (f"{_MARK}{chr(_FIRST_CODE + code + i)}" for i in (0, 1))
    return f"{text[:start]}{first}{inner}{last}{text[start + len(inner) :]}"


def _marked_part(first_code: int, text: str, part: int) -> str:
    return _marked(text, first_code + part)


_OF_A_THOUGHT = re.compile(
    f"{_MARK}[\U00100000-\U0010ffff].*?{_MARK}[\U00100000-\U0010ffff]", re.DOTALL
)


def _without_thought(between: str) -> str:
    return without_thoughts(_OF_A_THOUGHT.sub("", between))


def _with_own_thought(lead: str, thought: str) -> str:
    return _OF_A_THOUGHT.sub(lambda _: thought, lead)
