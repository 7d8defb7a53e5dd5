"""The three domains behind one face, for the pipeline."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.task import Task
from finetune.checkpoint import Head
from finetune.config import TrainConfig
from finetune.encoding import Example
from recipes import chat, classification, qa
from recipes.config import Recipe
from recipes.data import Checked, Parts, prepare
from recipes.errors import InputError, Problem, Problems, nearest


@dataclass(frozen=True)
class Domain:
    """What differs between the recipes once the data is read."""

    parts: Parts[Any]
    head: Head
    labels: tuple[str, ...]
    is_multi_label: bool
    encode: Callable[[Any, Any, frozenset[int]], Example]
    """From an item, the tokenizer and the stop tokens to a training example."""

    tasks: list[Task]
    """What every candidate is asked."""

    base_tasks: list[Task]
    """What the base is asked: the same, or fewer of the same items where asking is slow."""


def read(recipe: Recipe, folder: Path) -> Domain:
    """Read and split a recipe's data and say how it is encoded and evaluated.

    Args:
        recipe: the run.
        folder: where relative paths start.

    Raises:
        recipes.errors.InputError: if the data cannot be used, or a setting is not for this domain.
    """
    if recipe.recipe != "classification":
        _refuse_for_classification(recipe)
    _refuse_unknown_columns(recipe)
    parse = {"chat": chat.parse, "classification": classification.parse, "qa": qa.parse}
    parts: Parts[Any] = prepare(
        recipe.data,
        folder,
        parse[recipe.recipe],
        seed=recipe.train.seed,
        # a private run chooses no checkpoint, so it holds nothing back
        validation_fraction=0.0 if recipe.privacy else recipe.train.validation_fraction,
    )
    test = _chosen(parts.test, recipe)
    max_length = recipe.train.max_length
    if recipe.recipe == "classification":
        labels, is_multi_label = classification.labels_of(parts)
        if is_multi_label and recipe.train.class_weights != "none":
            raise InputError(
                "train.class_weights: it weighs a row by its one label; here rows have several"
            )
        few = test[: recipe.eval.max_base_items]
        return Domain(
            parts=parts,
            head="sequence-classification",
            labels=labels,
            is_multi_label=is_multi_label,
            encode=lambda item, tokenizer, _: classification.encode(
                item, tokenizer, labels, max_length=max_length
            ),
            tasks=_named(classification.tasks(test, few, labels), recipe),
            base_tasks=_named(classification.tasks(few, few, labels), recipe),
        )
    story = qa if recipe.recipe == "qa" else chat
    tasks = _named(story.tasks(test, recipe.eval), recipe)
    return Domain(
        parts=parts,
        head="causal-lm",
        labels=(),
        is_multi_label=False,
        encode=lambda item, tokenizer, stop_ids: story.encode(
            item, tokenizer, max_length=max_length, stop_ids=stop_ids
        ),
        tasks=tasks,
        base_tasks=tasks,
    )


def _refuse_unknown_columns(recipe: Recipe) -> None:
    """Refuse a name for a column that the recipe has not, which would name nothing."""
    story = {"chat": chat, "classification": classification, "qa": qa}[recipe.recipe]
    for ours in recipe.data.columns:
        if ours not in story.COLUMNS:
            hint = nearest(ours, story.COLUMNS)
            raise InputError(
                f"data.columns: {ours} is no column of the {recipe.recipe} recipe"
                f"{'; ' + hint if hint else '.'} It has {', '.join(story.COLUMNS)} "
                "(ours first, then what the files call it)"
            )


def _refuse_for_classification(recipe: Recipe) -> None:
    """Refuse what only a recipe with labels and a classification head can do."""
    for key, is_set in (
        ("adapter.whiten_head", recipe.adapter.whiten_head),
        ("adapter.prompt", recipe.adapter.prompt is not None),
        ("train.class_weights", recipe.train.class_weights != "none"),
    ):
        if is_set:
            raise InputError(
                f"{key}: for the classification recipe alone; this is {recipe.recipe}, remove it"
            )


def refuse_unfit(
    rows: Sequence[Checked[Any]], examples: Sequence[Example], settings: TrainConfig
) -> None:
    """Refuse rows whose answers would be cut, or would teach the model never to stop.

    Raises:
        Problems: naming every such row.
    """
    cut, without_stop = [], []
    for row, example in zip(rows, examples, strict=True):
        if example.num_cut:
            length = len(example.input_ids) + example.num_cut
            cut.append(Problem(row.place, f"at least {length} tokens, {example.num_cut} cut"))
        if not example.has_stop:
            without_stop.append(Problem(row.place, "its answer ends without a stop token"))
    if without_stop:
        raise Problems(
            f"{len(without_stop)} rows would teach the model never to stop:",
            without_stop,
            "The chat template does not end an assistant turn with one of the model's stop tokens; "
            "use a base whose template does.",
        )
    if cut and not settings.allow_truncation:
        raise Problems(
            f"{len(cut)} rows are longer than train.max_length {settings.max_length}, and what is "
            "learned from them would be cut:",
            cut,
            "Raise train.max_length, shorten the rows, or set train.allow_truncation: true.",
        )


def _chosen(rows: Sequence[Checked[Any]], recipe: Recipe) -> list[Any]:
    """Return the test items, at most ``max_items`` of them, chosen by the seed, in a mixed order.

    The order is mixed so that a part of the items (what the base is asked) is a fair one.
    """
    rng = random.Random(f"{recipe.train.seed}/items")  # noqa: S311 (an order, not a secret)
    chosen = rng.sample(list(rows), min(len(rows), recipe.eval.max_items or len(rows)))
    return [row.item for row in chosen]


def _named(tasks: list[Task], recipe: Recipe) -> list[Task]:
    """Keep the tasks that the recipe names.

    Raises:
        InputError: if it names one that there is not.
    """
    if recipe.eval.tasks == "default":
        return tasks
    known = {task.name: task for task in tasks}
    unknown = [name for name in recipe.eval.tasks if name not in known]
    if unknown:
        raise InputError(
            f"eval.tasks: {', '.join(unknown)} is no task of the {recipe.recipe} recipe; "
            f"it has {', '.join(known)}"
        )
    return [known[name] for name in recipe.eval.tasks]
