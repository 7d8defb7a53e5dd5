"""Fill the report page from run folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from eval import harness
from eval.comparison import Evaluated
from eval.cost import read_cost
from eval.decision import Decision
from eval.report import Candidate, Page, Privacy, render_html
from eval.stats import Difference
from eval.task import Report, Sample
from privacy.audit import statement
from recipes import approvals, documents, shortfall
from recipes.documents import DECISION
from recipes.domains import Domain
from recipes.evaluating import differences
from recipes.files import write_text
from recipes.provenance import memory_text
from recipes.run import Run, checked_ledger

NOT_RECORDED = "not recorded"

NOT_MEASURED = "not measured: it was answered in several goes, or by an earlier version"

KIND_NAMES = {"base": "base", "adapter": "adapter", "merged": "merged model"}


def write(run: Run, domain: Domain) -> Path:
    """Write a run's report.html and return its path."""
    path = run.folder / "report.html"
    write_text(path, render_html(page_of(run, domain)))
    return path


def page_of(run: Run, domain: Domain) -> Page:
    """Return the page of one run: its adapter, and its merged model if there is one."""
    base = harness.read_report(run.folder / "eval" / "base")
    kinds = [k for k in ("adapter", "merged") if _report_file(run, k).is_file()]
    candidates = tuple(
        candidate(run, KIND_NAMES[kind], kind, differences(run, domain, kind)) for kind in kinds
    )
    record = documents.record(run.folder)
    return Page(
        title=f"{run.recipe.name}: {run.recipe.recipe} recipe",
        summary=_summary(run, record),
        base_name="base",
        base=base,
        base_samples=samples(run, "base", base),
        candidates=candidates,
        provenance=provenance_of(record),
        proof=_proof(run),
        notes=_notes(run, record),
    )


def candidate(
    run: Run,
    name: str,
    kind: str,
    differences: Mapping[str, Mapping[str, Difference]],
) -> Candidate:
    """Return one column of a page."""
    report = harness.read_report(run.folder / "eval" / kind)
    log = run.folder / "training.jsonl"
    record = documents.record(run.folder)
    decision, approval = _decision(run, kind)
    return Candidate(
        name=name,
        report=report,
        samples=samples(run, kind, report),
        differences=differences,
        decision=decision,
        approval=approval,
        settings=dict(_flat(json.loads(run.recipe.model_dump_json()))),
        cost=_cost(run, record, evaluation_cost(report, run.folder / "eval" / kind)),
        privacy=privacy_of(run, record),
        losses=_logged(log, "loss"),
        eval_losses=_logged(log, "eval_loss"),
    )


def evaluated_alone(
    evaluated: Evaluated, folder: Path, differences: Mapping[str, Mapping[str, Difference]]
) -> Candidate:
    """Return the column of a model of which only the evaluation is known."""
    target = evaluated.report.target
    said = {"model": KIND_NAMES[target.kind], "quantization": target.quantization}
    return Candidate(
        name=evaluated.name,
        report=evaluated.report,
        samples=evaluated.samples,
        differences=differences,
        settings={key: value for key, value in said.items() if value},
        cost=evaluation_cost(evaluated.report, folder),
    )


def evaluation_cost(report: Report, folder: Path) -> dict[str, str]:
    """Return what asking cost, as far as it was measured in one go."""
    num_items = sum(task.n for task in report.tasks.values())
    cost = read_cost(folder)
    if cost is None or not (cost.num_seconds > 0 and num_items):
        return {"evaluation": NOT_MEASURED}
    rate, device = cost.tokens_per_second, cost.peak_cuda_bytes
    return {
        "evaluation": f"{cost.num_seconds:,.1f} s",
        "items asked": f"{num_items:,}",
        "time per item": f"{1000 * cost.num_seconds / num_items:,.0f} ms, on average",
        "evaluation speed": "not counted" if rate is None else f"{rate:,.0f} tokens/s",
        "peak memory of the evaluation": f"{cost.peak_memory_bytes / 1e9:,.2f} GB",
        **({} if device is None else {"peak memory of its device": f"{device / 1e9:,.2f} GB"}),
    }


