"""The self-test's second half: the model, its loss and what is trained, before the first step.

`privacy.self_test` holds what needs no model. Here the mechanism is fed by the very model, loss and
per-record gradients of the run, on made-up records, so that nothing of the data is in a figure:
seven short records and a long one, the case in which a loss that is divided by the tokens of its
batch gives one record several times its bound.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from scipy import stats
from torch import Tensor, nn

from privacy.mechanism import Randomness, clip_and_sum, noisy_mean
from privacy.plan import DPPlan
from privacy.self_test import Check

LENGTHS = (4, 4, 4, 4, 4, 4, 4, 16)
"""Tokens of the made-up records."""

Gradients = Callable[[Sequence[int]], Sequence[Tensor]]
"""Of the chosen records, run together: gradients ``(records, *parameter.shape)`` by parameter."""

_ROUNDING = 0.05
"""Of what a record's own gradient may move with the batch it is in: a batch of another size is
multiplied by other kernels, which round bfloat16 (8 bits) otherwise at each of many layers."""

_TAIL = 1e-6  # a line is red by chance in one run of a million


def remove_one(gradients_of: Gradients, num_records: int) -> Check:
    """Take a record out of a batch: the clipped sum may move by that record's bound, no further.

    The bound is the largest norm in the batch, so that nothing is clipped and nothing hidden by it.
    The first record leaves, and the last.
    """
    everyone = list(range(num_records))
    together = gradients_of(everyone)
    _, norms, _ = clip_and_sum(together, 1.0)
    C = float(norms.nan_to_num(0, 0, 0).max())  # a record that is not finite is left out anyway
    if C == 0:
        nothing = "no made-up record has a finite gradient, so there is nothing to bound"
        return Check("remove-one", False, math.nan, 0.0, 1 + _ROUNDING, "at most 1", nothing)
    moves = []
    for left_out in (everyone[1:], everyone[:-1]):
        with_it, _, _ = clip_and_sum(together, C)
        without, _, _ = clip_and_sum(gradients_of(left_out), C)
        change = [(a - b).double().flatten() for a, b in zip(with_it, without, strict=True)]
        moves.append(torch.cat(change).norm() / C)
    worst = float(torch.stack(moves).max())
    return Check(
        "remove-one",
        worst <= 1 + _ROUNDING,
        worst,
        0.0,
        1 + _ROUNDING,
        "at most 1, but for rounding",
        f"one of {num_records} made-up records of unlike length left its batch, and the sum of the "
        f"real model's gradients moved by {worst:.3f} times the largest of them",
    )


def isolation(gradients: Mapping[str, Tensor]) -> Check:
    """Records whose loss was left out must have no gradient at all.

    Batch statistics, contrastive losses, expert balancing and layers whose first dimension is
    something else than the record all break this.

    Args:
        gradients: per record, by parameter, of the sum of every second record's loss.
    """
    leaks = {
        name: float(rows[1::2].abs().nan_to_num(0, 0, 0).max()) for name, rows in gradients.items()
    }
    where, worst = max(leaks.items(), key=lambda leak: leak[1])
    detail = "the loss of one record has no gradient in the row of another"
    if worst:
        detail = (
            f"the loss of one record has a gradient in the row of another, at {where}: the model "
            "or its loss couples the records of a batch (batch norm, contrastive or "
            "expert-balancing losses, packing). Clipping cannot bound that"
        )
    return Check("isolation", worst == 0, worst, 0.0, 0.0, "0", detail)


def coverage(
    model: nn.Module,
    covered: Mapping[str, nn.Parameter],
    optimized: Sequence[nn.Parameter],
    plan: DPPlan,
    randomness: Randomness,
) -> Check:
    """Every tensor that training moves is clipped, and a step on no records is noise in each."""
    ids = {id(p) for p in covered.values()}
    missed = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in ids]
    missed += ["a tensor of the optimizer" for p in optimized if id(p) not in ids]
    released = noisy_mean([torch.zeros(p.shape) for p in covered.values()], plan, randomness)
    unit = plan.noise_multiplier * plan.clipping_norm / plan.denominator
    for name, noise in zip(covered, released, strict=True):
        square = float(noise.double().div(unit).square().sum())
        law = stats.chi2(noise.numel())
        if min(law.cdf(square), law.sf(square)) < _TAIL / len(covered):
            missed.append(name)
    num_values = sum(p.numel() for p in covered.values())
    detail = f"{len(covered)} tensors of {num_values:,} numbers are trained"
    detail += f"; not clipped, or without noise of full size: {missed[0]}" if missed else ""
    return Check("coverage", not missed, len(missed), 0.0, 0.0, "0 outside", detail)
