"""Draw a batch, bound each record, add noise: the three acts that make a step private.

DP-SGD (Abadi et al. 2016, arXiv:1607.00133, algorithm 1) with Poisson sampling. Nothing here
depends on how large a micro-batch is, on the real size of a batch, or on a seed.

All randomness comes through one small door, :class:`Randomness`. The default is the operating
system's generator: a framework's generator is seeded with a number that is printed in the
configuration (transformers seeds with 42), and whoever knows the seed can subtract the noise.
"""

import math
import os
from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from privacy.errors import PrivacyError
from privacy.plan import DPPlan


class Randomness(Protocol):
    """A source of independent uniform numbers."""

    @property
    def is_private(self) -> bool:
        """Whether nobody can repeat the numbers; stamped into the ledger."""

    def uniforms(self, n: int) -> NDArray[np.float64]:
        """Draw ``n`` numbers in [0, 1), multiples of 2^-53, each equally likely; a new array."""


class OSRandomness:
    """The operating system's cryptographic generator. It has no seed and no state to leak.

    Each draw takes a new 256-bit key from ``os.urandom``, stretches it by AES in counter mode, and
    forgets it. The kernel makes its own numbers in the same way (with ChaCha20), but takes four
    times as long: a tenth of a second for the noise of five million parameters.
    """

    is_private: ClassVar[bool] = True

    def uniforms(self, n: int) -> NDArray[np.float64]:
        """Draw ``n`` numbers in [0, 1)."""
        if n == 0:
            return np.empty(0)
        key = algorithms.AES256(os.urandom(32))
        stream = bytearray(8 * n + 15)  # the interface wants room for another block
        Cipher(key, modes.CTR(bytes(16))).encryptor().update_into(bytes(8 * n), stream)
        # torch does this on all cores and in place; NumPy takes twice as long
        bits = torch.frombuffer(stream, dtype=torch.int64, count=n).bitwise_and_(2**53 - 1)
        found: NDArray[np.float64] = bits.double().mul_(2.0**-53).numpy()
        return found


class SeededRandomness:
    """Repeatable numbers, for tests. A run that uses them has no privacy, and its ledger says so.

    Example:
        >>> SeededRandomness(7).uniforms(3).tolist() == SeededRandomness(7).uniforms(3).tolist()
        True
    """

    is_private: ClassVar[bool] = False

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def uniforms(self, n: int) -> NDArray[np.float64]:
        """Draw the next ``n`` numbers of the stream."""
        return self._generator.random(n)


OS_RANDOMNESS = OSRandomness()