def samples(run: Run, kind: str, report: Report) -> dict[str, Sequence[Sample]]:
    """Return the samples of all tasks of one evaluated model."""
    folder = run.folder / "eval" / kind
    return {task: harness.read_samples(folder, task) for task in report.tasks}


def privacy_of(run: Run, record: Mapping[str, Any]) -> Privacy | None:
    """Return a private run's statement, from its ledger; None for a plain run."""
    if run.recipe.privacy is None:
        return None
    ledger = checked_ledger(run)
    said = statement(ledger.plan, steps_charged=ledger.steps_charged)
    checks = record.get("privacy_self_test", [])
    taken = record.get("training", {}).get("num_steps")
    fewer = shortfall.in_words(taken, said.steps_planned)
    return Privacy(
        epsilon=said.epsilon,
        delta=said.delta,
        unit=said.unit,
        adjacency=said.adjacency,
        accountants={
            "PLD": said.epsilon,
            "PRV (opacus)": said.epsilon_prv,
            "RDP (opacus)": said.epsilon_rdp,
        },
        without_amplification=said.epsilon_without_amplification,
        replace_one=said.epsilon_replace_one,
        mechanism={
            "noise multiplier": f"{said.noise_multiplier:.4f}",
            "clipping norm": f"{said.clipping_norm:g}",
            "sample rate": f"{said.sample_rate:.5f}",
            "denominator (expected batch)": f"{said.denominator:g}",
            "steps charged": f"{said.steps_charged} of {said.steps_planned}",
            "steps taken": NOT_RECORDED if taken is None else f"{taken} of {said.steps_planned}",
            "examples": str(said.num_examples),
        },
        plain_words=(said.in_words, *([fewer] if fewer else [])),
        not_protected=said.not_protected,
        self_test=tuple((c["name"], c["passed"], c["detail"]) for c in checks),
    )


def _report_file(run: Run, kind: str) -> Path:
    return run.folder / "eval" / kind / "report.json"


def _decision(run: Run, kind: str) -> tuple[Decision | None, str]:
    """Return what the gate said, and who approved it, in words."""
    path = run.folder / "eval" / kind / DECISION
    if not path.is_file():
        return None, ""
    said = documents.decision(path)
    return Decision.from_json(said), approvals.in_words(said) if "policy" in said else ""


def _logged(path: Path, name: str) -> list[tuple[int, float]]:
    """Return a loss by step; of two of one step the later one, and nothing of a damaged line."""
    found: dict[int, float] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with suppress(ValueError, RecursionError, LookupError, TypeError):
            values = json.loads(line)
            found[int(values["step"])] = float(values[name])
    return sorted(found.items())


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)


def _summary(run: Run, record: Mapping[str, Any]) -> str:
    rows = record["rows"]
    how = "with differential privacy" if run.recipe.privacy else "without differential privacy"
    return (
        f"A LoRA adapter of rank {run.recipe.adapter.rank} trained {how} on {rows['train']} rows, "
        f"on a {run.recipe.base.quantization} base, and asked about {rows['test']} held-out rows."
    )


def _cost(run: Run, record: Mapping[str, Any], of_asking: Mapping[str, str]) -> dict[str, str]:
    training = record.get("training", {})
    cost = dict(of_asking)
    if training:
        cost |= {
            "training": f"{training['num_seconds']:,.0f} s",
            "trained parameters": f"{training['num_parameters']:,}",
        }
        if training["num_tokens"]:  # not counted in a private run, where it is private
            rate = training["num_tokens"] / training["num_seconds"]
            cost["training speed"] = f"{rate:,.0f} tokens/s"
        else:
            cost["training speed"] = "not counted in a private run"
    sizes = [path.stat().st_size for path in (run.folder / "adapter").glob("*.safetensors")]
    cost["adapter on disk"] = f"{sum(sizes) / 1e6:,.1f} MB" if sizes else NOT_RECORDED
    cost["peak memory of the training"] = NOT_RECORDED
    return cost


