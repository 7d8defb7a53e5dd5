"""The self-test is green on the mechanism, and red on the line that a planted fault belongs to."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from privacy import accountant, mechanism, self_test
from privacy.mechanism import PoissonSampler, Randomness, SeededRandomness
from privacy.plan import DPPlan

Plan = Callable[..., DPPlan]


@pytest.fixture
def plan(make_a_plan: Plan) -> DPPlan:
    return make_a_plan(num_examples=10_000, rate=0.0256, steps=117, noise_multiplier=1.0)


def red(plan: DPPlan, randomness: Randomness | None = None) -> set[str]:
    checks = self_test.self_test(plan, randomness or SeededRandomness(1))
    assert len({c.name for c in checks}) == len(checks) == 10
    for check in checks:
        assert math.isfinite(check.low)
        assert math.isfinite(check.high)
    return {c.name for c in checks if not c.passed}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"noise_multiplier": 0.3, "clipping_norm": 7.0},
        {"noise_multiplier": 40.0, "clipping_norm": 1e-3},
        {"num_examples": 100, "sample_rate": 0.5, "denominator": 50.0},
        {"num_examples": 5, "sample_rate": 1.0, "denominator": 5.0},
        {"num_examples": 10_000, "sample_rate": 1e-4, "denominator": 1.0},
        {"num_examples": 99_000, "sample_rate": 1e-6, "denominator": 0.099},
    ],
)
def test_the_mechanism_passes_for_any_plan(plan: DPPlan, change: dict[str, float]) -> None:
    assert red(dataclasses.replace(plan, **change)) == set()  # type: ignore[arg-type]


def test_it_passes_on_the_operating_system_in_under_two_seconds(plan: DPPlan) -> None:
    began = time.process_time()
    assert red(plan, mechanism.OS_RANDOMNESS) == set()
    assert time.process_time() - began < 2  # of this process: the machine may be busy


def test_it_is_rarely_red_by_chance(plan: DPPlan) -> None:
    for seed in range(20):
        assert red(plan, SeededRandomness(seed)) == set()


TELLTALE = {"distinguishability", "epsilon"}

Noise = Callable[[Sequence[int], float, Randomness], Tensor]


def test_half_the_noise_is_found(plan: DPPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Noise = mechanism.gaussian_noise
    monkeypatch.setattr(mechanism, "gaussian_noise", lambda n, std, r: real(n, std / 2, r))
    assert red(plan) == {"noise-scale", *TELLTALE, "empty-draw"}


def test_no_noise_is_found(plan: DPPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mechanism, "gaussian_noise", lambda n, *_: torch.zeros(tuple(n)))
    assert {"noise-scale", *TELLTALE, "empty-draw"} <= red(plan)


def test_noise_that_is_used_twice_is_found(plan: DPPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Noise = mechanism.gaussian_noise
    monkeypatch.setattr(
        mechanism, "gaussian_noise", lambda n, std, _: real(n, std, SeededRandomness(42))
    )
    assert "noise-independence" in red(plan)


def figures(plan: DPPlan) -> dict[str, tuple[float, float, float]]:
    checks = self_test.self_test(plan, SeededRandomness(5))
    return {c.name: (c.low, c.value, c.high) for c in checks}


@pytest.mark.parametrize(
    ("fault", "noise", "correlation", "mu", "epsilon"),
    [
        ("none", 1.0, 0.0, 2.449, 12.87),
        ("half the noise", 0.5, 0.0, 4.899, 32.2),
        ("clipped at 2 C", 1.0, 0.0, 4.899, 32.2),
        ("noise reused", 1.0, 1.0, 1.0, 4.38),
    ],
)
def test_its_figures_are_those_of_the_theory(
    plan: DPPlan,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    noise: float,
    correlation: float,
    mu: float,
    epsilon: float,
) -> None:
    """Sigma 1, six steps, delta 1e-5; the fourth row's epsilon looks well, its correlation not."""
    draw: Noise = mechanism.gaussian_noise
    clip = mechanism.clip_and_sum
    faults: dict[str, Callable[..., Any]] = {
        "half the noise": lambda n, std, r: draw(n, std / 2, r),
        "noise reused": lambda n, std, _: draw(n, std, SeededRandomness(42)),
    }
    if fault in faults:
        monkeypatch.setattr(mechanism, "gaussian_noise", faults[fault])
    if fault == "clipped at 2 C":
        monkeypatch.setattr(self_test, "clip_and_sum", lambda g, C: clip(g, 2 * C))
    found = figures(plan)
    wanted = {
        "noise-scale": noise,
        "distinguishability": mu,
        "epsilon": epsilon,
    }
    for name, value in wanted.items():
        low, _, high = found[name]
        assert low <= value <= high, name
    assert found["noise-independence"][1] == pytest.approx(correlation, abs=0.02)
    assert found["sensitivity"][1] == pytest.approx(2 if "2 C" in fault else 1, abs=1e-3)
    # Intervals of five standard errors; the published ones are of two.
    low, value, high = found["epsilon"]
    assert high - low < 0.6 * value


