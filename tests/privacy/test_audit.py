import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privacy import construction
from privacy.audit import Finding, PrivacyStatement, audit_ledger, audit_settings, statement
from privacy.checklist import CHECKLIST, by_severity, complete, finding
from privacy.errors import PrivacyError
from privacy.ledger import Ledger
from privacy.plan import DPPlan, PrivacyConfig
from privacy.self_test import self_test

Plan = Callable[..., DPPlan]

GOOD: dict[str, Any] = {
    "streaming": False,
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
    findings = complete(
        [
            *construction.findings(),
            *audit_settings(
                config or PrivacyConfig(epsilon=None, noise_multiplier=1.0),
                num_examples=1000,
                batch_size=64,
                epochs=3,
                train_settings={**GOOD, **settings},
            ),
        ]
    )
    found = {f.id: f for f in findings}
    assert list(found) == [line.id for line in CHECKLIST]
    assert all(f.what and f.evidence for f in findings)
    return found


def test_good_settings_pass_and_what_is_not_known_says_so() -> None:
    found = audit(PrivacyConfig())
    assert {f.status for f in found.values()} == {"pass", "not_checked"}
    unknown = {i for i, f in found.items() if f.status == "not_checked"}
    # who owns what, the files, the account and the base are not among the settings
    assert unknown == {"U4", "U5", "N5", "A1", "A4", "A5", "L7", "L8", "L9"}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"group_by_length": True}, "S1"),
        ({"streaming": True}, "S1"),
        ({"gradient_accumulation_steps": 4}, "S4"),
        ({"world_size": 2}, "S7"),
        ({"packing": True}, "U1"),
        ({"padding_free": True}, "U2"),
        ({"label_smoothing_factor": 0.1}, "D1"),
        ({"loss_average": "tokens-of-batch"}, "D1"),
        ({"router_aux_loss_coef": 0.001}, "D2"),
        ({"use_dora": True}, "D3"),
        ({"peft_type": "IA3"}, "D3"),
        ({"modules_to_save": ["embed_tokens"]}, "D3"),
        ({"targets": ("q_proj", "lm_head")}, "D3"),
        ({"use_liger_kernel": True}, "D6"),
        ({"fp16": True}, "D7"),
        ({"noise_seed": 42}, "N2"),
        ({"accountant": "gdp"}, "A2"),
        ({"early_stopping": 3}, "A6"),
        ({"load_best_model_at_end": True}, "A6"),
        ({"save_strategy": "best"}, "A6"),
        ({"validation_fraction": 0.1}, "L2"),
        ({"eval_strategy": "steps"}, "L2"),
        ({"include_num_input_tokens_seen": "all"}, "L1"),
        ({"class_weights": "balanced"}, "L4"),
        ({"init": "eva"}, "L5"),
    ],
)
def test_a_bad_setting_fails_its_line_and_no_other(settings: dict[str, Any], line: str) -> None:
    found = audit(**settings)
    assert {i for i, f in found.items() if f.status == "fail"} == {line}
    assert found[line].effect  # what it does to epsilon


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
    found = audit(PrivacyConfig(delta=0.5))["S8"]
    assert (found.status, found.effect) == (
        "fail",
        "there is no plan, so there is nothing to prove",
    )


def test_a_large_epsilon_is_warned_of() -> None:
    assert audit(PrivacyConfig(epsilon=11.0))["A10"].status == "warn"
    assert "99.97 %" in audit(PrivacyConfig(epsilon=8.0))["A10"].evidence
    assert audit()["A10"].status == "not_checked"


def test_what_is_absent_is_neither_passed_nor_failed() -> None:
    findings = audit_settings(
        PrivacyConfig(), num_examples=1000, batch_size=64, epochs=3, train_settings={}
    )
    assert {f.id for f in findings} == {"S8", "U4", "U7", "N6", "A3", "A10"}
    assert not [f for f in findings if f.status == "fail"]


def test_the_gravest_of_several_looks_counts_and_its_evidence_stands() -> None:
    ones = [
        finding("L1", "pass", "nothing here"),
        finding("L1", "fail", "a loss there", "a release"),
        finding("L1", "warn", "hm"),
    ]
    found = {f.id: f for f in complete(ones)}["L1"]
    assert (found.status, found.evidence, found.effect) == ("fail", "a loss there", "a release")
    assert by_severity([found])[0][0] == "Something else would be released beside the model"


def test_every_test_that_is_named_as_holding_a_line_is_there() -> None:
    root = Path(__file__).parents[2]
    for one in construction.CONSTRUCTION.values():
        if one.test:
            file, _, name = one.test.partition(": ")
            assert not name or f"def {name}(" in (root / file).read_text(), one.test


def test_every_self_test_line_that_is_named_is_made(make_a_plan: Plan) -> None:
    lines = [vars(check) for check in self_test(make_a_plan(num_examples=100, delta=1e-5))]
    findings = construction.self_test_findings(lines)
    assert {f.status for f in findings} == {"pass"}
    [missing] = construction.self_test_findings([])
    assert missing.status == "warn"
    failed = [line | {"passed": line["name"] != "noise-scale"} for line in lines]
    wrong = {f.id for f in construction.self_test_findings(failed) if f.status == "fail"}
    assert wrong == {"N1", "N4"}


def ledger_of(path: Path, plan: DPPlan, charges: int, **options: Any) -> dict[str, Finding]:
    ledger = Ledger.open(path, plan, data="d", is_private=options.get("is_private", True))
    for step in range(charges):
        ledger.charge(step + 1, covered=options.get("covered", "c"))
    return {f.id: f for f in audit_ledger(path)}


def test_the_ledger_of_a_whole_run_passes(tmp_path: Path, make_a_plan: Plan) -> None:
    found = ledger_of(tmp_path / "l", make_a_plan(delta=1e-5, noise_multiplier=3.0), charges=5)
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
