"""The account of a data set: what all runs on it have spent together, and what is left.

Epsilon belongs to people, not to a run: three runs at epsilon 3 on the same rows reveal more than
one. A budget file is a hash chain (`privacy.chain`) whose first line states the limit; each run
reserves its whole plan in it before its first step, and after all that could refuse the run
(`check` looks before). Reservations are never given back: a run that
was ended early stays on the account with all its steps, so the account overstates and never
understates.

A run folder that was copied or brought back from a backup must not spend its reservation twice. The
account therefore holds the last line of each run's ledger (`Witness`), and a ledger that does not
hold that line is refused before its next step is used.

All runs in one file are composed, also those whose rows differ: which rows two runs share is not
known from their fingerprints. Use one file for each data set.
"""

import dataclasses
import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from privacy import accountant, chain
from privacy.errors import BudgetSpent, LedgerError, PrivacyError
from privacy.plan import BudgetConfig, DPPlan

_SCHEMA = 1
_MOST_SECONDS = 60.0  # to wait for another run, which is done with an account in milliseconds


@dataclasses.dataclass(frozen=True)
class Reservation:
    """One run on the account, with all its planned steps."""

    run: str
    """Hash of its ledger's first line."""

    name: str
    data: str
    """Fingerprint of its training rows."""

    sample_rate: float
    noise_multiplier: float
    steps: int
    unit: str = "example"
    """What each of its epsilons protects; a file of before says nothing, and is of examples."""


@dataclasses.dataclass(frozen=True)
class Account:
    """A budget file whose chain holds."""

    epsilon: float
    """The limit."""

    delta: float
    reservations: tuple[Reservation, ...]
    last_lines: Mapping[str, str]
    """Of each run that has charged, the last line of its ledger that was noted, by its hash."""

    head: str
    size_bytes: int

    def spent(self, *more: Reservation) -> float:
        """Return epsilon of all runs on the account, and of some that are not yet on it."""
        mechanisms = [
            (run.sample_rate, run.noise_multiplier, run.steps)
            for run in (*self.reservations, *more)
        ]
        return accountant.epsilon_of_all(mechanisms, self.delta)


def read(path: str | os.PathLike[str]) -> Account:
    """Read a budget file and check every line of it.

    Raises:
        LedgerError: naming the line that is damaged.
        FileNotFoundError: if there is no such file.
    """
    name = Path(path).name
    found = chain.read(path)
    header, *lines = found.entries
    if header.get("kind") != "budget" or header.get("schema") != _SCHEMA:
        raise LedgerError(f"{name}, line 1: is not the header of a budget of schema {_SCHEMA}.")
    try:
        reservations = tuple(_reservation(line) for line in lines if line["kind"] != "charge")
        charges = [line for line in lines if line["kind"] == "charge"]
        last_lines = {str(line["run"]): str(line["line"]) for line in charges}
        epsilon, delta = float(header["epsilon"]), float(header["delta"])
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"{name}: a line holds no valid run: {error!r}") from error
    return Account(epsilon, delta, reservations, last_lines, found.hashes[-1], found.size_bytes)


def check(
    path: Path,
    config: BudgetConfig,
    plan: DPPlan,
    *,
    lines: Sequence[str],
    name: str,
    data: str,
) -> None:
    """Refuse a run that `reserve` or `Witness` would refuse, and write nothing.

    Args:
        path: of the budget file; it need not exist.
        config: the limit, which must be that of the file.
        plan: of the run.
        lines: hashes of all lines of the run's ledger, the header's first.
        name: of the run, for people.
        data: fingerprint of its training rows.

    Raises:
        BudgetSpent: if the run would take the account over its limit.
        LedgerError: as `reserve` and `Witness` do.
    """
    _refuse_delta(path, config, plan)
    account = None
    if path.exists():
        with _locked(path):
            account = read(path)
    wanted = _reservation_of(plan, run=lines[0], name=name, data=data)
    _refuse_misfit(path, config, account, wanted, num_charged=len(lines) - 1)
    if account is not None:
        _refuse_copy(path, account.last_lines.get(lines[0]), lines)


