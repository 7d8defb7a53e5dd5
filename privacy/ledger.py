"""What a private run has spent, written down before it is spent.

A hash chain of JSON lines (`privacy.chain`). The first line holds the plan, every further one a
noisy step. A step is charged, and the line is on the disk, *before* its noisy gradient is used: a
crash overstates the spending, never understates it.

What the chain alone cannot show is that whole lines are missing *at the end*. A checkpoint
therefore carries the hash of the ledger's last line, and is refused by a ledger without it.

Nor can it show that a run folder was copied, or brought back from a backup, and that both go on.
Somebody outside of the folder can: `Ledger.tell`, as the account of the data does
(`privacy.budget`). Each line holds a random number, so that no two copies write the same one.

A line holds no time, no batch size and no loss: how long a step took tells how large its batch
was, and that is private.
"""

import dataclasses
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from privacy import chain
from privacy.errors import BudgetSpent, LedgerError, PrivacyError
from privacy.plan import DPPlan

_SCHEMA = 2


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
    canaries: str = ""
    """Commitment to the canaries among the data; empty if there are none."""

    @property
    def steps_charged(self) -> int:
        """Noisy steps on record, repeated ones included."""
        return len(self.hashes) - 1

    @property
    def last_step(self) -> int:
        """The furthest optimizer step that is charged; 0 before the first."""
        return max(self.steps, default=0)

    @property
    def head(self) -> str:
        """Hash of the last line; it pins all lines before it."""
        return self.hashes[-1]

    @property
    def epsilon_spent(self) -> float:
        """Epsilon at the plan's delta for the steps charged (PLD; takes about a second)."""
        return self.plan.epsilon(self.steps_charged)

    def disagreement(self, record: Mapping[str, Any]) -> str | None:
        """Say why this is not the whole ledger of a run; None if nothing speaks against it.

        The chain cannot show that lines are missing at its end, or that it is another run's. The
        record that the run wrote can.

        Args:
            record: of the run: ``data.fingerprint``, and of ``training`` the ``num_steps`` that
                were taken and the ``ledger_head`` at its end, as far as they are there.
        """
        training = record.get("training") or {}
        rows = (record.get("data") or {}).get("fingerprint")
        head, num_steps = training.get("ledger_head"), training.get("num_steps")
        if rows is not None and rows != self.data:
            return "it is of other rows than record.json names, so it is another run's"
        if num_steps is not None and num_steps > self.last_step:
            taken = f"record.json says that {num_steps} were taken"
            return f"it charges steps up to {self.last_step}, and {taken}"
        if head is not None and head != self.head:
            return "its last line is not the one that record.json noted when training ended"
        return None


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
    found = chain.read(path)
    header, *charges = found.entries
    if header.get("kind") != "plan" or header.get("schema") != _SCHEMA:
        raise LedgerError(f"{name}, line 1: is not a ledger header of schema {_SCHEMA}.")
    for number, entry in enumerate(charges, start=1):
        if entry.get("kind") != "step" or entry.get("charge") != number:
            raise LedgerError(f"{name}, line {number + 1}: is not charge {number}.")
    try:
        plan = DPPlan(**header["plan"])
    except (KeyError, TypeError, PrivacyError) as error:
        raise LedgerError(f"{name}, line 1: holds no valid plan: {error}") from error
    if len(charges) > plan.steps:
        raise LedgerError(
            f"{name}, line {plan.steps + 2}: charges beyond the {plan.steps} planned steps."
        )
    try:
        return LedgerSummary(
            plan=plan,
            data=str(header["data"]),
            is_private=header["is_private"] is True,
            hashes=found.hashes,
            steps=tuple(int(entry["step"]) for entry in charges),
            covered=frozenset(str(entry["covered"]) for entry in charges),
            size_bytes=found.size_bytes,
            canaries=str(header.get("canaries", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"{name}: a line lacks what every ledger holds: {error}") from error


Listener = Callable[[Sequence[str]], None]
"""Is told the hashes of all lines of a ledger, the header's first; may refuse by an exception."""


class Ledger:
    """The ledger of one run, open for charging. Made by :meth:`open`."""

    def __init__(
        self, path: Path, summary: LedgerSummary, header: dict[str, Any] | None = None
    ) -> None:
        self.path = path
        self._header = header  # that is still to be written
        self.plan = summary.plan
        self.is_private = summary.is_private
        self._hashes = list(summary.hashes)
        self._size_bytes = summary.size_bytes
        self._witness: Listener | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        plan: DPPlan,
        *,
        data: str,
        is_private: bool,
        canaries: str = "",
        is_deferred: bool = False,
    ) -> Self:
        """Begin a ledger, or go on with the one that is there.

        Args:
            path: of the file; its folder must exist.
            plan: what is going to be run.
            data: fingerprint of the training data.
            is_private: of the randomness in use; a seeded run is stamped as not private.
            canaries: the commitment to those among the data (`privacy.canaries`), if there are any.
            is_deferred: write no new file before :meth:`begin` or the first charge, so that a run
                that is refused until then leaves none.

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
                **({"canaries": canaries} if canaries else {}),
                # two runs of one plan on the same data are two runs, and each is accounted
                "run": secrets.token_hex(16),
            }
            unwritten = LedgerSummary(
                plan=plan,
                data=data,
                is_private=is_private,
                hashes=(chain.hash_of_first(header),),
                steps=(),
                covered=frozenset(),
                size_bytes=0,
                canaries=canaries,
            )
            ledger = cls(path, unwritten, header)
            if not is_deferred:
                ledger.begin()
            return ledger
        summary = verify(path)
        wanted = {"plan": plan, "data": data, "is_private": is_private, "canaries": canaries}
        for what, value in wanted.items():
            if getattr(summary, what) != value:
                raise LedgerError(
                    f"{path.name} was begun with another {what}: it says "
                    f"{getattr(summary, what)!r}, this run has {value!r}. Resume with the settings "
                    "it was begun with, or give this run a ledger of its own."
                )
        return cls(path, summary)

    def begin(self) -> None:
        """Write the header of a new ledger; nothing, where it is on the disk.

        Raises:
            LedgerError: if somebody else has begun a file of this name meanwhile.
        """
        if self._header is None:
            return
        try:
            chain.begin(self.path, self._header)
        except FileExistsError as error:
            raise LedgerError(
                f"{self.path.name} was begun by another run meanwhile; resume when it has ended, "
                "or give this run a ledger of its own."
            ) from error
        self._size_bytes = self.path.stat().st_size
        self._header = None

    @property
    def lines(self) -> tuple[str, ...]:
        """Hashes of all lines, the header's first."""
        return tuple(self._hashes)

    @property
    def run(self) -> str:
        """Hash of the header: which run this is, among all of the same plan and data."""
        return self._hashes[0]

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

    def tell(self, witness: Listener) -> None:
        """Tell somebody outside of the run's folder of all charges: now, and each before its use.

        Raises:
            Exception: what the witness raises, here and later in `charge`.
        """
        witness(self._hashes)
        self._witness = witness

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
            LedgerError: if someone else has written to the file meanwhile, or another copy of the
                run was charged (`tell`). The step is then not to be used.
        """
        if self.remaining <= 0:
            raise BudgetSpent(
                f"All {self.plan.steps} steps of the plan are charged in {self.path.name}; one "
                "more would exceed its epsilon. Use the last checkpoint, or plan a new run, whose "
                "epsilon adds to this one's."
            )
        self.begin()
        entry = {"kind": "step", "charge": self.charged + 1, "step": step, "covered": covered}
        entry["nonce"] = secrets.token_hex(8)
        sealed, self._size_bytes = chain.append(self.path, entry, self.head, self._size_bytes)
        self._hashes.append(sealed)
        if self._witness is not None:
            self._witness(self._hashes)
