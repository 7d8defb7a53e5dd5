"""All that a release's documents are filled from, read once and rid of paths and texts.

What a run keeps for itself (where its files lie, row ids, prompts, answers) never gets into the
`Facts`, so no document can print it by mistake; `scan` holds the finished folder to that.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.identity import identity_of, sha256_file
from privacy.statement import PrivacyStatement, statement
from recipes import documents, provenance
from recipes.card import CardConfig
from recipes.decisions import OF_THE_RECORD, told_by_canaries, without_path_of_training
from recipes.documents import DECISION
from recipes.errors import InputError
from recipes.public_recipe import public_checkpoint, public_recipe, without_path
from recipes.release.layout import is_model_file
from recipes.release.verdict import Verdict, read_verdict
from recipes.run import Run, checked_ledger

_RECORD_KEYS = ("schema", "status", "name", *OF_THE_RECORD, "finished", "training")
"""Of a run's record: what may leave. Row ids, sources and whatever is added later stay."""


@dataclass(frozen=True)
class SignedBy:
    """The key that a release is signed with, as its papers name it."""

    key: str
    """Fingerprint of the public key, ``sha256:...``."""

    num_bits: int
    has_certificate: bool


@dataclass(frozen=True)
class Facts:
    """One run and its merged model, fit to be read by anyone."""

    card: CardConfig
    recipe: Mapping[str, Any]
    """The resolved recipe without its card, file names instead of paths."""

    record: Mapping[str, Any]
    decision: Mapping[str, Any]
    verdict: Verdict
    merge: Mapping[str, Any]
    report: Mapping[str, Any]
    """report.json of the merged model."""

    base_report: Mapping[str, Any]
    privacy: PrivacyStatement | None
    """None for a plain run."""

    empirical: Mapping[str, Any] | None
    """What its canaries told; None for a plain run, and for one that was not audited so."""

    hashes: Mapping[str, str]
    """Hex SHA-256 of every file of the model itself, by name."""

    num_parameters: int
    num_bytes: int
    """Of the weights."""

    architecture: str
    created: str
    signer: SignedBy | None
    """None if nobody signs the release."""

    @property
    def name(self) -> str:
        """Name of the run and of the release."""
        return str(self.record["name"])

    @property
    def is_base_on_hub(self) -> bool:
        """Whether the base's name is that of a repository of the Hub."""
        return self.recipe["base"].get("revision") is not None

    @property
    def is_signed(self) -> bool:
        """Whether somebody stands for the release."""
        return self.signer is not None

    @property
    def identity(self) -> str:
        """``sha256:...`` of the model's files, as `finetune.identity` defines it."""
        return identity_of(self.hashes)

    @property
    def training_flops(self) -> float | None:
        """Upper bound of the training's operations: 6 a parameter and token; None if not counted.

        A frozen base needs no gradient of its own weights, so the truth is nearer to 4 (Kaplan et
        al. 2020, arXiv:2001.08361, section 2.1, count 2 forward and 4 backward).
        """
        num_tokens = self.record.get("training", {}).get("num_tokens")
        return 6.0 * self.num_parameters * num_tokens if num_tokens else None

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return every measured figure of the merged model, by ``task/metric``."""
        return _figures(self.report)

    def base_figures(self) -> dict[str, dict[str, Any]]:
        """Return the same of the base."""
        return _figures(self.base_report)


def gather(
    run: Run,
    *,
    card: CardConfig | None = None,
    signer: SignedBy | None = None,
) -> Facts:
    """Read a run's folder into facts.

    Args:
        run: a run with a merged model that was evaluated.
        card: what its owner says, instead of what the recipe does.
        signer: whose key signs the release; None if nobody's.

    Raises:
        InputError: if a file is missing or torn.
        LedgerError: if a private run's ledger is damaged.
    """
    merged = run.folder / "merged"
    decision = documents.decision(run.folder / DECISION)
    record = documents.record(run.folder)
    files = {path.relative_to(merged).as_posix(): path for path in sorted(merged.rglob("*"))}
    model = {name: p for name, p in files.items() if p.is_file() and is_model_file(name)}
    weights = [path for name, path in model.items() if name.endswith(".safetensors")]
    config = documents.config(merged)
    return Facts(
        card=card or run.recipe.card,
        recipe=public_recipe(run.recipe),
        record=public_record(record, revision=run.recipe.base.revision),
        decision=decision,
        verdict=_verdict(decision, run),
        merge=documents.merge(merged),
        report=documents.report(run.folder / "eval" / "merged"),
        base_report=documents.report(run.folder / "eval" / "base"),
        privacy=_privacy(run),
        empirical=_empirical(run),
        hashes={name: sha256_file(path) for name, path in model.items()},
        num_parameters=sum(map(num_parameters, weights)),
        num_bytes=sum(path.stat().st_size for path in weights),
        architecture=", ".join(config.get("architectures") or [config.get("model_type", "")]),
        created=provenance.now(),
        signer=signer,
    )


def _verdict(decision: Mapping[str, Any], run: Run) -> Verdict:
    try:
        return read_verdict(decision)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{run.folder / 'decision.json'} is no decision of the gate ({error!r}); decide again "
            f"with: assay gate {run.folder}"
        ) from None


def _privacy(run: Run) -> PrivacyStatement | None:
    if run.recipe.privacy is None:
        return None
    ledger = checked_ledger(run)
    return statement(ledger.plan, steps_charged=ledger.steps_charged)


def _empirical(run: Run) -> dict[str, Any] | None:
    return None if run.recipe.privacy is None else told_by_canaries(run.folder)


def public_record(record: Mapping[str, Any], *, revision: str | None) -> dict[str, Any]:
    """Return what of a run's record may leave, file names instead of paths.

    Args:
        record: of the run.
        revision: of its base on the Hub; None of one that is not there.
    """
    kept = {key: record[key] for key in _RECORD_KEYS if key in record}
    if "training" in kept:
        kept["training"] = without_path_of_training(kept["training"])
    files: dict[str, str] = {}
    for path, digest in record["data"]["files"].items():
        name = without_path(path)
        while name in files:  # two folders, one name
            name += "'"
        files[name] = digest
    name = public_checkpoint(record["base"]["checkpoint"], revision=revision)
    return kept | {
        "base": record["base"] | {"checkpoint": name},
        "data": {"files": files, "fingerprint": record["data"]["fingerprint"]},
    }


def num_parameters(path: Path) -> int:
    """Count the numbers in a safetensors file from its header.

    Raises:
        InputError: if the file is empty, cut or of another kind.
    """
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(size, path.stat().st_size)))
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        return sum(math.prod(tensor["shape"]) for tensor in tensors)
    except (LookupError, TypeError, AttributeError, ValueError, struct.error):
        raise InputError(
            f"{path} is damaged: its header is not one of safetensors; bring the file back from a "
            "copy, or merge the run again"
        ) from None


def _figures(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{task}/{metric}": figure | {"family": result["family"]}
        for task, result in report["tasks"].items()
        for metric, figure in result["metrics"].items()
    }
