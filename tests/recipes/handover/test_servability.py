"""What each engine can serve, told from configuration alone, with flags, reason and source."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from recipes.errors import InputError
from recipes.handover import adapters, finding, servability
from recipes.handover.finding import Finding
from tests.recipes.handover.folders import edit_json

PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 16,
    "lora_alpha": 32,
    "bias": "none",
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "task_type": "CAUSAL_LM",
}


@pytest.fixture
def folder(mergeable: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mergeable, tmp_path / "model"))


def of(findings: list[Finding], engine: str, product: str) -> Finding:
    (found,) = [f for f in findings if (f.engine, f.product) == (engine, product)]
    return found


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({}, ""),
        ({"r": 1}, ""),
        ({"r": 9}, ""),
        ({"r": 17}, "--max-lora-rank 32"),
        ({"r": 64}, "--max-lora-rank 64"),
        ({"r": 300}, "--max-lora-rank 320"),
        ({"rank_pattern": {"q_proj": 100}}, "--max-lora-rank 128"),
    ],
)
def test_vllm_is_told_the_next_rank_that_it_takes(values: dict[str, Any], flag: str) -> None:
    found = of(adapters.of_adapter(PLAIN | values), "vLLM", "adapter")
    assert found.verdict == "needs"
    assert ("--max-lora-rank" in found.command) == bool(flag)
    assert flag in found.command
    assert "dequantised base" in found.reason


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"r": 513}, "rank 513"),
        ({"task_type": "SEQ_CLS", "modules_to_save": ["score"]}, "classifier"),
    ],
)
def test_vllm_refuses_what_its_source_refuses(values: dict[str, Any], reason: str) -> None:
    found = of(adapters.of_adapter(PLAIN | values), "vLLM", "adapter")
    assert (found.verdict, found.command) == ("cannot", "")
    assert reason in found.reason
    assert "vllm-project/vllm" in found.source


def test_what_nobody_documents_is_unknown_and_not_yes() -> None:
    found = of(adapters.of_adapter(PLAIN | {"use_dora": True}), "SGLang", "adapter")
    assert (found.verdict, found.command) == ("unknown", "")


def test_a_merged_language_model_is_served_everywhere(folder: Path) -> None:
    findings = servability.check(folder)
    assert of(findings, "vLLM", "merged model").verdict == "can"
    assert of(findings, "transformers", "merged model").verdict == "can"
    assert "--dtype bfloat16" in of(findings, "vLLM", "merged model").command
    assert of(findings, "llama.cpp", "GGUF file").verdict == "needs"
    assert "--gguf" in of(findings, "llama.cpp", "GGUF file").reason


def test_sampling_that_the_folder_asks_for_is_turned_off(folder: Path) -> None:
    edit_json(folder / "generation_config.json", do_sample=True, repetition_penalty=1.1, top_k=50)
    findings = servability.check(folder)
    vllm, sglang = (of(findings, name, "merged model") for name in ("vLLM", "SGLang"))
    assert (vllm.verdict, sglang.verdict) == ("needs", "needs")
    assert "--generation-config vllm" in vllm.command
    assert "--sampling-defaults openai" in sglang.command
    assert "do_sample, repetition_penalty" in vllm.reason
    assert "top_k" not in vllm.reason  # transformers' own default


def test_a_gguf_file_that_is_there_is_named(folder: Path) -> None:
    (folder / "gguf").mkdir()
    for name in ("model-F16.gguf", "Modelfile"):
        (folder / "gguf" / name).touch()
    findings = servability.check(folder)
    assert of(findings, "llama.cpp", "GGUF file").verdict == "can"
    assert "gguf/model-F16.gguf" in of(findings, "llama.cpp", "GGUF file").command
    assert of(findings, "Ollama", "GGUF file").verdict == "can"


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_a_classifier_is_no_chat_and_no_gguf(folder: Path, problem: str) -> None:
    edit_json(
        folder / "config.json",
        architectures=["LlamaForSequenceClassification"],
        id2label={"0": "a", "1": "b", "2": "c"},
        problem_type=problem,
    )
    findings = servability.check(folder)
    assert {f.engine for f in findings if f.verdict == "cannot"} == {"llama.cpp", "Ollama"}
    vllm = of(findings, "vLLM", "merged model")
    assert "--runner pooling" in vllm.command
    assert "3 labels" in vllm.reason
    assert ("sigmoid" in vllm.reason) == problem.startswith("multi")


def test_another_architecture_is_told_why_it_is_no_gguf(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=["Qwen2ForCausalLM"])
    found = of(servability.check(folder), "llama.cpp", "GGUF file")
    assert found.verdict == "cannot"
    assert "Qwen2ForCausalLM" in found.reason
    assert str(folder) not in json.dumps(finding.to_json(servability.check(folder), ""))


def test_every_finding_has_a_reason_and_every_command_an_engine(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN))
    for found in servability.check(folder):
        assert found.reason
        assert found.source
        assert bool(found.command) == (found.verdict in ("can", "needs"))


def test_the_page_warns_first_and_shows_every_command(folder: Path) -> None:
    findings = servability.check(folder)
    page = finding.to_markdown(findings, servability.warning(folder))
    assert "load_in_4bit" in page.splitlines()[2]
    for found in findings:
        assert found.command in page
        assert f"| {found.engine} | {found.product} | {found.verdict} |" in page


@pytest.mark.parametrize(
    ("into", "warning"),
    [
        ("dequantised nf4", finding.NEVER_4BIT),
        ("original weights", finding.REQUANTISED),
    ],
)
def test_the_warning_is_about_the_weights_that_are_there(
    folder: Path, into: str, warning: str
) -> None:
    assert servability.warning(folder) == finding.NEVER_4BIT  # nobody says what they are
    (folder / "merge.json").write_text(json.dumps({"into": into}))
    assert servability.warning(folder) == warning


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a model"):
        servability.check(tmp_path)
