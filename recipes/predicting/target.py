"""What `assay predict` is pointed at: a run, a merged folder, a release; and its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from finetune import adapter as adapters
from finetune import checkpoint as checkpoints
from finetune import merge as merging
from finetune.errors import IntegrityError
from recipes import config
from recipes.config import Recipe
from recipes.errors import InputError
from recipes.evaluating import load_merged
from recipes.files import read_json, undamaged
from recipes.release import layout
from recipes.release.verify import verify
from recipes.run import RECORD, Run, base_folder, open_run
from recipes.training import OutputHead, load_base


@dataclass(frozen=True)
class Head:
    """What comes out of a merged model, as its own configuration says."""

    head: checkpoints.Head
    labels: tuple[str, ...]
    is_multi_label: bool


@dataclass(frozen=True)
class PredictionTarget:
    """A trained model that can be asked, and the recipe that says how."""

    kind: Literal["adapter", "merged", "release"]
    identity: str
    """``sha256:...`` of the adapter, or of the merged model."""

    recipe: Recipe
    head: OutputHead
    evaluation: Path | None
    """Folder with what the evaluation of this model found; None where nobody knows it."""

    load: Callable[[], tuple[Any, Any]]
    """Returns model and tokenizer."""


def open_target(folder: Path, recipe_file: Path | None = None) -> PredictionTarget:
    """Find out what a folder is, and check that it is whole.

    Args:
        folder: a run (its adapter is asked, on its base), the merged folder of a run or by itself,
            or a release.
        recipe_file: of a merged folder that is no longer in its run.

    Raises:
        InputError: if it is none of these, or its recipe is not known.
        IntegrityError: if a merged model was changed since its merge.
        ReleaseDiffers: if a release does not agree with its own list of hashes.
    """
    is_own_story = (folder / "resolved.yaml").is_file()
    is_release = any((folder / name).is_file() for name in (layout.ABOUT, layout.HASHES))
    is_merged = (folder / merging.MERGE_RECORD).is_file() and not is_release
    is_in_run = (folder.resolve().parent / "resolved.yaml").is_file()
    if recipe_file is not None and (not is_merged or is_in_run):
        raise InputError(f"--recipe: {folder} has its recipe with it; leave the option out")
    if is_own_story:
        return _run(folder)
    if is_release:
        return _release(folder)
    if is_merged and is_in_run:
        return _merged_of(open_run(folder.resolve().parent), folder)
    if is_merged and recipe_file is not None:
        return _merged(folder, config.load(recipe_file, needs_gate=False), None)
    if is_merged:
        raise InputError(
            f"{folder} is a merged model without its run, and does not say how it is to be "
            "prompted; add --recipe FILE, the recipe that it was made by"
        )
    raise InputError(
        f"{folder} is none of the things that predict: a run folder (resolved.yaml), a merged "
        f"folder ({merging.MERGE_RECORD}), a release ({layout.ABOUT})"
    )


def _run(folder: Path) -> PredictionTarget:
    run = open_run(folder)
    if "candidate" in read_json(folder / RECORD):  # which is the merged model, and no adapter
        return _merged_of(run, folder / "merged")
    adapter = folder / "adapter"
    if not adapter.is_dir():
        raise InputError(f"{folder} has no adapter yet; train it with: assay run RECIPE")
    record = adapters.read_record(adapter)
    recipe = run.recipe

    def load() -> tuple[Any, Any]:
        base = load_base(run, base_folder(run), record)
        return adapters.load(base, adapter), base.tokenizer

    return PredictionTarget(
        kind="adapter",
        identity=merging.adapter_identity(adapter),
        recipe=recipe,
        head=record,
        evaluation=folder / "eval" / "adapter",
        load=load,
    )


def _merged_of(run: Run, merged: Path) -> PredictionTarget:
    if not (merged / merging.MERGE_RECORD).is_file():
        raise InputError(f"{run.folder} has no merged model; make it with: assay merge RUN")
    return _merged(merged, run.recipe, run.folder / "eval" / "merged")


def _merged(folder: Path, recipe: Recipe, evaluation: Path | None) -> PredictionTarget:
    checkpoints.prepare_cpu(recipe.train.num_threads)
    with undamaged(folder):
        recorded = read_json(folder / merging.MERGE_RECORD)["identity"]
    identity = checkpoints.identity(folder)
    if identity != recorded:
        raise IntegrityError(
            f"{folder} was changed since its merge: it is {identity}, and its "
            f"{merging.MERGE_RECORD} says {recorded}. Bring the merged folder back, or merge again"
        )
    head = _head_of(folder, recipe)
    return PredictionTarget(
        kind="merged",
        identity=identity,
        recipe=recipe,
        head=head,
        evaluation=evaluation,
        load=lambda: _loaded(folder, head),
    )


def _release(folder: Path) -> PredictionTarget:
    verified = verify(folder)
    try:
        recipe = Recipe.model_validate(read_json(folder / layout.RECIPE))
    except ValidationError as error:
        raise InputError(
            f"{folder / layout.RECIPE} is no recipe of this version of the program "
            f"({error.error_count()} keys differ); predict with the version that released it"
        ) from None
    checkpoints.prepare_cpu(recipe.train.num_threads)
    head = _head_of(folder, recipe)
    return PredictionTarget(
        kind="release",
        identity=verified.model,
        recipe=recipe,
        head=head,
        evaluation=(folder / layout.REPORT).parent,
        load=lambda: _loaded(folder, head),
    )


def _loaded(folder: Path, head: Head) -> tuple[Any, Any]:
    merged = load_merged(folder, head)
    return merged.model, merged.tokenizer


def _head_of(folder: Path, recipe: Recipe) -> Head:
    """Return what a merged model's own configuration says of its outputs."""
    if recipe.recipe != "classification":
        return Head("causal-lm", (), is_multi_label=False)
    with undamaged(folder):
        values = read_json(folder / "config.json")
        names = values["id2label"]
        labels = tuple(str(names[str(number)]) for number in range(len(names)))
        is_multi_label = values.get("problem_type") == "multi_label_classification"
    return Head("sequence-classification", labels, is_multi_label)
