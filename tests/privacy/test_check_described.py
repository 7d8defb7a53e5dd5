"""A corpus of seeded faults: each is found by its own line, and a clean run raises none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from privacy.check_described import check
from privacy.described import Described
from tests.cli import assay_here

CLEAN: dict[str, Any] = {
    "tool": "a careful tool 1.0",
    "reported_epsilon": 3.38, "delta": 1e-5, "adjacency": "add-or-remove-one",
    "accountant": "pld", "accountant_value": "upper", "accounted_sampling": "poisson",
    "accounted_sample_rate": 0.0256, "accounted_steps": 117, "survives_resume": True,
    "num_examples": 10_000, "unit": "example", "max_rows_per_person": 1, "copies_per_example": 1,
    "runs_on_same_data": 1, "runs_accounted": 1,
    "sampling": "poisson", "grouped_by_length": False, "sample_rate": 0.0256, "steps": 117,
    "max_batch": 10_000, "empty_draws": "step", "draws_per_noise": 1,
    "max_record_multiplicity": 1, "num_processes": 2, "sampler_seed": "os",
    "even_batches": False, "logs_drawn_rows": False,
    "packing": False, "padding_free": False, "gradient_rows": "records",
    "loss_average": "per-record", "coupling_losses": [], "trainable": ["a", "b"],
    "clipped": ["a", "b"], "clipping": "per-record", "clipping_norm": 1.0,
    "gradient_dtype": "float32", "non_finite": "zeroed", "denominator": "constant",
    "stale_gradients": False,
    "noise_multiplier": 0.8, "noise_seed": "os", "noise_drawn": "per-step",
    "noise_dtype": "float32", "rng_state_in_checkpoint": False, "other_updates": [],
    "logged": [], "early_stopping": False, "load_best_model": False,
    "trials_on_private_data": 0, "validation_is_private": False, "vocabulary_from_data": False,
    "class_weights": False, "adapter_init": "default", "calibrated_on_data": False,
    "private_prompts": False, "base_saw_data": False,
    "accountant_relation": "add-or-remove-one", "order_grid_end_hit": False,
    "n_claimed_private": False, "compares_records": False, "used_past_their_layer": [],
    "generator": "cryptographic", "called_secure": True, "checkpoints_hold": [],
    "rows_left_behind": False, "says_prompts_not_covered": True,
}  # fmt: skip

FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("S1", {"sampling": "shuffle"}, "11.028"),  # the survey's figure for shuffling at R0
    ("S1", {"sampling": "sequential"}, "11.028"),
    ("S1", {"sampling": "streaming"}, "11.028"),
    ("S1b", {"grouped_by_length": True}, "11.028"),
    ("S2", {"max_batch": 256}, "17.679"),
    ("S3", {"max_record_multiplicity": 2}, "21.9"),
    ("S4", {"draws_per_noise": 4}, "4.214"),
    ("S5", {"empty_draws": "skipped"}, "no epsilon"),
    ("S6", {"sampler_seed": "same-everywhere"}, "11.028"),
    ("S7", {"even_batches": True}, "21.9"),
    ("S8", {"accounted_sample_rate": 0.02}, "3.37"),
    ("S8b", {"accounted_steps": 57}, "3.37"),
    ("S9", {"logs_drawn_rows": True}, "11.028"),
    ("S10", {"sampling": "fixed-size"}, "70.754"),
    ("U1", {"packing": True}, "no epsilon"),
    ("U2", {"padding_free": True}, "no epsilon"),
    ("U3", {"gradient_rows": "tokens"}, "no epsilon"),
    ("U4", {"max_rows_per_person": 2}, "7.0"),  # 7.08 in the survey
    ("U5", {"copies_per_example": 2}, "7.0"),
    ("U6", {"compares_records": True}, "compares"),
    ("U8", {"adjacency": "replace-one"}, "4.034"),
    ("D1", {"loss_average": "tokens-of-batch"}, "no epsilon"),
    ("D1", {"loss_average": "batch"}, "no epsilon"),
    ("D2", {"coupling_losses": ["batch norm"]}, "batch norm"),
    ("D3", {"trainable": ["a", "b", "score.weight"]}, "score.weight"),
    ("D4", {"clipping": "per-micro-batch"}, "21.9"),
    ("D5", {"clipping": "per-layer", "layer_norms": [1.0, 1.0]}, "1.41 times"),
    ("D6", {"used_past_their_layer": ["lm_head.weight"]}, "lm_head"),
    ("D7", {"non_finite": "step-skipped"}, "step-skipped"),
    ("D8", {"gradient_dtype": "bfloat16"}, "3.400"),
    ("D9", {"clipping": "adaptive"}, "second mechanism"),
    ("D10", {"denominator": "batch-size"}, "private"),
    ("D12", {"stale_gradients": True}, "not cleared"),
    ("N1", {"noise_drawn": "per-micro-batch"}, "per-micro-batch"),
    ("N1", {"noise_drawn": "per-process"}, "per-process"),
    ("N2", {"noise_seed": "known"}, "subtracted"),
    ("N2b", {"noise_seed": "same-everywhere"}, "same noise"),
    ("N3", {"rng_state_in_checkpoint": True}, "repeats"),
    ("N4", {"noise_dtype": "bfloat16"}, "few values"),
    ("N6", {"noise_multiplier": 0.0, "reported_epsilon": None}, "is 0"),
    ("N7", {"called_secure": True, "generator": "framework"}, "reconstruct"),
    ("N8", {"other_updates": ["weight averaging with the last batch"]}, "averaging"),
    ("A0", {"reported_epsilon": 2.0}, "3.37"),
    ("A1", {"survives_resume": False}, "anew"),
    ("A2", {"accountant": "gdp"}, "3.37"),
    ("A3", {"delta": 1e-3}, "is 10"),
    ("A5", {"runs_on_same_data": 3}, "1 of 3 runs"),
    ("A6", {"early_stopping": True}, "early stopping"),
    ("A6b", {"load_best_model": True}, "best checkpoint"),
    ("A6c", {"trials_on_private_data": 8}, "8 trials"),
    ("A7", {"accountant_value": "estimate"}, "3.37"),
    ("A8", {"order_grid_end_hit": True}, "looser"),
    ("A9", {"n_claimed_private": True}, "public"),
    ("L1", {"logged": ["loss", "grad_norm"]}, "grad_norm"),
    ("L2", {"validation_is_private": True}, "validation"),
    ("L3", {"checkpoints_hold": ["norms of records"]}, "norms"),
    ("L4", {"vocabulary_from_data": True}, "private rows"),
    ("L4b", {"class_weights": True}, "private labels"),
    ("L5", {"adapter_init": "eva"}, "eva"),
    ("L6", {"calibrated_on_data": True}, "calibrated"),
    ("L7", {"private_prompts": True}, "shipped"),
    ("L8", {"base_saw_data": True}, "base"),
    ("L9", {"rows_left_behind": True}, "caches"),
    ("L10", {"says_prompts_not_covered": False}, "does not say"),
]


def failed(**more: Any) -> dict[str, str]:
    run = Described.model_validate_json(json.dumps(CLEAN | more))
    return {f.id: f.evidence for f in check(run) if f.status == "fail"}


def test_a_clean_run_raises_no_alarm_and_leaves_nothing_unchecked() -> None:
    found = check(Described.model_validate_json(json.dumps(CLEAN)))
    assert [f.id for f in found if f.status != "pass"] == []


def test_the_corpus_has_a_fault_for_every_line() -> None:
    lines = {f.id for f in check(Described())}
    assert {fault for fault, _, _ in FAULTS} == lines - {"U7"}  # stated or not: nothing to fail
    assert len(FAULTS) >= 40


@pytest.mark.slow  # half a minute together: what can be proved is computed for each
@pytest.mark.parametrize(("fault", "change", "said"), FAULTS, ids=lambda value: str(value)[:40])
def test_each_fault_is_found_by_its_line_and_by_no_other(
    fault: str, change: dict[str, Any], said: str
) -> None:
    found = failed(**change)
    assert set(found) == {fault}
    assert said in found[fault]


def test_what_is_not_described_is_not_passed() -> None:
    assert {f.status for f in check(Described())} == {"not_checked"}


def test_a_delta_near_one_over_n_is_a_warning() -> None:
    run = Described.model_validate_json(json.dumps(CLEAN | {"delta": 5e-5}))
    assert {f.id: f.status for f in check(run)}["A3"] == "warn"


def test_a_described_run_is_audited_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(CLEAN | {"sampling": "shuffle"}))
    done = assay_here("audit", path, "--json", folder=tmp_path)
    assert done.code == 0
    assert done.json()["num_failed"] == 1
    assert "11.028" in assay_here("audit", path, folder=tmp_path).out.replace("\n", " ")
    path.write_text(json.dumps(CLEAN | {"sampling": "shuffled", "epsilom": 3}))
    wrong = assay_here("audit", path, folder=tmp_path)
    assert wrong.code == 2
    assert "sampling" in wrong.said
    assert "epsilom" in wrong.said
    assert "reported_epsilon" in assay_here("audit", "--fields", folder=tmp_path).out


def test_a_figure_is_held_to_the_relation_it_is_claimed_for_where_none_is_said_to_be_computed() -> (
    None
):
    found = failed(adjacency="replace-one", accountant_relation=None)
    assert found.keys() == {"A0"}
    figure = float(CLEAN["reported_epsilon"]) * 4.034 / 3.373
    assert not failed(
        adjacency="replace-one", accountant_relation=None, reported_epsilon=round(figure + 0.01, 3)
    )
