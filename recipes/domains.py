"""The three domains behind one face, for the pipeline."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.task import Task
from recipes import chat, classification, qa
from recipes.config import Recipe
from recipes.console import OpenBar
from recipes.data import catalog
from recipes.data.dataset import DataSplit, Parse, new_findings, prepare
from recipes.data.findings import Findings
from recipes.data.guesses import likely_columns
from recipes.data.label_faults import find_label_faults, labels_in
from recipes.data.split import DataRow
from recipes.errors import InputError, nearest

if TYPE_CHECKING:  # they import torch, which reading rows needs not wait for
    from finetune.checkpoint import Head
    from finetune.encoding import Example


@dataclass(frozen=True)
class Domain:
    """What differs between the recipes once the data is read."""

    parts: DataSplit[Any]
    head: Head
    labels: tuple[str, ...]
    is_multi_label: bool
    encode: Callable[[Any, Any, frozenset[int]], Example]
    """From an item, the tokenizer and the stop tokens to a training example."""

    is_known: Callable[[Any], bool]
    """Whether an item can be encoded: its labels, if any, are among `labels`."""

    make_tasks: Callable[[], tuple[list[Task], list[Task]]]

    @property
    def tasks(self) -> list[Task]:
        """The tasks of every candidate."""
        return self._tasks[0]

    @property
    def base_tasks(self) -> list[Task]:
        """The tasks of the base: the same, or with fewer of the items where scoring is slow."""
        return self._tasks[1]

    @cached_property
    def _tasks(self) -> tuple[list[Task], list[Task]]:
        return self.make_tasks()


def read(
    recipe: Recipe,
    folder: Path,
    findings: Findings | None = None,
    *,
    labels: Sequence[str] = (),
    is_trained: bool = False,
    scan_personal_data: bool = False,
    open_bar: OpenBar | None = None,
) -> Domain:
    """Read and split a recipe's data and say how it is encoded and evaluated.

    Args:
        recipe: the run.
        folder: where relative paths start.
        findings: receives what is wrong with the data; without it, errors are raised.
        labels: of an adapter that was trained on these rows. If they are the same labels, their
            order is kept: it is that of the adapter's head.
        is_trained: whether a model was trained on these rows already, so that only what makes
            them unreadable is an error.
        scan_personal_data: whether every kind of personal data is searched for, as before training.
        open_bar: opens a progress bar for the reading; None for none.

    Raises:
        recipes.errors.InputError: if the data cannot be used, or a setting is not for this domain.
    """
    if recipe.recipe != "classification":
        _refuse_for_classification(recipe)
    elif recipe.base.chat_template is not None:
        raise InputError(
            "base.chat_template: a classifier reads texts, not chats; remove it (adapter.prompt "
            "puts words around each text)"
        )
    refuse_unknown_columns(recipe)
    collected = findings if findings is not None else new_findings(recipe)
    parts: DataSplit[Any] = prepare(
        recipe.data,
        folder,
        parser_of(recipe),
        seed=recipe.train.seed,
        # a private run chooses no checkpoint, so it holds nothing back
        validation_fraction=0.0 if recipe.privacy else recipe.train.validation_fraction,
        findings=collected,
        texts=text_columns(recipe),
        scan_personal_data=scan_personal_data,
        open_bar=open_bar,
        guess_columns=partial(likely_columns, recipe.recipe),
    )
    if recipe.recipe == "classification":
        find_label_faults(parts, recipe.data, collected)
    if findings is None:
        collected.raise_errors(among=catalog.STRUCTURAL if is_trained else None)
    domain = _domain(recipe, parts, labels)
    if findings is None:
        domain.tasks  # noqa: B018 (an unknown task is refused now, not after training)
    return domain


def _domain(recipe: Recipe, parts: DataSplit[Any], trained: Sequence[str]) -> Domain:
    test = _chosen(parts.test, recipe)
    max_length = recipe.train.max_length
    if recipe.recipe == "classification":
        labels, is_multi_label = classification.labels_of(parts)
        if set(trained) == set(labels):
            labels = tuple(trained)
        if is_multi_label and recipe.train.class_weights != "none":
            raise InputError(
                "train.class_weights: it weighs a row by its one label; here rows have several"
            )
        few = test[: recipe.eval.max_base_items]
        known = frozenset(labels)
        return Domain(
            parts=parts,
            head="sequence-classification",
            labels=labels,
            is_multi_label=is_multi_label,
            encode=lambda item, tokenizer, _: classification.encode(
                item, tokenizer, labels, max_length=max_length
            ),
            is_known=lambda item: known.issuperset(labels_in(item)),
            make_tasks=lambda: (
                _named(classification.tasks(test, few, labels), recipe),
                _named(classification.tasks(few, few, labels), recipe),
            ),
        )
    story = qa if recipe.recipe == "qa" else chat

    def make_tasks() -> tuple[list[Task], list[Task]]:
        tasks = _named(story.tasks(test, recipe.eval), recipe)
        return tasks, tasks

    return Domain(
        parts=parts,
        head="causal-lm",
        labels=(),
        is_multi_label=False,
        encode=lambda item, tokenizer, stop_ids: story.encode(
            item, tokenizer, max_length=max_length, stop_ids=stop_ids
        ),
        is_known=lambda _: True,
        make_tasks=make_tasks,
    )


def parser_of(recipe: Recipe) -> Parse[Any]:
    """Return what turns a row into an item of the recipe's domain."""
    if recipe.recipe == "chat":
        return chat.parse
    return classification.parse if recipe.recipe == "classification" else qa.parse


_NO_TEXTS = frozenset({"id", "group", "document"})
_OTHER_CHAT_COLUMNS = ("conversations", "history", "system", "functions", "replies", "chosen")


def text_columns(recipe: Recipe) -> frozenset[str]:
    """Return the columns (theirs) whose texts reach the model; ids and groups do not."""
    story = {"chat": chat, "classification": classification, "qa": qa}[recipe.recipe]
    columns = recipe.data.columns
    theirs = {columns.get(name, name) for name in story.COLUMNS if name not in _NO_TEXTS}
    if recipe.recipe == "chat":
        theirs.update(_OTHER_CHAT_COLUMNS)
    if recipe.recipe == "qa":
        theirs.add("answer")
    return frozenset(theirs)


def refuse_unknown_columns(recipe: Recipe) -> None:
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


def _chosen(rows: Sequence[DataRow[Any]], recipe: Recipe) -> list[Any]:
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
