"""The story of a run: each step leaves its result in the run folder and is not done twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import checkpoint as checkpoints
from finetune import merge as merging
from recipes import approvals, auditing, decisions, files, gating, merged, page, provenance
from recipes.console import Narrator
from recipes.domains import Domain
from recipes.errors import GateRefused, InputError
from recipes.evaluating import evaluate_adapter, evaluate_base
from recipes.files import undamaged
from recipes.gating import Plea, gate
from recipes.locks import locked, locked_to_read
from recipes.run import RECORD, Run, read_domain, spent
from recipes.run_agreement import hold
from recipes.training import train_adapter


@dataclass(frozen=True)
class Outcome:
    """How a whole run ended."""

    run: str
    passed: bool
    report: str
    """Path of report.html; empty where it could not be written."""

    decision: dict[str, Any]
    merged: str | None
    epsilon: float | None
    privacy: str | None
    """Path of the privacy report's page; None of a plain run."""

    outcome: str
    """PASS, FAIL, UNDECIDED or PASS BY OVERRIDE."""

    approval: str
    """Who approved and what is missing, in words; empty where nobody is asked."""

    stopped: str
    """Why a model that passed may yet not go on: the approvals it lacks. Empty if it may."""

    unwritten: str = ""
    """Why neither decision nor report was written; empty where they were."""


def run_all(run: Run, narrator: Narrator) -> Outcome:
    """Do the main job: train, evaluate, gate, merge what passed, gate the merged model, report."""
    domain = read_domain(run)
    with locked(run.folder):
        train_adapter(run, domain, narrator)
        hold(run, kinds=())  # what was merged before, too
        evaluate_base(run, domain, narrator)
        evaluate_adapter(run, domain, narrator)
        decision = gate(run, domain, "adapter")
        folder = None
        if decision["passed"] and not approvals.missing(decision):
            _require_open(run, "adapter")
            folder = merged.merge_run(run, domain, narrator)
            decision = gate(run, domain, "merged")
        return _finish(run, domain, decision, folder)


def gate_again(run: Run, plea: Plea | None = None, approver: Path | None = None) -> Outcome:
    """Decide on what was evaluated: the merged model if there is one, else the adapter.

    Of a run that is read-only the decision is returned and nothing is written.

    Args:
        run: that was evaluated.
        plea: for an override of one rule.
        approver: private key of whoever approves the decision.
    """
    is_read_only = files.is_read_only(run.folder)
    if is_read_only and (plea is not None or approver is not None):
        raise InputError(
            f"{run.folder} is read-only, and an override or an approval is kept in it; copy the "
            "run to a place that can be written"
        )
    domain = read_domain(run)
    folder = run.folder / "merged"
    with locked_to_read(run.folder):
        is_merged = (run.folder / "eval" / "merged" / "report.json").is_file() and folder.is_dir()
        kind = "merged" if is_merged else "adapter"
        if plea is not None:
            decision = gating.override(run, domain, kind, plea)
        elif approver is not None:
            decision = gating.approve(run, domain, kind, approver)
        elif is_read_only:
            decision = gating.decided(run, domain, kind)
            return _unwritten(run, decision, folder if is_merged else None)
        else:
            decision = gate(run, domain, kind)
        return _finish(run, domain, decision, folder if is_merged else None)


def merge_again(
    run: Run, narrator: Narrator, *, into: str = "dequantised", storage: str = "auto"
) -> Outcome:
    """Merge a run that the gate passed, and gate the merged model.

    A merge into the original weights is a candidate of its own, in a run folder of its own.

    Raises:
        InputError: if a merge back into 4-bit is asked for, or a choice that there is not.
        GateRefused: if the gate has not passed it, or an approval is missing.
        DecisionVoid: if the decision is not about what lies in the folder.
    """
    merging.refuse_wrong_choice(into, storage)
    base = checkpoints.resolve(run.recipe.base, run.source)
    with locked(run.folder):
        hold(run, merged=False, kinds=("base", "adapter"), base=base)
        domain = read_domain(run)
        # the file may have been edited since; in `run_all` it was made a moment ago
        gating.refuse_other(run, domain, "adapter", _require_open(run, "adapter"))
        if into != "original":
            return _merge(run, domain, narrator, storage)
        run = merged.new_candidate(run)
    with locked(run.folder):
        return _merge(run, domain, narrator, storage)


def _merge(run: Run, domain: Domain, narrator: Narrator, storage: str) -> Outcome:
    folder = merged.merge_run(run, domain, narrator, storage)
    return _finish(run, domain, gate(run, domain, "merged"), folder)


def _require_open(run: Run, kind: str) -> dict[str, Any]:
    with undamaged(run.folder):
        return decisions.require_open(run.folder, kind, candidate=gating.identity(run, kind))


def _unwritten(run: Run, decision: dict[str, Any], folder: Path | None) -> Outcome:
    """Return how a decision ended that no file holds."""
    return Outcome(
        run=str(run.folder),
        passed=decision["passed"],
        report="",
        decision=decision,
        merged=str(folder) if folder and decision["passed"] else None,
        epsilon=spent(run),
        privacy=None,
        outcome=decision["outcome"],
        approval=approvals.in_words(decision),
        stopped="; ".join(approvals.missing(decision)) if decision["passed"] else "",
        unwritten=f"{run.folder} is read-only",
    )


def _finish(run: Run, domain: Domain, decision: dict[str, Any], folder: Path | None) -> Outcome:
    report = page.write(run, domain)
    provenance.finish(run.folder / RECORD)
    papers: dict[str, str] = {}
    if run.recipe.privacy is not None:
        _, papers = auditing.audit_and_report(run.folder, run.folder / "privacy")
    return Outcome(
        run=str(run.folder),
        passed=decision["passed"],
        report=str(report),
        decision=decision,
        merged=str(folder) if folder and decision["passed"] else None,
        epsilon=spent(run),
        privacy=papers.get("privacy.html"),
        outcome=decision["outcome"],
        approval=approvals.in_words(decision),
        stopped="; ".join(approvals.missing(decision)) if decision["passed"] else "",
    )


def refuse_unless_passed(outcome: Outcome) -> None:
    """Turn a refusal into the exception that ends with exit code 3.

    Raises:
        GateRefused: if the gate said FAIL or UNDECIDED, or a model that passed lacks approvals.
    """
    said = "refused" if outcome.outcome == "FAIL" else f"is {outcome.outcome} on"
    missed = [c for c in outcome.decision["checks"] if not c["passed"]]
    if not outcome.passed:
        raise GateRefused(
            "\n".join(
                [
                    f"the gate {said} {outcome.run}:",
                    *(
                        f"  {c['outcome']}  {c['family']}, {c['rule']}: {c['reason']}"
                        for c in missed
                    ),
                    f"Nothing was shipped. {_where(outcome)}",
                ]
            )
        )
    if outcome.stopped:
        kind = outcome.decision["target"]["kind"]
        raise GateRefused(
            f"the {kind} model in {outcome.run} passed, and may not go on: {outcome.stopped}\n"
            f"{_where(outcome)}"
        )


def _where(outcome: Outcome) -> str:
    return (
        f"Nothing was written: {outcome.unwritten}"
        if outcome.unwritten
        else f"Read {outcome.report}"
    )