def provenance_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what a page says of a run's origin, from its record."""
    shown = {
        "run": record["name"],
        "base": record["base"]["checkpoint"],
        "base identity": record["base"]["identity"],
        "training data": record["data"]["fingerprint"],
        "rows": ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in record["rows"].items()),
        "seed": f"{record['seed']} (split, order, first values)",
        "started": record["started"],
        "machine": f"{record['machine']['cores']} cores, {memory_text(record['machine'])}, "
        + (", ".join(record["machine"]["gpus"]) or "no GPU"),
        "versions": ", ".join(f"{k} {v}" for k, v in record["versions"].items()),
    }
    return shown | {f"file {Path(k).name}": v for k, v in record["data"]["files"].items()}


def _proof(run: Run) -> dict[str, str]:
    path = run.folder / "merged" / "merge.json"
    if not path.is_file():
        return {}
    merged = documents.merge(path.parent)
    proof = merged.get("proof") or {}
    shown = {
        "merged into": merged["into"],
        "tensors": ", ".join(f"{count} {what}" for what, count in merged["tensors"].items()),
        "identity": merged["identity"],
    }
    if merged.get("is_new_candidate"):
        shown["is"] = merged["note"]
    if "storage" in merged:
        shown["stored as"] = f"{merged['storage']['dtype']}: {merged['storage']['why']}"
    if proof:
        shown |= {
            "mean KL from the evaluated model": f"{proof['mean_kl_nats']:.2e} nats",
            "noise of the evaluated model itself": f"{proof['noise_floor_mean_kl_nats']:.2e} nats",
            "limit": f"{proof['limit_mean_kl_nats']:.2e} nats",
            "same first choice": f"{proof['top1_agreement']:.2%} of {proof['num_positions']}",
        }
    if "as_loaded_mean_kl_nats" in proof:
        shown["mean KL as an engine loads it"] = f"{proof['as_loaded_mean_kl_nats']:.2e} nats"
    if "num_tensors_changed" in proof:
        shown |= {
            "p99 KL": f"{proof['p99_kl_nats']:.2e} nats "
            f"(noise {proof['noise_floor_p99_kl_nats']:.2e})",
            "tensors compared by hash": f"{proof['num_tensors_changed']} changed, all of them "
            f"meant to be; {proof['num_tensors_as_base']} are the base's to the byte",
            "adapter tensors": f"{len(merged['adapter_tensors_used_once'])}, each used once",
            "of the update kept": _cell(proof["update_survival"], ".4f"),
            "direction, worst layer": f"cosine {_cell(proof['worst_layer_cosine'], '.3f')}, rank "
            f"at most {proof['largest_rank']}",
            "loaded by a fresh process": "the same answers"
            + (", to the bit" if proof["reload_is_bit_identical"] else ""),
        }
    if far := proof.get("from_the_evaluated_model"):
        shown["mean KL from the evaluated model"] = f"{far['mean_kl_nats']:.2e} nats"
        shown["mean KL from the same weights, unmerged"] = f"{proof['mean_kl_nats']:.2e} nats"
    for task, found in merged.get("tasks_against_adapter", {}).items():
        shown[f"{task}: answers other than the adapter's"] = (
            f"{found['num_answers_changed']} of {found['num_items']}"
        )
    return shown


def _cell(value: float | None, form: str) -> str:
    return "undefined" if value is None else format(value, form)


def _notes(run: Run, record: Mapping[str, Any]) -> tuple[str, ...]:
    notes = []
    if run.recipe.recipe == "classification":
        notes.append(
            _BASE_OF_ENCODER if record["base"].get("pooling") else _base_of_language_model(run)
        )
    if record["rows"]["dropped"]:
        notes.append(f"{record['rows']['dropped']} bad rows were left out; data.json lists them.")
    notes.append(
        "Bias and hallucination are measured on small probe sets beside the run's own rows: they "
        "tell an adapter from its base, and certify nothing."
    )
    return tuple(notes)


_BASE_OF_ENCODER = (
    "The base has no classification head; it takes the label whose name its vector is most like."
)


def _base_of_language_model(run: Run) -> str:
    return (
        "The base has no classification head; it is asked zero-shot for the likeliest label name, "
        f"on at most {run.recipe.eval.max_base_items} of the test rows, and compared on those."
    )
