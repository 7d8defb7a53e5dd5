"""The layouts in which chats are kept and published, turned into one list of turns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.data import catalog
from recipes.data.chats.faults import Faults
from recipes.data.chats.marks import MARKS
from recipes.data.chats.reasoning import KEYS as REASONING_KEYS
from recipes.data.chats.turns import ROLES
from recipes.data.rows import Row, RowError, get_column, missing

_COLUMNS = (
    "messages",
    "conversations",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "history",
    "system",
    "tools",
    "functions",
)

_MEDIA = ("image", "images", "audio", "audios", "video", "videos")

_SETTINGS = frozenset(
    (
        "add_generation_prompt",
        "chat_template",
        "chat_template_kwargs",
        "chosen",
        "continue_final_message",
        "documents",
        "enable_thinking",
        "function_call",
        "parallel_tool_calls",
        "reasoning_effort",
        "rejected",
        "rejected_response",
        "response_format",
        "system_message",
        "system_prompt",
        "tool_choice",
        "train_on_inputs",
        "weights",
        *REASONING_KEYS,
    )
)
"""Keys of a row that change what a chat means to some program. Other columns are not looked at."""


@dataclass(frozen=True)
class Layout:
    """A row's turns, as the file has them, and what it keeps beside them."""

    turns: Sequence[Any]
    num_context: int = 0
    """Turns at the start that are not learned: the prompt, where it is a list (TRL)."""

    system: str | None = None
    tools: Any = None
    functions: Any = None
    """The older form of tools (OpenAI)."""


def read_layout(
    row: Row, columns: Mapping[str, str], faults: Faults, *, needs_reply: bool = True
) -> Layout:
    """Find the turns of a row, whichever layout it is in.

    Without ``needs_reply`` a row may lack the column of its reply, or have nothing in it.

    Raises:
        RowError: if it is in none, or lacks a column of its layout.
    """
    row = _with_usual_keys(row, columns, faults)
    values = row.values
    num_context = 0
    used: tuple[str, ...] = ()

    def has(name: str) -> bool:
        value = values.get(columns.get(name, name))
        return bool(value.strip() if isinstance(value, str) else value == value and value)

    if columns.get("messages", "messages") in values:
        turns = _list(row, "messages", columns)
        _note_second_layout(row, columns, faults)
    elif columns.get("conversations", "conversations") in values:
        turns = _list(row, "conversations", columns)
    elif isinstance(values.get("prompt"), dict):
        turns = _best_path(values["prompt"], needs_reply=needs_reply)
    elif columns.get("prompt", "prompt") in values:
        asked = _prompt(row, columns)
        reply = _completion(row, columns, faults) if needs_reply or has("completion") else []
        turns, num_context = [*asked, *reply], len(asked)
        used = REASONING_KEYS
    elif columns.get("instruction", "instruction") in values:
        turns = _alpaca(row, columns, has_reply=needs_reply or has("output"))
        used = REASONING_KEYS
    else:
        _refuse_preference(row, faults)
        raise missing(row, columns, ("messages", "conversations", "prompt", "instruction"))
    _note_unused(values, {*used, *columns.values()}, faults)
    system = values.get(columns.get("system", "system"))
    if not isinstance(system, str | None) and system == system:
        found = type(system).__name__
        faults.add(catalog.TURN_MALFORMED, f"system: wanted a text, found a {found}")
    return Layout(
        turns=turns,
        num_context=num_context,
        system=(system.strip() or None) if isinstance(system, str) else None,
        tools=values.get(columns.get("tools", "tools")),
        functions=values.get("functions"),
    )


def _note_second_layout(row: Row, columns: Mapping[str, str], faults: Faults) -> None:
    """Note what of another layout a row holds beside its messages."""
    for name in ("conversations", "completion", "output"):
        theirs = columns.get(name, name)
        if row.values.get(theirs):
            detail = f"column {theirs!r} is not read, as the row has messages"
            faults.add(catalog.SECOND_LAYOUT, detail)


def _with_usual_keys(row: Row, columns: Mapping[str, str], faults: Faults) -> Row:
    """Return a row under the usual spelling of its columns, each change noted."""
    renamed: dict[str, Any] = {}
    for key, value in row.values.items():
        usual = key.strip().casefold() if isinstance(key, str) else ""
        is_free = usual not in row.values and usual not in columns and usual not in renamed
        if usual in _COLUMNS and is_free and key not in columns.values():
            renamed[usual] = value
            faults.add(catalog.KEY_CASE, f"column {key!r} is read as {usual!r}")
    return Row(row.place, {**row.values, **renamed}) if renamed else row


