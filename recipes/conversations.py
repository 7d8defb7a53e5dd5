"""The layouts in which conversations are kept and published, turned into one: role and content.

===========================  ======================================================================
a row with                   is read as
===========================  ======================================================================
``messages``                 turns of ``role`` and ``content`` (OpenAI), with tools or without
``conversations``            turns of ``from`` and ``value`` (ShareGPT)
``instruction``, ``output``  one exchange, ``input`` below the instruction (Alpaca)
``prompt``, ``completion``   one exchange
``prompt`` with ``replies``  a tree (OpenAssistant): at each turn the reply that people ranked first
===========================  ======================================================================

Most chat templates know nothing of tools and would drop a call without a word. So calls, results
and the list of tools are written out as text, in the tags that Hermes and Qwen models are trained
on: a call is learned like any other words of the assistant, and a result is a turn of the user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from finetune.encoding import Message
from recipes.rows import Row, RowError, take

ROLES = ("system", "user", "assistant", "tool")

_OTHER_NAMES = {"human": "user", "prompter": "user", "gpt": "assistant"}

TOOLS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""What a model is told of its tools; word for word as in the template of Qwen 2.5."""


def turns_of(row: Row, columns: Mapping[str, str]) -> list[Message]:
    """Return the turns of a row, whichever layout it is in.

    Raises:
        RowError: if it is in none, a turn has no content or no known role, or the last one is not
            by the assistant, so that nothing follows from it.
    """
    values = row.values
    if columns.get("messages", "messages") in values:
        turns = _messages(take(row, "messages", columns, kind=list))
    elif "conversations" in values:
        turns = _messages(take(row, "conversations", columns, kind=list))
    elif isinstance(values.get("prompt"), dict):
        turns = _messages(_best_path(values["prompt"]))
    elif columns.get("prompt", "prompt") in values:
        turns = _exchange(take(row, "prompt", columns), take(row, "completion", columns))
    elif columns.get("instruction", "instruction") in values:
        asked = take(row, "instruction", columns)
        given = take(row, "input", columns, required=False)
        turns = [
            *_history(values.get("history")),
            *_exchange(f"{asked}\n\n{given}" if given else asked, take(row, "output", columns)),
        ]
    else:
        take(row, "messages", columns, kind=list)  # says what the row has instead
        raise AssertionError("a missing column is refused")  # pragma: no cover
    if values.get("functions"):
        raise RowError("functions: the older form of tools; write it as tools")
    turns = _with_system(turns, values.get("system"))
    if not turns or turns[-1]["role"] != "assistant":
        raise RowError("the last message is not by the assistant, so there is nothing to learn")
    if not any(turn["role"] == "user" for turn in turns):
        raise RowError("no message is by the user")
    if turns[0]["role"] == "assistant":
        raise RowError("the first message is by the assistant, and answers nobody")
    return _with_tools(turns, take(row, "tools", columns, kind=list, required=False))


def _exchange(asked: str, answered: str) -> list[Message]:
    return [
        {"role": "user", "content": asked.strip()},
        {"role": "assistant", "content": answered.strip()},
    ]


def _history(given: Any) -> list[Message]:
    """Return the exchanges before an instruction: pairs of a question and its answer."""
    if given is None:
        return []
    is_pairs = isinstance(given, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair)
        for pair in given
    )
    if not is_pairs:
        raise RowError("history: wanted a list of pairs of texts, a question and its answer")
    return [turn for asked, answered in given for turn in _exchange(asked, answered)]


def _with_system(turns: list[Message], given: Any) -> list[Message]:
    """Put the system's text, which some layouts keep beside the turns, before them."""
    if given is None or given == "":
        return turns
    if not isinstance(given, str):
        raise RowError(f"system: wanted a text, found a {type(given).__name__}")
    if turns and turns[0]["role"] == "system":
        raise RowError("a system beside the turns, and one among them; keep one")
    return [{"role": "system", "content": given.strip()}, *turns]


def _messages(turns: Sequence[Any]) -> list[Message]:
    return [_turn(turn, index) for index, turn in enumerate(turns)]


def _turn(turn: Any, index: int) -> Message:
    if not isinstance(turn, dict):
        raise RowError(
            f"messages[{index}]: wanted a role and a content, found a {type(turn).__name__}"
        )
    given = turn.get("role", turn.get("from"))
    role = _OTHER_NAMES.get(given, given) if isinstance(given, str) else given
    if role not in ROLES:
        known = ", ".join((*ROLES, *_OTHER_NAMES))
        raise RowError(f"messages[{index}]: role {given!r} is none of {known}")
    if turn.get("weight") not in (None, 1):
        raise RowError(
            f"messages[{index}]: weight {turn['weight']!r}: every turn of the assistant is "
            "learned alike; leave the conversation out, or end it before that turn"
        )
    if turn.get("function_call"):
        raise RowError(
            f"messages[{index}]: function_call: the older form of tool_calls; write it so"
        )
    content = _text(turn.get("content", turn.get("value")), index)
    calls = turn.get("tool_calls") or []
    if not isinstance(calls, list) or (calls and role != "assistant"):
        raise RowError(f"messages[{index}]: tool_calls: wanted a list, in a turn of the assistant")
    parts = [content, *(_call(call, index) for call in calls)]
    text = "\n".join(part for part in parts if part)
    if not text:
        raise RowError(f"messages[{index}]: no content")
    return {"role": role, "content": text}


def _text(content: Any, index: int) -> str:
    """Return a content's text; a list of parts must be texts."""
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        content = "\n".join(part["text"] for part in content)
    if content is None:
        return ""
    if not isinstance(content, str):
        raise RowError(f"messages[{index}]: content: wanted a text, or parts that are texts")
    return content.strip()


def _call(call: Any, index: int) -> str:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"messages[{index}]: a tool call without the name of its function")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        with suppress(ValueError):  # people type them too; what they typed is kept as a text
            arguments = json.loads(arguments)
    said = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{said}\n</tool_call>"


def _with_tools(turns: Sequence[Message], tools: Sequence[Any] | None) -> list[Message]:
    """Write results as turns of the user, several in a row as one, and tools into the system's."""
    told: list[Message] = []
    is_result = False
    for turn in turns:
        was_result, is_result = is_result, turn["role"] == "tool"
        if not is_result:
            told.append(turn)
            continue
        text = f"<tool_response>\n{turn['content']}\n</tool_response>"
        if was_result:
            told[-1] = {"role": "user", "content": f"{told[-1]['content']}\n{text}"}
        else:
            told.append({"role": "user", "content": text})
    if not tools:
        return told
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = TOOLS.format(tools=lines)
    if told[0]["role"] == "system":
        return [{"role": "system", "content": f"{told[0]['content']}\n\n{text}"}, *told[1:]]
    return [{"role": "system", "content": text}, *told]


def _best_path(prompt: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the turns from the root of a message tree, each the best-ranked reply that stayed.

    The path ends with the last turn of the assistant: a question that nobody answered is no row.
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
    while path and path[-1]["role"] != "assistant":
        path.pop()
    return path


def _rank(reply: Mapping[str, Any]) -> float:
    rank = reply.get("rank")
    return float(rank) if isinstance(rank, int | float) else float("inf")
