"""The release folder: the merged model that passed, with its evidence and a list of hashes.

This first form lists and checks every file by its hash. It does not sign: a stranger can see that
the folder is whole and agrees with its own evidence, not yet who made it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes.errors import GateRefused, InputError
from recipes.files import read_json, sha256_file

MANIFEST = "MANIFEST.json"


class ReleaseDiffers(Exception):
    """A release folder is not what its manifest says. Exit code 5."""


def ship(
    run_folder: Path, out: Path, hand_over: Callable[[Path, str], object] | None = None
) -> Path:
    """Copy a run's merged model and its evidence to ``out``, and list every file's hash.

    ``hand_over`` is given the folder and the run's name before its files are listed, and may add
    to it; if it raises, nothing is released.

    Raises:
        GateRefused: if the gate has not passed the merged model.
        InputError: if nothing is merged, or ``out`` exists.
    """
    if not (run_folder / "merged" / "merge.json").is_file():
        raise InputError(
            f"{run_folder} has no merged model; make one with: assay merge {run_folder}"
        )
    decision = read_json(run_folder / "decision.json")
    merged = read_json(run_folder / "merged" / "merge.json")
    if not decision["passed"] or decision["target"]["kind"] != "merged":
        raise GateRefused(
            f"the gate has not passed the merged model of {run_folder}; see its decision.json"
        )
    if decision["target"]["merged"] != merged["identity"]:
        raise ReleaseDiffers(
            f"the decision is about {decision['target']['merged']}, and the merged model is "
            f"{merged['identity']}; gate it again with: assay gate {run_folder}"
        )
    if out.exists():
        raise InputError(f"{out} exists already; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for file in sorted((run_folder / "merged").iterdir()):
            shutil.copyfile(file, scratch / file.name)
        evidence = scratch / "evidence"
        evidence.mkdir()
        shutil.copyfile(run_folder / "decision.json", evidence / "decision.json")
        shutil.copyfile(run_folder / "eval" / "merged" / "report.json", evidence / "report.json")
        if (run_folder / "ledger.jsonl").is_file():
            shutil.copyfile(run_folder / "ledger.jsonl", evidence / "ledger.jsonl")
        record = _without_paths(read_json(run_folder / "record.json"))
        (evidence / "record.json").write_text(json.dumps(record, indent=1) + "\n")
        (scratch / "README.md").write_text(_card(record, decision, merged))
        if hand_over is not None:
            hand_over(scratch, record["name"])
        files = sorted(p for p in scratch.rglob("*") if p.is_file())
        manifest = {
            "schema": 1,
            "name": record["name"],
            "model": merged["identity"],
            "signed": False,
            "files": {str(p.relative_to(scratch)): sha256_file(p) for p in files},
        }
        (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        for path in scratch.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        scratch.chmod(0o755)
        scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out


def verify(folder: Path) -> dict[str, Any]:
    """Check a release folder offline: every file is listed, every hash agrees, the gate passed.

    Raises:
        InputError: if it is no release folder.
        ReleaseDiffers: naming every file that is changed, missing or not listed.
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} is not a release folder: it has no {MANIFEST}")
    manifest = read_json(folder / MANIFEST)
    listed: dict[str, str] = manifest["files"]
    found = {
        str(p.relative_to(folder)): p
        for p in folder.rglob("*")
        if (p.is_file() or p.is_symlink()) and p != folder / MANIFEST
    }
    problems = [f"missing: {name}" for name in sorted(listed.keys() - found.keys())]
    problems += [f"not listed: {name}" for name in sorted(found.keys() - listed.keys())]
    problems += [
        f"changed: {name}"
        for name in sorted(listed.keys() & found.keys())
        if found[name].is_symlink() or sha256_file(found[name]) != listed[name]
    ]
    if not problems:
        decision = read_json(folder / "evidence" / "decision.json")
        if not decision["passed"]:
            problems.append("the gate's decision is a refusal")
        if decision["target"].get("merged") != manifest["model"]:
            problems.append("the decision is about another model")
    if problems:
        raise ReleaseDiffers("\n".join([f"{folder} is not what was released:", *problems]))
    return {"name": manifest["name"], "model": manifest["model"], "num_files": len(listed)}


def _without_paths(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record without this machine's paths."""
    files = {Path(k).name: v for k, v in record["data"]["files"].items()}
    checkpoint = record["base"]["checkpoint"]
    base = record["base"] | {"checkpoint": Path(checkpoint).name}
    kept = {k: v for k, v in record.items() if k != "source"}
    return kept | {"data": record["data"] | {"files": files}, "base": base}


def _card(record: dict[str, Any], decision: dict[str, Any], merged: dict[str, Any]) -> str:
    """Return the model card: numbers from the run only; what nobody filled in is marked."""
    rows = [
        f"| {c['family']} | {c['metric']} | {c['rule']} | {_cell(c['value'])} "
        f"[{_cell(c['low'])}, {_cell(c['high'])}] | {c['n']} |"
        for c in decision["checks"]
    ]
    private = (
        "with differential privacy (evidence/ledger.jsonl)"
        if record["is_private"]
        else ("without differential privacy")
    )
    return "\n".join(
        [
            f"# {record['name']}",
            "",
            f"A {record['recipe']} model: a LoRA adapter trained {private} on "
            f"{record['base']['checkpoint']}, merged into {merged['into']}.",
            "",
            "| family | metric | rule | measured, 95 % interval | items |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"- base: {record['base']['identity']}",
            f"- training data: {record['data']['fingerprint']}, {record['rows']['train']} rows",
            f"- this model: {merged['identity']}",
            "- intended use, limits, contact: TO BE COMPLETED by its owner",
            "",
            "Do not load this model in 4-bit: its weights lie on the 4-bit grid of the base it was",
            "trained on, and quantising them again erases most of what was learned.",
            "",
            "The files are listed with their hashes in MANIFEST.json; they are not signed.",
            "",
        ]
    )


def _cell(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
