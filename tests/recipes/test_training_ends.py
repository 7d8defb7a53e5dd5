"""A training that ends between the adapter and its record goes on to the same end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from privacy.ledger import verify
from recipes import provenance
from tests.cli import assay_here, write_recipe

WEIGHTS = Path("adapter") / "adapter_model.safetensors"


def stop_before_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    add = provenance.add

    def stopped(path: Path, key: str, value: Any) -> None:
        if key == "training":
            raise KeyboardInterrupt
        add(path, key, value)

    monkeypatch.setattr(provenance, "add", stopped)


@pytest.mark.parametrize("is_private", [False, True], ids=["plain", "private"])
def test_it_goes_on(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, is_private: bool
) -> None:
    settings: dict[str, Any] = {"privacy": {"epsilon": 8}} if is_private else {}
    write_recipe(tmp_path, "classification", tiny_base, **settings)
    run = tmp_path / "runs" / "a-run"
    with monkeypatch.context() as patch:
        stop_before_the_record(patch)
        assert assay_here("train", "recipe.yaml", folder=tmp_path).code == 130
    interrupted = (run / WEIGHTS).read_bytes()
    refused = assay_here("eval", str(run), folder=tmp_path)
    assert (refused.code, "training was" in refused.err) == (5, True), refused.err
    done = assay_here("train", "recipe.yaml", folder=tmp_path)
    assert done.code == 0, done.err
    record = json.loads((run / "record.json").read_text())
    assert record["training"]["num_steps"] == record["training"]["num_planned_steps"]
    assert record["personal_data"]["all_kinds_searched"]  # as before a first training
    assert not (run / "checkpoints").exists()
    assert (run / WEIGHTS).read_bytes() == interrupted
    if is_private:  # nothing is charged twice
        assert verify(run / "ledger.jsonl").steps_charged == record["training"]["num_steps"]
    assert assay_here("eval", str(run), folder=tmp_path).code == 0