def _list(row: Row, name: str, columns: Mapping[str, str]) -> Sequence[Any]:
    """Return a list of turns; tables hold it as a JSON text."""
    value = row.values.get(columns.get(name, name))
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowError(
                f"column {columns.get(name, name)!r}: a list of turns that is not valid JSON"
            ) from None
        row = Row(row.place, {columns.get(name, name): value})
    turns: Sequence[Any] = get_column(row, name, columns, kind=list)
    return turns


def _prompt(row: Row, columns: Mapping[str, str]) -> list[Any]:
    value = row.values[columns.get("prompt", "prompt")]
    if isinstance(value, list):
        return value
    return [{"role": "user", "content": get_column(row, "prompt", columns)}]


def _completion(row: Row, columns: Mapping[str, str], faults: Faults) -> list[Any]:
    name = columns.get("completion", "completion")
    if name not in row.values:
        _refuse_preference(row, faults)
    value = row.values.get(name)
    if isinstance(value, list):
        return value
    return [_answer(get_column(row, "completion", columns), row, columns)]


def _answer(text: str, row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    keys = [key for key in REASONING_KEYS if key in row.values and key not in columns.values()]
    beside = {key: row.values[key] for key in keys}
    return {"role": "assistant", "content": text, **beside}


def _refuse_preference(row: Row, faults: Faults) -> None:
    if "chosen" in row.values or "rejected" in row.values:
        faults.add(catalog.PREFERENCE_ROW, "chosen and rejected, and no completion or messages")
        faults.report()


def _alpaca(row: Row, columns: Mapping[str, str], *, has_reply: bool) -> list[Any]:
    asked = get_column(row, "instruction", columns)
    given = get_column(row, "input", columns, required=False)
    asked = f"{asked}\n\n{given}" if given else asked
    reply = [_answer(get_column(row, "output", columns), row, columns)] if has_reply else []
    return [
        *_history(row.values.get("history")),
        {"role": "user", "content": asked},
        *reply,
    ]


def _history(given: Any) -> list[dict[str, str]]:
    """Return the exchanges before an instruction: pairs of a question and its answer."""
    if given is None:
        return []
    is_pairs = isinstance(given, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair)
        for pair in given
    )
    if not is_pairs:
        raise RowError("history: wanted a list of pairs of texts, a question and its answer")
    return [
        {"role": role, "content": text}
        for pair in given
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _best_path(prompt: Mapping[str, Any], *, needs_reply: bool) -> list[dict[str, Any]]:
    """Return the turns from the root of a message tree, each the best-ranked reply that stayed.

    The path ends with the last turn of the assistant, where a question without a reply is no row.
    """
    path: list[dict[str, Any]] = []
    node: Mapping[str, Any] | None = prompt
    while node is not None:
        path.append({"role": node.get("role"), "content": node.get("text")})
        replies = [
            reply
            for reply in node.get("replies") or []
            if isinstance(reply, dict) and not reply.get("deleted")
        ]
        node = min(replies, key=_rank, default=None)
    while needs_reply and path and path[-1]["role"] != "assistant":
        path.pop()
    return path


def _rank(reply: Mapping[str, Any]) -> float:
    rank = reply.get("rank")
    return float(rank) if isinstance(rank, int | float) else float("inf")


def _note_unused(values: Mapping[str, Any], used: set[str], faults: Faults) -> None:
    """Name the columns beside the turns that look as if they meant something for them."""
    for key, value in values.items():
        usual = key.strip().casefold() if isinstance(key, str) else ""
        is_nothing = value is None or value != value or value in ("", [], {})
        if key in used or is_nothing:
            continue
        if usual in _MEDIA:
            faults.add(catalog.MEDIA, f"column {key!r} holds an attachment")
        elif usual in _SETTINGS or _is_mark(usual, value):
            faults.add(catalog.ROW_KEY, f"column {key!r}")


def _is_mark(key: str, value: Any) -> bool:
    """Return whether a column marks its row; a column of weights in kilograms does not."""
    if key == "mask":  # NeMo: the role that is not learned
        return isinstance(value, str) and value.casefold() in ROLES
    return key in MARKS and isinstance(value, int | float) and value in (0, 1)