def reserve(
    path: Path,
    config: BudgetConfig,
    plan: DPPlan,
    *,
    run: str,
    name: str,
    data: str,
    num_charged: int = 0,
    before_writing: Callable[[], None] = lambda: None,
) -> Account:
    """Put a run on the account, once: a resumed run is there already.

    Args:
        path: of the budget file, made if it is not there.
        config: the limit, which must be that of the file.
        plan: of the run.
        run: hash of the run's ledger header.
        name: of the run, for people.
        data: fingerprint of its training rows.
        num_charged: how many steps its ledger holds already.
        before_writing: called when the run fits and before it is on the account, as to begin its
            ledger: a run on the account whose ledger is not on the disk would be there twice.

    Returns:
        The account with the run on it.

    Raises:
        BudgetSpent: if the run would take the account over its limit; nothing is written.
        LedgerError: if the file is damaged, states another limit or adds up runs of another unit,
            or if its delta is 1 / n or more; or if the run has charged steps and is not on it.
    """
    _refuse_delta(path, config, plan)
    with _locked(path):
        account = read(path) if path.exists() else None
        wanted = _reservation_of(plan, run=run, name=name, data=data)
        _refuse_misfit(path, config, account, wanted, num_charged)
        if account is not None and _knows(account, run):
            return account
        before_writing()
        if account is None:
            header = {"kind": "budget", "schema": _SCHEMA}
            chain.begin(path, {**header, "epsilon": config.epsilon, "delta": config.delta})
            account = read(path)
        chain.append(path, {"kind": "run", **vars(wanted)}, account.head, account.size_bytes)
        return read(path)


def _reservation_of(plan: DPPlan, *, run: str, name: str, data: str) -> Reservation:
    return Reservation(
        run, name, data, plan.sample_rate, plan.noise_multiplier, plan.steps, plan.unit
    )


def _knows(account: Account, run: str) -> bool:
    return any(known.run == run for known in account.reservations)


def _refuse_delta(path: Path, config: BudgetConfig, plan: DPPlan) -> None:
    if config.delta * plan.num_examples >= 1:
        raise LedgerError(
            f"{path.name} allows delta {config.delta:g}, which is 1 / {plan.num_examples} or more: "
            "publishing one whole example at random would pass. Begin an account with a smaller "
            "delta (privacy.budget.delta)."
        )


def _refuse_misfit(
    path: Path,
    config: BudgetConfig,
    account: Account | None,
    wanted: Reservation,
    num_charged: int,
) -> None:
    """Refuse a run that does not fit on an account; None is one that is still to be begun."""
    if account is None:
        account = Account(config.epsilon, config.delta, (), {}, head="", size_bytes=0)
    if (account.epsilon, account.delta) != (config.epsilon, config.delta):
        raise LedgerError(
            f"{path.name} allows epsilon {account.epsilon:g} at delta {account.delta:g}, and "
            f"this run states {config.epsilon:g} at {config.delta:g}. The limit of an account "
            "does not change: state the file's, or begin another file for other data."
        )
    if _knows(account, wanted.run):
        return
    if num_charged:
        raise LedgerError(_unknown(path, num_charged))
    if other := {known.unit for known in account.reservations} - {wanted.unit}:
        raise LedgerError(
            f"{path.name} adds up runs that protect one {min(other)}, and this run protects "
            f"one {wanted.unit}: epsilons of different units do not add up. Set privacy.unit "
            "alike, or name another account for it."
        )
    after = account.spent(wanted)
    if not after <= account.epsilon:
        raise BudgetSpent(_refusal(path, account, wanted, after))


def _refuse_copy(path: Path, noted: str | None, lines: Sequence[str]) -> None:
    """Refuse a ledger without the line that the account has noted last of its run."""
    if noted is not None and noted not in lines:
        raise LedgerError(
            f"{path.name} has noted a charge of this run that its ledger does not hold: a copy "
            "of the run folder has gone on, or this one was brought back from a backup. "
            "Nothing was drawn. Go on with the folder that was charged last, or begin a "
            "new run under another name, whose epsilon adds."
        )


