"""A decision that was edited does not follow from its policy and figures, and that is told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from eval.decision import Decision
from eval.gate import Facts, decide
from eval.policy import GatePolicy
from eval.rederive import departures
from eval.stats import Difference
from eval.task import Estimate
from tests.eval.test_gate import f1, report

POLICY = GatePolicy.model_validate(
    {
        "accuracy": [
            {"metric": "f1", "at_least": 0.5, "not_worse_than_base_by": 0.1},
            {"metric": "loss", "at_most": 1.0, "min_items": 30},
            {"metric": "task0/f1", "better_than_base_by": 0.0},
            {"metric": "f1", "release": "../old/march", "not_worse_than_release_by": 0.2},
            {"metric": "nothing", "at_least": 0.1},
        ],
        "bias": {"metric": "absent", "at_most": 0.1},
        "privacy": {"epsilon_at_most": 8.0},
        "budget": {"size_gb_at_most": 0.3, "seconds_per_item_at_most": 0.5},
        "evidence": ["privacy_self_test", "checks.json:passed"],
        "equal": {"training_data": "sha256:" + "1" * 64},
    }
)
REPORT = report(f1=f1(0.4), loss=Estimate(0.9, 0.8, 1.2, 25, higher_is_better=False))
DIGESTS = {"training_data": "sha256:" + "1" * 64}


def decision(**changes: Any) -> Decision:
    facts: dict[str, Any] = {
        "size_bytes": 123_456_789,
        "seconds_per_item": 0.1 + 0.2,
        "releases": {"../old/march": {"task0/f1": Difference(0.1, -0.1, 0.3, 90)}},
        "evidence": {"privacy_self_test": "", "checks.json:passed": "it is false"},
        "digests": DIGESTS,
    }
    return decide(
        POLICY,
        REPORT,
        changes.get("differences", {"task0/f1": Difference(0.02, -0.05, 0.09, 80)}),
        epsilon=changes.get("epsilon", 3.5),
        is_private=True,
        facts=Facts(**facts | changes.get("facts", {})),
    )


def told(found: Decision, **changes: Any) -> list[str]:
    arguments: dict[str, Any] = {"is_private": True, "is_refuted": False, "digests": DIGESTS}
    written = Decision.from_json(json.loads(json.dumps(found.to_json())))
    return departures(written, POLICY, changes.pop("report", REPORT), **arguments | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epsilon": None},
        {"epsilon": 9.0},
        {"differences": {}},
        {"differences": {"task0/f1": "items differ"}},
        {"facts": {"size_bytes": None, "seconds_per_item": math.nan}},
        {"facts": {"size_bytes": 300_000_001, "releases": {}}},
        {"facts": {"evidence": {}}},
    ],
)
def test_what_the_gate_decides_follows(changes: dict[str, Any]) -> None:
    found = decision(**changes)
    assert {check.outcome for check in found.checks} >= {"PASS", "FAIL"}
    assert told(found) == []


def first_passes(values: dict[str, Any]) -> None:
    values["checks"][0].update(outcome="PASS", passed=True)


def easier_bound(values: dict[str, Any]) -> None:
    values["checks"][0].update(outcome="PASS", passed=True, bound=0.1)


def prettier_figure(values: dict[str, Any]) -> None:
    values["checks"][0].update(outcome="PASS", passed=True, low=0.9, value=0.95)


def made_overridable(values: dict[str, Any]) -> None:
    values["checks"][0].update(overridable=True)


def one_left_out(values: dict[str, Any]) -> None:
    del values["checks"][0]


def one_invented(values: dict[str, Any]) -> None:
    values["checks"].append(values["checks"][0] | {"name": "all/is/well"})


def one_twice(values: dict[str, Any]) -> None:
    values["checks"].append(values["checks"][0])


def too_large(values: dict[str, Any]) -> None:
    [check] = [c for c in values["checks"] if c["name"] == "budget/size_gb_at_most"]
    check["value"] = check["low"] = check["high"] = 0.4


def worse_difference(values: dict[str, Any]) -> None:
    [check] = [c for c in values["checks"] if c["name"].endswith("release_by/march")]
    check["low"] = -0.9


def spent_more(values: dict[str, Any]) -> None:
    [check] = [c for c in values["checks"] if c["family"] == "privacy"]
    check["value"] = check["low"] = check["high"] = 80.0


@pytest.mark.parametrize(
    "edit",
    [
        first_passes,
        easier_bound,
        prettier_figure,
        made_overridable,
        one_left_out,
        one_invented,
        one_twice,
        too_large,
        worse_difference,
        spent_more,
    ],
)
def test_an_edited_decision_does_not_follow(edit: Callable[[dict[str, Any]], None]) -> None:
    values = decision().to_json()
    edit(values)
    assert told(Decision.from_json(values))


def test_neither_does_one_on_other_figures_another_run_or_other_digests() -> None:
    assert told(decision(), report=report(f1=f1(0.41), loss=REPORT.tasks["task0"].metrics["loss"]))
    assert told(decision(), is_private=False)
    assert told(decision(), is_refuted=True)
    assert told(decision(), digests={"training_data": "sha256:" + "2" * 64})


def test_a_reason_in_other_words_does_follow() -> None:
    """Another version of the gate may find better ones."""
    values = decision().to_json()
    values["checks"][0].update(reason="in other words", items_needed=7)
    assert told(Decision.from_json(values)) == []
