from __future__ import annotations

from typing import Any

import pytest

from privacy.calculator import calculate
from privacy.errors import PrivacyError
from tests.cli import assay_here


def test_bare_numbers_give_epsilon_by_three_accountants() -> None:
    found = calculate(sample_rate=0.0256, noise_multiplier=0.8, steps=117, delta=1e-5)
    # the row of the survey: 10,000 examples, batch 256, sigma 0.8, 117 steps
    assert found.epsilon == pytest.approx(3.37, abs=0.01)
    assert set(found.accountants) == {"pld", "prv", "rdp"}
    assert found.accountants["pld"] == found.epsilon
    assert found.epsilon_without_amplification == pytest.approx(11.0279, abs=1e-3)
    assert found.epsilon_replace_one > found.epsilon


def test_examples_batch_and_epochs_are_rate_and_steps() -> None:
    sizes = calculate(num_examples=10_000, batch_size=256, epochs=3, noise_multiplier=0.8)
    assert (sizes.sample_rate, sizes.steps, sizes.delta) == (0.0256, 118, 1e-5)
    target = calculate(num_examples=10_000, batch_size=256, epochs=3, target_epsilon=3.0)
    assert 3.0 * 0.995 < target.epsilon <= 3.0
    assert target.noise_multiplier > sizes.noise_multiplier


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({}, "either the noise multiplier or a target"),
        ({"noise_multiplier": 1.0, "target_epsilon": 2.0}, "either the noise"),
        ({"noise_multiplier": 1.0}, "Give the sample rate"),
        ({"noise_multiplier": 1.0, "sample_rate": 1.5}, "sample rate is 1.5"),
        ({"noise_multiplier": 1.0, "sample_rate": 0.1}, "Give the steps"),
        ({"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 0, "delta": 1e-5}, "steps is 0"),
        ({"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 9}, "Give delta"),
        ({"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 9, "epochs": 1.0}, "both given"),
        (
            {"noise_multiplier": 1.0, "num_examples": 100, "batch_size": 10, "sample_rate": 0.1},
            "both given",
        ),
        (
            {"noise_multiplier": 1.0, "num_examples": 100, "batch_size": 101, "epochs": 1.0},
            "batch size is 101",
        ),
        (
            {
                "noise_multiplier": 1.0, "num_examples": 100, "batch_size": 10, "epochs": 1.0,
                "delta": 0.01,
            },
            "below 1 / examples",
        ),
        (
            {"noise_multiplier": 1.0, "num_examples": 0, "sample_rate": 0.1, "steps": 9},
            "examples is 0",
        ),
        (
            {"noise_multiplier": 1.0, "sample_rate": 0.01, "epochs": 1e308, "delta": 1e-5},
            "more steps than can be counted",
        ),
        ({"noise_multiplier": 0.0, "sample_rate": 0.1, "steps": 9, "delta": 1e-5}, "above 0"),
    ],
)  # fmt: skip
def test_numbers_that_do_not_make_a_mechanism_are_refused(
    numbers: dict[str, Any], said: str
) -> None:
    with pytest.raises(PrivacyError, match=said):
        calculate(**numbers)


def test_a_delta_near_one_over_n_is_warned_of() -> None:
    found = calculate(num_examples=1000, batch_size=100, epochs=1, noise_multiplier=1.0, delta=5e-4)
    assert any("1 / (10 examples)" in line for line in found.warnings)


def test_the_command_line_calculates(tmp_path: Any) -> None:
    numbers = ("--sample-rate", 0.0256, "--noise-multiplier", 0.8, "--steps", 117, "--delta", 1e-5)
    done = assay_here("audit", *numbers, "--json", folder=tmp_path)
    assert done.code == 0
    assert done.json()["epsilon"] == pytest.approx(3.37, abs=0.01)
    assert set(done.json()["accountants"]) == {"pld", "prv", "rdp"}
    shown = assay_here("audit", *numbers, folder=tmp_path)
    assert "3.37" in shown.out
    wrong = assay_here("audit", "--steps", 3, folder=tmp_path)
    assert wrong.code == 2
    assert "either the noise" in wrong.said
