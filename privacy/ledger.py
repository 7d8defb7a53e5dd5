"""What a private run has spent, written down before it is spent.

One JSON object a line. The first line holds the plan, every further one a noisy step. Each line
carries the hash of the line before it and its own, so that an edited, removed, reordered or
repeated line breaks the chain at a line that can be named. A step is charged, and the line is on
the disk, *before* its noisy gradient is used: a crash overstates the spending, never understates
it.

What the chain alone cannot show is that whole lines are missing *at the end*. A checkpoint
therefore carries the hash of the ledger's last line, and is refused by a ledger without it.

A line holds no time, no batch size and no loss: how long a step took tells how large its batch
was, and that is private.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Self

from privacy.errors import BudgetSpent, LedgerError, PrivacyError
from privacy.plan import DPPlan

_SCHEMA = 1
_NOTHING = "0" * 64  # what the first line has before it


@dataclasses.dataclass(frozen=True)
class LedgerSummary:
    """A ledger whose chain holds."""

    plan: DPPlan
    data: str
    """Fingerprint of the training data."""
    is_private: bool
    """False if noise and sampling could be repeated from a seed."""
    hashes: tuple[str, ...]
    """Of every line, the header first."""
    steps: tuple[int, ...]
    """Optimizer step of each charge; one that was repeated after a crash stands twice."""
    covered: frozenset[str]
    """Fingerprints of what was under the clipping bound; more than one means that it changed."""
    size_bytes: int

    @property
    def steps_charged(self) -> int:
        """Noisy steps on record, repeated ones included."""
        return len(self.hashes) - 1

    @property
    def head(self) -> str:
        """Hash of the last line; it pins all lines before it."""
        return self.hashes[-1]

    @property
    def epsilon_spent(self) -> float:
        """Epsilon at the plan's delta for the steps charged (PLD; takes about a second)."""
        return self.plan.epsilon(self.steps_charged)


