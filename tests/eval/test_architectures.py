"""The engine on many kinds of causal language models, each made small and at random here.

What is compared with is the plainest reading: one text at a time, without cache, padding or mask.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from eval import scoring
from eval.model import LanguageModel

WIDTH = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
LLAMA_LIKE = WIDTH | {"num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 8}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
GPT_LIKE = {"n_embd": 32, "n_layer": 2, "n_head": 4}
WINDOW = 40  # tokens, fewer than a prompt has

# What is asked of each model: grouped queries, tied and partial rotary positions, learned ones,
# ALiBi, windows in one layer of two, experts, soft caps, latent keys, states instead of keys.
KINDS: dict[str, dict[str, Any]] = {
    "llama": LLAMA_LIKE,
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE,
    "gemma": LLAMA_LIKE,
    "gemma2": LLAMA_LIKE | {"sliding_window": WINDOW, "query_pre_attn_scalar": 8},
    "gemma3_text": LLAMA_LIKE
    | {
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "mistral": LLAMA_LIKE | {"sliding_window": WINDOW},
    "mixtral": LLAMA_LIKE | {"num_local_experts": 4},
    "qwen3_moe": LLAMA_LIKE | EXPERTS | {"num_experts": 4},
    "deepseek_v3": WIDTH
    | EXPERTS
    | {
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 12,
        "first_k_dense_replace": 1,
    },
    "gpt_oss": LLAMA_LIKE | {"num_local_experts": 4, "sliding_window": WINDOW},
    "phi": WIDTH | {"num_hidden_layers": 2},
    "phi3": LLAMA_LIKE,
    "smollm3": LLAMA_LIKE,
    "olmo2": LLAMA_LIKE,
    "cohere2": LLAMA_LIKE
    | {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "granite": LLAMA_LIKE,
    "stablelm": WIDTH | {"num_hidden_layers": 2, "num_key_value_heads": 2},
    "gpt2": GPT_LIKE,
    "gptj": GPT_LIKE | {"rotary_dim": 8},
    "gpt_bigcode": GPT_LIKE,
    "gpt_neox": WIDTH | {"num_hidden_layers": 2},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": WINDOW,
    },
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
    },
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "lfm2": LLAMA_LIKE | {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": LLAMA_LIKE
    | EXPERTS
    | {
        "num_experts": 4,
        "shared_expert_intermediate_size": 32,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "openai-gpt": GPT_LIKE,
}
READ_APART = {"bloom", "mpt", "mamba", "lfm2", "qwen3_next", "openai-gpt"} | {
    kind for kind, settings in KINDS.items() if WINDOW in settings.values()
}
"""Kinds that cannot take a trie: positions that come from the order of keys, states instead of
keys, and windows that are shorter than these requests."""

OPENING = "Q: What is the capital of Norway? A: Oslo. Q: Who "
QUESTIONS = [OPENING + end for end in ("wrote it? A:", "? A:", "read all of it, and when? A:")]
ANSWERS = (" Ibsen", " nobody at all knows")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(kind: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = CONFIG_MAPPING[kind](
            **KINDS[kind],
            vocab_size=260,
            bos_token_id=256,
            eos_token_id=257,
            pad_token_id=258,
            initializer_range=0.3,  # far from uniform, so that a wrong token shows
        )
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return found.double().log_softmax(-1)


def plain_score(model: Any, tokenizer: Any, question: str, answer: str) -> float:
    before, ids = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (question, answer)
    )
    found = logits(model, before + ids)
    return sum(float(found[len(before) + t - 1, token]) for t, token in enumerate(ids))


def plain_reply(model: Any, tokenizer: Any, prompt: str, num_tokens: int) -> str:
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    reply: list[int] = []
    while len(reply) < num_tokens and tokenizer.eos_token_id not in reply:
        reply.append(int(logits(model, ids + reply)[-1].argmax()))
    return str(tokenizer.decode(reply, skip_special_tokens=True))


def test_scores_are_those_of_the_plainest_reading(
    model: Any,
    kind: str,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(scoring, "_MAX_NODES", 60)  # several groups, so that a prefix is kept
    pairs = [(question, answer) for question in QUESTIONS for answer in ANSWERS]
    with caplog.at_level(logging.WARNING):
        found = LanguageModel(model, tokenizer).loglikelihoods(pairs)
    expected = [plain_score(model, tokenizer, *pair) for pair in pairs]
    assert [score.value for score in found] == pytest.approx(expected, abs=1e-3)
    assert ("one request at a time" in caplog.text) == (kind in READ_APART)


@pytest.mark.parametrize("num_samples", [0, 2])
def test_replies_behind_a_shared_opening_are_those_of_one_prompt_at_a_time(
    model: Any, tokenizer: Any, num_samples: int
) -> None:
    manner: dict[str, Any] = {"max_new_tokens": 6, "is_stripped": False}
    if num_samples:
        manner |= {"num_samples": num_samples, "temperature": 1.0}
    together = LanguageModel(model, tokenizer).generate(QUESTIONS, **manner)
    apart = [LanguageModel(model, tokenizer).generate([q], **manner)[0] for q in QUESTIONS]
    assert together == apart
    if not num_samples:
        assert together == [[plain_reply(model, tokenizer, q, 6)] for q in QUESTIONS]
