import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy import chain
from privacy.errors import BudgetSpent, LedgerError
from privacy.ledger import Ledger, verify
from privacy.plan import DPPlan

Plan = Callable[..., DPPlan]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def plan(make_a_plan: Plan) -> DPPlan:
    return make_a_plan(steps=5)


def begin(path: Path, plan: DPPlan, charges: int = 0) -> Ledger:
    ledger = Ledger.open(path, plan, data="sha256:d", is_private=True)
    for _ in range(charges):
        ledger.charge(ledger.charged + 1, covered="c")
    return ledger


def test_a_ledger_says_what_was_spent(path: Path, plan: DPPlan) -> None:
    ledger = begin(path, plan, charges=3)
    found = verify(path)
    assert (ledger.charged, ledger.remaining, ledger.head) == (3, 2, found.head)
    assert (found.plan, found.data, found.is_private) == (plan, "sha256:d", True)
    assert (found.steps_charged, found.steps) == (3, (1, 2, 3))
    assert found.covered == {"c"}
    assert found.epsilon_spent == plan.epsilon(3) < plan.epsilon()
    assert (ledger.run, found.canaries) == (found.hashes[0], "")


def test_the_commitment_to_canaries_stands_in_the_header(path: Path, plan: DPPlan) -> None:
    Ledger.open(path, plan, data="sha256:d", is_private=True, canaries="sha256:c")
    assert verify(path).canaries == "sha256:c"
    with pytest.raises(LedgerError, match="begun with another canaries"):
        begin(path, plan)


def test_a_charge_is_on_the_disk_when_it_returns(path: Path, plan: DPPlan) -> None:
    ledger = begin(path, plan)
    for n in (1, 2):
        ledger.charge(n)
        assert verify(path).steps_charged == n


def test_each_line_is_forced_to_the_disk_and_a_new_files_name_too(
    path: Path, plan: DPPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[tuple[int, int]] = []

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        forced.append((found.st_ino, found.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    ledger = begin(path, plan)
    assert [inode for inode, _ in forced] == [path.stat().st_ino, path.parent.stat().st_ino]
    assert forced[0][1] == path.stat().st_size
    ledger.charge(1)
    assert forced[2:] == [(path.stat().st_ino, path.stat().st_size)]


def test_a_full_disk_stops_the_run_whose_ledger_stays_whole_and_goes_on(
    path: Path, plan: DPPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = begin(path, plan, charges=1)
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, line: write(file, line[:9]))
        with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
            ledger.charge(2)
        new = path.with_name("new.jsonl")
        with pytest.raises(OSError, match=f"No space left on device: '{new}'"):
            begin(new, plan)
        assert not new.exists()
    assert verify(path).steps_charged == 1
    begin(path, plan).charge(2)
    assert verify(path).steps_charged == 2


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "step"}, "line 1: is not a ledger header of schema 2"),
        ({"schema": 3}, "line 1: is not a ledger header of schema 2"),
        ({"plan": {}}, "line 1: holds no valid plan"),
        ({"plan": {"steps": 5, "sigma": 1}}, "line 1: holds no valid plan"),
        ({"plan": None}, "line 1: holds no valid plan"),
    ],
)
def test_a_chain_that_holds_must_begin_with_a_plan(
    path: Path, plan: DPPlan, changes: dict[str, Any], complaint: str
) -> None:
    header = {"kind": "plan", "schema": 2, "plan": dataclasses.asdict(plan)}
    header |= {"data": "sha256:d", "is_private": True, "run": "0"}
    chain.begin(path, header)
    assert verify(path).plan == plan
    path.unlink()
    chain.begin(path, header | changes)
    with pytest.raises(LedgerError, match=complaint):
        verify(path)


def test_a_ledger_goes_on_where_it_ended(path: Path, plan: DPPlan) -> None:
    head = begin(path, plan, charges=2).head
    again = begin(path, plan)
    assert (again.charged, again.head) == (2, head)
    again.charge(3)
    assert verify(path).steps_charged == 3


def test_steps_repeated_after_a_crash_are_spent_twice(path: Path, plan: DPPlan) -> None:
    begin(path, plan, charges=3)
    ledger = begin(path, plan)
    ledger.charge(2)
    ledger.charge(3)
    assert ledger.remaining == 0
    assert verify(path).steps == (1, 2, 3, 2, 3)
    with pytest.raises(BudgetSpent, match="All 5 steps"):
        ledger.charge(4)
    assert verify(path).steps_charged == 5