def _seal(entry: dict[str, Any]) -> str:
    """Hash of an entry without its own hash, in the one form in which it is written."""
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _line(entry: dict[str, Any]) -> bytes:
    sealed = {**entry, "hash": _seal(entry)}
    text = json.dumps(sealed, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def verify(path: str | os.PathLike[str]) -> LedgerSummary:
    """Read a ledger and check every line of it.

    Returns:
        What it says.

    Raises:
        LedgerError: naming the first line that is torn, edited, out of order or repeated, or that
            does not follow the plan of the header.
        FileNotFoundError: if there is no such file.
    """
    name = Path(path).name
    content = Path(path).read_bytes()
    if not content:
        raise LedgerError(f"{name} is empty; a ledger has at least its header line.")
    lines = content.split(b"\n")
    if lines.pop() != b"":
        raise LedgerError(
            f"{name}, line {len(lines) + 1}: torn. The write was cut off, so that step was never "
            f"used. Keep a copy, cut the file after line {len(lines)}, and resume."
        )
    hashes: list[str] = []
    header: dict[str, Any] = {}
    charges: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        entry = _read_line(line, f"{name}, line {number}")
        found = entry["hash"]
        if entry.get("previous") != (hashes[-1] if hashes else _NOTHING):
            raise LedgerError(
                f"{name}, line {number}: does not follow line {number - 1}. Lines were removed, "
                "reordered, repeated or written by two runs at once."
            )
        if number == 1:
            header = entry
            if entry.get("kind") != "plan" or entry.get("schema") != _SCHEMA:
                raise LedgerError(f"{name}, line 1: is not a ledger header of schema {_SCHEMA}.")
        elif entry.get("kind") != "step" or entry.get("charge") != number - 1:
            raise LedgerError(f"{name}, line {number}: is not charge {number - 1}.")
        else:
            charges.append(entry)
        hashes.append(found)
    try:
        plan = DPPlan(**header["plan"])
    except (KeyError, TypeError, PrivacyError) as error:
        raise LedgerError(f"{name}, line 1: holds no valid plan: {error}") from error
    if len(hashes) - 1 > plan.steps:
        raise LedgerError(
            f"{name}, line {plan.steps + 2}: charges beyond the {plan.steps} planned steps."
        )
    return LedgerSummary(
        plan=plan,
        data=str(header["data"]),
        is_private=header["is_private"] is True,
        hashes=tuple(hashes),
        steps=tuple(int(entry["step"]) for entry in charges),
        covered=frozenset(str(entry["covered"]) for entry in charges),
        size_bytes=len(content),
    )


def _read_line(line: bytes, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise LedgerError(f"{where}: is not JSON; it was edited or damaged.") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("hash"), str):
        raise LedgerError(f"{where}: has no hash; it was edited or damaged.")
    # Byte for byte, not value for value: 1 and 1.0 are equal and do not hash alike.
    if _line({k: v for k, v in entry.items() if k != "hash"}) != line + b"\n":
        raise LedgerError(f"{where}: does not match its hash; it was edited or damaged.")
    return entry


class Ledger:
    """The ledger of one run, open for charging. Made by :meth:`open`."""

    def __init__(self, path: Path, summary: LedgerSummary) -> None:
        self.path = path
        self.plan = summary.plan
        self.is_private = summary.is_private
        self._hashes = list(summary.hashes)
        self._size_bytes = summary.size_bytes

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], plan: DPPlan, *, data: str, is_private: bool
    ) -> Self:
        """Begin a ledger, or go on with the one that is there.

        Args:
            path: of the file; its folder must exist.
            plan: what is going to be run.
            data: fingerprint of the training data.
            is_private: of the randomness in use; a seeded run is stamped as not private.

        Raises:
            LedgerError: if the ledger is damaged, or was begun for another plan, other data or
                another kind of randomness. Its spending belongs to that run: give this one a
                new file.
        """
        path = Path(path)
        if not path.exists():
            header = {
                "kind": "plan",
                "schema": _SCHEMA,
                "plan": dataclasses.asdict(plan),
                "data": data,
                "is_private": is_private,
                "previous": _NOTHING,
            }
            _append(path, _line(header), os.O_CREAT | os.O_EXCL)
        summary = verify(path)
        wanted = {"plan": plan, "data": data, "is_private": is_private}
        for what, value in wanted.items():
            if getattr(summary, what) != value:
                raise LedgerError(
                    f"{path.name} was begun with another {what}: it says "
                    f"{getattr(summary, what)!r}, this run has {value!r}. Resume with the settings "
                    "it was begun with, or give this run a ledger of its own."
                )
        return cls(path, summary)

    @property
    def charged(self) -> int:
        """Steps charged so far, those repeated after a crash included."""
        return len(self._hashes) - 1

    @property
    def remaining(self) -> int:
        """Steps that the plan still pays for."""
        return self.plan.steps - self.charged

    @property
    def head(self) -> str:
        """Hash of the last line."""
        return self._hashes[-1]

    def charge_of(self, head: str) -> int | None:
        """Number of the charge whose line has this hash (0: the header), or None if none has."""
        return self._hashes.index(head) if head in self._hashes else None

    def charge(self, step: int, *, covered: str = "") -> None:
        """Write down one noisy step, and return once it is on the disk.

        Every charge counts, also that of a step repeated after a crash: both noisy gradients
        existed. Epsilon grows with the number of charges alone, so the plan's epsilon would be
        exceeded by exactly one charge more than it has steps.

        Args:
            step: the optimizer step it is for, from 1; repeats after a resume.
            covered: fingerprint of the parameters under the clipping bound.

        Raises:
            BudgetSpent: if the plan's steps are all charged. Nothing is written.
            LedgerError: if someone else has written to the file meanwhile.
        """
        if self.remaining <= 0:
            raise BudgetSpent(
                f"All {self.plan.steps} steps of the plan are charged in {self.path.name}; one "
                "more would exceed its epsilon. Use the last checkpoint, or plan a new run, whose "
                "epsilon adds to this one's."
            )
        if self.path.stat().st_size != self._size_bytes:
            raise LedgerError(
                f"{self.path.name} changed while this run had it open: two runs share one ledger. "
                "Stop the other, and resume."
            )
        entry = {
            "kind": "step",
            "charge": self.charged + 1,
            "step": step,
            "covered": covered,
            "previous": self.head,
        }
        line = _line(entry)
        _append(self.path, line)
        self._hashes.append(_seal(entry))
        self._size_bytes += len(line)


def _append(path: Path, line: bytes, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | flags, 0o644)
    try:
        if os.write(descriptor, line) != len(line):
            raise LedgerError(f"{path.name}: the disk took a part of a line only; is it full?")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if flags & os.O_CREAT and os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)  # or the new file's name may be lost
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
