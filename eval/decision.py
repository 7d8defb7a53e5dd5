"""What the gate says: checks with their outcomes, and the overrides that a person put on them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pydantic import TypeAdapter

from eval.task import Family

Outcome = Literal["PASS", "FAIL", "UNDECIDED"]
Subject = Family | Literal["privacy", "policy", "budget", "evidence", "digest"]
Kind = Literal["absolute", "noninferior", "superior", "budget", "required", "equal", "policy"]

BY_OVERRIDE = "PASS BY OVERRIDE"

MIN_REASON = 20
"""Characters of an override's reason: shorter ones say nothing."""

_FIGURES = ("bound", "value", "low", "high")
_NEVER_OVERRIDDEN: tuple[Subject, ...] = ("privacy", "policy", "evidence", "digest")


@dataclass(frozen=True)
class Check:
    """One bound, what was seen, and whether it holds."""

    family: Subject
    metric: str
    rule: str
    """The rule in words, such as ``f1 at least 0.5``."""

    bound: float
    """What the pessimistic end is compared with; NaN where nothing was compared."""

    value: float
    low: float
    high: float
    n: int
    outcome: Outcome
    """Undecided: the value is on the good side of the bound, the pessimistic end is not."""

    reason: str
    """A sentence for a person, whatever the outcome."""

    kind: Kind
    name: str
    """What an override calls it, such as ``accuracy/f1/at_least``."""

    overridable: bool = False
    """Whether an override may stand for it: the rule says so, and the figure is sound."""

    items_needed: int | None = None
    """About how many more items would settle it, where it is undecided and any number would."""

    compared_with: str = ""
    """Whose figure the value is a difference to; empty where it is none."""

    @property
    def passed(self) -> bool:
        """Whether the bound holds. An override changes the decision, never this."""
        return self.outcome == "PASS"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; what is not a finite number is null."""
        values = asdict(self) | {"passed": self.passed}
        return {
            key: None if isinstance(v, float) and not math.isfinite(v) else v
            for key, v in values.items()
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Check:
        """Read what `to_json` wrote, in this form or in the first, which knew pass and fail."""
        known = {f.name for f in fields(Check)}
        old = {"outcome": "PASS" if values["passed"] else "FAIL", "kind": "absolute", "name": ""}
        nan = {key: math.nan for key in _FIGURES if values[key] is None}
        return Check(**(old | {k: v for k, v in values.items() if k in known} | nan))


@dataclass(frozen=True)
class Override:
    """A person's word that a model may leave although one check was missed."""

    rule: str
    """`Check.name`."""

    by: str
    reason: str
    ticket: str
    expires: str
    """Last day on which it holds, as ``YYYY-MM-DD``."""

    given: str = ""
    """When, in UTC."""

    candidate: str = ""
    """Digest of the one model that it is for."""

    policy: str = ""
    """Digest of the one policy that it is about."""

    def __str__(self) -> str:
        return (
            f"{self.by} has overridden the rule {self.rule} until {self.expires} "
            f"({self.ticket}): {self.reason}"
        )

    def wanting(self) -> str | None:
        """Return what an override lacks to be one: a name, a reason that says something, a ticket.

        Named as `assay gate --override` asks for them; None if nothing.
        """
        for flag, text, least in (
            ("--by", self.by, 1),
            ("--ticket", self.ticket, 1),
            ("--reason", self.reason, MIN_REASON),
        ):
            if len(text.strip()) < least or not text.isprintable():
                wanted = f"at least {least} printable characters" if least > 1 else "printable text"
                return f"{flag}: wanted {wanted} on one line, found {text!r}"
        return None

    def stands_for(self, check: Check) -> bool:
        """Return whether it opens this check: a missed one that may be overridden at all."""
        may_be = check.overridable and check.family not in _NEVER_OVERRIDDEN
        return may_be and not check.passed and check.name == self.rule


@dataclass(frozen=True)
class Decision:
    """All checks of one policy on one model."""

    checks: tuple[Check, ...]
    overrides: tuple[Override, ...] = ()

    @property
    def outcome(self) -> Outcome | Literal["PASS BY OVERRIDE"]:
        """FAIL if any check failed that no override stands for, then UNDECIDED, then a pass."""
        missed = [check for check in self.checks if not check.passed]
        closed = {c.outcome for c in missed if not any(o.stands_for(c) for o in self.overrides)}
        if not self.checks or closed - {"UNDECIDED"}:
            return "FAIL"
        if closed:
            return "UNDECIDED"
        return "PASS BY OVERRIDE" if missed else "PASS"

    @property
    def passed(self) -> bool:
        """True if there are checks and every one holds or is overridden."""
        return self.outcome in ("PASS", BY_OVERRIDE)

    def to_json(self) -> dict[str, Any]:
        """Return the decision as plain JSON values, overrides first."""
        return {
            "overrides": [asdict(override) for override in self.overrides],
            "outcome": self.outcome,
            "passed": self.passed,
            "checks": [check.to_json() for check in self.checks],
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Decision:
        """Read what `to_json` wrote; further keys are left out, the outcome is computed.

        Raises:
            ValueError: if a value is of another type.
        """
        known = {f.name for f in fields(Override)}
        found = Decision(
            tuple(Check.from_json(check) for check in values["checks"]),
            tuple(
                Override(**{k: v for k, v in override.items() if k in known})
                for override in values.get("overrides", ())
            ),
        )
        _FORM.validate_json(json.dumps(asdict(found)), strict=True)
        return found


_FORM = TypeAdapter(Decision)
