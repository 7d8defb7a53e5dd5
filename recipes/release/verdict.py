"""What the gate decided, as every document of a release says it: overrides before all else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PASS, PASS_BY_OVERRIDE = "PASS", "PASS BY OVERRIDE"
SHIPPABLE = (PASS, PASS_BY_OVERRIDE)


@dataclass(frozen=True)
class Check:
    """One rule of the gate and what was measured against it; None where it is no number."""

    family: str
    metric: str
    rule: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    passed: bool
    reason: str


@dataclass(frozen=True)
class Override:
    """A person's word against one rule of the gate."""

    rule: str
    by: str
    reason: str
    ticket: str
    expires: str

    def __str__(self) -> str:
        return (
            f"{self.by} has overridden the rule {self.rule} until {self.expires} "
            f"({self.ticket}): {self.reason}"
        )


@dataclass(frozen=True)
class Verdict:
    """The gate's last word on the model that is shipped."""

    outcome: str
    checks: tuple[Check, ...]
    overrides: tuple[Override, ...]
    approvers: tuple[str, ...]
    model: str | None
    """Identity of the merged model that was decided on; None if it was none."""

    @property
    def may_ship(self) -> bool:
        """Whether a model with this decision may leave."""
        return self.outcome in SHIPPABLE and self.model is not None

    @property
    def num_passed(self) -> int:
        """Rules that hold by themselves."""
        return sum(check.passed for check in self.checks)


def read_verdict(decision: Mapping[str, Any]) -> Verdict:
    """Read a decision.json, of this version of the gate or of an earlier one.

    Raises:
        KeyError, TypeError, ValueError: if it is none.
    """
    overrides = tuple(_override(one) for one in decision.get("overrides") or ())
    is_passed = decision["passed"] is True
    return Verdict(
        outcome=str(decision.get("outcome") or PASS) if is_passed else "FAIL",
        checks=tuple(
            Check(
                family=one["family"],
                metric=one["metric"],
                rule=one["rule"],
                value=one.get("value"),
                low=one.get("low"),
                high=one.get("high"),
                n=int(one.get("n") or 0),
                passed=one["passed"] is True,
                reason=one["reason"],
            )
            for one in decision["checks"]
        ),
        overrides=overrides,
        approvers=tuple(_approver(one) for one in decision.get("approvals") or ()),
        model=decision["target"].get("merged") if decision["target"]["kind"] == "merged" else None,
    )


def _approver(envelope: Mapping[str, Any]) -> str:
    """Name the key of a signed approval; whether it holds is the gate's to say."""
    return f"the key {str(envelope['signatures'][0]['keyid'])[:16]}"


def _override(one: Mapping[str, Any]) -> Override:
    keys = ("rule", "by", "reason", "ticket", "expires")
    return Override(**{key: str(one.get(key) or "not said") for key in keys})
