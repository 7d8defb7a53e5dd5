"""Model folders with a tokenizer that merges, as a GGUF file needs one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recipes.handover import parity, vocabulary
from tests import tiny

VOCAB_SIZE = 448
"""Rows of the embedding: more than the tokenizer has tokens."""

RULES = tuple(name for name, _, _ in vocabulary.RULES)


def make_tokenizer(rule: str = "gpt-2", *, chat_template: str | None = tiny.CHATML) -> Any:
    """A byte-level BPE of some 400 tokens that cuts text up by one of llama.cpp's rules."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    byte_level, digits = pre_tokenizers.ByteLevel, pre_tokenizers.Digits(individual_digits=True)
    plain = byte_level(add_prefix_space=False)
    split = pre_tokenizers.Split(Regex(vocabulary._LLAMA_3), "isolated")
    steps = {
        "gpt-2": plain,
        "smollm": pre_tokenizers.Sequence([digits, plain]),
        "llama-bpe": pre_tokenizers.Sequence(
            [split, byte_level(add_prefix_space=False, use_regex=False)]
        ),
    }
    made = Tokenizer(models.BPE(ignore_merges=rule == "llama-bpe"))
    made.pre_tokenizer = steps[rule]
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(tiny.SPECIAL),
        initial_alphabet=byte_level.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*parity.PROBES, "2024 20487 1250 100 3000 22 314159"] * 4, trainer)
    names = {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, **names)
    wrapped.chat_template = chat_template
    return wrapped


def make_folder(folder: Path, rule: str = "gpt-2", **sizes: Any) -> Path:
    """A two-layer Llama with grouped heads and a tokenizer that merges."""
    tokenizer = make_tokenizer(rule)
    tiny.make_base(
        folder,
        **(
            {
                "vocab_size": VOCAB_SIZE,
                "num_key_value_heads": 2,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            }
            | sizes
        ),
    )
    for old in folder.glob("tokenizer*"):
        old.unlink()
    tokenizer.save_pretrained(folder)
    return folder


def edit_json(path: Path, **values: Any) -> None:
    """Set fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
