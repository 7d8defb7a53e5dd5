"""Epsilon against reference figures of two public libraries, and against an analytic answer.

The figures were computed with opacus 1.6.0 and dp-accounting 0.6.0 (interval 1e-4), add or remove
one, delta 1e-5, for 10,000 examples, batch 256 and three epochs as different tools count them.
"""

import pytest

from privacy import accountant

pytestmark = pytest.mark.parity

DELTA = 1e-5
R0A = (0.0256, 0.8, 117, DELTA)
R0B = (0.025, 0.8, 120, DELTA)
R0C = (0.0256, 0.8, 120, DELTA)


@pytest.mark.parametrize(
    ("row", "rdp", "prv", "pld", "replace_one"),
    [
        (R0A, 4.0738, 3.3832, 3.3729, 4.0339),
        (R0B, 4.0275, 3.3434, 3.3331, 3.9858),
        (R0C, 4.1018, 3.4116, 3.4012, 4.0767),
    ],
    ids=["R0a", "R0b", "R0c"],
)
def test_the_reference_rows_are_reproduced(
    row: tuple[float, float, int, float], rdp: float, prv: float, pld: float, replace_one: float
) -> None:
    found = accountant.accountants(*row)
    half_digit = 5.1e-5  # the references have four digits
    assert found["rdp"] == pytest.approx(rdp, abs=half_digit)
    assert found["prv"] == pytest.approx(prv, abs=half_digit)
    assert found["pld"] == pytest.approx(pld, abs=half_digit)
    assert accountant.epsilon_replace_one(*row) == pytest.approx(replace_one, abs=half_digit)


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "wanted"),
    [(0.0256, 0.4, 117, 21.95), (0.0256, 0.8, 57, 2.7223), (1.0, 0.8, 117, 148.203)],
    ids=["half-noise", "half-the-steps", "analytic"],
)
def test_further_figures_are_reproduced(
    rate: float, noise: float, steps: int, wanted: float
) -> None:
    found = accountant.epsilon(rate, noise, steps, DELTA)
    assert found == pytest.approx(wanted, rel=2e-4)


def test_without_amplification_the_answer_is_analytic() -> None:
    assert accountant.epsilon_without_amplification(*R0A) == pytest.approx(11.0279, abs=5.1e-5)
    # 40 steps at 0.025 are exactly one use, 41 are two.
    one = accountant.epsilon_without_amplification(0.025, 0.8, 40, DELTA)
    two = accountant.epsilon_without_amplification(0.025, 0.8, 41, DELTA)
    assert one == accountant.epsilon_without_amplification(1.0, 0.8, 1, DELTA)
    assert two == accountant.epsilon_without_amplification(1.0, 0.8, 2, DELTA)


@pytest.mark.parametrize(("target", "noise"), [(1.0, 1.3823), (3.0, 0.8367), (8.0, 0.5800)])
def test_calibrated_noise_is_reproduced(target: float, noise: float) -> None:
    found = accountant.calibrate(target, 0.0256, 117, DELTA)
    # At most 0.1 % above the least noise, never below; half a digit for the reference's rounding.
    assert noise - 5.1e-5 <= found <= noise * 1.001 + 5.1e-5
