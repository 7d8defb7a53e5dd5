"""Which engine can serve a folder, with which flags, and why not: from its configuration alone.

Each rule names its source and the version that was read. Nothing here was run on the engines but
what says so (transformers by `recipes.handover.smoke`, llama.cpp by `recipes.handover.parity`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from recipes.errors import InputError
from recipes.handover import gguf

Verdict = Literal["can", "needs", "cannot", "unknown"]
"""``needs`` is: can, if it is told what the command or the reason says."""

NEVER_4BIT = (
    "Never load the merged weights with load_in_4bit, --quantization bitsandbytes or bnb-4bit: "
    "they lie on the 4-bit grid of the base that the adapter was trained on, and quantising them "
    "again rounds most of the update away (on a 135M model exact match fell from 0.358 to 0). For "
    "4-bit serving, serve the adapter on its own 4-bit base. Any other requantisation (Q4_K, AWQ, "
    "GPTQ) is a new model, to be gated by itself."
)

_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_VLLM_DEFAULT_RANK = 16

_VLLM_SERVE = "vllm serve's other flags: recalled, not looked up"
_VLLM_LORA = (
    "github.com/vllm-project/vllm, vllm/config/lora.py and vllm/lora/peft_helper.py (v0.27.1)"
)
_VLLM_DORA = "github.com/vllm-project/vllm/issues/10849 and pull/47395 (open in 2026-07)"
_VLLM_HEAD = "github.com/vllm-project/vllm/issues/9280; vllm/lora/peft_helper.py (v0.27.1)"
_VLLM_POOLING = "docs.vllm.ai/en/v0.18.0/models/pooling_models"
_VLLM_DEFAULTS = "github.com/vllm-project/vllm/pull/11164 (--generation-config)"
_SGLANG_SERVE = (
    "mintlify.com/sgl-project/sglang/backend/server-arguments (read 2026-11); --sampling-defaults "
    "from SGLang's own tests"
)
_SGLANG_LORA = "docs.sglang.io/docs/advanced_features/lora (read 2026-11)"
_SGLANG_CONFIG = "github.com/sgl-project/sglang, python/sglang/srt/lora/lora_config.py (0ceb81f)"
_OLLAMA = "docs.ollama.com/import (read 2026-11)"
_LLAMA_CPP = "llama.cpp as in llama-cpp-python 0.3.36: conversion/llama.py, src/llama-vocab.cpp"
_TRANSFORMERS = "transformers 5.24.0: transformers serve --help, cli/serving/chat_completion.py"


@dataclass(frozen=True)
class Finding:
    """Whether one engine can serve one product."""

    engine: str
    product: str
    """merged model, GGUF file, or adapter."""

    verdict: Verdict
    command: str
    """Run in the folder; empty if it cannot."""

    reason: str
    source: str


def check(folder: Path) -> list[Finding]:
    """Return what each engine can do with a folder: of a merged model, of an adapter, or both.

    Raises:
        InputError: if it is neither.
    """
    config_path, adapter_path = folder / "config.json", folder / "adapter_config.json"
    found: list[Finding] = []
    if config_path.is_file():
        found += _of_merged(folder, json.loads(config_path.read_text(encoding="utf-8")))
    if adapter_path.is_file():
        found += of_adapter(json.loads(adapter_path.read_text(encoding="utf-8")))
    if not found:
        raise InputError(
            f"{folder} holds neither a model (config.json) nor an adapter (adapter_config.json)"
        )
    return found


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as JSON values."""
    return {
        "schema": 1,
        "warning": NEVER_4BIT,
        "findings": [asdict(finding) for finding in findings],
    }


