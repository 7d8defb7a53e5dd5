"""Tool calls: read in the forms in use, matched to their results, and written out as text.

Most chat templates know nothing of tools and drop calls silently. So calls, results and the list
of tools are written as text, in the tags that Hermes and Qwen models are trained on: a call is
learned like any other words of the assistant, and a result is a turn of the user.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from recipes.data import catalog
from recipes.data.chats.faults import Faults, named

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


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    name: str
    arguments: Any
    """A JSON object."""

    id: str | None = None

    def to_text(self) -> str:
        """Return the call in the tags of Hermes and Qwen."""
        values = {"name": self.name, "arguments": self.arguments}
        return f"<tool_call>\n{_dump(values)}\n</tool_call>"


def read_call(given: Any, place: str, faults: Faults) -> Call | None:
    """Read a call: OpenAI's, with or without ``function`` around it, or one as a JSON text."""
    if isinstance(given, str):
        given = _load(given)
    function = given.get("function") or given if isinstance(given, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name.strip():
        faults.add(catalog.CALL_MALFORMED, f"{place}: a tool call without the name of its function")
        return None
    arguments = function.get("arguments", function.get("parameters"))
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        arguments = {}  # of a function without parameters
    loaded = _load(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(loaded, dict):
        faults.add(
            catalog.CALL_ARGUMENTS, f"{place}: the arguments of {named(name)} are not a JSON object"
        )
    return Call(name, loaded, to_id(given.get("id")))


def read_calls(given: Any, place: str, faults: Faults) -> tuple[Call, ...]:
    """Read a list of calls; a JSON text of one or of a list, too."""
    if isinstance(given, str):
        given = _load(given)
    if isinstance(given, dict):
        given = [given]
    if not isinstance(given, list) or not given:
        faults.add(catalog.CALL_MALFORMED, f"{place}: tool calls: wanted a list of objects")
        return ()
    calls = (read_call(one, place, faults) for one in given)
    return tuple(call for call in calls if call is not None)


def to_id(given: Any) -> str | None:
    """Return the id of a call as text; None for an empty one."""
    return (str(given).strip() or None) if isinstance(given, str | int) else None


def read_tools(given: Any, name: str, faults: Faults) -> list[dict[str, Any]]:
    """Read the list of tools of a row, also as a JSON text, as LLaMA-Factory writes it."""
    if given is None or given != given or (isinstance(given, str) and not given.strip()):
        return []
    loaded = _load(given) if isinstance(given, str) else given
    listed = [loaded] if isinstance(loaded, dict) else loaded
    if not isinstance(listed, list):
        faults.add(catalog.CALL_MALFORMED, f"{name}: wanted a list of tools")
        return []
    tools = [_load(tool) if isinstance(tool, str) else tool for tool in listed]
    if not all(isinstance(tool, dict) for tool in tools):
        faults.add(catalog.CALL_MALFORMED, f"{name}: wanted an object for each tool")
        return []
    return tools


class Answerable(Protocol):
    """The part of a turn that calls and results are matched by."""

    @property
    def role(self) -> str: ...  # noqa: D102
    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def calls(self) -> tuple[Call, ...]: ...  # noqa: D102
    @property
    def call_id(self) -> str | None: ...  # noqa: D102
    @property
    def name(self) -> str | None: ...  # noqa: D102


def match_results(turns: Sequence[Answerable], faults: Faults) -> list[int]:
    """Match the results after each turn with calls, and return an order of the turns.

    A result belongs to the call with its ``tool_call_id``; without one, to the first open call
    with its ``name``; without both, to the first open call. Results must follow their call's turn
    directly. Calls in the last turn of a chat need no result.

    Args:
        turns: of the chat.
        faults: receives duplicate ids, calls without a result and results without a call.

    Returns:
        Positions in ``turns``: the same turns, with results in the order of their calls.
    """
    _find_duplicate_ids(turns, faults)
    order: list[int] = []
    position = 0
    while position < len(turns):
        turn = turns[position]
        order.append(position)
        position += 1
        if turn.role == "tool":
            faults.add(catalog.ANSWER_WITHOUT_CALL, f"messages[{turn.index}]: no call before it")
        if not turn.calls:
            continue
        first = position
        while position < len(turns) and turns[position].role == "tool":
            position += 1
        if first == len(turns):
            continue  # the chat ends with the call, which is learned
        results = {i: turns[i] for i in range(first, position)}
        order += _match(turn, results, faults)
    return order


def _find_duplicate_ids(turns: Sequence[Answerable], faults: Faults) -> None:
    seen: set[str] = set()
    for turn in turns:
        for call in turn.calls:
            if call.id in seen:
                faults.add(
                    catalog.CALL_ID_DUPLICATE, f"messages[{turn.index}]: a call's id is used before"
                )
            if call.id is not None:
                seen.add(call.id)


def _match(turn: Answerable, results: Mapping[int, Answerable], faults: Faults) -> list[int]:
    """Return the positions of the results of one turn's calls, in the order of the calls."""
    by_id = {call.id: i for i, call in enumerate(turn.calls) if call.id is not None}
    result_of: dict[int, int] = {}
    unmatched: list[int] = []
    for position, result in results.items():
        has_calls_without_id = len(by_id) < len(turn.calls)
        if result.call_id is None or (has_calls_without_id and result.call_id not in by_id):
            unmatched.append(position)
        elif result.call_id not in by_id:
            faults.add(
                catalog.ANSWER_WITHOUT_CALL,
                f"messages[{result.index}]: its tool_call_id is of no call in "
                f"messages[{turn.index}]",
            )
        elif by_id[result.call_id] in result_of:
            faults.add(
                catalog.CALL_ID_DUPLICATE,
                f"messages[{result.index}]: a second result for the same call",
            )
        else:
            result_of[by_id[result.call_id]] = position
    _match_by_name(turn, results, unmatched, result_of, faults)
    for i, call in enumerate(turn.calls):
        if i not in result_of:
            faults.add(
                catalog.CALL_UNANSWERED, f"messages[{turn.index}]: the call of {named(call.name)}"
            )
    in_order = [result_of[i] for i in sorted(result_of)]
    matched = set(in_order)
    return in_order + [position for position in results if position not in matched]


def _match_by_name(
    turn: Answerable,
    results: Mapping[int, Answerable],
    unmatched: Sequence[int],
    result_of: dict[int, int],
    faults: Faults,
) -> None:
    """Match results without an id: by name, then by position."""
    open_calls = [i for i in range(len(turn.calls)) if i not in result_of]
    of_name: defaultdict[str, deque[int]] = defaultdict(deque)
    for i in open_calls:
        of_name[turn.calls[i].name].append(i)
    named = [p for p in unmatched if results[p].name is not None]
    for position in named:
        if waiting := of_name[results[position].name or ""]:
            result_of[waiting.popleft()] = position
        else:
            faults.add(
                catalog.ANSWER_WITHOUT_CALL,
                f"messages[{results[position].index}]: its name is of no open call in "
                f"messages[{turn.index}]",
            )
    left = deque(i for i in open_calls if i not in result_of)
    for position in unmatched:
        if results[position].name is not None:
            continue
        if left:
            result_of[left.popleft()] = position
        else:
            faults.add(
                catalog.ANSWER_WITHOUT_CALL,
                f"messages[{results[position].index}]: messages[{turn.index}] has no open call",
            )


def tools_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return what the model is told of its tools."""
    return TOOLS.format(tools="\n".join(_dump(tool) for tool in tools))


def results_text(contents: Sequence[str]) -> str:
    """Return results, in the order of their calls, as one turn of the user."""
    return "\n".join(f"<tool_response>\n{content}\n</tool_response>" for content in contents)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _load(text: str) -> Any:
    """Return the value of a JSON text; None if it is not valid."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
