"""Each forbidden setting is refused with its reason and with what it does to epsilon."""

from __future__ import annotations

import math
from typing import Any

import pytest

from privacy import provable
from privacy.errors import PrivacyError
from privacy.refusals import REFUSALS, first, refused, why_unknown

FORBIDDEN: list[tuple[dict[str, Any], str, str]] = [
    ({"packing": True}, "share a record", "no epsilon can be proved"),
    ({"padding_free": True}, "one clip for everybody", "21.9"),
    ({"loss_average": "tokens-of-batch"}, "4.76 times", "no epsilon can be proved"),
    ({"label_smoothing_factor": 0.1}, "mean over the tokens", "no epsilon can be proved"),
    ({"gradient_accumulation_steps": 4}, "draw of its own", "4.214"),
    ({"streaming": True}, "hides nobody", "11.028"),
    ({"group_by_length": True}, "hides nobody", "11.028"),
    ({"use_dora": True}, "magnitudes", "no epsilon can be proved"),
    ({"peft_type": "IA3"}, "nothing clips it", "no epsilon can be proved"),
    ({"init_lora_weights": "eva"}, "private rows", "no epsilon can be proved"),
    ({"early_stopping": 3}, "when to stop", "no epsilon can be proved"),
    ({"load_best_model_at_end": True}, "choose the checkpoint", "no epsilon can be proved"),
    ({"save_strategy": "best"}, "choose the checkpoint", "no epsilon can be proved"),
    ({"router_aux_loss_coef": 0.001}, "balances experts", "no epsilon can be proved"),
    ({"class_weights": "balanced"}, "counts of private labels", "no epsilon can be proved"),
    ({"use_liger_kernel": True}, "past the clipping", "no epsilon can be proved"),
    ({"fp16": True}, "private gradients", "no epsilon can be proved"),
    ({"world_size": 2}, "one process", "21.9"),
    ({"noise_seed": 42}, "subtracts the noise", "no epsilon can be proved"),
    ({"accountant": "gdp"}, "2.162", "3.373"),
]


@pytest.mark.parametrize(("settings", "reason", "figure"), FORBIDDEN, ids=lambda v: str(v)[:40])
def test_a_forbidden_setting_is_refused_with_reason_figure_and_way_out(
    settings: dict[str, Any], reason: str, figure: str
) -> None:
    [(name, value)] = settings.items()
    with pytest.raises(PrivacyError) as refusal:
        first(settings)
    said = str(refusal.value)
    assert said.startswith(f"{name} is {value!r}: ")
    assert reason in said
    assert figure in said
    assert refused(settings)[0].way_out in said


def test_every_line_of_the_table_is_tried() -> None:
    tried = {name for settings, _, _ in FORBIDDEN for name in settings}
    for refusal in REFUSALS:
        assert tried & set(refusal.settings) or refusal.line in ("L1", "L2"), refusal.settings


@pytest.mark.parametrize(
    "settings",
    [
        {"packing": False, "gradient_accumulation_steps": 1, "init": "pissa", "accountant": "pld"},
        {"peft_type": "PeftType.LORA", "save_strategy": "steps", "eval_strategy": "no"},
        {"seed": 42, "label_smoothing_factor": 0.0, "fsdp": [], "deepspeed": None},
        {"world_size": 1, "router_aux_loss_coef": None, "noise_seed": None},
    ],
)
def test_what_is_harmless_is_not_refused(settings: dict[str, Any]) -> None:
    assert refused(settings) == []
    first(settings)


def test_the_figure_is_that_of_the_run_where_there_is_one() -> None:
    mechanism = provable.Mechanism(0.01, 1.0, 1000, 1e-5, 5000)
    [one] = refused({"streaming": True}, mechanism)
    assert f"{provable.without_amplification(mechanism):.3f}" in one.effect
    assert "reference" not in one.effect


def test_a_setting_of_other_tools_is_told_apart_from_a_typo() -> None:
    assert "share a record" in str(why_unknown("packing"))
    assert "4.214" in str(why_unknown("gradient_accumulation_steps"))
    assert why_unknown("leraning_rate") is None


def test_what_can_be_proved_is_the_surveys() -> None:
    run = provable.REFERENCE
    assert round(provable.honest(run), 4) == 3.3729
    assert round(provable.without_amplification(run), 3) == 11.028
    assert round(provable.with_sensitivity(run, 2), 2) == 21.95
    assert round(provable.of_draws(run, 4), 3) == 4.214
    assert round(provable.fixed_size(run), 2) == 70.75
    assert provable.of_group(run, 51) == math.inf
    noisy = provable.Mechanism(0.3, 0.2, 100, 1e-5)  # in seconds, where the figure takes minutes
    assert provable.of_group(noisy, 2) == math.inf
    unknown = provable.Mechanism(0.0256, 0.8, 117, 1e-5)
    assert provable.truncated(unknown, 256) == provable.fixed_size(unknown) == math.inf


@pytest.mark.slow
@pytest.mark.parametrize(("cap", "epsilon"), [(256, 17.68), (288, 8.79), (320, 3.589)])
def test_truncated_batches_are_accounted_as_the_survey_has_them(cap: int, epsilon: float) -> None:
    assert provable.truncated(provable.REFERENCE, cap) == pytest.approx(epsilon, abs=6e-3)
