"""Chats of whole files: what is found in them, and how long it takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.items import Dialogue
from recipes.chat import parse
from recipes.data import catalog
from recipes.data.dataset import Reading, read_data
from recipes.data.findings import FindingKind, Findings
from recipes.data.rows import RowError
from recipes.data.split import DataRow
from tests.recipes.rows import places, row_of, settings_of, write_jsonl

HI = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def rows_of(path: Path, findings: Findings, **settings: Any) -> list[DataRow[Dialogue]]:
    return read_data([path], settings_of(train=(str(path),), **settings), parse, Reading(findings))


def test_keys_are_noted_once_a_file_with_the_number_of_rows(tmp_path: Path) -> None:
    turns = [{**HI[0], "mood": 1}, HI[1]]
    upper = [{"Role": turn["role"], "content": turn["content"]} for turn in HI]
    path = write_jsonl(
        tmp_path / "rows.jsonl",
        [{"messages": turns}, {"messages": HI}, {"messages": turns}, {"messages": upper}],
    )
    findings = Findings()
    assert len(rows_of(path, findings)) == 4
    assert places(findings) == [
        f"{path}:1: key 'mood' of a turn: 2 rows, this one first",
        f"{path}:4: key 'Role' of a turn is read as 'role': 1 row",
    ]
    assert not findings.errors()


def test_a_row_with_several_faults_is_one_dropped_row_with_all_its_reasons(tmp_path: Path) -> None:
    turns = [HI[0], HI[0], {**HI[1], "weight": 2}]
    path = write_jsonl(tmp_path / "rows.jsonl", [{"messages": turns}, {"messages": HI}])
    findings = Findings(drop_bad_rows=True)
    assert len(rows_of(path, findings)) == 1
    assert {one.kind for one in findings.all()} == {catalog.REPEATED_TURNS, catalog.TURN_MARK}
    [dropped] = findings.dropped()
    assert dropped.where == f"{path}:1"
    assert "both by the user" in dropped.what
    assert "weight: 2" in dropped.what


SHARED = Path(__file__).parents[4] / "shared" / "data"

PUBLISHED = [
    ("sharegpt_format/dummy_conversation.json", {}, 500, 0),
    ("self_instruct/alpaca_format.json", {}, 427, 0),
    ("oasst_trees/en_tree.jsonl", {}, 60, 0),
    ("taskmaster4/eval_messages.jsonl", {}, 100, 2),
    ("sgd_chat/tools_messages.jsonl", {}, 150, 0),
    ("e2e_nlg/devset.csv", {"prompt": "mr", "completion": "ref"}, 4672, 0),
]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public data is not beside this checkout")
@pytest.mark.parametrize(("name", "columns", "num_rows", "num_bad"), PUBLISHED)
def test_published_files_are_read_as_they_are(
    name: str, columns: dict[str, str], num_rows: int, num_bad: int
) -> None:
    """Two of Taskmaster's chats end with a tool, as its README says."""
    findings = Findings()
    rows = rows_of(SHARED / name, findings, columns=columns)
    assert len(rows) == num_rows - num_bad
    assert [(one.kind, one.count) for one in findings.all()] == (
        [(catalog.LAST_TURN, num_bad)] if num_bad else []
    )


def test_the_time_to_read_a_chat_grows_in_step_with_its_turns() -> None:
    """Eight times the turns take at most 24 times as long; a quadratic reader takes 64 times."""
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "find"}]}
    turns = [HI[0], call, {"role": "tool", "content": "r"}, {**HI[1], "thought": "t"}]

    def seconds(num_turns: int) -> float:
        row = row_of(messages=turns * (num_turns // 4))
        times = []
        for _ in range(3):
            start = time.perf_counter()
            parse(row, settings_of(reasoning="keep"), "c", _refuse)
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(6400) < 24 * seconds(800)


def _refuse(kind: FindingKind, detail: str) -> None:
    raise AssertionError(f"{kind.code}: {detail}")


TEXT = "Call me on 0171 23"
LEAF = st.sampled_from([TEXT, None, 0, 1, True, "", "user", "assistant", "tool", "[]"])
TURN = st.dictionaries(
    st.sampled_from(
        [
            *("role", "from", "content", "value", "name", "tool_calls", "tool_call_id", "Role"),
            *("function_call", "function", "arguments", "id", "weight", "train", "thought", "type"),
        ]
    ),
    LEAF | st.lists(LEAF, max_size=2) | st.dictionaries(st.sampled_from(["name", "type"]), LEAF),
    max_size=6,
)
COLUMN = st.sampled_from(
    [
        *("messages", "conversations", "prompt", "completion", "instruction", "output", "history"),
        *("system", "tools", "functions", "Messages", "images", "chosen", "reasoning"),
    ]
)


@given(st.dictionaries(COLUMN, LEAF | TURN | st.lists(LEAF | TURN, max_size=4), max_size=4))
def test_any_row_is_read_or_refused_and_no_message_holds_its_text(values: dict[str, Any]) -> None:
    details: list[str] = []
    try:
        parse(row_of(**values), settings_of(), "c", lambda _, detail: details.append(detail))
    except RowError as error:
        details.append(str(error))
    assert not any("0171" in detail for detail in details)


@pytest.mark.parametrize(
    "turn",
    [
        {"role": TEXT, "content": TEXT},
        {"role": "user", "content": [{"type": TEXT}]},
        {"role": "user", "content": [TEXT]},
        {"role": "user", "content": TEXT, "train": TEXT},
        {"role": "assistant", "content": TEXT, "train": TEXT},
        {"role": "assistant", "content": TEXT, "thought": [TEXT]},
        {"role": "assistant", "tool_calls": [{"name": TEXT, "arguments": TEXT}]},
        {"role": "assistant", "tool_calls": [{"name": TEXT, "id": TEXT}]},
        {"role": "tool", "content": TEXT, "name": TEXT, "tool_call_id": TEXT},
        {"role": "function_call", "content": TEXT},
    ],
)
def test_a_finding_never_holds_the_text_of_a_turn(turn: dict[str, Any]) -> None:
    details: list[str] = []
    row = row_of(messages=[HI[0], turn, HI[0], HI[0]])
    with pytest.raises(RowError) as error:
        parse(row, settings_of(), "c", lambda _, detail: details.append(detail))
    assert not any("0171" in detail for detail in [*details, str(error.value)])
