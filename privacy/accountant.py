"""From noise to epsilon and back, for the Poisson-subsampled Gaussian mechanism.

All functions take plain values in one order and with one meaning:

* ``sample_rate`` q: each example's chance to enter a batch, independently at every step;
* ``noise_multiplier`` sigma: noise standard deviation / clipping norm, without unit;
* ``steps`` T: how many noisy sums were released;
* ``delta``: the chance that is left outside the epsilon bound.

Neighbouring data sets differ by *adding or removing* one example, unless a name says otherwise.
The figure that counts is the privacy loss distribution (PLD) of ``dp_accounting``, computed with
pessimistic rounding, so it is an upper bound; opacus supplies two further, independent ones.
Gaussian DP (the central-limit accountant) is not offered: it is an approximation from below, and
reads 2.16 where the truth is 3.37 (10,000 examples, batch 256, sigma 0.8, 117 steps).

Heavy imports happen inside the functions, so that reading a plan stays quick.
"""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from privacy.errors import PrivacyError

_INTERVAL = 1e-4  # PLD grid, in units of epsilon; 1e-5 agrees to five digits
_LEAST_NOISE = 0.1  # below it one use of an example costs an epsilon above 90: say infinite
_MOST_NOISE = 1e4
_TOLERANCE = 1e-3  # relative; of a calibrated noise multiplier


def _check(sample_rate: float, noise_multiplier: float, steps: int, delta: float) -> None:
    if not 0 < sample_rate <= 1:
        raise ValueError(f"sample_rate must be in (0, 1], got {sample_rate!r}")
    if not noise_multiplier >= 0:  # also refuses NaN
        raise ValueError(f"noise_multiplier must be 0 or more, got {noise_multiplier!r}")
    if steps < 0:
        raise ValueError(f"steps must be 0 or more, got {steps!r}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta!r}")


@functools.lru_cache(maxsize=1024)
def _pld_epsilon(
    sample_rate: float,
    noise_multiplier: float,
    steps: int,
    delta: float,
    interval: float,
    replace_one: bool,
) -> float:
    _check(sample_rate, noise_multiplier, steps, delta)
    if steps == 0:
        return 0.0
    if noise_multiplier < _LEAST_NOISE:
        return math.inf
    step = _step(sample_rate, noise_multiplier, max(interval, _grid(noise_multiplier)), replace_one)
    return float(step.self_compose(steps).get_epsilon_for_delta(delta))


def _grid(noise_multiplier: float) -> float:
    """Return the finest grid that a mechanism's losses are worth.

    A single loss spans about 1 / (2 sigma^2) + 20 / sigma. Any grid is an upper bound when rounded
    pessimistically, so little noise gets a coarser one instead of all the memory.
    """
    return 3e-6 * (0.5 / noise_multiplier**2 + 20 / noise_multiplier)


def _step(sample_rate: float, noise_multiplier: float, grid: float, replace_one: bool) -> Any:
    """Return the privacy loss distribution of one noisy sum."""
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution

    relation = NeighboringRelation
    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier,  # sensitivity 1, in units of the clipping norm
        pessimistic_estimate=True,
        value_discretization_interval=grid,
        sampling_prob=sample_rate,
        neighboring_relation=relation.REPLACE_ONE if replace_one else relation.ADD_OR_REMOVE_ONE,
    )


def epsilon(sample_rate: float, noise_multiplier: float, steps: int, delta: float) -> float:
    """Bound what ``steps`` noisy sums reveal of one example, by privacy loss distribution.

    The bound is the smallest epsilon on the grid with delta(epsilon) <= delta for the T-fold
    composition of the subsampled Gaussian mechanism, rounded pessimistically (Doroshenko et al.
    2022, "Connect the Dots", arXiv:2207.04380), under add-or-remove-one neighbours.

    Returns:
        Epsilon; 0 for no steps. ``inf`` where the noise multiplier is below 0.1: one unsampled
        use then costs more than 90, and no such figure says anything.

    Raises:
        ValueError: if an argument is outside its range.

    Example:
        >>> round(epsilon(sample_rate=1.0, noise_multiplier=2.0, steps=1, delta=1e-5), 3)
        1.993
    """
    return _pld_epsilon(sample_rate, noise_multiplier, steps, delta, _INTERVAL, False)


