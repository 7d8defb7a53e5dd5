"""The lean tokenizer gives the tokens that the tokenizer itself gives."""

from __future__ import annotations

from pathlib import Path

from finetune.checkpoint import load_tokenizer
from finetune.encoding import encode_chat, encode_text
from recipes.check.lean_tokenizer import lean

TEXTS = [
    "the cat sat on the mat",
    "",
    "a b",
    "the user <|im_end|> said",
    "été 東京 \u200b!",
    "a " * 40,
]


def test_texts_are_encoded_to_the_same_examples_whether_they_are_cut_or_not(
    tiny_base: Path,
) -> None:
    tokenizer = load_tokenizer(tiny_base)
    quick = lean(tokenizer)
    assert quick is not tokenizer
    for max_length in (5, 1000, 5, 1000):  # a cut leaves a setting behind in the tokenizer
        for text in filter(None, TEXTS):
            expected = encode_text(tokenizer, text, id="r", max_length=max_length, label=0)
            assert encode_text(quick, text, id="r", max_length=max_length, label=0) == expected


def test_chats_are_encoded_to_the_same_examples(tiny_base: Path) -> None:
    tokenizer = load_tokenizer(tiny_base)
    for text in TEXTS:
        messages = [
            {"role": "user", "content": f"say {text}"},
            {"role": "assistant", "content": text},
            {"role": "user", "content": "more"},
            {"role": "assistant", "content": "no more"},
        ]
        how = {"id": "r", "max_length": 60, "stop_ids": frozenset({tokenizer.eos_token_id})}
        expected = encode_chat(tokenizer, messages, **how)  # type: ignore[arg-type]
        assert encode_chat(lean(tokenizer), messages, **how) == expected  # type: ignore[arg-type]


def test_a_tokenizer_with_ways_of_its_own_is_left_as_it_is(tiny_base: Path) -> None:
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.split_special_tokens = True
    assert lean(tokenizer) is tokenizer
    assert lean(tiny_base) is tiny_base
