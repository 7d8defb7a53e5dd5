"""Small plans and models, made on the spot."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from privacy.plan import ADJACENCY, DPPlan

MakePlan = Callable[..., DPPlan]


def a_plan(*, num_examples: int = 20, rate: float = 0.2, steps: int = 5, **fields: Any) -> DPPlan:
    return DPPlan(
        **{
            "unit": "example",
            "adjacency": ADJACENCY,
            "num_examples": num_examples,
            "sample_rate": rate,
            "noise_multiplier": 1.0,
            "clipping_norm": 1.0,
            "steps": steps,
            "delta": 1e-5,
            "denominator": rate * num_examples,
            **fields,
        }
    )


@pytest.fixture
def make_a_plan() -> MakePlan:
    return a_plan


def tiny_llama(head: str = "causal-lm") -> nn.Module:
    """Two layers of width 32, in float32, the same at every call."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        num_labels=3,
        tie_word_embeddings=False,
    )
    kind = LlamaForCausalLM if head == "causal-lm" else LlamaForSequenceClassification
    model: nn.Module = kind(config)
    return model


def with_lora(model: nn.Module, head: str = "causal-lm", **options: Any) -> nn.Module:
    """Add LoRA on every linear layer, its B no longer zero, so that A has a gradient too."""
    from peft import LoraConfig, get_peft_model

    settings = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": "all-linear",
        "task_type": "CAUSAL_LM" if head == "causal-lm" else "SEQ_CLS",
        **options,
    }
    adapted: nn.Module = get_peft_model(model, LoraConfig(**settings))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return adapted


@pytest.fixture
def make_model() -> Callable[..., nn.Module]:
    def make(head: str = "causal-lm", **options: Any) -> nn.Module:
        return with_lora(tiny_llama(head), head, **options)

    return make
