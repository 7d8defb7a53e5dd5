"""What the gate decided, as every document of a release says it: overrides before all else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.decision import BY_OVERRIDE, Check, Decision, Override

PASS, SHIPPABLE = "PASS", ("PASS", BY_OVERRIDE)


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
    found = Decision.from_json(decision)
    is_passed = decision["passed"] is True
    return Verdict(
        # as it was written: whether it follows from its checks is for `recipes.decisions` to say
        outcome=str(decision.get("outcome") or PASS) if is_passed else "FAIL",
        checks=found.checks,
        overrides=found.overrides,
        approvers=tuple(_approver(one) for one in decision.get("approvals") or ()),
        model=decision["target"].get("merged") if decision["target"]["kind"] == "merged" else None,
    )


def _approver(envelope: Mapping[str, Any]) -> str:
    """Name the key of a signed approval; whether it holds is the gate's to say."""
    try:
        return f"the key {str(envelope['signatures'][0]['keyid'])[:16]}"
    except (LookupError, TypeError):
        return "nobody"
