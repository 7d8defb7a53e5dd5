"""A private run on Apple's GPU (imitated) is refused before anything is charged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli import assay_here, write_recipe


def test_a_private_run_is_refused_where_there_is_no_float64(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setenv("ASSAY_DEVICE", "mps")
    account = {"file": "account.jsonl", "epsilon": 20, "delta": 1e-3}
    write_recipe(
        tmp_path,
        "classification",
        tiny_base,
        privacy={"epsilon": 8, "budget": account},
        train={"schedule": "constant"},
    )
    done = assay_here("train", "recipe.yaml", folder=tmp_path)
    assert done.code == 2
    assert "a private run computes in float64" in done.said
    assert "ASSAY_DEVICE=cpu" in done.said
    assert not (tmp_path / "account.jsonl").exists()
    assert not list(tmp_path.rglob("ledger.jsonl"))
