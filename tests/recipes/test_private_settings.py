"""What no private run may have is refused when the recipe is read, or before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privacy.errors import PrivacyError
from recipes import config
from recipes.errors import InputError
from recipes.training import private_plan
from tests.cli import write_recipe

PRIVATE = {"epsilon": None, "noise_multiplier": 1.0}


def plan_of(folder: Path, num_examples: int = 1000, **sections: Any) -> None:
    sections["privacy"] = PRIVATE | sections.get("privacy", {})
    recipe = config.load(write_recipe(folder, "qa", folder / "base", **sections))
    private_plan(recipe, num_examples)


@pytest.mark.parametrize(
    ("sections", "reason", "figure"),
    [
        ({"train": {"packing": True}}, "share a record", "no epsilon"),
        ({"train": {"padding_free": True}}, "one clip", "21.9"),
        ({"train": {"gradient_accumulation_steps": 8}}, "draw of its own", "4.214"),
        ({"train": {"label_smoothing_factor": 0.1}}, "couples", "no epsilon"),
        ({"train": {"load_best_model_at_end": True}}, "choose the checkpoint", "no epsilon"),
        ({"data": {"streaming": True}}, "hides nobody", "11.028"),
        ({"train": {"group_by_length": True}}, "hides nobody", "11.028"),
        ({"adapter": {"peft_type": "IA3"}}, "nothing clips it", "no epsilon"),
        ({"train": {"router_aux_loss_coef": 0.001}}, "experts", "no epsilon"),
        ({"privacy": {"accountant": "gdp"}}, "2.162", "3.373"),
        ({"privacy": {"seed": 42}}, "subtracts the noise", "no epsilon"),
        ({"privacy": {"noise_seed": 42}}, "subtracts the noise", "no epsilon"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_of_other_tools_are_refused_with_the_reason_and_a_figure(
    tmp_path: Path, sections: dict[str, Any], reason: str, figure: str
) -> None:
    with pytest.raises(InputError) as refusal:
        plan_of(tmp_path, **sections)
    assert reason in str(refusal.value)
    assert figure in str(refusal.value)
    assert "recipe.yaml:" in str(refusal.value)  # with its line


@pytest.mark.parametrize(
    ("sections", "key", "reason"),
    [
        ({"train": {"early_stopping": 3}}, "train.early_stopping", "decide when to stop"),
        ({"train": {"class_weights": "balanced"}}, "train.class_weights", "private labels"),
        ({"adapter": {"use_dora": True}}, "adapter.use_dora", "magnitudes"),
        ({"adapter": {"init": "pissa"}}, "adapter.init", "residual"),
    ],
)
def test_settings_of_ours_are_refused_before_anything_is_loaded(
    tmp_path: Path, sections: dict[str, Any], key: str, reason: str
) -> None:
    with pytest.raises(InputError) as refusal:
        plan_of(tmp_path, **sections)
    assert key in str(refusal.value)
    assert reason in str(refusal.value)


def test_an_adapter_that_begins_from_the_rows_cannot_be_asked_for(tmp_path: Path) -> None:
    for init in ("eva", "corda", "lora_ga"):
        with pytest.raises(InputError, match="init"):
            plan_of(tmp_path, adapter={"init": init})


def test_delta_of_one_over_n_is_refused_with_the_figure(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match=r"below 1 / n = 0\.001"):
        plan_of(tmp_path, privacy={"delta": 1e-3})
    plan_of(tmp_path, privacy={"delta": 9e-4})  # allowed; the audit warns above 1 / (10 n)


def test_a_clean_private_recipe_has_a_plan(tmp_path: Path) -> None:
    plan_of(tmp_path, train={"validation_fraction": 0.1})  # a private run holds nothing back


def test_what_only_people_can_say_stands_in_the_recipe(tmp_path: Path) -> None:
    said = {"report": {"owner": "Ms Example", "expires": "2027-01-31"}}
    plan_of(tmp_path, privacy=said)
    with pytest.raises(InputError, match="expires"):
        plan_of(tmp_path, privacy={"report": {"expires": "next year"}})
    with pytest.raises(InputError, match="unknown key"):
        plan_of(tmp_path, privacy={"report": {"boss": "x"}})