def to_markdown(findings: Sequence[Finding], notes: Sequence[str] = ()) -> str:
    """Return SERVING.md: the warning, a table, the commands, the sources."""
    rows = [f"| {f.engine} | {f.product} | {f.verdict} | {_cell(f.reason)} |" for f in findings]
    commands = [
        f"**{f.engine}, {f.product}**\n\n```sh\n{f.command}\n```\n" for f in findings if f.command
    ]
    sources = [f"- {f.engine}, {f.product}: {f.source}" for f in findings]
    return "\n".join(
        [
            "# Serving this model",
            "",
            f"> {NEVER_4BIT}",
            "",
            "| engine | product | verdict | why |",
            "|---|---|---|---|",
            *rows,
            "",
            *[f"- {note}" for note in notes],
            *([""] if notes else []),
            "## Commands, run in this folder",
            "",
            *commands,
            "Leave the endpoints that load adapters at run time off (vLLM's "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING is for trusted, local use).",
            "",
            "## Sources",
            "",
            *sources,
            "",
        ]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _of_merged(folder: Path, config: dict[str, Any]) -> list[Finding]:
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture.endswith("ForSequenceClassification"):
        return _of_classifier(config)
    defaults = _sampling_defaults(folder)
    length = config.get("max_position_embeddings")
    context = f" --max-model-len {length}" if isinstance(length, int) and length <= 8192 else ""
    has_template = _has_chat_template(folder)
    chat = "" if has_template else " It has no chat template, so only completions, not chats."
    told = (
        f"generation_config.json sets {', '.join(defaults)}, which the engine would apply to every "
        "request; the evaluation was greedy and without them, so the flag turns them off."
        if defaults
        else "A plain 16-bit model. Ask with temperature 0 for the evaluated answers."
    )
    flag = " --generation-config vllm" if defaults else ""
    found = [
        Finding(
            "transformers",
            "merged model",
            "can" if has_template else "needs",
            "transformers serve . --host 127.0.0.1",
            f"Needs pip install 'transformers[serving]'; for trying out, not for load.{chat}",
            _TRANSFORMERS,
        ),
        Finding(
            "vLLM",
            "merged model",
            "needs" if defaults else "can",
            f"vllm serve . --dtype {_dtype(config)}{context}{flag}",
            told + chat,
            f"{_VLLM_DEFAULTS}; {_VLLM_SERVE}",
        ),
        Finding(
            "SGLang",
            "merged model",
            "needs" if defaults else "can",
            f"python -m sglang.launch_server --model-path . --dtype {_dtype(config)}"
            + (" --sampling-defaults openai" if defaults else ""),
            told + chat,
            _SGLANG_SERVE,
        ),
    ]
    return found + _of_gguf(folder)


def _of_gguf(folder: Path) -> list[Finding]:
    """Say whether the model can be a GGUF file, and what serves that."""
    try:
        gguf.check(folder)
    except InputError as error:
        reason = str(error).removeprefix(f"{folder}/").removeprefix(f"{folder} ")
        return [
            Finding(engine, "GGUF file", "cannot", "", f"Not written here: {reason}", source)
            for engine, source in (("llama.cpp", _LLAMA_CPP), ("Ollama", _OLLAMA))
        ]
    files = sorted(p.name for p in (folder / "gguf").glob("*.gguf"))
    name = files[-1] if files else "model-Q8_0.gguf"
    there = "" if files else " Not in this folder: ship it with --gguf Q8_0 or F16."
    has_modelfile = (folder / "gguf" / "Modelfile").is_file()
    return [
        Finding(
            "llama.cpp",
            "GGUF file",
            "can" if files else "needs",
            f"llama-server -m gguf/{name} --jinja --host 127.0.0.1",
            f"Measured against the 16-bit folder in gguf/gguf.json.{there}"
            if files
            else f"A Llama with a tokenizer whose rule llama.cpp knows.{there}",
            _LLAMA_CPP,
        ),
        Finding(
            "Ollama",
            "GGUF file",
            "can" if has_modelfile else "needs",
            "cd gguf && ollama create my-model -f Modelfile && ollama run my-model",
            "The Modelfile holds template, stops and greedy sampling; Ollama's own defaults sample "
            "and penalise."
            if has_modelfile
            else f"Needs a GGUF file and a Modelfile.{there}",
            _OLLAMA,
        ),
    ]


def _of_classifier(config: dict[str, Any]) -> list[Finding]:
    num_labels = len(config.get("id2label") or {})
    is_multi_label = config.get("problem_type") == "multi_label_classification"
    head = f"A classification head of {num_labels} labels: no chat, no completions."
    sigmoid = (
        " Several labels may hold at once: check that the engine applies a sigmoid, not a softmax."
        if is_multi_label
        else ""
    )
    none = f"{head} The engine serves language models only."
    return [
        Finding(
            "transformers",
            "merged model",
            "needs",
            "python -c 'from transformers import pipeline; "
            'print(pipeline("text-classification", model=".")("text", top_k=None))\'',
            f"{head} transformers serve has no route for it; a pipeline has.{sigmoid}",
            _TRANSFORMERS,
        ),
        Finding(
            "vLLM",
            "merged model",
            "needs",
            f"vllm serve . --runner pooling --dtype {_dtype(config)}",
            f"{head} Asked at /classify.{sigmoid}",
            _VLLM_POOLING,
        ),
        Finding(
            "SGLang",
            "merged model",
            "unknown",
            "",
            f"{head} SGLang documents classifiers for some architectures only; not looked up for "
            "this one.",
            "none",
        ),
        Finding("llama.cpp", "GGUF file", "cannot", "", none, _LLAMA_CPP),
        Finding("Ollama", "GGUF file", "cannot", "", none, _OLLAMA),
    ]