def test_a_line_tells_nothing_of_the_batch(path: Path, plan: DPPlan) -> None:
    begin(path, plan, charges=1)
    line = json.loads(path.read_bytes().splitlines()[1])
    assert set(line) == {"kind", "charge", "step", "covered", "nonce", "previous", "hash"}


@pytest.mark.parametrize("what", ["plan", "data", "is_private"])
def test_the_ledger_of_another_run_is_refused(path: Path, plan: DPPlan, what: str) -> None:
    begin(path, plan)
    other = dataclasses.replace(plan, noise_multiplier=0.9) if what == "plan" else plan
    data = "sha256:e" if what == "data" else "sha256:d"
    with pytest.raises(LedgerError, match=f"another {what}"):
        Ledger.open(path, other, data=data, is_private=what != "is_private")


def test_a_second_run_on_the_same_ledger_is_noticed(path: Path, plan: DPPlan) -> None:
    one, two = begin(path, plan), begin(path, plan)
    one.charge(1)
    with pytest.raises(LedgerError, match="two runs"):
        two.charge(1)


def test_a_checkpoint_names_its_charge(path: Path, plan: DPPlan) -> None:
    ledger = begin(path, plan)
    heads = [ledger.head]
    for step in (1, 2):
        ledger.charge(step)
        heads.append(ledger.head)
    assert [ledger.charge_of(h) for h in heads] == [0, 1, 2]
    assert ledger.charge_of("f" * 64) is None


# What is done to the file, and the line that must be named.
def edited(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"step":2', b'"step":9'), *lines[3:]]


def edited_header(lines: list[bytes]) -> list[bytes]:
    return [
        lines[0].replace(b'"noise_multiplier":1.0', b'"noise_multiplier":2.0'),
        *lines[1:],
    ]


def edited_and_resealed(lines: list[bytes]) -> list[bytes]:
    from privacy.chain import _line

    entry = json.loads(lines[2])
    del entry["hash"]
    return [*lines[:2], _line({**entry, "step": 9}).rstrip(b"\n"), *lines[3:]]


def removed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], *lines[3:]]


def headless(lines: list[bytes]) -> list[bytes]:
    return lines[1:]


def reordered(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def replayed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[2], *lines[3:]]


def forked(lines: list[bytes]) -> list[bytes]:
    from privacy.chain import _line

    entry = json.loads(lines[2])
    del entry["hash"]
    return [*lines[:3], _line({**entry, "step": 7}).rstrip(b"\n")]


def blank_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], b"", *lines[2:]]


def respelled(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"step":2', b'"step": 2'), *lines[3:]]


def no_mapping(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], b"[1]", *lines[3:]]


def not_json(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], b"\xff\x00", *lines[3:]]


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (edited, 3),
        (edited_header, 1),
        (edited_and_resealed, 4),
        (removed, 3),
        (headless, 1),
        (reordered, 2),
        (replayed, 4),
        (forked, 4),
        (blank_line, 3),
        (respelled, 3),
        (not_json, 3),
        (no_mapping, 3),
    ],
)
def test_a_harmed_ledger_is_refused_at_the_line(
    path: Path, plan: DPPlan, harm: Callable[[list[bytes]], list[bytes]], line: int
) -> None:
    begin(path, plan, charges=4)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"".join(x + b"\n" for x in harm(lines)))
    with pytest.raises(LedgerError, match=f"line {line}:"):
        verify(path)
    with pytest.raises(LedgerError):
        begin(path, plan)


@pytest.mark.parametrize(
    ("numbers", "kind", "complaint"),
    [
        ([1, 3], "step", "line 3: is not charge 2"),
        ([1, 2], "note", "line 2: is not charge 1"),
        ([1, 2, 3, 4, 5, 6], "step", "line 7: charges beyond the 5 planned steps"),
    ],
)
def test_a_chain_that_holds_must_still_follow_the_plan(
    path: Path, plan: DPPlan, numbers: list[int], kind: str, complaint: str
) -> None:
    from privacy.chain import _line

    previous = begin(path, plan).head
    with path.open("ab") as stream:
        for number in numbers:
            fields = {"charge": number, "step": number, "covered": "", "previous": previous}
            line = _line({"kind": kind, **fields})
            previous = json.loads(line)["hash"]
            stream.write(line)
    with pytest.raises(LedgerError, match=complaint):
        verify(path)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_noticed(path: Path, plan: DPPlan, data: st.DataObject) -> None:
    path.unlink(missing_ok=True)
    begin(path, plan, charges=2)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(LedgerError):
        verify(path)