@functools.lru_cache(maxsize=64)
def epsilon_of_group(
    sample_rate: float, noise_multiplier: float, steps: int, delta: float, size: int
) -> float:
    """Bound what an example-level run reveals of a person who owns ``size`` examples.

    Neighbours add or remove all of them. A step's sum then moves by as many clipping norms as
    were drawn of them, a binomial number: a mixture of Gaussians, whose privacy loss distribution
    is composed like any other (Charles et al. 2024, arXiv:2407.07737, section 3.2).

    Returns:
        Epsilon, rounded pessimistically; at size 1 that of :func:`epsilon`. Takes seconds, and
        longer for large groups.

    Raises:
        ValueError: if an argument is outside its range.
    """
    _check(sample_rate, noise_multiplier, steps, delta)
    if size < 1:
        raise ValueError(f"size must be 1 or more, got {size!r}")
    if steps == 0:
        return 0.0
    if noise_multiplier < _LEAST_NOISE:
        return math.inf
    from dp_accounting.pld import privacy_loss_distribution
    from scipy.stats import binom

    drawn = range(size + 1)
    chances = [float(binom.pmf(k, size, sample_rate)) for k in drawn]
    likely = [k for k in drawn if chances[k] > 1e-30]
    # what is left out is counted as the largest move
    chances[likely[-1]] += max(0.0, 1 - sum(chances[k] for k in likely))
    step = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        noise_multiplier,
        [float(k) for k in likely],
        [chances[k] for k in likely],
        pessimistic_estimate=True,
        value_discretization_interval=max(1e-3 * size, 10 * _grid(noise_multiplier)),
    )
    return float(step.self_compose(steps).get_epsilon_for_delta(delta))


def epsilon_of_all(mechanisms: Sequence[tuple[float, float, int]], delta: float) -> float:
    """Bound what several runs on the same data reveal together, of one example.

    The privacy loss distributions of all runs are composed at one delta, which is tighter than
    adding their epsilons.

    Args:
        mechanisms: sample rate, noise multiplier and steps of each run.
        delta: of the whole.

    Returns:
        Epsilon under add-or-remove-one neighbours; 0 for no runs.

    Raises:
        ValueError: if an argument is outside its range.
    """
    for mechanism in mechanisms:
        _check(*mechanism, delta)
    active = [mechanism for mechanism in mechanisms if mechanism[2]]
    if not active:
        return 0.0
    if min(noise for _, noise, _ in active) < _LEAST_NOISE:
        return math.inf
    grid = max(_INTERVAL, *(_grid(noise) for _, noise, _ in active))
    whole: Any = None
    for (rate, noise), steps in _merged(active).items():
        run = _step(rate, noise, grid, False).self_compose(steps)
        whole = run if whole is None else whole.compose(run)
    return float(whole.get_epsilon_for_delta(delta))


def _merged(mechanisms: Sequence[tuple[float, float, int]]) -> dict[tuple[float, float], int]:
    """Add up the steps of runs with the same rate and noise: one composition instead of many."""
    steps: dict[tuple[float, float], int] = {}
    for rate, noise, count in mechanisms:
        steps[rate, noise] = steps.get((rate, noise), 0) + count
    return steps


def epsilon_replace_one(
    sample_rate: float, noise_multiplier: float, steps: int, delta: float
) -> float:
    """Bound epsilon where neighbours *replace* one example by another; larger than add-or-remove.

    The noise is ``noise_multiplier`` times the clipping norm C as in training, although a
    replaced example can move a sum by 2 C. (The RDP accountant of ``dp_accounting`` reads the
    same event with sigma relative to 2 C; the two must not be compared.)

    Returns:
        Epsilon by privacy loss distribution, rounded pessimistically.

    Raises:
        ValueError: if an argument is outside its range.
    """
    return _pld_epsilon(sample_rate, noise_multiplier, steps, delta, _INTERVAL, True)


def epsilon_without_amplification(
    sample_rate: float, noise_multiplier: float, steps: int, delta: float
) -> float:
    """Bound epsilon for a reader who doubts that the batches were drawn at random.

    Sampling is then worth nothing, and the mechanism is the Gaussian one, composed over each use
    of an example: k uses at sigma are one use at sigma / sqrt(k), whose epsilon is analytic
    (Balle and Wang 2018, arXiv:1805.06530, theorem 8).

    Assumption: no example is used more than k = ceil(T q) times. It holds for a pass over the
    data in any order, T q times over (shuffling). Under Poisson sampling k is the *expected*
    number of uses, rounded up, and a single example may be drawn more often.

    Returns:
        Epsilon, independent of any accounting library's discretisation.

    Raises:
        ValueError: if an argument is outside its range.

    Example:
        >>> round(epsilon_without_amplification(0.0256, 0.8, 117, 1e-5), 4)
        11.0279
    """
    _check(sample_rate, noise_multiplier, steps, delta)
    uses = math.ceil(steps * sample_rate - 1e-9)  # 40 steps of 0.025 are one use, not two
    if uses == 0:
        return 0.0
    if noise_multiplier < _LEAST_NOISE:
        return math.inf
    from dp_accounting import get_epsilon_gaussian

    return float(get_epsilon_gaussian(noise_multiplier / math.sqrt(uses), delta))