@pytest.mark.parametrize(("mu", "delta"), [(1.0, 1e-5), (2.449, 1e-9)])
def test_epsilon_of_two_gaussians_is_that_of_the_accountant(mu: float, delta: float) -> None:
    found = self_test.gaussian_epsilon(mu, delta)
    assert found == pytest.approx(accountant.epsilon(1.0, 1 / mu, 1, delta), rel=2e-3)


def test_epsilon_of_equal_or_distant_gaussians() -> None:
    assert self_test.gaussian_epsilon(0.0, 1e-5) == 0
    assert self_test.gaussian_epsilon(1e-9, 1e-5) == 0
    assert self_test.gaussian_epsilon(1e9, 1e-5) > 5000


@pytest.mark.parametrize("factor", [1.1, 2.0])
def test_a_looser_clip_is_found(
    plan: DPPlan, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    real = mechanism.clip_and_sum
    monkeypatch.setattr(self_test, "clip_and_sum", lambda g, C: real(g, factor * C))
    found = red(plan)
    assert "sensitivity" in found
    assert "distinguishability" in found or factor < 2


def test_clipping_each_tensor_by_itself_is_found(
    plan: DPPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def per_tensor(gradients: Sequence[Tensor], C: float) -> tuple[list[Tensor], Tensor, int]:
        parts = [mechanism.clip_and_sum([g], C) for g in gradients]
        return [p[0][0] for p in parts], parts[0][1], sum(p[2] for p in parts)

    monkeypatch.setattr(self_test, "clip_and_sum", per_tensor)
    assert "sensitivity" in red(plan)


def test_clipping_the_batch_instead_of_the_record_is_found(
    plan: DPPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole(gradients: Sequence[Tensor], C: float) -> tuple[list[Tensor], Tensor, int]:
        sums, norms, bad = mechanism.clip_and_sum([g.sum(0, keepdim=True) for g in gradients], C)
        return sums, norms, bad

    monkeypatch.setattr(self_test, "clip_and_sum", whole)
    assert {"sensitivity", "non-finite-record"} <= red(plan)


def test_a_record_that_is_not_finite_and_spreads_is_found(
    plan: DPPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def naive(gradients: Sequence[Tensor], C: float) -> tuple[list[Tensor], Tensor, int]:
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        scale = (C / norms).clamp(max=1)
        return [torch.tensordot(scale, g, 1) for g in gradients], norms, 0

    monkeypatch.setattr(self_test, "clip_and_sum", naive)
    assert red(plan) == {"non-finite-record"}


class Faulty(PoissonSampler):
    def __iter__(self) -> Iterator[list[int]]:
        n = self.plan.num_examples
        size = max(1, round(self.plan.sample_rate * n))
        generator = np.random.default_rng(0)
        order: list[int] = []
        for _ in range(self.plan.steps):
            yield self.draw(generator, order, n, size)

    def draw(
        self, generator: np.random.Generator, order: list[int], n: int, size: int
    ) -> list[int]:
        raise NotImplementedError


class Shuffling(Faulty):
    def draw(
        self, generator: np.random.Generator, order: list[int], n: int, size: int
    ) -> list[int]:
        if len(order) < size:
            order[:] = generator.permutation(n).tolist()
        batch, order[:] = order[:size], order[size:]
        return batch


class FixedSize(Faulty):
    def draw(self, generator: np.random.Generator, _: list[int], n: int, size: int) -> list[int]:
        return generator.choice(n, size, replace=False).tolist()  # type: ignore[no-any-return]


class WithReplacement(Faulty):
    def draw(self, generator: np.random.Generator, _: list[int], n: int, size: int) -> list[int]:
        return generator.integers(0, n, size).tolist()  # type: ignore[no-any-return]


class TooOften(PoissonSampler):
    def __iter__(self) -> Iterator[list[int]]:
        for draw in super().__iter__():
            yield sorted({*draw, *range(0, self.plan.num_examples, 300)})


class Doubled(PoissonSampler):
    def __iter__(self) -> Iterator[list[int]]:
        for draw in super().__iter__():
            yield draw[: len(draw) // 2] * 2


@pytest.mark.parametrize(
    ("sampler", "line"),
    [
        (Shuffling, "sampling-of-examples"),
        (FixedSize, "sampling-of-batches"),
        (WithReplacement, "sampling-rate"),
        (TooOften, "sampling-of-examples"),
        (Doubled, "sampling-rate"),
    ],
)
def test_batches_drawn_otherwise_are_found(
    plan: DPPlan, monkeypatch: pytest.MonkeyPatch, sampler: type[PoissonSampler], line: str
) -> None:
    monkeypatch.setattr(self_test, "PoissonSampler", sampler)
    assert line in red(plan)
