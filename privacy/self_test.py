"""The mechanism tested on itself before it is trusted with a run.

Records with a gradient far above the clipping norm on a coordinate of their own ("Dirac" records)
are sent through the very functions that training calls. What comes out must be bounded like C,
noisy like sigma C, independent from step to step, and sampled like a coin: if one of these is off
by a factor, the epsilon of the plan belongs to some other mechanism.

A white-box test of this kind is tight, unlike an attack on a finished model (Nasr et al. 2023,
arXiv:2302.07956): it tells half the noise or twice the sensitivity from the truth within a second.
Intervals are five standard errors wide, so that a line is red by chance in one run of a million.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, special, stats

from privacy.mechanism import (
    OS_RANDOMNESS,
    PoissonSampler,
    Randomness,
    clip_and_sum,
    noisy_mean,
)
from privacy.plan import DPPlan

_Z = 5.0
_TAIL = float(stats.norm.sf(_Z))


@dataclass(frozen=True)
class Check:
    """One line of the self-test."""

    name: str
    passed: bool
    value: float
    """What was measured."""
    low: float
    high: float
    """Interval of the measurement, or the allowed range where ``wanted`` is a range."""
    wanted: str
    detail: str


def self_test(plan: DPPlan, randomness: Randomness = OS_RANDOMNESS) -> list[Check]:
    """Test clipping, noise and sampling as this plan uses them; takes about a second.

    Args:
        plan: its noise multiplier, clipping norm and sample rate are used; the number of examples
            and steps are replaced by ones that suit the test.
        randomness: what the run will use.

    Returns:
        One check a property. A run must not start unless all have passed; there is no average.
    """
    draws = _draws(plan, randomness)
    return [
        _sensitivity(plan),
        _non_finite(plan),
        *_noise(plan, randomness),
        *_distinguishability(plan, randomness),
        *_sampling(draws, plan.sample_rate),
        _empty_draw(plan, randomness),
    ]


def _sensitivity(plan: DPPlan) -> Check:
    """Largest change of a clipped sum when one record leaves, in units of C."""
    C = plan.clipping_norm
    generator = torch.Generator().manual_seed(0)  # records are made up; nothing here is private
    others = [
        torch.randn((15, 3, 4), generator=generator) * C,
        torch.randn((15, 8), generator=generator) * C,
    ]
    changes = []
    # In one tensor, in the other, in both at once (which clipping tensor by tensor lets through).
    for first, second in ((25.0, 0.0), (0.0, 25.0), (25.0, 25.0), (1e30, 1e30)):
        dirac = [torch.zeros((1, 3, 4)), torch.zeros((1, 8))]
        dirac[0][0, 1, 2] = first * C
        dirac[1][0, 5] = second * C
        with_it, _, _ = clip_and_sum([torch.cat(p) for p in zip(dirac, others, strict=True)], C)
        without, _, _ = clip_and_sum(others, C)
        change = torch.cat(
            [(a - b).double().flatten() for a, b in zip(with_it, without, strict=True)]
        )
        changes.append(change.norm() / C)
    worst = float(torch.stack(changes).max())  # NaN if one is, unlike Python's max
    bound = 1 + 1e-4  # float32: the two sums of 16 records round differently
    return Check(
        "sensitivity",
        worst <= bound,
        worst,
        0.0,
        bound,
        "at most 1",
        f"one record of norm 25 C and more moved the sum by {worst:.4f} C",
    )


def _non_finite(plan: DPPlan) -> Check:
    """A record whose gradient is infinite or NaN must leave the others as they are."""
    rows = torch.eye(4) * plan.clipping_norm
    expected, _, _ = clip_and_sum([rows[:2]], plan.clipping_norm)
    rows[2, 1], rows[3, 0] = math.inf, math.nan
    found, _, count = clip_and_sum([rows], plan.clipping_norm)
    off = float((found[0] - expected[0]).abs().max())
    return Check(
        "non-finite-record",
        off == 0 and count == 2,
        off,
        0.0,
        0.0,
        "0",
        f"{count} of 2 non-finite records were blanked; the sum of the others moved by {off:g}",
    )


def _noise(plan: DPPlan, randomness: Randomness) -> list[Check]:
    """Scale of the noise, and its correlation from one step to the next."""
    zeros = [torch.zeros(200, 500)]
    released = [noisy_mean(zeros, plan, randomness)[0].double().flatten() for _ in range(4)]
    n = released[0].numel() * len(released)
    unit = plan.noise_multiplier * plan.clipping_norm / plan.denominator
    ratio = float(torch.cat(released).square().mean().sqrt()) / unit
    error = _Z / math.sqrt(2 * n)
    pairs = [
        float(torch.corrcoef(torch.stack((a, b)))[0, 1])
        for i, a in enumerate(released)
        for b in released[:i]
    ]
    furthest = math.nan if any(map(math.isnan, pairs)) else max(pairs, key=abs)
    reach = _Z / math.sqrt(released[0].numel())
    return [
        Check(
            "noise-scale",
            ratio - error <= 1 <= ratio + error,
            ratio,
            ratio - error,
            ratio + error,
            "1 within the interval",
            f"noise is {ratio:.4f} times sigma C / denominator, over {n} draws",
        ),
        Check(
            "noise-independence",
            -reach <= furthest <= reach,
            furthest,
            -reach,
            reach,
            "within the range around 0",
            f"largest correlation between the noise of two of {len(released)} steps",
        ),
    ]


def _distinguishability(plan: DPPlan, randomness: Randomness) -> list[Check]:
    """How well the output tells which Dirac records took part: mu = sqrt(steps) / sigma at most.

    mu is the distance of the two means in standard deviations, the parameter of Gaussian DP (Dong
    et al. 2019, arXiv:1905.02383), exact here because one coordinate is one Gaussian mechanism.
    Epsilon follows from it.
    """
    num_canaries, steps = 2000, 6
    present = randomness.uniforms(num_canaries) < 0.5
    rows = 25 * plan.clipping_norm * torch.eye(num_canaries)[torch.from_numpy(present)]
    score = torch.zeros(num_canaries, dtype=torch.float64)
    for _ in range(steps):
        sums, _, _ = clip_and_sum([rows], plan.clipping_norm)
        score += noisy_mean(sums, plan, randomness)[0].double()
    inside, outside = score.numpy()[present], score.numpy()[~present]
    pooled = math.sqrt(
        (inside.var() * len(inside) + outside.var() * len(outside)) / (num_canaries - 2)
    )
    theory = math.sqrt(steps) / plan.noise_multiplier
    gap = float(inside.mean() - outside.mean())
    found = gap / max(pooled, 1e-12 * abs(gap), 1e-300)  # without noise: a large number, red
    # Of Cohen's d in two groups of about m / 2 (Hedges and Olkin 1985).
    error = _Z * math.sqrt(4 / num_canaries + found**2 / (2 * num_canaries))
    low, high = found - error, found + error
    passed = low <= theory
    claimed = gaussian_epsilon(theory, plan.delta)
    what = f"{num_canaries} Dirac records over {steps} steps without sampling"
    return [
        Check(
            "distinguishability",
            passed,
            found,
            low,
            high,
            f"interval reaching down to {theory:.4g} = sqrt({steps}) / sigma",
            f"{what}; one of them moved a step by "
            f"{gap / steps * plan.denominator / plan.clipping_norm:.3f} C",
        ),
        Check(
            "epsilon",
            passed,
            gaussian_epsilon(found, plan.delta),
            gaussian_epsilon(low, plan.delta),
            gaussian_epsilon(high, plan.delta),
            f"interval reaching down to {claimed:.4g}, what the mechanism promises for this",
            f"what an attacker who knows all else could tell of {what}, at the plan's delta",
        ),
    ]


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the epsilon at ``delta`` of two unit Gaussians that are ``mu`` apart.

    delta(epsilon) = Phi(mu / 2 - epsilon / mu) - e^epsilon Phi(-mu / 2 - epsilon / mu) (Balle and
    Wang 2018, arXiv:1805.06530, theorem 8). Beyond a mu of 100, that of 100: above 5000 already.

    Example:
        >>> round(gaussian_epsilon(6**0.5, 1e-5), 2)
        12.87
    """
    mu = min(mu, 100.0)
    if mu <= 0:
        return 0.0

    def excess(epsilon: float) -> float:
        left = special.ndtr(mu / 2 - epsilon / mu)
        right = math.exp(epsilon + special.log_ndtr(-mu / 2 - epsilon / mu))
        return float(left) - right - delta

    if excess(0.0) <= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, mu * (mu / 2 + 40)))


