"""What `assay eval` is pointed at: a base, run folders, adapter folders, model folders."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from eval.task import Target
from finetune import adapter as adapters
from finetune import adapter_files
from finetune import checkpoint as checkpoints
from finetune import merge as merging
from finetune.config import CheckpointConfig
from finetune.errors import IntegrityError
from finetune.quantization import VERSION
from finetune.quantization import Quantization as Held
from recipes import documents
from recipes.errors import InputError
from recipes.run import base_folder, open_run
from recipes.run_agreement import hold

Quantization = Literal["nf4", "none"]


@dataclass(frozen=True)
class Loaded:
    """A model folder and how it is loaded; what stands on one of these shares its weights."""

    folder: Path
    quantization: Quantization
    held_as: Held | None = None
    """Where adapters were trained on 4-bit codes of an older version: which these were."""


@dataclass(frozen=True)
class Asked:
    """One model under test."""

    name: str
    """Of its folder among the results."""

    on: Loaded
    adapter: Path | None = None

    def target(self, dtype: str) -> Target:
        """Return what the model is made of, by content."""
        identity = checkpoints.identity(self.on.folder)
        how = {"quantization": self.on.quantization, "dtype": dtype}
        if self.adapter is not None:
            return Target(
                "adapter", identity, adapter=merging.adapter_identity(self.adapter), **how
            )
        if (self.on.folder / merging.MERGE_RECORD).is_file():
            record = documents.merge(self.on.folder)
            if record["identity"] != identity:
                raise IntegrityError(
                    f"{self.on.folder} is {identity}, and its {merging.MERGE_RECORD} is about "
                    f"{record['identity']}; take the folder that was merged, or merge again"
                )
            return Target("merged", record["base"], record["adapter"], identity, **how)
        return Target("base", identity, **how)


def resolve(
    targets: Sequence[Path],
    base: CheckpointConfig | None,
    *,
    quantization: Quantization | None = None,
) -> list[Asked]:
    """Find out what is to be asked, each base before what stands on it.

    Args:
        targets: run folders, adapter folders, folders of a whole model.
        base: a base to ask, and to put adapter folders on.
        quantization: of the base and of model folders; without it, as each adapter was trained,
            and unquantised where there is none.

    Raises:
        InputError: if a target is none of these, an adapter folder has no base, an adapter is
            not one of a language model, or its training was quantised otherwise.
    """
    named = None if base is None else checkpoints.resolve(base)
    adapted: list[Asked] = []
    whole: list[Asked] = []
    for path in targets:
        if (path / "resolved.yaml").is_file():
            run = open_run(path)
            folder = base_folder(run)
            hold(run, merged=False, kinds=(), base=folder)
            adapted.append(_adapter(run.recipe.name, path / "adapter", folder, quantization))
        elif (path / "adapter_config.json").is_file():
            if base is None or named is None:
                raise InputError(
                    f"{path} is an adapter, and it is not said on which base; add --base CHECKPOINT"
                )
            name = path.resolve().name
            name = path.resolve().parent.name if name == "adapter" else name
            version = adapters.read_record(path).quantization.version
            folder = named if version == VERSION else checkpoints.resolve(base, version=version)
            adapted.append(_adapter(name, path, folder, quantization))
        elif (path / "config.json").is_file():
            folder = checkpoints.resolve(CheckpointConfig(checkpoint=str(path)))
            whole.append(Asked(path.resolve().name, Loaded(folder, quantization or "none")))
        else:
            raise InputError(
                f"{path} is none of the things that can be evaluated: a run folder "
                "(resolved.yaml), an adapter folder (adapter_config.json), a model folder "
                "(config.json)"
            )
    bases = list(dict.fromkeys(asked.on for asked in adapted))
    if named is not None and not any(on.folder == named for on in bases):
        bases.insert(0, Loaded(named, quantization or "none"))
    if not bases and not whole:
        raise InputError("nothing to evaluate: name a run, an adapter or model folder, or --base")
    return _with_own_names([*(Asked("base", on) for on in bases), *adapted, *whole])


def _adapter(name: str, adapter: Path, folder: Path, wanted: Quantization | None) -> Asked:
    record = adapter_files.inspect(adapter).record
    adapters.check_identity(record, checkpoints.identity(folder), folder, adapter)
    if record.head != "causal-lm":
        raise InputError(
            f"{adapter} was trained with a classification head, and published sets ask a language "
            "model; evaluate it on its own task (assay eval RUN, without --task)"
        )
    trained: Quantization = "nf4" if record.quantization.kind == "nf4" else "none"
    if wanted is not None and wanted != trained:
        raise InputError(
            f"{adapter} was trained on {trained} weights and is another model on {wanted} ones; "
            "leave out --quantization"
        )
    # the current version gives all machines the same codes, so that adapters of many share a base
    is_old = record.quantization.version < VERSION
    held = record.quantization if is_old and trained == "nf4" else None
    return Asked(name, Loaded(folder, trained, held), adapter)


def _with_own_names(found: Sequence[Asked]) -> list[Asked]:
    """Number the names that occur again, so that no result overwrites another."""
    own: dict[str, Asked] = {}
    for asked in found:
        tried = itertools.chain([asked.name], (f"{asked.name}-{k}" for k in itertools.count(2)))
        name = next(name for name in tried if name not in own)
        own[name] = replace(asked, name=name)
    return list(own.values())
