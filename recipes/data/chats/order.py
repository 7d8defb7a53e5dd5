"""The order of turns: what is unusual in it, and what the recipe does about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recipes.config import TurnsConfig
from recipes.data import catalog
from recipes.data.chats.faults import Faults
from recipes.data.chats.turns import Turn


def join_calls(turns: Sequence[Turn]) -> list[Turn]:
    """Join calls that a file keeps in turns of their own with the turn they belong to.

    LLaMA-Factory and ms-swift write the call after the assistant's words, and parallel calls one
    after another.
    """
    joined: list[list[Turn]] = []
    for turn in turns:
        last = joined[-1][-1] if joined else None
        is_part = turn.is_call and last is not None and last.role == "assistant"
        if is_part and last is not None and last.is_learned == turn.is_learned:
            joined[-1].append(turn)
        else:
            joined.append([turn])
    return [_merged(group) for group in joined]


def order_turns(turns: Sequence[Turn], config: TurnsConfig, faults: Faults) -> list[Turn]:
    """Return the turns in the order that the recipe wants, or with faults if it wants none.

    Args:
        turns: of one chat, calls matched to their results.
        config: `data.turns`.
        faults: receives what is unusual: as an error, or that it was accepted.
    """
    ordered = _with_one_system(turns, config, faults)
    ordered = _without_repeats(ordered, config, faults)
    spoken = [turn for turn in ordered if turn.role != "system"]
    if not spoken or spoken[-1].role != "assistant":
        faults.add(
            catalog.LAST_TURN,
            "the last message is not by the assistant, so there is nothing to learn",
        )
    if not any(turn.role == "user" for turn in spoken):
        faults.add(catalog.NO_USER_TURN, "no message is by the user")
    elif spoken[0].role == "assistant":
        what = f"messages[{spoken[0].index}]: the first message is by the assistant"
        if config.assistant_first == "error":
            faults.add(catalog.ASSISTANT_FIRST, what)
        else:
            faults.add(catalog.TURN_ORDER_ACCEPTED, f"{what}: kept")
    return ordered


def _with_one_system(turns: Sequence[Turn], config: TurnsConfig, faults: Faults) -> list[Turn]:
    late = [i for i, turn in enumerate(turns) if turn.role == "system" and i > 0]
    for i in late:
        what = f"messages[{turns[i].index}]: a system turn after the first turn"
        if config.late_system == "error":
            faults.add(catalog.LATE_SYSTEM, what)
        else:
            done = "moved to the start" if config.late_system == "merge" else "kept"
            faults.add(catalog.TURN_ORDER_ACCEPTED, f"{what}: {done}")
    if config.late_system != "merge" or not late:
        return list(turns)
    systems = [turn for turn in turns if turn.role == "system"]
    return [_merged(systems), *(turn for turn in turns if turn.role != "system")]


def _without_repeats(turns: Sequence[Turn], config: TurnsConfig, faults: Faults) -> list[Turn]:
    groups: list[list[Turn]] = []
    for turn in turns:
        last = groups[-1][-1] if groups else None
        if last is None or last.role != turn.role or turn.role not in ("user", "assistant"):
            groups.append([turn])
            continue
        what = f"messages[{last.index}] and messages[{turn.index}] are both by the {turn.role}"
        is_mixed = last.is_learned != turn.is_learned
        if config.repeated == "error":
            faults.add(catalog.REPEATED_TURNS, what)
        elif config.repeated == "merge" and is_mixed:
            faults.add(catalog.REPEATED_TURNS, f"{what}, and only one is learned: not merged")
        else:
            done = "joined" if config.repeated == "merge" else "kept"
            faults.add(catalog.TURN_ORDER_ACCEPTED, f"{what}: {done}")
        if config.repeated == "merge":
            groups[-1].append(turn)
        else:
            groups.append([turn])
    return [_merged(group) for group in groups]


def _merged(turns: Sequence[Turn]) -> Turn:
    """Join turns of one role: texts by a line, reasoning by an empty line, all calls."""
    if len(turns) == 1:
        return turns[0]
    return replace(
        turns[0],
        content="\n".join(turn.content for turn in turns if turn.content),
        calls=tuple(call for turn in turns for call in turn.calls),
        reasoning="\n\n".join(turn.reasoning for turn in turns if turn.reasoning),
    )
