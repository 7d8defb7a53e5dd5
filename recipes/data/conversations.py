"""Rows of all layouts in which chats are kept and published, turned into messages.

===========================  ======================================================================
a row with                   is read as
===========================  ======================================================================
``messages``                 turns of ``role`` and ``content`` (OpenAI, ms-swift), with ``tools``
                             (or ``functions``) beside them, or without
``conversations``            turns of ``from`` and ``value`` (ShareGPT), with ``system`` and
                             ``tools`` beside them (LLaMA-Factory), or without
``prompt``, ``completion``   one exchange; either may be a list of turns (TRL). As in TRL, only the
                             completion is learned
``instruction``, ``output``  one exchange, ``input`` below the instruction, ``history`` before it,
                             ``system`` beside it (Alpaca)
``prompt`` with ``replies``  a tree (OpenAssistant): at each turn the reply that people ranked first
===========================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from recipes.config import DataConfig
from recipes.data import catalog
from recipes.data.chats.calls import match_results, read_tools, results_text, tools_text
from recipes.data.chats.faults import Faults
from recipes.data.chats.hermes import expand
from recipes.data.chats.layouts import Layout, read_layout
from recipes.data.chats.order import join_calls, order_turns
from recipes.data.chats.turns import Turn, read_turn
from recipes.data.findings import Note
from recipes.data.rows import Row

if TYPE_CHECKING:  # it imports torch, which reading rows needs not wait for
    from finetune.encoding import Message

_UNREADABLE = (
    catalog.TURN_MALFORMED,
    catalog.ROLE_UNKNOWN,
    catalog.MEDIA,
    catalog.CALL_MALFORMED,
)
"""Faults that leave a gap in the turns, which would be taken for a fault in their order."""


_TO_BE_WRITTEN = "..."


def prompt_of(row: Row, data: DataConfig, note: Note) -> list[Message]:
    """Return the messages of a row as `turns_of` does, of a chat whose last reply may be missing.

    A chat that does not end with the assistant gets a last turn that says nothing, in the place of
    the reply that is to be written.

    Raises:
        RowError: if the row cannot be used.
    """
    return turns_of(row, data, note, needs_reply=False)


def turns_of(row: Row, data: DataConfig, note: Note, *, needs_reply: bool = True) -> list[Message]:
    """Return the messages of a row: roles ``system``, ``user`` and ``assistant``.

    Calls of tools, their results and the list of tools are text in them. A message has ``learned``
    where it is False, and ``reasoning_content`` where there is reasoning and `data.reasoning` is
    ``keep``. Time and memory are linear in the size of the row.

    Args:
        row: in any of the layouts.
        data: the names of columns, and what to do with reasoning and unusual orders.
        note: receives findings about a row that can be used, and all but one of those about a row
            that cannot.
        needs_reply: whether a chat that does not end with the assistant cannot be used; else it is
            given a last turn (`prompt_of`).

    Raises:
        RowError: if the row cannot be used.
    """
    faults = Faults(note)
    layout = read_layout(row, data.columns, faults, needs_reply=needs_reply)
    turns = _read_turns(layout, data, faults)
    if not needs_reply and turns and turns[-1].role != "assistant":
        turns.append(Turn("assistant", _TO_BE_WRITTEN, index=len(turns), is_learned=True))
    tools = read_tools(layout.tools, "tools", faults)
    functions = read_tools(layout.functions, "functions", faults)
    if tools and functions:
        faults.add(catalog.CALL_MALFORMED, "functions and tools: keep one of them")
    tools = tools or [{"type": "function", "function": function} for function in functions]
    if not faults.has(*_UNREADABLE):
        turns = join_calls(turns)
        turns = [turns[position] for position in match_results(turns, faults)]
        turns = order_turns(turns, data.turns, faults)
        is_learned = any(turn.is_learned for turn in turns)
        if not is_learned and not faults.has(catalog.LAST_TURN, catalog.TURN_MARK):
            faults.add(catalog.CHAT_NOT_LEARNED, "no turn of the assistant is to be learned")
    faults.report()
    messages = _messages(turns)
    return _with_system(messages, tools_text(tools)) if tools else messages


def _read_turns(layout: Layout, data: DataConfig, faults: Faults) -> list[Turn]:
    read = [
        read_turn(given, index, data.reasoning, faults) for index, given in enumerate(layout.turns)
    ]
    turns = [
        part if part.index >= layout.num_context else replace(part, is_learned=False)
        for turn in read
        if turn is not None
        for part in expand(turn, faults)
    ]
    is_said = bool(turns) and turns[0].role == "system" and turns[0].content == layout.system
    if layout.system is None or is_said:
        return turns
    return [Turn("system", layout.system, index=-1), *turns]


def _messages(turns: Sequence[Turn]) -> list[Message]:
    """Write turns as messages: calls into the content, results as turns of the user."""
    messages: list[Message] = []
    for is_result, group in groupby(turns, key=lambda turn: turn.role == "tool"):
        if is_result:
            contents = [turn.content for turn in group]
            messages.append({"role": "user", "content": results_text(contents)})
            continue
        for turn in group:
            message: Message = {"role": turn.role, "content": turn.text()}
            if turn.role == "assistant" and not turn.is_learned:
                message["learned"] = False
            if turn.reasoning:
                message["reasoning_content"] = turn.reasoning
            messages.append(message)
    return messages


def _with_system(messages: list[Message], text: str) -> list[Message]:
    """Put a text below the system's, or before all turns where there is none."""
    if messages[0]["role"] == "system":
        first: Message = {"role": "system", "content": f"{messages[0]['content']}\n\n{text}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]