def _draws(plan: DPPlan, randomness: Randomness) -> NDArray[np.int64]:
    """Times each example entered each batch, ``(steps, examples)``, by the real sampler."""
    examples = 2000
    # Two uses of each example, where that takes no more than 2000 steps.
    steps = min(2000, max(200, math.ceil(2 / plan.sample_rate)))
    stand_in = dataclasses.replace(
        plan,
        num_examples=examples,
        steps=steps,
        delta=min(plan.delta, 1e-5),
        denominator=plan.sample_rate * examples,
    )
    draws = list(PoissonSampler(stand_in, randomness))
    counts = np.zeros((len(draws), examples), dtype=np.int64)
    for row, draw in zip(counts, draws, strict=True):
        np.add.at(row, draw, 1)
    return counts


def _sampling(draws: NDArray[np.int64], q: float) -> list[Check]:
    """Rate, and independence between examples and between steps."""
    steps, examples = draws.shape
    most = int(draws.max())
    total = int(draws.sum())
    low, high = (float(stats.binom.ppf(tail, draws.size, q)) for tail in (_TAIL, 1 - _TAIL))
    return [
        Check(
            "sampling-rate",
            low <= total <= high and most <= 1,
            total / draws.size,
            low / draws.size,
            high / draws.size,
            f"{q:.6g} within the range, each example at most once a batch",
            f"{total} inclusions in {steps} batches of {examples} examples; one example entered "
            f"the same batch {most} times at most",
        ),
        _spread("sampling-of-examples", draws.sum(0), steps, q, "each example's inclusions"),
        _spread("sampling-of-batches", draws.sum(1), examples, q, "the batch sizes"),
    ]


