"""The base of a run is read as when the run began, whatever is new in how bases are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune import adapter as adapters
from finetune import checkpoint, gguf_base
from finetune.config import AdapterConfig
from finetune.quantization import VERSION, Quantization
from recipes import provenance
from recipes.config import Recipe
from recipes.run import RECORD, Run, base_folder, held_as
from tests.recipes import whole


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run on a GGUF file, of which the cache's folder says the version."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(gguf_base, "materialize", lambda _, version: tmp_path / f"v{version}")
    recipe = Recipe.model_validate(
        {
            "recipe": "classification",
            "name": "first",
            "base": {"checkpoint": str(tmp_path / "model.gguf")},
            "data": {"train": "rows.csv"},
            "gate": {},
        }
    )
    (tmp_path / "first").mkdir()
    return Run(recipe, tmp_path / "first", tmp_path)


def record(run: Run, **base: Any) -> None:
    (run.folder / RECORD).write_text(
        json.dumps(whole.RECORD | {"source": str(run.source), "base": whole.RECORD["base"] | base})
    )


def train(run: Run, tiny_base: Path, version: int) -> Quantization:
    held = Quantization("nf4", compute_dtype="float32", version=version)
    base = checkpoint.load(tiny_base, quantization="nf4", dtype=torch.float32, held_as=held)
    model = adapters.inject(base, AdapterConfig(rank=4, alpha=8.0, targets=["q_proj"]))
    adapters.save(model, base, run.folder / "adapter")
    found: Quantization = base.quantization
    return found


def test_a_run_that_begins_now_reads_its_base_as_now(run: Run) -> None:
    assert held_as(run) is None
    assert base_folder(run).name == f"v{VERSION}"


@pytest.mark.parametrize("version", [1, VERSION])
def test_a_trained_run_reads_its_base_as_its_adapter_says(
    run: Run, tiny_base: Path, version: int
) -> None:
    record(run)
    trained = train(run, tiny_base, version)
    assert held_as(run) == trained
    assert base_folder(run).name == f"v{version}"


def test_an_interrupted_run_goes_on_as_it_began(run: Run) -> None:
    record(run)  # as version 1 wrote it
    held = held_as(run)
    assert held is not None
    assert (held.kind, held.version, held.layer_codes) == ("nf4", 1, ())
    assert base_folder(run).name == "v1"
    record(run, weights_version=VERSION)
    held = held_as(run)
    assert held is not None
    assert held.version == VERSION
    assert base_folder(run).name == f"v{VERSION}"


def test_the_record_of_a_run_says_how_its_base_is_read(run: Run, tiny_base: Path) -> None:
    class Parts:
        def manifest(self) -> dict[str, Any]:
            return dict.fromkeys(("files", "fingerprint", "rows", "personal_data"))

    parts: Any = Parts()
    for version in (1, VERSION):
        held = Quantization("none", version=version)
        base = checkpoint.load(tiny_base, quantization="none", held_as=held)
        begun = provenance.begin(run.source, run.recipe, base, parts)
        assert begun["base"]["weights_version"] == version
