"""The main job on many kinds of base: trained in 4-bit, gated, merged, or refused at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests import tiny
from tests.cli import assay_here, write_recipe
from tests.finetune.test_chat_template import GEMMA

pytestmark = pytest.mark.slow

WIDTH = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
LLAMA_LIKE = WIDTH | {"num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 16}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
KINDS: dict[str, dict[str, Any]] = {
    "qwen2": LLAMA_LIKE,
    "gemma2": LLAMA_LIKE | {"query_pre_attn_scalar": 16},
    "mistral": LLAMA_LIKE | {"sliding_window": 400},
    "phi3": LLAMA_LIKE,
    "gpt_neox": WIDTH | {"num_hidden_layers": 2},
    "mixtral": LLAMA_LIKE | {"num_local_experts": 4},
    # blocks with experts and one without, whose linear layers peft would take for experts
    "qwen3_moe": LLAMA_LIKE | EXPERTS | {"num_experts": 4, "mlp_only_layers": [0]},
}


@pytest.mark.parametrize("is_private", [False, True], ids=["plain", "private"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_runs_on_it_to_a_proved_merge(tmp_path: Path, kind: str, is_private: bool) -> None:
    base = tiny.make_base(tmp_path / "base", kind=kind, **KINDS[kind])
    write_recipe(tmp_path, "qa", base, **({"privacy": {"epsilon": 8}} if is_private else {}))
    done = assay_here("run", "recipe.yaml", "--json", folder=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "runs" / "a-run" / "merged" / "merge.json").is_file()


def test_a_layer_whose_name_means_experts_to_peft_is_refused_where_it_is_asked_for(
    tmp_path: Path,
) -> None:
    base = tiny.make_base(tmp_path / "base", kind="qwen3_moe", **KINDS["qwen3_moe"])
    write_recipe(tmp_path, "qa", base, adapter={"targets": ["q_proj", "down_proj"]})
    done = assay_here("run", "recipe.yaml", folder=tmp_path)
    assert done.code == 2
    assert "down_proj: of a qwen3_moe" in done.said
    assert "k_proj, o_proj, q_proj, v_proj" in done.said


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4}, "transposed, as GPT-2 does"),
        (
            "mamba",
            {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8},
            "adapter.targets: .*out_proj",
        ),
    ],
)
def test_a_base_that_cannot_be_adapted_is_refused_before_it_is_trained(
    tmp_path: Path, kind: str, settings: dict[str, Any], message: str
) -> None:
    write_recipe(tmp_path, "qa", tiny.make_base(tmp_path / "base", kind=kind, **settings))
    done = assay_here("run", "recipe.yaml", folder=tmp_path)
    assert done.code == 2
    assert re.search(message, done.said)


@pytest.mark.parametrize("template", [None, GEMMA], ids=["none", "without system turns"])
@pytest.mark.parametrize("kind", ["qa", "classification"])
def test_a_base_whose_template_does_not_fit_is_trained_asked_and_merged_with_one_that_does(
    tmp_path: Path, kind: str, template: str | None
) -> None:
    base = tiny.make_base(tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    if template:
        (base / "chat_template.jinja").write_text(template)
    write_recipe(tmp_path, kind, base)
    done = assay_here("run", "recipe.yaml", "--json", folder=tmp_path)
    assert done.code == 0, done.err
    merged = tmp_path / "runs" / "a-run" / "merged"
    loaded = AutoTokenizer.from_pretrained(merged)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert "Be brief." in loaded.apply_chat_template(chat, tokenize=False)
    assert assay_here("ship", "runs/a-run", "-o", "out", "--unsigned", folder=tmp_path).code == 0
    assert assay_here("verify", "out", folder=tmp_path).code == 0
