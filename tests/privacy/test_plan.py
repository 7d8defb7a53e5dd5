import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from privacy.errors import PrivacyError
from privacy.plan import DPPlan, PrivacyConfig, make_plan

NOISE_1 = PrivacyConfig(epsilon=None, noise_multiplier=1.0)


def test_planning_needs_no_torch() -> None:
    code = "import sys, privacy.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_defaults_and_whole_numbers_are_accepted() -> None:
    config = PrivacyConfig.model_validate_json('{"epsilon": 3, "clipping_norm": 1}')
    assert (config.epsilon, config.noise_multiplier, config.delta) == (3.0, None, "auto")
    assert PrivacyConfig().epsilon == 8.0


@pytest.mark.parametrize(
    "settings",
    [
        {"epsilon": 8.0, "noise_multiplier": 1.0},
        {"noise_multiplier": 1.0},  # epsilon is 8 unless it is set to None
        {"epsilon": None},
        {"epsilon": 0.0},
        {"epsilon": math.inf},
        {"epsilon": math.nan},
        {"epsilon": "8"},
        {"epsilon": True},
        {"epsilon": None, "noise_multiplier": 0.0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": "small"},
        {"clipping_norm": 0.0},
        {"clip": 1.0},
    ],
)
def test_a_config_that_means_nothing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PrivacyConfig(**settings)


def test_a_plan_follows_from_examples_batch_and_epochs() -> None:
    plan = make_plan(NOISE_1, num_examples=10_000, batch_size=256, epochs=3)
    assert plan.sample_rate == 0.0256
    assert plan.denominator == 256.0
    assert plan.steps == 118  # 117.19, rounded up
    assert plan.delta == 1e-5
    assert (plan.unit, plan.adjacency) == ("example", "add-or-remove-one")


def test_whole_epochs_do_not_gain_a_step_by_rounding() -> None:
    for epochs in range(1, 40):
        plan = make_plan(NOISE_1, num_examples=1000, batch_size=100, epochs=epochs)
        assert plan.steps == 10 * epochs


def test_steps_may_be_given_instead_of_epochs() -> None:
    config = PrivacyConfig(epsilon=8.0)
    by_epochs = make_plan(config, num_examples=1000, batch_size=100, epochs=3)
    by_steps = make_plan(config, num_examples=1000, batch_size=100, epochs=9, max_steps=30)
    assert by_steps == by_epochs
    fewer = make_plan(config, num_examples=1000, batch_size=100, epochs=3, max_steps=2)
    assert fewer.steps == 2
    assert fewer.noise_multiplier < by_epochs.noise_multiplier


def test_automatic_delta_is_a_tenth_of_one_over_n_for_large_data() -> None:
    assert make_plan(NOISE_1, num_examples=10**6, batch_size=100, epochs=0.001).delta == 1e-7


def test_noise_is_found_for_the_epsilon() -> None:
    plan = make_plan(PrivacyConfig(epsilon=0.5), num_examples=100, batch_size=10, epochs=1)
    assert 0.499 < plan.epsilon() <= 0.5
    assert plan.epsilon(steps=plan.steps // 2) < plan.epsilon()


@pytest.mark.parametrize("config", [PrivacyConfig(delta=0.01), NOISE_1])
def test_a_plan_that_could_not_hold_is_refused(config: PrivacyConfig) -> None:
    with pytest.raises(PrivacyError, match=r"delta|batch size"):
        make_plan(config, num_examples=100, batch_size=10 if config.epsilon else 101, epochs=1)


def test_the_unit_may_be_a_column() -> None:
    config = PrivacyConfig(unit="customer", epsilon=None, noise_multiplier=1.0)
    plan = make_plan(config, num_examples=100, batch_size=10, epochs=1)
    assert (plan.unit, plan.num_examples, plan.sample_rate) == ("customer", 100, 0.1)


@pytest.mark.parametrize("epochs", [0.0, -1.0, math.nan, math.inf])
def test_epochs_must_be_positive(epochs: float) -> None:
    with pytest.raises(PrivacyError, match="epochs"):
        make_plan(NOISE_1, num_examples=100, batch_size=10, epochs=epochs)


@pytest.mark.parametrize(
    "change",
    [
        {"delta": 0.05},
        {"delta": 0.0},
        {"delta": math.nan},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": math.nan},
        {"noise_multiplier": math.inf},
        {"clipping_norm": 0.0},
        {"clipping_norm": math.inf},
        {"sample_rate": 0.0},
        {"sample_rate": 1.5},
        {"steps": 0},
        {"num_examples": 0},
        {"adjacency": "replace-one"},
        {"unit": ""},
        {"denominator": 3.9},
    ],
)
def test_a_plan_made_by_hand_is_held_to_the_same_rules(
    make_a_plan: Callable[..., DPPlan], change: dict[str, Any]
) -> None:
    with pytest.raises(PrivacyError):
        dataclasses.replace(make_a_plan(), **change)


@settings(max_examples=25)
@given(
    n=st.integers(1, 10**6),
    share=st.floats(1e-6, 1),
    sigma=st.floats(1e-3, 1e3),
    norm=st.floats(1e-6, 1e6),
)
def test_a_plan_survives_the_round_trip(n: int, share: float, sigma: float, norm: float) -> None:
    config = PrivacyConfig(epsilon=None, noise_multiplier=sigma, clipping_norm=norm)
    plan = make_plan(config, num_examples=n, batch_size=max(1, int(share * n)), epochs=1.5)
    assert DPPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"unit": "example", "extra": 1}'])
def test_what_is_not_a_plan_is_refused(text: str) -> None:
    with pytest.raises(PrivacyError, match="not a privacy plan"):
        DPPlan.from_json(text)