class Witness:
    """Notes the charges of a run on an account, each before it is used (`Ledger.tell`).

    Reads the account again only where another run has written to it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._account: Account | None = None

    def __call__(self, lines: Sequence[str]) -> None:
        """Note the last line of a ledger.

        Args:
            lines: hashes of all its lines, the header's first.

        Raises:
            LedgerError: if the account is gone or damaged, does not know the run, or has noted a
                line that this ledger does not hold.
        """
        name, run, last = self._path.name, lines[0], lines[-1]
        with _locked(self._path):
            account = self._account
            if not self._path.exists():
                raise LedgerError(f"the account {name} is gone; bring it back, and resume.")
            if account is None or account.size_bytes != self._path.stat().st_size:
                account = read(self._path)
            if not _knows(account, run):
                raise LedgerError(f"this run is not on the account {name}; bring its own back.")
            before = account.last_lines.get(run)
            _refuse_copy(self._path, before, lines)
            if last not in (before, run):
                entry = {"kind": "charge", "run": run, "line": last}
                head, size = chain.append(self._path, entry, account.head, account.size_bytes)
                account = dataclasses.replace(
                    account,
                    last_lines={**account.last_lines, run: last},
                    head=head,
                    size_bytes=size,
                )
            self._account = account


def _unknown(path: Path, num_charged: int) -> str:
    steps = "1 step" if num_charged == 1 else f"{num_charged} steps"
    return (
        f"this run has charged {steps}, and the account {path.name} does not know it: it is not "
        "the one that the run was begun on. Go on where that is, or bring the account back."
    )


def _refusal(path: Path, account: Account, wanted: Reservation, after: float) -> str:
    alone = accountant.epsilon(
        wanted.sample_rate, wanted.noise_multiplier, wanted.steps, account.delta
    )
    before = account.spent()
    others = len({run.data for run in account.reservations} - {wanted.data})
    return (
        f"{path.name} allows epsilon {account.epsilon:g} at delta {account.delta:g}. "
        f"{len(account.reservations)} runs have spent {before:.3f}; with this one, which spends "
        f"{alone:.3f} by itself, it would be {_number(after)}. Nothing was trained. Lower "
        "privacy.epsilon or train.epochs, use a model that is there, or ask whoever answers for "
        "the data for another account."
        + (f" ({others} other sets of rows are on the account; all count.)" if others else "")
    )


def _number(epsilon: float) -> str:
    return "unbounded" if math.isinf(epsilon) else f"{epsilon:.3f}"


def _reservation(line: dict[str, Any]) -> Reservation:
    if line["kind"] != "run":
        raise ValueError(f"its kind is {line['kind']!r}")
    found = Reservation(
        run=str(line["run"]),
        name=str(line["name"]),
        data=str(line["data"]),
        sample_rate=float(line["sample_rate"]),
        noise_multiplier=float(line["noise_multiplier"]),
        steps=int(line["steps"]),
        unit=str(line.get("unit", "example")),
    )
    if not (0 < found.sample_rate <= 1 and found.noise_multiplier >= 0 and found.steps >= 0):
        raise ValueError("no run has such a rate, noise or number of steps")
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one run at a time look at the account and write to it.

    Raises:
        PrivacyError: naming the process that has held the account all the while.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name}.lock"
    holder = path.with_name(f"{name}.holder")  # Windows lets nobody read a file that is locked
    lock = FileLock(path.with_name(name))
    try:
        lock.acquire(timeout=_MOST_SECONDS)
    except Timeout:
        raise PrivacyError(
            f"another run has held the account {path} for {_MOST_SECONDS:g} s ({_read(holder)}); "
            "wait for it or end it, and give the same command again"
        ) from None
    try:
        with suppress(OSError):
            since = datetime.now(UTC).isoformat(timespec="seconds")
            holder.write_text(
                f"process {os.getpid()} on {socket.gethostname()}, since {since}",
                encoding="utf-8",
                newline="\n",
            )
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return "which one is not known"
