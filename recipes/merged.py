"""The merge step of a run: the merged model that is proved and asked, or a base to serve it on."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from eval import harness
from finetune import checkpoint as checkpoints
from finetune import merge as merging
from finetune.errors import IntegrityError
from finetune.merge_record import sealed
from finetune.proof import merge_proved, serving_base_proved
from recipes import config, documents
from recipes.console import Narrator
from recipes.domains import Domain
from recipes.errors import InputError
from recipes.evaluating import evaluate_merged
from recipes.files import finite, write_json, write_text
from recipes.locks import locked
from recipes.run import RECORD, Run, base_folder
from recipes.run_agreement import hold

_NOT_OF_THE_CANDIDATE = ("merged", "report.html", "checkpoints", ".lock*", ".merged.*")


def merge_run(run: Run, domain: Domain, narrator: Narrator, storage: str = "auto") -> Path:
    """Merge a run's adapter, prove the merge, and ask the merged model what the adapter was asked.

    A merge that is proved already, of this adapter, is not made again. What the merged model is
    merged into is the run's own: the weights that the adapter was trained on, or the original
    ones in the folder of a new candidate (`new_candidate`).

    Raises:
        finetune.errors.IntegrityError: if the merged model is not proved, or was changed since.
    """
    base, adapter, merged = base_folder(run), run.folder / "adapter", run.folder / "merged"
    into = documents.record(run.folder).get("candidate", {}).get("into", "dequantised")
    if not _is_done(merged, adapter, documents.record(run.folder)["base"]["identity"], storage):
        narrator.say(
            "merging into the original weights, which makes a new candidate"
            if into == "original"
            else "merging into the weights that the adapter was trained on"
        )
        texts = probe_texts(domain)
        proved, old = (merged.with_name(f".merged.{word}") for word in ("proved", "old"))
        for leftover in (proved, old):
            shutil.rmtree(leftover, ignore_errors=True)
        proof = merge_proved(base, adapter, proved, texts, into=into, storage=storage)
        if merged.is_symlink():
            merged.unlink()
        elif merged.exists():  # a model that passed is replaced by one that is proved, or stays
            merged.rename(old)
        proved.rename(merged)
        shutil.rmtree(old, ignore_errors=True)
        narrator.say(_proved(proof))
    evaluate_merged(run, domain, narrator)
    _hold_against_adapter(run, domain)
    return merged


def _is_done(merged: Path, adapter: Path, base: str, storage: str) -> bool:
    path = merged / merging.MERGE_RECORD
    record = documents.merge(merged) if path.is_file() else {}
    made_of = {"adapter": merging.adapter_identity(adapter), "base": base}
    if {key: record.get(key) for key in made_of} != made_of:
        return False
    if not record.get("proof"):
        return False
    if checkpoints.identity(merged) != record.get("identity"):
        raise IntegrityError(
            f"{merged} was changed since its merge was proved: it is {checkpoints.identity(merged)}"
            f", and its {path.name} says {record.get('identity')}. Remove the folder and merge "
            "again"
        )
    return storage in ("auto", (record.get("storage") or {}).get("dtype"))


def _proved(proof: dict[str, Any]) -> str:
    said = (
        f"the merged model agrees with the unmerged one: mean KL {proof['mean_kl_nats']:.1e} "
        f"nats, noise floor {proof['noise_floor_mean_kl_nats']:.1e}, same first choice at "
        f"{proof['top1_agreement']:.1%} of {proof['num_positions']} positions"
    )
    far = proof.get("from_the_evaluated_model")
    if far:
        said += (
            f"; from the model that was evaluated it is {far['mean_kl_nats']:.1e} nats away, with "
            f"the same first choice at {far['top1_agreement']:.1%}"
        )
    return said


def _hold_against_adapter(run: Run, domain: Domain) -> None:
    """Add to ``merge.json`` what the gate's own tasks say of merged model and adapter, paired."""
    folder, other = run.folder / "eval" / "merged", run.folder / "eval" / "adapter"
    found = {
        task: {
            "num_items": len(samples := harness.read_samples(folder, task)),
            "num_answers_changed": sum(
                mine.prediction != its.prediction
                for mine, its in zip(samples, harness.read_samples(other, task), strict=True)
            ),
            "differences": {metric: asdict(found) for metric, found in by.items()},
        }
        for task, by in harness.differences(domain.tasks, folder, other).items()
    }
    merge = documents.merge(run.folder / "merged")
    if merge.get("tasks_against_adapter") != found:
        path = run.folder / "merged" / merging.MERGE_RECORD
        write_json(path, sealed(finite(merge | {"tasks_against_adapter": found})))


def new_candidate(run: Run) -> Run:
    """Return a run folder beside this one, for a merge of its adapter into the original weights.

    That is another model than the one that was evaluated, so nothing said of that one may be taken
    for it: the folder has its own merged model, evaluation, decision and report, and is shipped by
    its own name. Data, adapter, ledger and evaluations of base and adapter are copied.

    Raises:
        InputError: if the adapter was trained on unquantised weights, which are the original ones.
    """
    if run.recipe.base.quantization == "none":
        raise InputError(
            f"the adapter of {run.folder} was trained on the original weights, so merging into "
            "them is the default; leave out --into"
        )
    record = documents.record(run.folder)
    if "candidate" in record:
        return run
    name = f"{run.recipe.name}-original"
    recipe = run.recipe.model_copy(update={"name": name})
    folder = run.folder.resolve()  # which may be named as "."
    candidate = replace(run, recipe=recipe, folder=folder.with_name(f"{folder.name}-original"))
    said = {"of": run.recipe.name, "into": "original"}
    if candidate.folder.exists():
        known = documents.record(candidate.folder).get("candidate")
        adapters = [merging.adapter_identity(one.folder / "adapter") for one in (run, candidate)]
        if known != said or adapters[0] != adapters[1]:
            raise InputError(
                f"{candidate.folder} exists, and is not the candidate of this adapter; remove it"
            )
        return candidate
    part = candidate.folder.with_name(f".{candidate.folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(run.folder, part, ignore=shutil.ignore_patterns(*_NOT_OF_THE_CANDIDATE))
    decision = run.folder / "eval" / "adapter" / "decision.json"
    if decision.is_file():  # not the merged model's, which is another
        shutil.copyfile(decision, part / "decision.json")
    write_text(part / "resolved.yaml", config.dump(recipe))
    write_json(part / RECORD, record | {"name": name, "candidate": said})
    part.rename(candidate.folder)
    return candidate


def serving_base(run: Run, domain: Domain, out: Path, storage: str = "auto") -> dict[str, Any]:
    """Write the dequantised base of a run's adapter, proved with that adapter on it.

    Raises:
        InputError: if ``out`` exists, or the adapter was not trained on a 4-bit base.
        finetune.errors.IntegrityError: if the adapter answers otherwise on it.
        RunDiffers: if the base is another one, or documents of the run disagree.
    """
    base = base_folder(run)
    with locked(run.folder):
        hold(run, merged=False, kinds=(), base=base)
        proof = serving_base_proved(
            base, run.folder / "adapter", out, probe_texts(domain), storage=storage
        )
    return {"serving_base": str(out), "proof": proof}


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
