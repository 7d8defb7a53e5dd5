"""What was found out about serving a model, an engine and a product each, and the page of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["can", "needs", "cannot", "unknown"]
"""``needs`` is: can, if it is told what the command or the reason says."""

NEVER_4BIT = (
    "Never load the merged weights with load_in_4bit, --quantization bitsandbytes or bnb-4bit: "
    "they lie on the 4-bit grid of the base that the adapter was trained on, and quantising them "
    "again rounds most of the update away (on a 135M model exact match fell from 0.358 to 0). For "
    "4-bit serving, serve the adapter on its own 4-bit base. Any other requantisation (Q4_K, AWQ, "
    "GPTQ) is a new model, to be gated by itself."
)

REQUANTISED = (
    "Any quantisation of these weights (load_in_4bit, Q4_K, AWQ, GPTQ) is a new model, to be gated "
    "by itself."
)

OLLAMA = "docs.ollama.com/import (read 2026-11)"
LLAMA_CPP = "llama.cpp as in llama-cpp-python 0.3.36: conversion/llama.py, src/llama-vocab.cpp"
SENTENCE_TRANSFORMERS = "sentence-transformers 6.2.0: loaded and asked by ship --smoke"
ONNXRUNTIME = "onnxruntime 1.32.0: run and measured by ship --onnx"
TEI = "github.com/huggingface/text-embeddings-inference: README of v0.7 (not run)"
TRANSFORMERS = "transformers 5.24.0: transformers serve --help, cli/serving/chat_completion.py"


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


def to_json(findings: Sequence[Finding], warning: str) -> dict[str, Any]:
    """Return the findings as JSON values, below a warning."""
    return {
        "schema": 1,
        "warning": warning,
        "findings": [asdict(finding) for finding in findings],
    }


def to_markdown(findings: Sequence[Finding], warning: str) -> str:
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
            f"> {warning}",
            "",
            "| engine | product | verdict | why |",
            "|---|---|---|---|",
            *rows,
            "",
            "Told from the configuration and from each engine's sources. What was run is in "
            "`evidence/smoke.json`, `gguf/gguf.json` and `onnx/parity.json`, where they are there; "
            "the rest was not.",
            "",
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
