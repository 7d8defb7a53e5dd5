"""The story of a run: each step leaves its result in the run folder and is not done twice."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import checkpoint as checkpoints
from finetune import merge as merging
from finetune.proof import prove
from recipes import approvals, decisions, domains, gating, page, provenance
from recipes.console import Narrator
from recipes.domains import Domain
from recipes.errors import GateRefused
from recipes.evaluating import evaluate_adapter, evaluate_base, evaluate_merged
from recipes.files import locked, read_json
from recipes.gating import Plea, gate
from recipes.run import RECORD, Run, spent
from recipes.training import train_adapter


@dataclass(frozen=True)
class Outcome:
    """How a whole run ended."""

    run: str
    passed: bool
    report: str
    """Path of report.html."""

    decision: dict[str, Any]
    merged: str | None
    epsilon: float | None
    outcome: str
    """PASS, FAIL, UNDECIDED or PASS BY OVERRIDE."""

    approval: str
    """Who approved and what is missing, in words; empty where nobody is asked."""

    stopped: str = ""
    """Why a model that passed was not merged; empty if it was, or was not to be."""


def run_all(run: Run, narrator: Narrator) -> Outcome:
    """Do the main job: train, evaluate, gate, merge what passed, gate the merged model, report."""
    domain = domains.read(run.recipe, run.source)
    with locked(run.folder):
        train_adapter(run, domain, narrator)
        evaluate_base(run, domain, narrator)
        evaluate_adapter(run, domain, narrator)
        decision = gate(run, domain, "adapter")
        merged, stopped = None, ""
        if decision["passed"]:
            try:
                _require_open(run, "adapter")
            except GateRefused as refusal:  # for want of an approval: the report is still written
                stopped = str(refusal)
            else:
                merged = merge_adapter(run, domain, narrator)
                decision = gate(run, domain, "merged")
        return _finish(run, domain, decision, merged, stopped)


def gate_again(run: Run, plea: Plea | None = None, approver: Path | None = None) -> Outcome:
    """Decide on what was evaluated: the merged model if there is one, else the adapter.

    Args:
        run: that was evaluated.
        plea: for an override of one rule.
        approver: private key of whoever approves the decision.
    """
    domain = domains.read(run.recipe, run.source)
    merged = run.folder / "merged"
    with locked(run.folder):
        is_merged = (run.folder / "eval" / "merged" / "report.json").is_file() and merged.is_dir()
        kind = "merged" if is_merged else "adapter"
        if plea is not None:
            decision = gating.override(run, domain, kind, plea)
        elif approver is not None:
            decision = gating.approve(run, domain, kind, approver)
        else:
            decision = gate(run, domain, kind)
        return _finish(run, domain, decision, merged if is_merged else None)


def merge_again(run: Run, narrator: Narrator) -> Outcome:
    """Merge a run that the gate passed, and gate the merged model.

    Raises:
        GateRefused: if the gate has not passed it, or an approval is missing.
        DecisionVoid: if the decision is not about what lies in the folder.
    """
    domain = domains.read(run.recipe, run.source)
    with locked(run.folder):
        _require_open(run, "adapter")
        merged = merge_adapter(run, domain, narrator)
        return _finish(run, domain, gate(run, domain, "merged"), merged)


def _require_open(run: Run, kind: str) -> None:
    decisions.require_open(run.folder, kind, candidate=gating.identity(run, kind))


def _finish(
    run: Run, domain: Domain, decision: dict[str, Any], merged: Path | None, stopped: str = ""
) -> Outcome:
    report = page.write(run, domain)
    provenance.finish(run.folder / RECORD)
    return Outcome(
        run=str(run.folder),
        passed=decision["passed"],
        report=str(report),
        decision=decision,
        merged=str(merged) if merged and decision["passed"] else None,
        epsilon=spent(run),
        outcome=decision["outcome"],
        approval=approvals.in_words(decision),
        stopped=stopped,
    )


def refuse_unless_passed(outcome: Outcome) -> None:
    """Turn a refusal into the exception that ends with exit code 3.

    Raises:
        GateRefused: if the gate said FAIL or UNDECIDED, or a model that passed was stopped.
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
                    f"Nothing was shipped. Read {outcome.report}",
                ]
            )
        )
    if outcome.stopped:
        raise GateRefused(f"{outcome.stopped}\nNothing was merged. Read {outcome.report}")


def merge_adapter(run: Run, domain: Domain, narrator: Narrator) -> Path:
    """Merge an adapter that passed, prove the merge, and evaluate the merged model.

    Raises:
        GateRefused: if the gate has not passed the adapter.
        finetune.errors.IntegrityError: if the merged model answers otherwise.
    """
    decision = read_json(run.folder / "decision.json")
    if not decision["passed"]:
        raise GateRefused(
            f"the gate refused {run.folder}, so it is not merged; see {run.folder}/decision.json"
        )
    folder = checkpoints.resolve(run.recipe.base)
    adapter, merged = run.folder / "adapter", run.folder / "merged"
    record = merged / merging.MERGE_RECORD
    is_proved = record.is_file() and "proof" in read_json(record)
    if not is_proved or read_json(record)["adapter"] != merging.adapter_identity(adapter):
        if merged.exists():
            shutil.rmtree(merged)
        narrator.say("merging into the weights that the adapter was trained on")
        merging.merge(folder, adapter, merged)
        proof = prove(folder, adapter, merged, probe_texts(domain))
        narrator.say(
            f"the merged model agrees with the evaluated one: mean KL {proof['mean_kl_nats']:.1e} "
            f"nats, noise floor {proof['noise_floor_mean_kl_nats']:.1e}, same first choice at "
            f"{proof['top1_agreement']:.1%} of {proof['num_positions']} positions"
        )
    evaluate_merged(run, domain, narrator)
    return merged


def probe_texts(domain: Domain) -> list[str]:
    """Return texts of test items on which a merge is proved: a few hundred or thousand positions.

    A language model answers at every token of a text, and a classifier once.
    """
    count = 16 if domain.head == "causal-lm" else 256
    texts = []
    for row in domain.parts.test[:count]:
        item = row.item
        if hasattr(item, "text"):
            texts.append(item.text)
        elif hasattr(item, "context"):
            texts.append(f"{item.context}\n{item.question}\n{' '.join(item.answers[:1])}")
        else:
            texts.append("\n".join(m["content"] for m in item.messages))
    return texts
