"""The check-list: ways in which a stated epsilon can be untrue, held against settings and runs.

Identifiers are those of the survey behind this package: S sampling, U unit, D sensitivity, N
noise, A accounting, L releases beside the model. A check that cannot be made says so: *not
checked* is not *passed*.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from privacy.errors import LedgerError, PrivacyError
from privacy.ledger import verify
from privacy.plan import ADJACENCY, PrivacyConfig, make_plan
from privacy.statement import PrivacyStatement, percent_up, statement

__all__ = [
    "Finding",
    "PrivacyStatement",
    "audit_ledger",
    "audit_settings",
    "statement",
]

Status = Literal["pass", "fail", "warn", "not_applicable", "not_checked"]
Severity = Literal["void", "weaker", "release", "scope"]

_ABSENT = object()
_LARGE_EPSILON = 10.0


@dataclass(frozen=True)
class Finding:
    """One line of the check-list."""

    id: str
    severity: Severity
    """What a failure would mean: the guarantee is void, weaker than stated, something else was
    released beside the model, or the statement covers less than a reader would think."""
    status: Status
    what: str
    """The property that is checked."""
    evidence: str
    """What was found, and the way out where it failed."""


def audit_settings(
    config: PrivacyConfig,
    *,
    num_examples: int,
    batch_size: int,
    epochs: float,
    train_settings: Mapping[str, object],
) -> list[Finding]:
    """Hold the settings of a run against the check-list, before anything is computed.

    Args:
        config: the privacy section.
        num_examples: training examples.
        batch_size: expected batch size.
        epochs: of the run.
        train_settings: what else is set, by name (``packing``, ``early_stopping``, ``use_dora``,
            ``class_weights`` ...), from adapter and training sections alike. A name that is
            absent is reported as not checked.

    Returns:
        Findings in the order of the check-list. A run with one that failed is not private.
    """
    plan, refusal = None, ""
    try:  # the noise does not matter here, and finding it takes seconds
        noise = {"epsilon": None, "noise_multiplier": config.noise_multiplier or 1.0}
        plan = make_plan(
            config.model_copy(update=noise),
            num_examples=num_examples,
            batch_size=batch_size,
            epochs=epochs,
        )
    except PrivacyError as error:
        refusal = str(error)

    delta = min(1e-5, 1 / (10 * max(num_examples, 1))) if config.delta == "auto" else config.delta
    look = _Settings(train_settings)
    modules = look.names("modules_to_save") | look.names("targets") | look.names("target_modules")
    uncovered = sorted(m for m in modules if "embed" in m or m.endswith(("lm_head", "wte", "wpe")))
    return [
        look.off(
            "S1",
            "void",
            "batches are drawn by Poisson sampling",
            ("group_by_length", "streaming"),
            "the plan makes the sampler",
            by_construction=True,
        ),
        look.equal("S4", "void", "one draw and one noise a step", "gradient_accumulation_steps", 1),
        look.equal("S7", "void", "one process draws and adds noise", "world_size", 1),
        Finding(
            "S8",
            "weaker",
            "pass" if plan else "fail",
            "sample rate, steps and denominator follow from one plan",
            f"q = {plan.sample_rate:.6g}, T = {plan.steps}, denominator {plan.denominator:g}"
            if plan
            else refusal,
        ),
        look.off(
            "U1",
            "void",
            "an example is a record: no packing, no padding-free batches",
            ("packing", "padding_free"),
            "each example is a row of its own",
        ),
        _unit(config.unit),
        Finding("U7", "weaker", "pass", "the neighbouring relation is stated", ADJACENCY),
        look.equal(
            "D1",
            "void",
            "a record's loss does not depend on its neighbours",
            "label_smoothing_factor",
            0,
            otherwise="losses are averaged over each record's own weight",
        ),
        Finding(
            "D3",
            "void",
            "fail" if uncovered or look.is_on("use_dora") else "pass",
            "every trainable tensor is under the clipping bound",
            f"no gradient per record for {', '.join(uncovered) or 'DoRA magnitudes'}; "
            "adapt linear layers by plain LoRA"
            if uncovered or look.is_on("use_dora")
            else "linear layers only; anything else is refused by name when training begins",
        ),
        look.off(
            "D7",
            "void",
            "no step is skipped by looking at gradients",
            ("fp16", "auto_find_batch_size"),
            "no loss scaler, no retries",
            by_construction=True,
        ),
        Finding(
            "N2",
            "void",
            "pass",
            "nobody can repeat the noise",
            "noise and draws come from the operating system; `seed` reaches neither. The ledger "
            "holds the proof",
        ),
        Finding(
            "N6",
            "void",
            "pass",
            "there is noise",
            f"noise multiplier {config.noise_multiplier:g}"
            if config.noise_multiplier
            else f"found for epsilon {config.epsilon:g} when the plan is made",
        ),
        _delta(delta, num_examples),
        look.off(
            "A6",
            "scope",
            "no model is chosen by private data",
            ("early_stopping", "early_stopping_patience", "load_best_model_at_end"),
            "the number of steps is fixed in advance",
        ),
        _held_back(look),
        _size(config),
        look.off(
            "L1",
            "release",
            "no training figures are shown",
            ("include_num_input_tokens_seen",),
            "loss, gradient norm and token counts stay inside the step",
            by_construction=True,
        ),
        look.off(
            "L4",
            "release",
            "nothing is computed from private labels",
            ("class_weights",),
            "no class weights",
        ),
        look.data_free_init(),
    ]


def _delta(delta: float, num_examples: int) -> Finding:
    what = "delta is far below 1 / examples"
    share = delta * num_examples
    evidence = f"delta {delta:.3g} times {num_examples} examples is {share:.3g}"
    if not 0 < share < 1:
        return Finding("A3", "void", "fail", what, f'{evidence}; set it to "auto"')
    # Relative slack: "auto" is 1 / (10 n) up to one rounding.
    status: Status = "warn" if share > 0.1 * (1 + 1e-9) else "pass"
    return Finding("A3", "weaker", status, what, evidence)


def _unit(unit: str) -> Finding:
    what = "examples that one person contributes"
    if unit == "example":
        evidence = (
            "not counted: the statement holds for one example, and weakens with every further one; "
            "name the column of people in privacy.unit"
        )
        return Finding("U4", "scope", "not_checked", what, evidence)
    evidence = f"one of each {unit}'s rows enters a step, so the statement holds for all of them"
    return Finding("U4", "scope", "pass", what, evidence)


def _size(config: PrivacyConfig) -> Finding:
    what = "epsilon is small enough to mean something"
    if config.epsilon is None:
        return Finding("A10", "weaker", "not_checked", what, "follows from the noise; see the plan")
    posterior = percent_up(1 / (1 + math.exp(-config.epsilon)))
    return Finding(
        "A10",
        "weaker",
        "warn" if config.epsilon > _LARGE_EPSILON else "pass",
        what,
        f"epsilon {config.epsilon:g}: from an even guess to {posterior} % certainty at most",
    )


def _held_back(look: "_Settings") -> Finding:
    what = "no private rows are held back to choose a checkpoint"
    share = look.get("validation_fraction")
    strategy = look.get("eval_strategy")
    if share is _ABSENT and strategy is _ABSENT:
        evidence = "validation_fraction is not among the settings"
        return Finding("L2", "release", "not_checked", what, evidence)
    is_used = share not in (_ABSENT, None, 0) or strategy not in (_ABSENT, None, "no")
    return Finding(
        "L2",
        "release",
        "fail" if is_used else "pass",
        what,
        "figures on held-back rows would choose the model; set validation_fraction to 0"
        if is_used
        else "no evaluation during training",
    )


class _Settings:
    """Settings by name, of which some may be unknown."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        self._settings = settings

    def get(self, name: str) -> object:
        return self._settings.get(name, _ABSENT)

    def is_on(self, name: str) -> bool:
        value = self.get(name)
        return value is not _ABSENT and bool(value) and value not in ("none", "no")

    def names(self, name: str) -> set[str]:
        value = self.get(name)
        if value is _ABSENT or value is None:
            return set()
        return {value} if isinstance(value, str) else {str(v) for v in value}  # type: ignore[attr-defined]

    def off(
        self,
        id: str,  # noqa: A002 - the field's name
        severity: Severity,
        what: str,
        names: tuple[str, ...],
        good: str,
        *,
        by_construction: bool = False,
    ) -> Finding:
        """Pass if all of the settings are off, of which at least one must be known."""
        on = [n for n in names if self.is_on(n)]
        if on:
            evidence = ", ".join(f"{n} is {self.get(n)!r}" for n in on)
            return Finding(id, severity, "fail", what, f"{evidence}; turn it off")
        if by_construction or any(self.get(n) is not _ABSENT for n in names):
            return Finding(id, severity, "pass", what, good)
        missing = f"{' and '.join(names)} not among the settings"
        return Finding(id, severity, "not_checked", what, missing)

    def equal(
        self,
        id: str,  # noqa: A002 - the field's name
        severity: Severity,
        what: str,
        name: str,
        wanted: float,
        *,
        otherwise: str = "the trainer refuses any other value",
    ) -> Finding:
        """Pass if a setting has the one value that the trainer accepts, or is left alone."""
        value = self.get(name)
        if value is _ABSENT or value == wanted:
            return Finding(id, severity, "pass", what, otherwise)
        evidence = f"{name} is {value!r}; set it to {wanted:g}"
        return Finding(id, severity, "fail", what, evidence)

    def data_free_init(self) -> Finding:
        what = "the adapter's first values do not come from the data"
        value = self.get("init")
        if value is _ABSENT:
            value = self.get("init_lora_weights")
        if value is _ABSENT:
            return Finding("L5", "release", "not_checked", what, "init not among the settings")
        if str(value).lower() in ("eva", "corda", "lora_ga"):
            evidence = f"init is {value!r}, computed from private rows; use the default"
            return Finding("L5", "release", "fail", what, evidence)
        return Finding("L5", "release", "pass", what, f"init is {value!r}, made without the data")


