"""The story of a run: each step leaves its result in the run folder and is not done twice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval import harness
from eval.gate import Decision, decide
from finetune import merge as merging
from recipes import domains, merged, page, provenance
from recipes.console import Narrator
from recipes.domains import Domain
from recipes.errors import GateRefused
from recipes.evaluating import differences, evaluate_adapter, evaluate_base
from recipes.files import locked, read_json, write_json
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


def run_all(run: Run, narrator: Narrator) -> Outcome:
    """Do the main job: train, evaluate, gate, merge what passed, gate the merged model, report."""
    domain = domains.read(run.recipe, run.source)
    with locked(run.folder):
        train_adapter(run, domain, narrator)
        evaluate_base(run, domain, narrator)
        evaluate_adapter(run, domain, narrator)
        decision = gate(run, domain, "adapter")
        folder = None
        if decision.passed:
            folder = merge_adapter(run, domain, narrator)
            decision = gate(run, domain, "merged")
        return _finish(run, domain, decision, folder)


def gate_again(run: Run) -> Outcome:
    """Decide on what was evaluated: the merged model if there is one, else the adapter."""
    domain = domains.read(run.recipe, run.source)
    folder = run.folder / "merged"
    with locked(run.folder):
        is_merged = (run.folder / "eval" / "merged" / "report.json").is_file() and folder.is_dir()
        decision = gate(run, domain, "merged" if is_merged else "adapter")
        return _finish(run, domain, decision, folder if is_merged else None)


def merge_again(
    run: Run, narrator: Narrator, *, into: str = "dequantised", storage: str = "auto"
) -> Outcome:
    """Merge a run that the gate passed, and gate the merged model.

    A merge into the original weights is a candidate of its own, in a run folder of its own.

    Raises:
        GateRefused: if the gate has not passed it.
        InputError: if a merge back into 4-bit is asked for, or a choice that there is not.
    """
    merging.refuse_wrong_choice(into, storage)
    domain = domains.read(run.recipe, run.source)
    if into == "original":
        run = merged.new_candidate(run)
    with locked(run.folder):
        folder = merge_adapter(run, domain, narrator, storage)
        return _finish(run, domain, gate(run, domain, "merged"), folder)


def _finish(run: Run, domain: Domain, decision: Decision, folder: Path | None) -> Outcome:
    report = page.write(run, domain)
    provenance.finish(run.folder / RECORD)
    return Outcome(
        run=str(run.folder),
        passed=decision.passed,
        report=str(report),
        decision=decision.to_json(),
        merged=str(folder) if folder and decision.passed else None,
        epsilon=spent(run),
    )


def refuse_unless_passed(outcome: Outcome) -> None:
    """Turn a refusal into the exception that ends with exit code 3."""
    if not outcome.passed:
        failed = [c for c in outcome.decision["checks"] if not c["passed"]]
        raise GateRefused(
            "\n".join(
                [
                    f"the gate refused {outcome.run}:",
                    *(f"  {c['family']}, {c['rule']}: {c['reason']}" for c in failed),
                    f"Nothing was shipped. Read {outcome.report}",
                ]
            )
        )


def gate(run: Run, domain: Domain, kind: str) -> Decision:
    """Decide on the adapter or the merged model; decision.json is the last decision of the run."""
    folder = run.folder / "eval" / kind
    report = harness.read_report(folder)
    found = differences(run, domain, kind)
    flat = {f"{task}/{metric}": d for task, by in found.items() for metric, d in by.items()}
    decision = decide(
        run.recipe.gate,
        report,
        flat,
        epsilon=spent(run),
        is_private=run.recipe.privacy is not None,
    )
    written = {"schema": 1, "target": asdict(report.target)} | decision.to_json()
    write_json(folder / "decision.json", written)
    write_json(run.folder / "decision.json", written)
    return decision


def merge_adapter(run: Run, domain: Domain, narrator: Narrator, storage: str = "auto") -> Path:
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
    return merged.merge_run(run, domain, narrator, storage)
