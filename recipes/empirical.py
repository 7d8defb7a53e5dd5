"""The empirical audit of finished runs: what an attacker can tell from the weights, with its power.

Two questions, kept apart. Of a run's own rows: are the ones that were trained on told from those
that were not? That describes, and bounds nothing, because the two kinds may differ otherwise. Of
canaries, whose coins were sealed before training: what is the least epsilon that fits? That bounds,
and is weak, which is why its power stands beside it. Neither ever proves that a run is private.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from finetune import checkpoint as checkpoints
from privacy import membership, one_run
from privacy.canaries import Design
from privacy.membership import Attack
from recipes import planting
from recipes.console import Narrator
from recipes.empirical_result import RESULT, CanaryAudit, Empirical, RowAttacks, interval, show
from recipes.errors import InputError
from recipes.files import is_read_only, write_json
from recipes.locks import locked_to_read
from recipes.record_scores import Scores, Values, score
from recipes.run import Run, checked_ledger, open_run, read_domain
from recipes.run_agreement import hold
from recipes.training import refuse_other_rows

__all__ = ["RESULT", "audit", "show"]

CONTROL_CONFIDENCE = 0.99
"""Of the intervals by which a control fails: one sound audit in a hundred is voided by chance."""

DELTA_OF_A_PLAIN_RUN = 1e-5


def audit(folders: Sequence[Path], narrator: Narrator) -> list[Empirical]:
    """Attack finished runs, and leave ``empirical.json`` in each that can be written.

    Args:
        folders: run folders. A plain run beside a private one of the same recipe is its positive
            control: where the attack finds nothing in the plain one, it is too weak to tell
            anything of the private one.
        narrator: says what is going on; it is never given a row's text.

    Raises:
        InputError: if a folder holds no trained run, or its rows have changed since.
        RunDiffers: if the base is another one, or documents of a run disagree.
        privacy.errors.LedgerError: if the ledger, or the seal on the canaries, is broken.
    """
    runs = [open_run(folder) for folder in folders]
    for run in runs:  # all of them, before one is scored for minutes
        hold(run, base=checkpoints.resolve(run.recipe.base, run.source))
    found = [_audit(run, narrator) for run in runs]
    results = [
        replace(one, positive_control=_positive_control(run, runs, found))
        for run, one in zip(runs, found, strict=True)
    ]
    for run, result in zip(runs, results, strict=True):
        if is_read_only(run.folder):
            narrator.say(f"{run.folder} is read-only, so {RESULT} was not written there")
            continue
        write_json(run.folder / RESULT, result.to_json())
    return results


def _audit(run: Run, narrator: Narrator) -> Empirical:
    if not (run.folder / "adapter").is_dir():
        raise InputError(f"{run.folder} holds no trained adapter; finish it with: assay train")
    domain = read_domain(run)
    refuse_other_rows(run, domain)
    epsilon, delta = _claim(run)
    design = planting.opened(run)  # a broken seal ends it before anything is scored
    with locked_to_read(run.folder):
        drawn = (*design.canaries, *design.controls) if design else ()
        scores = score(run, domain, drawn, narrator)
    return Empirical(
        run=str(run.folder),
        name=run.recipe.name,
        is_private=run.recipe.privacy is not None,
        epsilon=epsilon,
        delta=delta,
        rows=RowAttacks(
            attacks=_attacks(scores.members, scores.others),
            base_alone=membership.auc(
                scores.base_members, scores.base_others, confidence=CONTROL_CONFIDENCE
            ),
        ),
        canaries=canary_audit(design, scores, epsilon, delta) if design else None,
    )


def _claim(run: Run) -> tuple[float | None, float]:
    """Return the epsilon that a run claims to have spent, and its delta."""
    if run.recipe.privacy is None:
        return None, DELTA_OF_A_PLAIN_RUN
    ledger = checked_ledger(run)
    epsilon = ledger.epsilon_spent
    return (epsilon if math.isfinite(epsilon) else None), ledger.plan.delta


def _attacks(members: Mapping[str, Values], others: Mapping[str, Values]) -> tuple[Attack, ...]:
    return tuple(membership.attack(name, members[name], others[name]) for name in members)


def canary_audit(
    design: Design, scores: Scores, epsilon: float | None, delta: float
) -> CanaryAudit:
    """Guess the coins by the registered statistic, and see to the controls."""
    num = len(design.canaries)
    if 2 * num * delta > 1:
        raise InputError(
            f"delta {delta:g} is too large for {num} canaries: a mechanism may then give half of "
            "the coins away and keep its word, so no number of right guesses says anything; set "
            'privacy.delta to "auto", and train anew'
        )
    coins = np.array([canary.is_in for canary in design.canaries])
    inside = {name: values[:num][coins] for name, values in scores.canaries.items()}
    outside = {name: values[:num][~coins] for name, values in scores.canaries.items()}
    registered = scores.canaries[design.statistic]
    is_in, never, control = (
        inside[design.statistic],
        outside[design.statistic],
        registered[num:],
    )
    negative = membership.auc(never, control, confidence=CONTROL_CONFIDENCE)
    told_apart = membership.auc(is_in, never, confidence=CONTROL_CONFIDENCE)
    void = []
    if not negative.holds_half:
        void.append(
            "the negative control failed: canaries that were never trained on are told from others "
            f"that were not either (AUC {interval(negative)}), so the attack sees something else "
            "than training, or canaries were trained on against their coins"
        )
    if told_apart.high < 0.5:
        void.append(
            "canaries that were trained on look less so than the others (AUC "
            f"{interval(told_apart)}): the score is upside down, or another adapter was scored"
        )
    return CanaryAudit(
        commitment=design.commitment,
        statistic=design.statistic,
        num_in=int(coins.sum()),
        attacks=_attacks(inside, outside),
        exposure=membership.exposure(is_in, np.concatenate([never, control])),
        one_run=one_run.audit(registered[:num], coins, delta=delta, epsilon=epsilon),
        never_against_never=negative,
        void=tuple(void),
    )


def _positive_control(run: Run, runs: Sequence[Run], found: Sequence[Empirical]) -> str | None:
    """Say whether the attack finds the canaries of a plain twin among the runs."""
    if run.recipe.privacy is None or not run.recipe.data.canaries:
        return None
    for other, one in zip(runs, found, strict=True):
        as_plain = run.recipe.model_copy(
            update={"name": other.recipe.name, "privacy": None, "gate": other.recipe.gate}
        )
        if other.recipe == as_plain and one.canaries is not None:
            [attack] = [a for a in one.canaries.attacks if a.statistic == one.canaries.statistic]
            seen = "finds" if attack.auc.low > 0.5 else "DOES NOT find"
            return (
                f"the same attack {seen} the canaries of the plain twin {one.name} (AUC "
                f"{interval(attack.auc)})"
            )
    return None