def of_adapter(adapter: dict[str, Any]) -> list[Finding]:
    """Return what each engine can do with an adapter, from its ``adapter_config.json``."""
    highest = max([adapter.get("r", 0), *(adapter.get("rank_pattern") or {}).values()])
    return [
        _vllm_adapter(adapter, highest),
        _sglang_adapter(adapter, highest),
        Finding(
            "transformers",
            "adapter",
            "needs",
            "python -c 'from peft import PeftModel; from transformers import AutoModelForCausalLM; "
            'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("BASE"), ".")\'',
            "peft loads it on its base, which must be the one of the quantisation record (4-bit if "
            "it was trained so); transformers serve takes whole models.",
            _TRANSFORMERS,
        ),
        Finding(
            "llama.cpp",
            "adapter",
            "cannot",
            "",
            "An adapter becomes a GGUF by llama.cpp's convert_lora_to_gguf.py, which is not run "
            "here; serve the merged GGUF.",
            _LLAMA_CPP,
        ),
        Finding(
            "Ollama",
            "adapter",
            "cannot",
            "",
            "Ollama's import advises against adapters trained on a quantised base; serve the "
            "merged GGUF.",
            _OLLAMA,
        ),
    ]


BASE_NOTE = (
    "Serve it on the dequantised base that it was trained on, or in 4-bit as trained; on the "
    "original 16-bit base it is another model, to be evaluated by itself."
)


def _vllm_adapter(adapter: dict[str, Any], highest: int) -> Finding:
    refused = {
        "DoRA (use_dora)": (bool(adapter.get("use_dora")), _VLLM_DORA),
        "modules_to_save": (bool(adapter.get("modules_to_save")), _VLLM_HEAD),
        "bias other than none": (adapter.get("bias", "none") != "none", _VLLM_LORA),
        "an embedding adapter of a classifier": (adapter.get("task_type") == "SEQ_CLS", _VLLM_HEAD),
        f"rank {highest}, over {_VLLM_RANKS[-1]}": (highest > _VLLM_RANKS[-1], _VLLM_LORA),
    }
    wrong = {name: source for name, (is_wrong, source) in refused.items() if is_wrong}
    if wrong:
        return Finding(
            "vLLM",
            "adapter",
            "cannot",
            "",
            f"vLLM refuses {' and '.join(wrong)}; serve the merged model.",
            "; ".join(dict.fromkeys(wrong.values())),
        )
    allowed = next(rank for rank in _VLLM_RANKS if rank >= highest)
    flag = f" --max-lora-rank {allowed}" if allowed > _VLLM_DEFAULT_RANK else ""
    return Finding(
        "vLLM",
        "adapter",
        "needs",
        f"vllm serve BASE --enable-lora{flag} --lora-modules my-model=.",
        f"Rank {highest}; --max-lora-rank takes only {', '.join(map(str, _VLLM_RANKS))} and is "
        f"{_VLLM_DEFAULT_RANK} by default. {BASE_NOTE}",
        _VLLM_LORA,
    )


def _sglang_adapter(adapter: dict[str, Any], highest: int) -> Finding:
    odd = [
        name
        for name in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern")
        if adapter.get(name)
    ]
    if odd:
        return Finding(
            "SGLang",
            "adapter",
            "unknown",
            "",
            f"It has {', '.join(odd)}, of which SGLang's documentation says nothing; serve the "
            "merged model.",
            f"{_SGLANG_LORA}; {_SGLANG_CONFIG}",
        )
    return Finding(
        "SGLang",
        "adapter",
        "needs",
        "python -m sglang.launch_server --model-path BASE --enable-lora --lora-paths my-model=. "
        f"--max-lora-rank {highest}",
        f"Adapters loaded later must fit the rank given at the start. {BASE_NOTE}",
        _SGLANG_LORA,
    )


def _sampling_defaults(folder: Path) -> list[str]:
    """Return what generation_config.json would change about greedy answers."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return []
    told = json.loads(path.read_text(encoding="utf-8"))
    plain = {
        "do_sample": False,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 50,
        "repetition_penalty": 1.0,
        "min_p": None,
    }
    return [k for k, default in plain.items() if told.get(k) not in (None, default)]


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    path = folder / "tokenizer_config.json"
    return path.is_file() and "chat_template" in json.loads(path.read_text(encoding="utf-8"))


def _dtype(config: dict[str, Any]) -> str:
    told = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    return str(told) if told in ("float16", "bfloat16") else "bfloat16"
