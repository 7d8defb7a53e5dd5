"""Which engine can serve an adapter beside others on one base, with which flags, and why not."""

from __future__ import annotations

from typing import Any

from recipes.handover import finding
from recipes.handover.finding import Finding

_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_VLLM_DEFAULT_RANK = 16

_VLLM_LORA = "github.com/vllm-project/vllm, vllm/config/lora.py (01230b4; the same in v0.27.1)"
_VLLM_DORA = "github.com/vllm-project/vllm/issues/10849; pull/47395 was open in 2026-07"
_VLLM_HEAD = "github.com/vllm-project/vllm/issues/9280; vllm/lora/peft_helper.py (0214369)"
_VLLM_BIAS = (
    "github.com/vllm-project/vllm, vllm/lora/peft_helper.py, in later copies: 'Adapter bias is not "
    "supported.'"
)
_SGLANG_LORA = "docs.sglang.io/docs/advanced_features/lora (read 2026-11)"
_SGLANG_CONFIG = "github.com/sgl-project/sglang, python/sglang/srt/lora/lora_config.py (0ceb81f)"


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
            finding.TRANSFORMERS,
        ),
        Finding(
            "llama.cpp",
            "adapter",
            "cannot",
            "",
            "An adapter becomes a GGUF by llama.cpp's convert_lora_to_gguf.py, which is not run "
            "here; serve the merged GGUF.",
            finding.LLAMA_CPP,
        ),
        Finding(
            "Ollama",
            "adapter",
            "cannot",
            "",
            "Ollama's import advises against adapters trained on a quantised base; serve the "
            "merged GGUF.",
            finding.OLLAMA,
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
        "bias other than none": (adapter.get("bias", "none") != "none", _VLLM_BIAS),
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