def test_a_torn_last_line_is_named(path: Path, plan: DPPlan) -> None:
    begin(path, plan, charges=2)
    whole = path.read_bytes()
    torn_at = len(whole.splitlines(keepends=True)[-1])
    for cut in (1, torn_at // 2, torn_at - 1):
        path.write_bytes(whole[:-cut])
        with pytest.raises(LedgerError, match=r"line 3: torn.*cut the file after line 2"):
            verify(path)


def test_lines_missing_at_the_end_show_against_a_checkpoint_only(path: Path, plan: DPPlan) -> None:
    head = begin(path, plan, charges=3).head
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert verify(path).steps_charged == 2
    assert begin(path, plan).charge_of(head) is None


def test_an_empty_or_missing_file_is_not_a_ledger(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify(path)
    path.touch()
    with pytest.raises(LedgerError, match="empty"):
        verify(path)


def test_a_record_tells_a_cut_and_a_foreign_ledger_from_the_runs_own(
    path: Path, plan: DPPlan
) -> None:
    ledger = begin(path, plan, charges=4)
    noted = {"num_steps": 4, "ledger_head": ledger.head}
    record = {"data": {"fingerprint": "sha256:d"}, "training": noted}
    assert verify(path).disagreement(record) is None
    assert verify(path).disagreement({}) is None
    assert verify(path).disagreement({"training": None}) is None
    other = record | {"data": {"fingerprint": "sha256:e"}}
    assert "another run's" in str(verify(path).disagreement(other))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    assert "charges steps up to 3, and record.json says that 4" in str(
        verify(path).disagreement(record)
    )
    repeated = record | {"training": noted | {"num_steps": 3}}  # the last charge was a repeat
    assert "its last line is not the one" in str(verify(path).disagreement(repeated))


@pytest.mark.parametrize("value", ["NaN", "1e999", "[" * 100_000])
def test_what_no_ledger_writes_is_damage_and_no_crash(path: Path, plan: DPPlan, value: str) -> None:
    begin(path, plan, charges=1)
    with path.open("a") as file:
        file.write('{"hash": "' + "0" * 64 + '", "x": ' + value + "}\n")
    with pytest.raises(LedgerError, match="line 3"):
        verify(path)


@pytest.mark.parametrize("key", ["step", "covered"])
def test_a_forged_line_that_lacks_a_key_is_refused(path: Path, plan: DPPlan, key: str) -> None:
    ledger = begin(path, plan)
    entry = {"kind": "step", "charge": 1, "step": 1, "covered": "c"}
    entry.pop(key)
    chain.append(path, entry, ledger.head, path.stat().st_size)
    with pytest.raises(LedgerError, match="lacks what every ledger holds"):
        verify(path)


# a ledger that is written with its first charge


def test_a_deferred_ledger_is_no_file_before_its_first_charge(path: Path, plan: DPPlan) -> None:
    ledger = Ledger.open(path, plan, data="sha256:d", is_private=True, is_deferred=True)
    assert not path.exists()
    assert (ledger.charged, ledger.remaining) == (0, plan.steps)
    run = ledger.run
    ledger.charge(1)
    summary = verify(path)
    assert summary.hashes == ledger.lines
    assert summary.hashes[0] == run  # what an account was told before is what was written
    again = Ledger.open(path, plan, data="sha256:d", is_private=True, is_deferred=True)
    assert (again.run, again.charged) == (run, 1)


def test_a_deferred_ledger_does_not_write_over_another_run(path: Path, plan: DPPlan) -> None:
    late = Ledger.open(path, plan, data="sha256:d", is_private=True, is_deferred=True)
    Ledger.open(path, plan, data="sha256:d", is_private=True)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="was begun by another run meanwhile"):
        late.charge(1)
    assert path.read_bytes() == before
