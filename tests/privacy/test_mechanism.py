import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from torch import Tensor

from privacy.errors import PrivacyError
from privacy.mechanism import (
    OS_RANDOMNESS,
    PoissonSampler,
    Randomness,
    SeededRandomness,
    clip_and_sum,
    gaussian_noise,
    noisy_mean,
)
from privacy.plan import DPPlan

Plan = Callable[..., DPPlan]

any_float32 = st.floats(width=32, allow_nan=True, allow_infinity=True)


def rows(n: int, seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        scale * torch.randn(shape, generator=generator) for shape in ((n, 2, 3), (n, 5), (n, 1, 1))
    ]


# Clipping


@settings(max_examples=50, deadline=None)
@given(row=arrays(np.float32, 12, elements=any_float32), max_norm=st.floats(1e-3, 1e3))
def test_one_record_never_adds_more_than_the_clipping_norm(
    row: np.ndarray, max_norm: float
) -> None:
    x = torch.from_numpy(row.copy())
    sums, norms, num_non_finite = clip_and_sum(
        [x[None, :5], x[None, 5:].reshape(1, 7, 1)], max_norm
    )
    added = torch.cat([s.double().flatten() for s in sums]).norm()
    assert added <= max_norm  # exactly: the margin is there for the rounding
    assert num_non_finite == int(not bool(norms.isfinite().all()))
    if num_non_finite:
        assert added == 0


@settings(max_examples=50, deadline=None)
@given(
    data=arrays(np.float32, (6, 4), elements=any_float32),
    left_out=st.integers(0, 5),
    max_norm=st.floats(1e-2, 1e2),
)
def test_removing_a_record_moves_the_sum_by_at_most_the_clipping_norm(
    data: np.ndarray, left_out: int, max_norm: float
) -> None:
    everyone = torch.from_numpy(data.copy())
    others = torch.cat((everyone[:left_out], everyone[left_out + 1 :]))
    with_it, _, _ = clip_and_sum([everyone], max_norm)
    without, _, _ = clip_and_sum([others], max_norm)
    moved = (with_it[0].double() - without[0].double()).norm()
    # Both sums are rounded: adding n rows of norm C one after the other in float32 is off by at
    # most (n - 1) u n C, u = 2^-24 (Higham, Accuracy and Stability, section 4.2).
    n, u = len(everyone), 2.0**-24
    assert moved <= max_norm * (1 + 2 * (n - 1) * n * u)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_size_of_a_micro_batch_does_not_change_the_sum(scale: float) -> None:
    gradients = rows(64, scale=scale)
    whole, _, _ = clip_and_sum(gradients, 1.0)
    for size in (1, 3, 64):
        total = [torch.zeros(s.shape) for s in whole]
        for start in range(0, 64, size):
            part, _, _ = clip_and_sum([g[start : start + size] for g in gradients], 1.0)
            total = [a + b for a, b in zip(total, part, strict=True)]
        for found, wanted in zip(total, whole, strict=True):
            # 1e-6 of the sum of 64 norms: float32, another order
            assert (found - wanted).abs().max() < 1e-6 * max(1.0, float(wanted.abs().max()))


def test_short_records_pass_unchanged_and_long_ones_keep_their_direction() -> None:
    gradients = rows(5)
    norms = torch.cat([g.flatten(1) for g in gradients], 1).double().norm(dim=1)
    bound = float(norms.median())
    for i in range(5):
        (first, *_), found_norms, _ = clip_and_sum([g[i : i + 1] for g in gradients], bound)
        assert found_norms.dtype == torch.float64
        assert float(found_norms[0]) == pytest.approx(float(norms[i]))
        scale = min(1.0, bound / float(norms[i]))
        assert torch.allclose(first, scale * gradients[0][i], rtol=2e-6)


def test_the_norm_is_taken_over_all_tensors_together() -> None:
    sums, norms, _ = clip_and_sum([torch.tensor([[3.0]]), torch.tensor([[4.0]])], 1.0)
    assert float(norms[0]) == 5.0
    assert [round(float(s), 3) for s in sums] == [0.6, 0.8]


def test_a_record_that_is_not_finite_changes_nothing_for_the_others() -> None:
    gradients = rows(4)
    wanted, _, none = clip_and_sum([g[:2] for g in gradients], 1.0)
    gradients[0][2, 0, 0] = math.nan
    gradients[2][3] = -math.inf
    found, norms, count = clip_and_sum(gradients, 1.0)
    assert (none, count) == (0, 2)
    assert norms[:2].isfinite().all()
    assert not norms[2:].isfinite().any()
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b)


def test_low_precision_gradients_are_clipped_in_high_precision() -> None:
    (total,), norms, _ = clip_and_sum([torch.full((1, 10_000), 1.01, dtype=torch.bfloat16)], 1.0)
    assert total.dtype == torch.float32
    assert float(norms[0]) == pytest.approx(100 * float(torch.tensor(1.01).bfloat16()), rel=1e-12)
    assert float(total.double().norm()) <= 1.0


def test_a_zero_record_stays_zero() -> None:
    (total,), norms, count = clip_and_sum([torch.zeros(2, 3)], 1.0)
    assert not bool(total.any())
    assert norms.tolist() == [0, 0]
    assert count == 0


