"""Settings and ledgers, held against the check-list of `privacy.checklist`.

What holds by construction is said by `privacy.construction`, what lies in a folder by
`privacy.artefacts`, and `privacy.checklist.complete` puts all of it together.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

from privacy import provable
from privacy.checklist import Finding, Status, finding
from privacy.errors import LedgerError, PrivacyError
from privacy.ledger import verify
from privacy.plan import ADJACENCY, DPPlan, PrivacyConfig, make_plan
from privacy.provable import NOTHING, Mechanism
from privacy.refusals import REFUSALS, refused
from privacy.statement import PrivacyStatement, percent_up, statement

__all__ = [
    "Finding",
    "PrivacyStatement",
    "audit_ledger",
    "audit_settings",
    "statement",
]

_LARGE_EPSILON = 10.0
_LITTLE_NOISE = 0.3


def audit_settings(
    config: PrivacyConfig,
    *,
    num_examples: int,
    batch_size: int,
    epochs: float,
    max_steps: int | None = None,
    train_settings: Mapping[str, object],
) -> list[Finding]:
    """Hold the settings of a run against the check-list, before anything is computed.

    Args:
        config: the privacy section.
        num_examples: training examples.
        batch_size: expected batch size.
        epochs: of the run.
        max_steps: of the run, whatever ``epochs`` says.
        train_settings: what else is set, by name (``packing``, ``early_stopping``, ``use_dora``,
            ``class_weights`` ...), from adapter and training sections alike. A name that is
            absent is not looked at.

    Returns:
        Findings; several may be of one line. A run with one that failed is not private.
    """
    plan, refusal = None, ""
    try:  # the noise does not matter here, and finding it takes seconds
        noise = {"epsilon": None, "noise_multiplier": config.noise_multiplier or 1.0}
        plan = make_plan(
            config.model_copy(update=noise),
            num_examples=num_examples,
            batch_size=batch_size,
            epochs=epochs,
            max_steps=max_steps,
        )
    except PrivacyError as error:
        refusal = str(error)
    delta = min(1e-5, 1 / (10 * max(num_examples, 1))) if config.delta == "auto" else config.delta
    return [
        *_refused(config, plan, train_settings),
        *_allowed(train_settings),
        *_uncovered(train_settings),
        finding(
            "S8",
            "pass",
            f"q = {plan.sample_rate:.6g}, T = {plan.steps}, denominator {plan.denominator:g}",
        )
        if plan
        else finding("S8", "fail", refusal, "there is no plan, so there is nothing to prove"),
        _unit(config.unit),
        finding("U7", "pass", ADJACENCY),
        finding(
            "N6",
            "pass",
            f"noise multiplier {config.noise_multiplier:g}"
            if config.noise_multiplier
            else f"found for epsilon {config.epsilon:g} when the plan is made",
        ),
        _delta(delta, num_examples),
        _size(config.epsilon),
    ]


def _refused(
    config: PrivacyConfig, plan: DPPlan | None, settings: Mapping[str, object]
) -> list[Finding]:
    if not refused(settings):
        return []
    mechanism = provable.REFERENCE
    if plan is not None:
        noise = plan.noise_multiplier
        if config.epsilon is not None:  # seconds, and only where something is wrong
            from privacy.accountant import calibrate

            noise = calibrate(config.epsilon, plan.sample_rate, plan.steps, plan.delta)
        mechanism = Mechanism(plan.sample_rate, noise, plan.steps, plan.delta, plan.num_examples)
    return [
        finding(
            one.line,
            "fail",
            f"{one.setting} is {one.value!r}: {one.reason}; {one.way_out}",
            one.effect,
        )
        for one in refused(settings, mechanism)
    ]


def _allowed(settings: Mapping[str, object]) -> list[Finding]:
    """Return what is known to be set well."""
    return [
        finding(refusal.line, "pass", f"{name} is {settings[name]!r}")
        for refusal in REFUSALS
        for name in refusal.settings
        if name in settings and not refusal.is_wrong(settings[name])
    ]


def _uncovered(settings: Mapping[str, object]) -> list[Finding]:
    """Return the modules that would be trained and cannot be clipped."""
    modules: set[str] = set()
    for name in ("modules_to_save", "targets", "target_modules"):
        value = settings.get(name)
        if isinstance(value, str):
            modules.add(value)
        elif isinstance(value, list | tuple | set):
            modules |= {str(one) for one in value}
    uncovered = sorted(m for m in modules if "embed" in m or m.endswith(("lm_head", "wte", "wpe")))
    if not uncovered:
        return []
    evidence = f"no gradient per record for {', '.join(uncovered)}; adapt linear layers only"
    return [finding("D3", "fail", evidence, f"what is not clipped is unbounded: {NOTHING}")]


def _delta(delta: float, num_examples: int) -> Finding:
    share = delta * num_examples
    evidence = f"delta {delta:.3g} times {num_examples} examples is {share:.3g}"
    if not 0 < share < 1:
        return Finding(
            "A3",
            "void",
            "fail",
            "delta is far below 1 / examples",
            f'{evidence}; set it to "auto"',
            f"publishing one whole example at random would pass: {NOTHING}",
        )
    # Relative slack: "auto" is 1 / (10 n) up to one rounding.
    status: Status = "warn" if share > 0.1 * (1 + 1e-9) else "pass"
    return finding("A3", status, evidence)


def _unit(unit: str) -> Finding:
    if unit == "example":
        evidence = (
            "not counted: the statement holds for one example, and weakens with every further one; "
            "name the column of people in privacy.unit"
        )
        return finding("U4", "not_checked", evidence)
    evidence = f"one of each {unit}'s rows enters a step, so the statement holds for all of them"
    return finding("U4", "pass", evidence)


def _size(epsilon: float | None) -> Finding:
    if epsilon is None:
        return finding("A10", "not_checked", "follows from the noise; see the plan")
    posterior = percent_up(1 / (1 + math.exp(-min(epsilon, 700.0))))
    return finding(
        "A10",
        "warn" if epsilon > _LARGE_EPSILON else "pass",
        f"epsilon {epsilon:.4g}: from an even guess to {posterior} % certainty at most",
    )


def audit_ledger(path: str | os.PathLike[str]) -> list[Finding]:
    """Hold the ledger of a run against the check-list.

    Args:
        path: of the ledger file.

    Returns:
        Findings; one that failed alone if the chain is broken, because nothing in it counts then.
    """
    name = Path(path).name
    unknown = f"what was spent is not known: {NOTHING}"
    try:
        found = verify(path)
    except FileNotFoundError:
        return [finding("A1", "fail", f"there is no {name}", unknown)]
    except LedgerError as error:
        return [finding("A1", "fail", str(error), unknown)]
    plan = found.plan
    repeated = found.steps_charged - len(set(found.steps))
    is_complete = found.steps_charged == plan.steps
    return [
        finding("A1", "pass", f"{found.steps_charged} charges, head {found.head}"),
        finding(
            "A4",
            "pass" if is_complete else "warn",
            f"{found.steps_charged} of {plan.steps} planned steps are charged, {repeated} of them "
            "again after a crash"
            + (
                "" if is_complete else "; the run has not finished, or lines are missing at the end"
            ),
        ),
        finding("N2", "pass", "stamped: drawn from the operating system")
        if found.is_private
        else finding(
            "N2",
            "fail",
            "stamped: drawn from a seed, for a test; this model has no privacy",
            f"whoever knows the seed subtracts the noise: {NOTHING}",
        ),
        finding(
            "N6",
            "warn" if plan.noise_multiplier < _LITTLE_NOISE else "pass",
            f"noise multiplier {plan.noise_multiplier:g}",
        ),
        finding(
            "D10",
            "pass",
            f"denominator {plan.denominator:g} is the sample rate times {plan.num_examples}",
        ),
        finding("U7", "pass", plan.adjacency),
        _delta(plan.delta, plan.num_examples),
        _coverage(found.covered),
        _size(found.epsilon_spent),
    ]


def _coverage(covered: frozenset[str]) -> Finding:
    known = covered - {""}
    if not known:
        return finding("D3", "not_checked", "no charge names what was clipped")
    if len(covered) == 1:
        return finding("D3", "pass", "the same tensors were clipped at every step")
    evidence = f"{len(covered)} sets of tensors are on record: what was clipped changed mid-run"
    return finding("D3", "fail", evidence, f"what is not clipped is unbounded: {NOTHING}")
