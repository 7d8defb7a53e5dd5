"""The story of a run: each step leaves its result in the run folder and is not done twice."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval import harness
from eval.gate import Decision, decide
from finetune import checkpoint as checkpoints
from finetune import merge as merging
from finetune.proof import prove
from recipes import domains, page, provenance
from recipes.console import Narrator
from recipes.domains import Domain
from recipes.errors import GateRefused
from recipes.evaluating import differences, evaluate_adapter, evaluate_base, evaluate_merged
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
        merged = None
        if decision.passed:
            merged = merge_adapter(run, domain, narrator)
            decision = gate(run, domain, "merged")
        return _finish(run, domain, decision, merged)


def gate_again(run: Run) -> Outcome:
    """Decide on what was evaluated: the merged model if there is one, else the adapter."""
    domain = domains.read(run.recipe, run.source)
    merged = run.folder / "merged"
    with locked(run.folder):
        is_merged = (run.folder / "eval" / "merged" / "report.json").is_file() and merged.is_dir()
        decision = gate(run, domain, "merged" if is_merged else "adapter")
        return _finish(run, domain, decision, merged if is_merged else None)


def merge_again(run: Run, narrator: Narrator) -> Outcome:
    """Merge a run that the gate passed, and gate the merged model.

    Raises:
        GateRefused: if the gate has not passed it.
    """
    domain = domains.read(run.recipe, run.source)
    with locked(run.folder):
        merged = merge_adapter(run, domain, narrator)
        return _finish(run, domain, gate(run, domain, "merged"), merged)


def _finish(run: Run, domain: Domain, decision: Decision, merged: Path | None) -> Outcome:
    report = page.write(run, domain)
    provenance.finish(run.folder / RECORD)
    return Outcome(
        run=str(run.folder),
        passed=decision.passed,
        report=str(report),
        decision=decision.to_json(),
        merged=str(merged) if merged and decision.passed else None,
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
