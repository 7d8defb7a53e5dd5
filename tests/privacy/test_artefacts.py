"""What lies in a private run's folder, read line by line."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from privacy.artefacts import audit_artefacts


def statuses(folder: Path) -> set[str]:
    found = audit_artefacts(folder, texts=[], is_release=False)
    return {finding.status for finding in found if finding.id == "D3"}


def test_an_adapter_without_its_configuration_is_not_known_to_be_clipped(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    save_file(
        {name.format(x): torch.ones(2, 2) for x in "AB"}, adapter / "adapter_model.safetensors"
    )
    assert statuses(tmp_path) == {"fail"} | {"pass"}
    config = {"peft_type": "LORA", "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert statuses(tmp_path) == {"pass"}