class PoissonSampler(Sampler[list[int]]):
    """Logical batches: at every step each unit enters with chance q, independently of all else.

    To be used as the *batch* sampler of a data loader. A draw may be empty and is then still a
    step, with noise and nothing else; skipping it would tell that it was empty. Row numbers
    within a draw are distinct and ascending. Each iteration over the sampler is a fresh draw.

    A unit that owns several rows enters with one of them, each equally likely, so that one
    clipped gradient is all it adds to a step: the account of examples then holds for units
    (user-level sampling, Charles et al. 2024, arXiv:2407.07737, section 3, with one example a
    user).
    """

    def __init__(
        self,
        plan: DPPlan,
        randomness: Randomness = OS_RANDOMNESS,
        *,
        members: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Make the sampler of a plan.

        Args:
            plan: what is run.
            randomness: of the draws.
            members: row numbers of each unit; without it, each row is a unit.

        Raises:
            PrivacyError: if there are not as many units as the plan accounts for, one is empty,
                or a row belongs to two.
        """
        if members is not None:
            rows = [row for unit in members for row in unit]
            if len(members) != plan.num_examples or not all(members):
                raise PrivacyError(
                    f"The plan accounts for {plan.num_examples} units and there are "
                    f"{sum(map(bool, members))} with rows. Make the plan after the data is final."
                )
            if len(set(rows)) < len(rows):
                raise PrivacyError("A row belongs to two units; give each row one owner.")
        self.plan = plan
        self.randomness = randomness
        self._members = members

    @property
    def num_rows(self) -> int:
        """Rows of all units together."""
        if self._members is None:
            return self.plan.num_examples
        return sum(map(len, self._members))

    def __len__(self) -> int:
        return self.plan.steps

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.plan.steps):
            uniforms = self.randomness.uniforms(self.plan.num_examples)
            drawn: list[int] = np.flatnonzero(uniforms < self.plan.sample_rate).tolist()
            if self._members is not None:
                choices = self.randomness.uniforms(len(drawn))
                owned = [self._members[unit] for unit in drawn]
                drawn = sorted(
                    rows[int(u * len(rows))] for rows, u in zip(owned, choices, strict=True)
                )
            yield drawn


# A row scaled in float32 may come out above the bound by two roundings (2^-24 each). Aiming this
# much lower keeps the bound itself exact, at a price of one part in a million.
_MARGIN = 1 - 2.0**-20


def clip_and_sum(
    gradients: Sequence[Tensor], max_norm: float, *, onto: Sequence[Tensor] | None = None
) -> tuple[list[Tensor], Tensor, int]:
    """Scale each record's gradient to an L2 norm of at most ``max_norm``, then sum over records.

    Computes sum_n g_n min(1, C / ||g_n||), where ||g_n|| is taken over *all* tensors together
    (Abadi et al. 2016, arXiv:1607.00133, algorithm 1, "clip gradient"). Adding or removing one
    record changes the result by at most C.

    Args:
        gradients: one tensor a parameter, each ``(records, *parameter.shape)``.
        max_norm: the clipping norm C.
        onto: sums of earlier micro-batches, float32 and contiguous, that these are added to in
            place; without it they begin at zero.

    Returns:
        The sums, float32, one a parameter; the norms before clipping, float64, ``(records,)``;
        and how many records had a NaN or infinite norm. Such a record adds nothing, whatever
        its neighbours in the batch. The norms and the count are private: never log them.

    Raises:
        ValueError: if ``max_norm`` is not positive and finite, or the tensors disagree on the
            number of records.

    Example:
        >>> sums, norms, _ = clip_and_sum([torch.tensor([[3.0, 4.0], [0.3, 0.4]])], max_norm=1.0)
        >>> [round(x, 3) for x in sums[0].tolist()], [round(x, 3) for x in norms.tolist()]
        ([0.9, 1.2], [5.0, 0.5])
    """
    if not (math.isfinite(max_norm) and max_norm > 0):
        raise ValueError(f"max_norm must be positive and finite, got {max_norm!r}")
    counts = {len(g) for g in gradients}
    if len(counts) != 1:
        raise ValueError(f"gradients must agree on the number of records, got {sorted(counts)}")
    # In float64: a norm taken in bfloat16 is off by 2.6e-3, and so is the sensitivity.
    norms = torch.stack(
        [torch.linalg.vector_norm(g.flatten(1), dim=1, dtype=torch.float64) for g in gradients]
    ).norm(dim=0)
    kept = norms.isfinite()
    # A zero row divides to inf and clamps to 1. A non-finite one gets 0, and is blanked below,
    # because 0 * inf is not 0.
    scale = torch.where(kept, (max_norm * _MARGIN / norms).clamp(max=1.0), 0.0).float()
    num_non_finite = int((~kept).sum())
    if onto is None:
        onto = [g.new_zeros(g.shape[1:], dtype=torch.float32) for g in gradients]
    for total, g in zip(onto, gradients, strict=True):
        rows = g.flatten(1).float()
        if num_non_finite:
            rows = torch.where(kept[:, None], rows, 0.0)
        total.view(-1).addmv_(rows.mT, scale)
    return list(onto), norms, num_non_finite


# Numbers of a noise that are made at once: enough for all cores, few enough for the cache.
_BLOCK = 2**18


def gaussian_noise(
    shape: Sequence[int], std: float, randomness: Randomness = OS_RANDOMNESS
) -> Tensor:
    """Draw independent Gaussian noise of mean 0 and standard deviation ``std``.

    Box and Muller 1958: with u, v uniform on [0, 1), sqrt(-2 ln(1 - u)) cos(2 pi v) and the same
    with sin are two independent standard normals. Computed in float64 from 53-bit uniforms, then
    rounded to float32. Uniforms of 53 bits end the tail at 8.57 standard deviations, beyond
    which a normal has less than 1e-16 of its mass. Attacks on the spacing of floating-point
    numbers (Mironov 2012) are not defended against.

    Args:
        shape: of the result.
        std: standard deviation, in the unit of the sum it is added to.
        randomness: where the uniforms come from.

    Returns:
        A float32 tensor on the CPU.
    """
    noise = torch.empty(math.prod(shape))
    for block in torch.split(noise, _BLOCK):
        n = len(block)
        u, v = torch.from_numpy(randomness.uniforms(2 * ((n + 1) // 2))).reshape(2, -1)
        # In place from here on: a new tensor for every operation takes a third longer.
        radius = u.neg_().log1p_().mul_(-2.0).sqrt_().mul_(std)
        angle = v.mul_(2 * math.pi)
        half = len(radius)
        block[:half] = torch.cos(angle).mul_(radius)
        block[half:] = angle.sin_().mul_(radius)[: n - half]
    return noise.reshape(tuple(shape))


def noisy_mean(
    sums: Sequence[Tensor], plan: DPPlan, randomness: Randomness = OS_RANDOMNESS
) -> list[Tensor]:
    """Turn clipped sums into the one thing a step may release: (sum + sigma C z) / (q n).

    Called once per logical batch, after all of its micro-batches are summed; an empty batch
    passes zeros. What is done with the result later costs no further privacy.

    Returns:
        One float32 tensor a parameter, on the device of its sum.
    """
    std = plan.noise_multiplier * plan.clipping_norm
    # One draw for all tensors: by tensor it takes twice as long, and adapters have hundreds.
    noise = gaussian_noise((sum(total.numel() for total in sums),), std, randomness)
    parts = torch.split(noise, [total.numel() for total in sums])
    return [
        part.view_as(total).to(total.device).add_(total).div_(plan.denominator)
        for total, part in zip(sums, parts, strict=True)
    ]
