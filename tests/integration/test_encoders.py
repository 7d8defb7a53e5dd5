"""The main job on encoders: run, plain and private, gated, merged, shipped, verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import encoders
from tests.cli import assay_here, write_recipe

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("is_private", [False, True], ids=["plain", "private"])
@pytest.mark.parametrize("kind", encoders.KINDS)
@pytest.mark.parametrize("pooling", ["model", "mean"])
def test_a_classifier_on_an_encoder_goes_the_whole_way(
    tmp_path: Path, kind: str, pooling: str, is_private: bool
) -> None:
    source = encoders.make_encoder(tmp_path / "base", kind)
    # what a probe of random features begins at, a large step would throw away
    settings: dict[str, Any] = {"train": {"learning_rate": 1e-3}}
    if is_private:
        settings["privacy"] = {"epsilon": 8}
    write_recipe(tmp_path, "classification", source, **settings)
    edited = json.loads((tmp_path / "recipe.yaml").read_text())
    edited["base"] |= {"quantization": "none", "pooling": pooling}
    edited["eval"] = {"max_base_items": 4}  # of fewer rows than there are, which encoders ignore
    (tmp_path / "recipe.yaml").write_text(json.dumps(edited))
    done = assay_here("run", "recipe.yaml", "--json", folder=tmp_path)
    assert done.code == 0, done.err
    run = tmp_path / "runs" / "a-run"
    assert (run / "merged" / "2_Dense" / "model.safetensors").is_file() == (pooling == "mean")
    record = json.loads((run / "record.json").read_text())
    assert record["is_private"] == is_private
    shipped = assay_here("ship", str(run), "-o", "release", "--unsigned", folder=tmp_path)
    assert shipped.code == 0, shipped.err
    assert assay_here("verify", "release", folder=tmp_path).code == 0