def accountants(
    sample_rate: float, noise_multiplier: float, steps: int, delta: float
) -> dict[str, float]:
    """Ask three accountants of two libraries for the same epsilon.

    All three are upper bounds, so they need not be equal: PRV lies above PLD by at most its error
    setting (0.01), RDP above both by some 20 %. One that is *below* PLD by more than rounding
    means that a library is wrong.

    Returns:
        ``pld`` (dp_accounting), ``prv`` (opacus, its upper bound; Gopi et al. 2021,
        arXiv:2106.02848) and ``rdp`` (opacus; Mironov et al. 2019, arXiv:1908.10530). An
        accountant that cannot bound these values reports ``inf``, never a number it did not prove.

    Raises:
        ValueError: if an argument is outside its range.
    """
    pld = epsilon(sample_rate, noise_multiplier, steps, delta)
    if steps == 0 or math.isinf(pld):
        return {"pld": pld, "prv": pld, "rdp": pld}
    return {
        "pld": pld,
        "prv": _opacus_epsilon("prv", sample_rate, noise_multiplier, steps, delta),
        "rdp": _opacus_epsilon("rdp", sample_rate, noise_multiplier, steps, delta),
    }


@functools.lru_cache(maxsize=256)
def _opacus_epsilon(
    mechanism: str, sample_rate: float, noise_multiplier: float, steps: int, delta: float
) -> float:
    with warnings.catch_warnings():
        # RDP holds at every order: the end of the order grid costs tightness, not truth.
        warnings.filterwarnings("ignore", "Optimal order is the", UserWarning)
        # PRV takes log(1 - q) also where it then discards it, at q = 1.
        warnings.filterwarnings("ignore", "divide by zero", RuntimeWarning)
        from opacus.accountants import create_accountant

        accountant = create_accountant(mechanism)
        accountant.history = [(noise_multiplier, sample_rate, steps)]
        try:
            found = float(accountant.get_epsilon(delta))
        except (RuntimeError, ValueError, OverflowError, MemoryError):
            return math.inf  # PRV refuses where its own discretisation check fails
    return found if math.isfinite(found) else math.inf


@functools.lru_cache(maxsize=256)
def calibrate(target_epsilon: float, sample_rate: float, steps: int, delta: float) -> float:
    """Find the least noise whose PLD epsilon is at most ``target_epsilon``.

    Bisection on coarser grids first, then on the one that :func:`epsilon` uses; the result is at
    most 0.1 % above the least noise multiplier, and never below it.

    Returns:
        The noise multiplier.

    Raises:
        PrivacyError: if no noise multiplier between 0.1 and 10,000 reaches the target.
        ValueError: if an argument is outside its range.
    """
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise ValueError(f"target_epsilon must be positive and finite, got {target_epsilon!r}")
    _check(sample_rate, _LEAST_NOISE, steps, delta)
    found = 1.0
    # From a grid that is coarse for this epsilon to the one that epsilon() uses; each stage
    # begins where the last one ended, so that the slow grid is asked a few times only.
    for interval, tolerance in ((1e-2, 0.02), (1e-3, 2e-3), (0.0, _TOLERANCE)):
        grid = max(_INTERVAL, interval * target_epsilon)

        def fits(noise_multiplier: float, grid: float = grid) -> bool:
            spent = _pld_epsilon(sample_rate, noise_multiplier, steps, delta, grid, False)
            return spent <= target_epsilon

        found = _least(fits, found, tolerance)
        if math.isinf(found):
            raise PrivacyError(
                f"No noise multiplier up to {_MOST_NOISE:g} gives epsilon {target_epsilon:g} over "
                f"{steps} steps at sample rate {sample_rate:g} and delta {delta:g}. Ask for a "
                "larger epsilon, a smaller batch or fewer epochs."
            )
    return found


def _least(fits: Callable[[float], bool], near: float, tolerance: float) -> float:
    """Least value that fits, to a relative tolerance from above; ``inf`` if none does."""
    stride = 1 + tolerance
    low = high = near
    if fits(near):
        while fits(low):
            if low <= _LEAST_NOISE:
                return _LEAST_NOISE
            high, low = low, max(low / stride, _LEAST_NOISE)
            stride *= stride
    else:
        while not fits(high):
            if high >= _MOST_NOISE:
                return math.inf
            low, high = high, min(high * stride, _MOST_NOISE)
            stride *= stride
    while high > low * (1 + tolerance):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
