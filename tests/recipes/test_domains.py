"""The three domains behind one face: what is asked of whom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from recipes import domains
from recipes.config import Recipe
from recipes.errors import InputError
from tests import tiny
from tests.recipes.rows import write_jsonl


def recipe_of(kind: str, **sections: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "recipe": kind,
            "base": {"checkpoint": "x"},
            "data": {"train": "rows.jsonl", "test_fraction": 0.5},
            "gate": {"accuracy": {"metric": "accuracy", "at_least": 0.0}},
        }
        | sections
    )


def test_each_recipe_reads_its_rows_and_has_tasks_of_all_three_families(tmp_path: Path) -> None:
    rows = {
        "qa": tiny.qa_rows(16),
        "classification": tiny.class_rows(36),
        "chat": [{"messages": messages} for messages in tiny.chat_rows(12)],
    }
    for kind, ones in rows.items():
        write_jsonl(tmp_path / "rows.jsonl", ones)
        domain = domains.read(recipe_of(kind), tmp_path)
        assert {task.family for task in domain.tasks} == {"accuracy", "bias", "hallucination"}
        assert [t.name for t in domain.base_tasks] == [t.name for t in domain.tasks]
        assert (domain.head == "causal-lm") == (kind != "classification")
        assert domain.labels == (tiny.LABELS if kind == "classification" else ())
        assert domain.parts.validation, kind
        private = domains.read(recipe_of(kind, privacy={"epsilon": 8.0}), tmp_path)
        assert not private.parts.validation  # it would be chosen by, which costs budget


def test_the_base_of_a_classification_is_asked_fewer_of_the_same_items(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", tiny.class_rows(40))
    recipe = recipe_of("classification", eval={"max_base_items": 4, "max_items": 9})
    domain = domains.read(recipe, tmp_path)
    assert (domain.tasks[0].num_items, domain.base_tasks[0].num_items) == (9, 4)


def test_a_chat_template_is_refused_where_texts_are_classified(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", tiny.class_rows(40))
    base = {"checkpoint": "x", "chat_template": "own.jinja"}
    with pytest.raises(InputError, match=r"base\.chat_template: a classifier reads texts"):
        domains.read(recipe_of("classification", base=base), tmp_path)


def test_a_name_for_a_column_that_the_recipe_has_not_is_refused_with_the_nearest(
    tmp_path: Path,
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", tiny.class_rows(20))
    data = {"train": "rows.jsonl", "columns": {"gruop": "text"}}
    with pytest.raises(
        InputError, match=r"gruop is no column .*did you mean group\? It has id, te"
    ):
        domains.read(recipe_of("classification", data=data), tmp_path)


def test_only_the_tasks_that_are_named_are_asked_in_that_order(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", tiny.qa_rows(16))
    names = ["unsupported_answers", "question_answering"]
    domain = domains.read(recipe_of("qa", eval={"tasks": names}), tmp_path)
    assert [task.name for task in domain.tasks] == names
    with pytest.raises(InputError, match=r"eval\.tasks: f1, rouge is no task of the qa recipe"):
        domains.read(recipe_of("qa", eval={"tasks": ["f1", "bbq_form", "rouge"]}), tmp_path)


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("adapter.whiten_head", {"adapter": {"whiten_head": True}}),
        ("adapter.prompt", {"adapter": {"prompt": "{text}\nTopic:"}}),
        ("train.class_weights", {"train": {"class_weights": "balanced"}}),
    ],
)
def test_what_only_a_classifier_has_is_refused_elsewhere(
    tmp_path: Path, key: str, setting: dict[str, Any]
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", tiny.qa_rows(16))
    with pytest.raises(InputError, match=f"^{re.escape(key)}: for the classification recipe alone"):
        domains.read(recipe_of("qa", **setting), tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", tiny.class_rows(16))
    domains.read(recipe_of("classification", **setting), tmp_path)


def test_rows_of_several_labels_have_no_class_weights(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "labels": [tiny.LABELS[i % 3]]} for i in range(16)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=r"train\.class_weights: .*here rows have several"):
        domains.read(recipe_of("classification", train={"class_weights": "balanced"}), tmp_path)
