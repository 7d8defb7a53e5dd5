import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privacy.audit import Finding, PrivacyStatement, audit_ledger, audit_settings, statement
from privacy.errors import PrivacyError
from privacy.ledger import Ledger
from privacy.plan import DPPlan, PrivacyConfig

Plan = Callable[..., DPPlan]

GOOD: dict[str, Any] = {
    "packing": False,
    "early_stopping": None,
    "validation_fraction": 0.0,
    "class_weights": "none",
    "use_dora": False,
    "init": "default",
    "targets": "all-linear",
    "gradient_accumulation_steps": 1,
    "seed": 42,
}


def audit(config: PrivacyConfig | None = None, **settings: Any) -> dict[str, Finding]:
    findings = audit_settings(
        config or PrivacyConfig(),
        num_examples=1000,
        batch_size=64,
        epochs=3,
        train_settings={**GOOD, **settings},
    )
    found = {f.id: f for f in findings}
    assert len(found) == len(findings)
    assert all(f.what and f.evidence for f in findings)
    return found


def test_good_settings_pass_and_what_is_not_known_says_so() -> None:
    found = audit()
    assert len(found) == 19
    assert {i: f.status for i, f in found.items() if f.status != "pass"} == {"U4": "not_checked"}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"group_by_length": True}, "S1"),
        ({"gradient_accumulation_steps": 4}, "S4"),
        ({"world_size": 2}, "S7"),
        ({"packing": True}, "U1"),
        ({"padding_free": True}, "U1"),
        ({"label_smoothing_factor": 0.1}, "D1"),
        ({"use_dora": True}, "D3"),
        ({"modules_to_save": ["embed_tokens"]}, "D3"),
        ({"targets": ("q_proj", "lm_head")}, "D3"),
        ({"fp16": True}, "D7"),
        ({"early_stopping": 3}, "A6"),
        ({"load_best_model_at_end": True}, "A6"),
        ({"validation_fraction": 0.1}, "L2"),
        ({"eval_strategy": "steps"}, "L2"),
        ({"include_num_input_tokens_seen": "all"}, "L1"),
        ({"class_weights": "balanced"}, "L4"),
        ({"init": "eva"}, "L5"),
    ],
)
def test_a_bad_setting_fails_its_line_and_no_other(settings: dict[str, Any], line: str) -> None:
    assert {i for i, f in audit(**settings).items() if f.status == "fail"} == {line}


@pytest.mark.parametrize(
    ("config", "status"),
    [
        (PrivacyConfig(delta=1e-3), "fail"),
        (PrivacyConfig(delta=5e-4), "warn"),
        (PrivacyConfig(delta=1e-4), "pass"),
        (PrivacyConfig(), "pass"),
    ],
)
def test_delta_is_held_against_the_number_of_examples(config: PrivacyConfig, status: str) -> None:
    assert audit(config)["A3"].status == status


def test_what_one_person_contributes_is_bounded_only_where_persons_are_named() -> None:
    assert audit(PrivacyConfig(unit="user"))["U4"].status == "pass"
    assert audit(PrivacyConfig())["U4"].status == "not_checked"


def test_a_plan_that_cannot_be_made_is_a_finding() -> None:
    assert audit(PrivacyConfig(delta=0.5))["S8"].status == "fail"


def test_a_large_epsilon_is_warned_of() -> None:
    assert audit(PrivacyConfig(epsilon=11.0))["A10"].status == "warn"
    assert "99.97 %" in audit(PrivacyConfig(epsilon=8.0))["A10"].evidence
    given_noise = PrivacyConfig(epsilon=None, noise_multiplier=1.0)
    assert audit(given_noise)["A10"].status == "not_checked"


def test_what_is_absent_is_not_checked() -> None:
    findings = audit_settings(
        PrivacyConfig(), num_examples=1000, batch_size=64, epochs=3, train_settings={}
    )
    unknown = {f.id for f in findings if f.status == "not_checked"}
    assert unknown == {"U1", "U4", "A6", "L2", "L4", "L5"}
    assert not [f for f in findings if f.status == "fail"]