def audit_ledger(path: str | os.PathLike[str]) -> list[Finding]:
    """Hold the ledger of a run against the check-list.

    Args:
        path: of the ledger file.

    Returns:
        Findings; one that failed alone if the chain is broken, because nothing in it counts then.
    """
    name = Path(path).name
    what = "the ledger's chain holds from the first line to the last"
    try:
        found = verify(path)
    except FileNotFoundError:
        return [Finding("A1", "void", "fail", what, f"there is no {name}")]
    except LedgerError as error:
        return [Finding("A1", "void", "fail", what, str(error))]
    plan = found.plan
    repeated = found.steps_charged - len(set(found.steps))
    is_complete = found.steps_charged == plan.steps
    findings: list[Finding] = [
        Finding("A1", "void", "pass", what, f"{found.steps_charged} charges, head {found.head}"),
        Finding(
            "A4",
            "weaker",
            "pass" if is_complete else "warn",
            "epsilon is computed from the steps charged",
            f"{found.steps_charged} of {plan.steps} planned steps are charged, {repeated} of them "
            "again after a crash"
            + (
                "" if is_complete else "; the run has not finished, or lines are missing at the end"
            ),
        ),
        Finding(
            "N2",
            "void",
            "pass" if found.is_private else "fail",
            "nobody can repeat the noise",
            "stamped: drawn from the operating system"
            if found.is_private
            else "stamped: drawn from a seed, for a test; this model has no privacy",
        ),
        Finding(
            "N6",
            "void",
            "warn" if plan.noise_multiplier < 0.3 else "pass",
            "there is noise",
            f"noise multiplier {plan.noise_multiplier:g}",
        ),
        Finding(
            "D10",
            "weaker",
            "pass",
            "sums are divided by a constant",
            f"denominator {plan.denominator:g} is the sample rate times {plan.num_examples}",
        ),
        Finding("U7", "weaker", "pass", "the neighbouring relation is stated", plan.adjacency),
        _delta(plan.delta, plan.num_examples),
        _coverage(found.covered),
    ]
    return findings


def _coverage(covered: frozenset[str]) -> Finding:
    what = "the same tensors were clipped at every step"
    known = covered - {""}
    if not known:
        return Finding("D3", "void", "not_checked", what, "no charge names what was clipped")
    status: Status = "pass" if len(covered) == 1 else "fail"
    return Finding("D3", "void", status, what, f"{len(covered)} sets of tensors on record")