def _spread(name: str, counts: NDArray[np.int64], trials: int, q: float, what: str) -> Check:
    """Variance of binomial counts over trials q (1 - q): 1 if independent, 0 if shuffled."""
    variance = trials * q * (1 - q)
    if variance == 0:
        off = float(np.abs(counts - trials * q).max())
        return Check(name, off == 0, off, 0.0, 0.0, "0", f"at sample rate {q:g} {what} are fixed")
    ratio = float(((counts - trials * q) ** 2).mean()) / variance
    if len(counts) * trials * q < 100:  # counts this small are far from any normal law
        detail = f"the sample rate {q:g} is too small to tell"
        return Check(name, True, ratio, 0.0, max(ratio, 2.0), "nothing", detail)
    excess_kurtosis = (1 - 6 * q * (1 - q)) / variance
    error = _Z * math.sqrt(max(2 + excess_kurtosis, 0.0) / len(counts))
    return Check(
        name,
        1 - error <= ratio <= 1 + error,
        ratio,
        1 - error,
        1 + error,
        "within the range around 1",
        f"variance of {what} relative to independent draws; shuffling or a fixed size gives 0",
    )


def _empty_draw(plan: DPPlan, randomness: Randomness) -> Check:
    """A step on no records is noise of full size, neither skipped nor infinite."""
    released = noisy_mean([torch.zeros(50_000)], plan, randomness)[0].double()
    unit = plan.noise_multiplier * plan.clipping_norm / plan.denominator
    ratio = float(released.square().mean().sqrt()) / unit
    error = _Z / math.sqrt(2 * released.numel())
    return Check(
        "empty-draw",
        1 - error <= ratio <= 1 + error,
        ratio,
        1 - error,
        1 + error,
        "within the range around 1",
        "standard deviation of a step without records, relative to sigma C / denominator",
    )
