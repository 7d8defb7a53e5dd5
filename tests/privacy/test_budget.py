from __future__ import annotations

import dataclasses
import json
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from privacy import accountant, budget
from privacy.budget import Account, Witness, check, read, reserve
from privacy.errors import BudgetSpent, LedgerError, PrivacyError
from privacy.ledger import Ledger
from privacy.plan import BudgetConfig, DPPlan

Plan = Callable[..., DPPlan]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.budget.jsonl"


@pytest.fixture
def plan(make_a_plan: Plan) -> DPPlan:
    return make_a_plan(steps=20, noise_multiplier=2.0)


def config(path: Path, epsilon: float) -> BudgetConfig:
    return BudgetConfig(file=str(path), epsilon=epsilon, delta=1e-5)


def test_runs_on_one_account_compose_to_more_than_one_and_less_than_their_sum(
    path: Path, plan: DPPlan
) -> None:
    one = accountant.epsilon(plan.sample_rate, plan.noise_multiplier, plan.steps, 1e-5)
    limit = config(path, 100)
    first = reserve(path, limit, plan, run="a", name="a", data="sha256:d")
    assert first.spent() == pytest.approx(one, rel=1e-3)
    second = reserve(path, limit, plan, run="b", name="b", data="sha256:d")
    assert one < second.spent() < 2 * one
    double = accountant.epsilon(plan.sample_rate, plan.noise_multiplier, 2 * plan.steps, 1e-5)
    assert second.spent() == pytest.approx(double, rel=1e-3)
    assert [run.name for run in read(path).reservations] == ["a", "b"]


def test_runs_of_different_noise_are_composed_and_bound_each_alone() -> None:
    runs = [(0.1, 1.0, 30), (0.02, 0.7, 100)]
    both = accountant.epsilon_of_all(runs, 1e-5)
    alone = [accountant.epsilon(*run, 1e-5) for run in runs]
    assert max(alone) < both < sum(alone)
    assert accountant.epsilon_of_all([], 1e-5) == 0


def test_a_run_that_would_exceed_the_account_is_refused_and_leaves_no_line(
    path: Path, plan: DPPlan
) -> None:
    one = accountant.epsilon(plan.sample_rate, plan.noise_multiplier, plan.steps, 1e-5)
    limit = config(path, one * 1.2)
    reserve(path, limit, plan, run="a", name="a", data="sha256:d")
    before = path.read_bytes()
    with pytest.raises(BudgetSpent, match=r"1 runs have spent .* Nothing was trained"):
        reserve(path, limit, plan, run="b", name="b", data="sha256:e")
    assert path.read_bytes() == before


def test_a_resumed_run_is_on_the_account_once(path: Path, plan: DPPlan) -> None:
    limit = config(path, 100)
    for _ in range(3):
        account = reserve(path, limit, plan, run="a", name="a", data="sha256:d")
    assert len(account.reservations) == 1


def test_the_limit_of_an_account_does_not_change(path: Path, plan: DPPlan) -> None:
    reserve(path, config(path, 3), plan, run="a", name="a", data="sha256:d")
    with pytest.raises(LedgerError, match=r"allows epsilon 3 .* states 30"):
        reserve(path, config(path, 30), plan, run="b", name="b", data="sha256:d")


@pytest.mark.parametrize("damage", ["edit", "cut", "swap", "kind"])
def test_a_damaged_account_is_refused(path: Path, plan: DPPlan, damage: str) -> None:
    limit = config(path, 100)
    for run in "abc":
        reserve(path, limit, plan, run=run, name=run, data="sha256:d")
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "edit":
        entry = json.loads(lines[1])
        lines[1] = json.dumps({**entry, "steps": 1}).encode() + b"\n"
    elif damage == "cut":
        del lines[1]
    elif damage == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines[0] = lines[0].replace(b"budget", b"wallet")
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match="line"):
        reserve(path, limit, plan, run="d", name="d", data="sha256:d")


def _reserve_one(path: Path, plan: DPPlan, limit: BudgetConfig, run: str) -> bool:
    try:
        reserve(path, limit, plan, run=run, name=run, data="sha256:d")
    except BudgetSpent:
        return False
    return True


def test_two_runs_at_once_cannot_both_take_what_is_left(path: Path, plan: DPPlan) -> None:
    one = accountant.epsilon(plan.sample_rate, plan.noise_multiplier, plan.steps, 1e-5)
    limit = config(path, one * 1.2)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        taken = pool.starmap(_reserve_one, [(path, plan, limit, run) for run in "ab"])
    assert sorted(taken) == [False, True]
    assert len(read(path).reservations) == 1


