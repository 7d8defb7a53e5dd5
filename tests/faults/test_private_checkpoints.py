"""A damaged checkpoint of a private run: the one before is taken, and each charge stays charged."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from privacy.ledger import Ledger, verify
from privacy.trainer import LEDGER_HEAD
from tests.cli import assay_here, write_recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damaged", "is_whole"),
    [(LEDGER_HEAD, True), ("optimizer.pt", True), ("adapter_model.safetensors", False)],
)
def test_a_damaged_checkpoint_of_a_private_run_costs_steps_and_never_a_charge(
    tiny_base: Path, tmp_path: Path, damaged: str, is_whole: bool
) -> None:
    """With ``is_whole`` an older checkpoint is left; else the run begins anew, and pays on."""
    write_recipe(
        tmp_path,
        "classification",
        tiny_base,
        # each step is saved
        train={"epochs": 3, "evaluations_per_epoch": 4},
        privacy={"epsilon": None, "noise_multiplier": 4.0},
    )
    charge = Ledger.charge

    def die(self: Ledger, step: int, **more: Any) -> None:
        if step == 4:
            raise KeyboardInterrupt
        charge(self, step, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "charge", die)
        assert assay_here("train", "recipe.yaml", folder=tmp_path).code == 130
    run = tmp_path / "runs" / "a-run"
    for path in (run / "checkpoints").glob("checkpoint-[0-9]*"):
        if path.name == "checkpoint-3" or not is_whole:
            (path / damaged).unlink()

    done = assay_here("train", "recipe.yaml", folder=tmp_path)
    assert done.code == 0, done.err
    told = f"checkpoint-3 cannot be used: {damaged} is missing. It is kept as damaged-checkpoint-3"
    assert told in done.err
    record = json.loads((run / "record.json").read_text())
    assert told in record["training_notes"]
    summary = verify(run / "ledger.jsonl")
    assert summary.steps_charged == summary.plan.steps
    again = [step for step, times in Counter(summary.steps).items() if times == 2]
    assert again == ([3] if is_whole else [1, 2, 3])
    assert record["training"]["num_steps"] == summary.plan.steps - len(again)
    assert f"Only {summary.plan.steps - len(again)} of {summary.plan.steps} planned" in done.err
