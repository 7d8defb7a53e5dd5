import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import accountant
from privacy.errors import PrivacyError

rates = st.floats(0.01, 0.5)
noises = st.floats(2.0, 8.0)  # little noise makes the discretisation slow
step_counts = st.integers(1, 30)


@settings(max_examples=3, deadline=None)  # a quarter of a second for each epsilon
@given(rate=rates, noise=noises, steps=step_counts)
def test_epsilon_grows_with_steps_and_rate_and_shrinks_with_noise(
    rate: float, noise: float, steps: int
) -> None:
    here = accountant.epsilon(rate, noise, steps, 1e-5)
    slack = 1e-3  # the grid of the discretisation, over at most 100 steps
    assert accountant.epsilon(rate, noise, 2 * steps, 1e-5) >= here - slack
    assert accountant.epsilon(min(1.0, 1.5 * rate), noise, steps, 1e-5) >= here - slack
    assert accountant.epsilon(rate, 1.5 * noise, steps, 1e-5) <= here + slack
    assert accountant.epsilon(rate, noise, steps, 1e-4) <= here + slack


@settings(max_examples=5, deadline=None)
@given(noise=noises, steps=st.integers(1, 20))
def test_without_sampling_epsilon_is_that_of_the_gaussian_mechanism(
    noise: float, steps: int
) -> None:
    found = accountant.epsilon(1.0, noise, steps, 1e-5)
    analytic = accountant.epsilon_without_amplification(1.0, noise, steps, 1e-5)
    assert found == pytest.approx(analytic, rel=1e-3)
    assert found >= analytic * (1 - 1e-6)


def test_no_step_costs_nothing_and_no_noise_costs_everything() -> None:
    assert accountant.epsilon(0.1, 1.0, 0, 1e-5) == 0
    assert accountant.epsilon(0.1, 0.0, 1, 1e-5) == math.inf
    assert accountant.epsilon(0.1, 1e-9, 10**6, 1e-5) == math.inf
    assert accountant.epsilon_replace_one(0.1, 1e-9, 1, 1e-5) == math.inf
    assert accountant.epsilon_without_amplification(0.1, 1.0, 0, 1e-5) == 0
    assert accountant.epsilon_without_amplification(0.1, 1e-9, 1, 1e-5) == math.inf
    assert set(accountant.accountants(0.1, 1e-9, 1, 1e-5).values()) == {math.inf}
    assert set(accountant.accountants(0.1, 1.0, 0, 1e-5).values()) == {0.0}


def test_the_other_readings_are_never_smaller() -> None:
    plain = accountant.epsilon(0.1, 3.0, 20, 1e-5)
    assert accountant.epsilon_replace_one(0.1, 3.0, 20, 1e-5) > plain
    assert accountant.epsilon_without_amplification(0.1, 3.0, 20, 1e-5) > plain


def test_the_accountants_agree_in_their_order() -> None:
    found = accountant.accountants(0.1, 1.0, 20, 1e-5)
    assert found["pld"] <= found["prv"] <= found["pld"] + 0.02 < found["rdp"]


def test_sampling_every_example_is_no_special_case() -> None:
    assert all(math.isfinite(e) for e in accountant.accountants(1.0, 2.0, 3, 1e-5).values())


@pytest.mark.parametrize("target", [0.2])
def test_the_noise_is_the_least_that_keeps_the_epsilon(target: float) -> None:
    noise = accountant.calibrate(target, 0.1, 20, 1e-5)
    assert accountant.epsilon(0.1, noise, 20, 1e-5) <= target
    assert accountant.epsilon(0.1, noise / 1.002, 20, 1e-5) > target


def test_an_epsilon_out_of_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accountant, "_MOST_NOISE", 4.0)
    with pytest.raises(PrivacyError, match="No noise multiplier up to 4"):
        accountant.calibrate(0.01, 1.0, 1, 1e-5)


def test_an_epsilon_that_asks_for_no_noise_gets_the_least() -> None:
    assert accountant.calibrate(1e4, 0.1, 1, 1e-5) == 0.1


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta"),
    [
        (0.0, 1.0, 1, 1e-5),
        (1.1, 1.0, 1, 1e-5),
        (math.nan, 1.0, 1, 1e-5),
        (0.1, -1.0, 1, 1e-5),
        (0.1, math.nan, 1, 1e-5),
        (0.1, 1.0, -1, 1e-5),
        (0.1, 1.0, 1, 0.0),
        (0.1, 1.0, 1, 1.0),
    ],
)
def test_arguments_out_of_range_are_refused(
    rate: float, noise: float, steps: int, delta: float
) -> None:
    for ask in (accountant.epsilon, accountant.epsilon_without_amplification):
        with pytest.raises(ValueError, match="must be"):
            ask(rate, noise, steps, delta)


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_a_target_out_of_range_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target_epsilon"):
        accountant.calibrate(target, 0.1, 20, 1e-5)


@pytest.mark.slow
def test_a_group_of_one_is_an_example_and_larger_groups_reveal_more() -> None:
    values = (0.05, 2.0, 50, 1e-5)
    one = accountant.epsilon_of_group(*values, 1)
    # the grid of groups is ten times coarser, and rounds up
    assert accountant.epsilon(*values) <= one < accountant.epsilon(*values) * 1.05
    two, four = (accountant.epsilon_of_group(*values, size) for size in (2, 4))
    assert 2 * one < two
    assert two < four
    # every draw full: k examples are one of k times the sensitivity
    full = accountant.epsilon_of_group(1.0, 4.0, 10, 1e-5, 2)
    assert full == pytest.approx(accountant.epsilon(1.0, 2.0, 10, 1e-5), rel=0.02)
    with pytest.raises(ValueError, match="size"):
        accountant.epsilon_of_group(*values, 0)