HOLD = """
import sys, time
from pathlib import Path
from privacy import budget
with budget._locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_that_keeps_the_account_to_itself_is_named_and_its_lock_ends_with_it(
    path: Path, plan: DPPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_MOST_SECONDS", 0.1)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(PrivacyError, match=rf"{path}.*process {other.pid} on .*since 20"):
            reserve(path, config(path, 30), plan, run="a", name="a", data="sha256:d")
        assert not path.exists()
        other.kill()
        other.wait()
    reserve(path, config(path, 30), plan, run="a", name="a", data="sha256:d")
    assert list(path.parent.glob("*.holder")) == []


def test_runs_that_protect_another_unit_do_not_add_up(path: Path, plan: DPPlan) -> None:
    limit = config(path, 100)
    reserve(path, limit, plan, run="a", name="a", data="sha256:d")
    people = dataclasses.replace(plan, unit="customer")
    with pytest.raises(LedgerError, match="protect one example, and this run protects one cust"):
        reserve(path, limit, people, run="b", name="b", data="sha256:d")
    assert [run.unit for run in read(path).reservations] == ["example"]


def test_an_account_whose_delta_would_let_a_whole_example_pass_takes_no_run(
    path: Path, plan: DPPlan
) -> None:
    of_many = {"num_examples": 100_000, "sample_rate": 4e-5, "denominator": 4.0}
    many = dataclasses.replace(plan, **of_many, delta=1e-7)
    with pytest.raises(LedgerError, match=r"delta 1e-05, which is 1 / 100000 or more"):
        reserve(path, config(path, 100), many, run="a", name="a", data="sha256:d")
    assert not path.exists()


def opened(account: Path, folder: Path, plan: DPPlan) -> Ledger:
    """A run that goes on in its folder, as training opens it."""
    folder.mkdir(exist_ok=True)
    ledger = Ledger.open(folder / "ledger.jsonl", plan, data="sha256:d", is_private=True)
    reserve(
        account,
        config(account, 100),
        plan,
        run=ledger.run,
        name="a",
        data="sha256:d",
        num_charged=ledger.charged,
    )
    ledger.tell(Witness(account))
    return ledger


def noted(account: Account, ledger: Ledger) -> str | None:
    return account.last_lines.get(ledger.run)


def test_the_account_holds_the_last_charge_of_each_run(
    path: Path, tmp_path: Path, plan: DPPlan
) -> None:
    one, other = (opened(path, tmp_path / name, plan) for name in "ab")
    assert noted(read(path), one) is None
    for step in (1, 2, 3):  # each in turn reads what the other has written
        one.charge(step)
        other.charge(step)
        assert [noted(read(path), ledger) for ledger in (one, other)] == [one.head, other.head]
    assert len(read(path).reservations) == 2


def test_copies_of_a_run_charge_unlike_lines(tmp_path: Path, plan: DPPlan) -> None:
    heads = set()
    first = Ledger.open(tmp_path / "a", plan, data="d", is_private=True)
    shutil.copy(tmp_path / "a", tmp_path / "b")
    for ledger in (first, Ledger.open(tmp_path / "b", plan, data="d", is_private=True)):
        ledger.charge(1)
        heads.add(ledger.head)
    assert len(heads) == 2


@pytest.mark.parametrize("is_opened_first", [True, False])
def test_of_a_copied_run_one_goes_on_and_the_other_draws_no_noise(
    path: Path, tmp_path: Path, plan: DPPlan, is_opened_first: bool
) -> None:
    for step in (1, 2):
        opened(path, tmp_path / "a", plan).charge(step)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copy = opened(path, tmp_path / "b", plan) if is_opened_first else None
    original = opened(path, tmp_path / "a", plan)
    original.charge(3)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"people.budget.jsonl .* does not hold: a copy"):
        # `charge` comes before the noise is used, so nothing is spent
        (copy or opened(path, tmp_path / "b", plan)).charge(3)
    assert path.read_bytes() == before
    original.charge(4)


def test_a_run_brought_back_from_a_backup_does_not_spend_again(
    path: Path, tmp_path: Path, plan: DPPlan
) -> None:
    opened(path, tmp_path / "a", plan).charge(1)
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    opened(path, tmp_path / "a", plan).charge(2)
    shutil.rmtree(tmp_path / "a")
    shutil.copytree(tmp_path / "backup", tmp_path / "a")
    with pytest.raises(LedgerError, match="does not hold"):
        opened(path, tmp_path / "a", plan)


def test_a_crash_between_the_ledger_and_the_account_costs_nothing(
    path: Path, tmp_path: Path, plan: DPPlan
) -> None:
    ledger = opened(path, tmp_path / "a", plan)
    ledger.charge(1)

    class Killed(Exception):
        pass

    def die(lines: Sequence[str]) -> None:
        if len(lines) == 3:
            raise Killed

    ledger.tell(die)
    with pytest.raises(Killed):
        ledger.charge(2)
    resumed = opened(path, tmp_path / "a", plan)
    assert resumed.charged == 2
    assert noted(read(path), resumed) == resumed.head
    resumed.charge(3)


def test_a_run_that_has_charged_is_not_put_on_an_account_that_does_not_know_it(
    path: Path, tmp_path: Path, plan: DPPlan
) -> None:
    opened(path, tmp_path / "a", plan).charge(1)
    path.unlink()
    with pytest.raises(LedgerError, match=r"has charged 1 step.* bring the account back"):
        opened(path, tmp_path / "a", plan)
    assert not path.exists()  # or it would look as if nothing had been spent
    reserve(path, config(path, 100), plan, run="b", name="b", data="sha256:d")
    with pytest.raises(LedgerError, match=r"has charged 1 step.* bring the account back"):
        opened(path, tmp_path / "a", plan)


def test_an_account_that_is_taken_away_stops_the_run(
    path: Path, tmp_path: Path, plan: DPPlan
) -> None:
    ledger = opened(path, tmp_path / "a", plan)
    path.unlink()
    with pytest.raises(LedgerError, match="is gone"):
        ledger.charge(1)
    reserve(path, config(path, 100), plan, run="b", name="b", data="sha256:d")
    with pytest.raises(LedgerError, match="this run is not on"):
        ledger.charge(1)


# looking before anything is written


def test_looking_at_an_account_writes_nothing(path: Path, plan: DPPlan) -> None:
    how: dict[str, Any] = {"name": "a", "data": "sha256:d"}
    check(path, config(path, 100), plan, lines=["a"], **how)
    assert not path.exists()
    reserve(path, config(path, 100), plan, run="a", **how)
    before = path.read_bytes()
    for run in "ab":
        check(path, config(path, 100), plan, lines=[run], **how)
    assert path.read_bytes() == before


def test_what_would_be_refused_is_refused_before(path: Path, tmp_path: Path, plan: DPPlan) -> None:
    how: dict[str, Any] = {"name": "a", "data": "sha256:d"}
    with pytest.raises(BudgetSpent, match="0 runs have spent"):
        check(path, config(path, 0.01), plan, lines=["a"], **how)
    with pytest.raises(BudgetSpent):
        reserve(path, config(path, 0.01), plan, run="a", **how)
    assert not path.exists()
    with pytest.raises(LedgerError, match="this run has charged 2 steps"):
        check(path, config(path, 100), plan, lines=["a", "b", "c"], **how)

    ledger = opened(path, tmp_path / "a", plan)
    ledger.charge(1)
    with pytest.raises(LedgerError, match="does not change"):
        check(path, config(path, 99), plan, lines=ledger.lines, **how)
    of_people = dataclasses.replace(plan, unit="customer")
    with pytest.raises(LedgerError, match="protects one customer"):
        check(path, config(path, 100), of_people, lines=["b"], **how)
    with pytest.raises(LedgerError, match="does not hold: a copy"):
        check(path, config(path, 100), plan, lines=ledger.lines[:1], **how)
    check(path, config(path, 100), plan, lines=ledger.lines, **how)


def test_a_ledger_is_begun_when_its_run_fits_and_before_it_is_on_the_account(
    path: Path, plan: DPPlan
) -> None:
    seen: list[bool] = []
    how: dict[str, Any] = {"name": "a", "data": "sha256:d"}
    for _ in range(2):  # the second is of a run that goes on, whose ledger is there
        reserve(
            path, config(path, 100), plan, run="a", **how,
            before_writing=lambda: seen.append(path.exists()),
        )  # fmt: skip
    assert seen == [False]
    with pytest.raises(BudgetSpent):
        reserve(path.with_name("other"), config(path, 0.01), plan, run="b", **how,
                before_writing=lambda: seen.append(True))  # fmt: skip
    assert seen == [False]
