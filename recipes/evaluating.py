"""The evaluation step of a run: base, adapter and merged model, asked the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval import harness
from eval.cache import Cache
from eval.classifier import Classifier, SimilarityClassifier, ZeroShotClassifier
from eval.model import LanguageModel
from eval.stats import Difference
from eval.task import Progress, Report, Target
from finetune import adapter as adapters
from finetune import checkpoint as checkpoints
from finetune import features
from finetune import merge as merging
from finetune.encoder_kinds import ENCODERS, kind_of
from finetune.quantization import dtype_name
from recipes import documents
from recipes.classification import ZERO_SHOT
from recipes.config import Recipe
from recipes.console import Narrator
from recipes.domains import Domain
from recipes.run import Run, base_folder, held_as
from recipes.run_agreement import tasks_of
from recipes.training import OutputHead, load_base


def evaluate_base(run: Run, domain: Domain, narrator: Narrator) -> Report:
    """Evaluate the base as it is.

    For classification, a language model is asked for the label in words, and an encoder takes the
    label whose name is most like the text.
    """
    folder = base_folder(run)
    target = Target("base", base=checkpoints.identity(folder), **_how(run))
    is_encoder = domain.head != "causal-lm" and kind_of(folder) in ENCODERS

    def model() -> Any:
        base = checkpoints.load(
            folder, quantization=run.recipe.base.quantization, held_as=held_as(run)
        )
        return LanguageModel(base.model, base.tokenizer, cache=_cache(run, target))

    def asked() -> Any:
        if domain.head == "causal-lm":
            return model()
        if is_encoder:
            return _by_similarity(run, domain, target)
        return ZeroShotClassifier(model(), domain.labels, ZERO_SHOT)

    return _evaluate(run, target, tasks_of(run, domain, "base"), asked, narrator)


def _by_similarity(run: Run, domain: Domain, target: Target) -> SimilarityClassifier:
    """Return an encoder base as a classifier that knows nothing but the labels' names."""
    base = load_base(run, base_folder(run), domain)
    max_length = checkpoints.longest(base.tokenizer, run.recipe.train.max_length)

    def embed(texts: Sequence[str], progress: Progress) -> NDArray[np.float64]:
        vectors = features.embed(base, texts, max_length=max_length, on_rows=progress)
        return np.asarray(vectors.double().numpy())

    return SimilarityClassifier(embed, domain.labels, cache=_cache(run, target))


def evaluate_adapter(run: Run, domain: Domain, narrator: Narrator) -> Report:
    """Evaluate the trained adapter on its base."""
    folder = base_folder(run)
    adapter = run.folder / "adapter"
    target = Target(
        "adapter",
        base=checkpoints.identity(folder),
        adapter=merging.adapter_identity(adapter),
        **_how(run),
    )

    def asked() -> Any:
        base = load_base(run, folder, domain)
        model = adapters.load(base, adapter)
        return as_evaluated(run.recipe, domain, model, base.tokenizer, _cache(run, target))

    return _evaluate(run, target, domain.tasks, asked, narrator)


def evaluate_merged(run: Run, domain: Domain, narrator: Narrator) -> Report:
    """Evaluate the merged folder as a stranger would load it."""
    folder = run.folder / "merged"
    record = documents.merge(folder)
    target = Target(
        "merged",
        base=record["base"],
        adapter=record["adapter"],
        merged=record["identity"],
        **{**_how(run), "quantization": "none"},
    )

    def asked() -> Any:
        merged = load_merged(folder, domain)
        cache = _cache(run, target)
        return as_evaluated(run.recipe, domain, merged.model, merged.tokenizer, cache)

    return _evaluate(run, target, domain.tasks, asked, narrator)


def _how(run: Run) -> dict[str, str]:
    return {
        "quantization": run.recipe.base.quantization,
        "dtype": dtype_name(checkpoints.compute_dtype()),
    }


def load_merged(folder: Path, domain: OutputHead) -> checkpoints.Base:
    """Load a merged folder, or a release, with nothing but what is in it."""
    return checkpoints.load(
        folder,
        quantization="none",
        head=domain.head,
        labels=domain.labels,
        is_multi_label=domain.is_multi_label,
    )


def as_evaluated(
    recipe: Recipe, domain: OutputHead, model: Any, tokenizer: Any, cache: Cache
) -> LanguageModel | Classifier:
    """Return a loaded model as the evaluation asks it."""
    if domain.head == "causal-lm":
        return LanguageModel(model, tokenizer, cache=cache)
    return Classifier(
        model,
        tokenizer,
        domain.labels,
        is_multi_label=domain.is_multi_label,
        max_length=checkpoints.longest(tokenizer, recipe.train.max_length),
        cache=cache,
    )


def _cache(run: Run, target: Target) -> Cache:
    return cache_of(run.folder / "eval" / target.kind, target)


def cache_of(folder: Path, target: Target) -> Cache:
    """Open the answers that a target has given already, beside its results."""
    folder.mkdir(parents=True, exist_ok=True)
    return Cache(folder / "cache.jsonl", identity=str(sorted(asdict(target).items(), key=str)))


def _evaluate(run: Run, target: Target, tasks: list[Any], asked: Any, narrator: Narrator) -> Report:
    folder = run.folder / "eval" / target.kind
    done = harness.finished(tasks, target, folder)
    if done is not None:
        return done
    narrator.say(f"evaluating the {target.kind}: {', '.join(task.name for task in tasks)}")
    with narrator.bars() as open_bar:
        return harness.evaluate(
            tasks,
            asked(),
            target,
            folder,
            progress=lambda name, total: open_bar(f"{target.kind}: {name}", total),
        )


def differences(run: Run, domain: Domain, kind: str) -> dict[str, dict[str, Difference]]:
    """Return a candidate's figures minus the base's on the same items, by task and metric."""
    return harness.differences(
        domain.tasks, run.folder / "eval" / kind, run.folder / "eval" / "base"
    )