def ledger_of(path: Path, plan: DPPlan, charges: int, **options: Any) -> dict[str, Finding]:
    ledger = Ledger.open(path, plan, data="d", is_private=options.get("is_private", True))
    for step in range(charges):
        ledger.charge(step + 1, covered=options.get("covered", "c"))
    return {f.id: f for f in audit_ledger(path)}


def test_the_ledger_of_a_whole_run_passes(tmp_path: Path, make_a_plan: Plan) -> None:
    found = ledger_of(tmp_path / "l", make_a_plan(delta=1e-5), charges=5)
    assert {f.status for f in found.values()} == {"pass"}


def test_the_ledger_of_half_a_run_is_warned_of(tmp_path: Path, make_a_plan: Plan) -> None:
    found = ledger_of(tmp_path / "l", make_a_plan(), charges=2)
    assert found["A4"].status == "warn"
    assert "2 of 5" in found["A4"].evidence


def test_the_ledger_of_a_seeded_run_fails(tmp_path: Path, make_a_plan: Plan) -> None:
    found = ledger_of(tmp_path / "l", make_a_plan(), charges=5, is_private=False)
    assert found["N2"].status == "fail"


def test_a_change_of_what_was_clipped_fails(tmp_path: Path, make_a_plan: Plan) -> None:
    path = tmp_path / "l"
    ledger_of(path, make_a_plan(), charges=2)
    assert ledger_of(path, make_a_plan(), charges=2, covered="other")["D3"].status == "fail"


def test_charges_that_do_not_name_what_was_clipped(tmp_path: Path, make_a_plan: Plan) -> None:
    found = ledger_of(tmp_path / "l", make_a_plan(), charges=5, covered="")
    assert found["D3"].status == "not_checked"


def test_a_broken_chain_is_the_only_finding(tmp_path: Path, make_a_plan: Plan) -> None:
    path = tmp_path / "l"
    ledger_of(path, make_a_plan(), charges=3)
    path.write_bytes(path.read_bytes().replace(b'"charge":2', b'"charge":3'))
    (only,) = audit_ledger(path)
    assert (only.id, only.status, only.severity) == ("A1", "fail", "void")
    assert "line 3" in only.evidence
    (missing,) = audit_ledger(tmp_path / "none")
    assert missing.status == "fail"


def test_a_statement_holds_all_readings_of_one_run(make_a_plan: Plan) -> None:
    plan = make_a_plan(noise_multiplier=3.0, steps=5)
    found = statement(plan, steps_charged=3)
    assert isinstance(found, PrivacyStatement)
    assert found.epsilon == plan.epsilon(3) < plan.epsilon()
    assert found.epsilon <= found.epsilon_prv
    assert found.epsilon <= found.epsilon_rdp
    assert found.epsilon < found.epsilon_replace_one
    assert (found.steps_charged, found.steps_planned) == (3, 5)
    e = math.exp(found.epsilon)
    assert found.max_posterior == pytest.approx(e / (1 + e))
    assert found.max_true_positive_rate == pytest.approx(0.01 * e + plan.delta)
    assert found.not_protected
    assert "add-or-remove-one" in found.in_words


def test_a_statement_without_a_bound_claims_nothing(make_a_plan: Plan) -> None:
    found = statement(make_a_plan(noise_multiplier=1e-6), steps_charged=1)
    assert found.epsilon == math.inf
    assert found.max_posterior == 1
    assert found.max_true_positive_rate == 1
    assert "100 %" in found.in_words


def test_a_statement_for_more_steps_than_planned_is_refused(make_a_plan: Plan) -> None:
    with pytest.raises(PrivacyError, match="6 steps"):
        statement(make_a_plan(), steps_charged=6)