@pytest.mark.parametrize("max_norm", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_that_does_not_bound_is_refused(max_norm: float) -> None:
    with pytest.raises(ValueError, match="max_norm"):
        clip_and_sum([torch.ones(1, 1)], max_norm)


def test_tensors_that_disagree_on_the_records_are_refused() -> None:
    with pytest.raises(ValueError, match="records"):
        clip_and_sum([torch.ones(2, 1), torch.ones(3, 1)], 1.0)
    with pytest.raises(ValueError, match="records"):
        clip_and_sum([], 1.0)


# Randomness and noise


@pytest.mark.parametrize("source", [OS_RANDOMNESS, SeededRandomness(1)])
def test_uniforms_are_uniform(source: Randomness) -> None:
    found = source.uniforms(20_000)
    assert found.dtype == np.float64
    assert found.min() >= 0
    assert found.max() < 1
    assert stats.kstest(found, "uniform").pvalue > 1e-6


def test_only_the_operating_system_is_private() -> None:
    assert OS_RANDOMNESS.is_private
    assert not SeededRandomness(0).is_private


def test_noise_is_gaussian_with_the_standard_deviation() -> None:
    noise = gaussian_noise((101, 199), 3.0, SeededRandomness(2))
    assert noise.shape == (101, 199)
    assert noise.dtype == torch.float32
    assert stats.kstest(noise.flatten().numpy() / 3.0, "norm").pvalue > 1e-3
    assert len(noise.flatten().unique()) > 0.99 * noise.numel()


def test_noise_has_tails() -> None:
    far = gaussian_noise((400_000,), 1.0, SeededRandomness(3)).abs() > 3.5
    low, high = stats.binom.ppf((1e-6, 1 - 1e-6), 400_000, 2 * stats.norm.sf(3.5))
    assert low <= int(far.sum()) <= high


def test_noise_is_finite_at_both_ends_of_the_uniforms() -> None:
    class Ends:
        is_private = False

        def uniforms(self, n: int) -> np.ndarray:
            return np.resize([0.0, 1 - 2.0**-53], n)

    noise = gaussian_noise((4,), 1.0, Ends())
    assert bool(noise.isfinite().all())


def test_noise_is_not_touched_by_the_global_seed() -> None:
    torch.manual_seed(42)
    np.random.seed(42)  # noqa: NPY002 - what a trainer does
    first = gaussian_noise((100,), 1.0)
    torch.manual_seed(42)
    np.random.seed(42)  # noqa: NPY002
    assert not torch.equal(first, gaussian_noise((100,), 1.0))


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (3,)])
def test_noise_of_any_shape(shape: tuple[int, ...]) -> None:
    assert gaussian_noise(shape, 1.0).shape == shape


def test_a_step_is_the_sum_plus_noise_over_the_constant(make_a_plan: Plan) -> None:
    plan = make_a_plan(noise_multiplier=2.0, clipping_norm=0.5)
    sums = [torch.full((30_000,), 8.0), torch.full((2, 2), -8.0)]
    first, second = noisy_mean(sums, plan, SeededRandomness(4))
    assert float(first.mean()) == pytest.approx(8 / 4, abs=0.01)
    assert float(first.std()) == pytest.approx(2.0 * 0.5 / 4, rel=0.02)
    assert second.shape == (2, 2)
    assert not torch.equal(first, noisy_mean(sums, plan, SeededRandomness(5))[0])


# Sampling


def test_a_draw_takes_each_example_with_the_sample_rate(make_a_plan: Plan) -> None:
    plan = make_a_plan(num_examples=500, rate=0.1, steps=400)
    draws = list(PoissonSampler(plan, SeededRandomness(6)))
    assert len(draws) == len(PoissonSampler(plan)) == 400
    low, high = stats.binom.ppf((1e-6, 1 - 1e-6), 500 * 400, 0.1)
    assert low <= sum(map(len, draws)) <= high
    assert len({len(d) for d in draws}) > 10  # sizes vary
    for draw in draws:
        assert all(a < b for a, b in pairwise(draw))
        assert all(0 <= i < 500 for i in draw)


def test_empty_draws_are_steps_too(make_a_plan: Plan) -> None:
    plan = make_a_plan(num_examples=3, rate=0.05, steps=50)
    draws = list(PoissonSampler(plan, SeededRandomness(7)))
    assert len(draws) == 50
    assert [] in draws


def test_at_rate_one_everyone_is_drawn(make_a_plan: Plan) -> None:
    plan = make_a_plan(num_examples=4, rate=1.0, steps=3)
    assert list(PoissonSampler(plan)) == [[0, 1, 2, 3]] * 3


def test_every_pass_draws_afresh(make_a_plan: Plan) -> None:
    sampler = PoissonSampler(make_a_plan(num_examples=200))
    assert list(sampler) != list(sampler)


def test_a_unit_enters_with_one_of_its_rows_each_equally_likely(make_a_plan: Plan) -> None:
    plan = make_a_plan(num_examples=3, rate=0.5, steps=4000)
    members = [[0, 1, 2, 3], [4], [5, 6]]
    assert (PoissonSampler(plan).num_rows, PoissonSampler(plan, members=members).num_rows) == (3, 7)
    draws = list(PoissonSampler(plan, SeededRandomness(3), members=members))
    owner = {row: unit for unit, rows in enumerate(members) for row in rows}
    for drawn in draws:
        owners = [owner[row] for row in drawn]
        assert len(set(owners)) == len(owners), "two rows of one unit in a step"
        assert drawn == sorted(drawn)
    seen = np.bincount([row for drawn in draws for row in drawn], minlength=7)
    expected = np.array([0.5 / 4] * 4 + [0.5] + [0.25] * 2) * plan.steps
    # a binomial's standard deviation; five of them are one in a million
    assert (np.abs(seen - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([[0], [1]], "accounts for 3 units and there are 2"),
        ([[0], [1], []], "there are 2 with rows"),
        ([[0], [1], [1, 2]], "belongs to two"),
    ],
)
def test_units_that_do_not_fit_the_plan_are_refused(
    make_a_plan: Plan, members: list[list[int]], said: str
) -> None:
    with pytest.raises(PrivacyError, match=said):
        PoissonSampler(make_a_plan(num_examples=3, rate=0.5), members=members)
