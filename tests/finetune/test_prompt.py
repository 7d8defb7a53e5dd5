"""A prompt is around every text that a classifier reads, and goes with its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoTokenizer

from eval.classifier import Classifier
from finetune import adapter as adapters
from finetune import checkpoint, prompt
from finetune.config import AdapterConfig
from finetune.encoding import encode_text
from finetune.errors import InputError, IntegrityError
from tests import tiny

PROMPT = "Message: {text}\nTopic:"
BEFORE, AFTER = "Message: ", "\nTopic:"
LORA = AdapterConfig(rank=4, alpha=8.0, prompt=PROMPT)


def ids_of(text: str) -> list[int]:
    return list(tiny.make_tokenizer()(text)["input_ids"])


def with_prompt(said: str = PROMPT, *, edges: tuple[str, str] | None = None) -> Any:
    """The tiny tokenizer with a prompt; ``edges``: what it puts around a text by itself."""
    tokenizer = tiny.make_tokenizer()
    if edges is not None:
        from tokenizers.processors import TemplateProcessing

        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{edges[0]} $A {edges[1]}",
            special_tokens=[(edge, tokenizer.convert_tokens_to_ids(edge)) for edge in edges],
        )
    prompt.put_around(tokenizer, said)
    return tokenizer


@given(st.text(max_size=30))
def test_the_prompt_is_around_each_text_and_a_bare_one_stays_bare(text: str) -> None:
    tokenizer = with_prompt()
    bare = ids_of(text)
    assert tokenizer(text)["input_ids"] == ids_of(BEFORE) + bare + ids_of(AFTER)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == bare


@pytest.mark.parametrize("said", ["{text}", "{text} is about", "Topic of {text}"])
def test_either_side_may_be_empty(said: str) -> None:
    assert with_prompt(said)("a fee")["input_ids"] == ids_of(said.replace("{text}", "a fee"))


def test_the_tokenizers_own_start_and_end_stay_outside() -> None:
    edges = ("<|unused|>", "<|im_end|>")
    start, end = (tiny.make_tokenizer().convert_tokens_to_ids(edge) for edge in edges)
    found = with_prompt(edges=edges)("a fee")["input_ids"]
    assert found == [start, *ids_of(BEFORE), *ids_of("a fee"), *ids_of(AFTER), end]


def test_a_slow_tokenizer_has_no_place_for_a_prompt() -> None:
    with pytest.raises(InputError, match=r"adapter\.prompt: .* a slow one"):
        prompt.put_around(object(), PROMPT)


class OneToken:
    """Reads a text as another one where it adds its own tokens."""

    is_fast = True

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [7] if add_special_tokens else [ord(c) for c in text]}


def test_a_tokenizer_that_changes_the_text_itself_is_refused() -> None:
    with pytest.raises(InputError, match=r"adapter\.prompt: .*changes a text"):
        prompt.put_around(OneToken(), PROMPT)


@pytest.mark.parametrize("said", ["", "Topic:", "{text} and {text}", "{Text}"])
def test_the_text_stands_in_a_prompt_once(said: str) -> None:
    with pytest.raises(ValidationError, match=r"wanted \{text\} in it once"):
        AdapterConfig(prompt=said)


def test_a_long_text_is_cut_and_its_prompt_is_not() -> None:
    room = 24
    example = encode_text(with_prompt(), "fee " * 9, id="r", max_length=room, label=0)
    kept = room - len(BEFORE) - len(AFTER)
    assert list(example.input_ids) == ids_of(BEFORE + ("fee " * 9)[:kept] + AFTER)
    assert example.num_cut == 36 - kept
    with pytest.raises(InputError, match=r"row r: train\.max_length 16 leaves no room"):
        encode_text(with_prompt(), "a fee", id="r", max_length=16, label=0)


@pytest.mark.parametrize("text", ["a fee", "fee " * 9])
def test_a_text_is_asked_as_it_was_learned(tiny_base: Path, text: str) -> None:
    base = tiny.load_base(tiny_base, labels=tiny.LABELS, prompt=PROMPT)
    learned = encode_text(base.tokenizer, text, id="r", max_length=24, label=0)
    asked: list[list[int]] = []
    classifier = Classifier(base.model, base.tokenizer, tiny.LABELS, max_length=24)
    handle = base.model.register_forward_pre_hook(
        lambda _, __, given: asked.extend(given["input_ids"].tolist()), with_kwargs=True
    )
    classifier.probabilities([text])
    handle.remove()
    assert asked == [list(learned.input_ids)]


def test_an_adapter_is_not_loaded_with_another_prompt(tiny_base: Path, tmp_path: Path) -> None:
    base = tiny.load_base(tiny_base, labels=tiny.LABELS, prompt=PROMPT)
    adapters.save(tiny.as_if_trained(adapters.inject(base, LORA)), base, tmp_path / "adapter")
    assert adapters.read_record(tmp_path / "adapter").prompt == PROMPT
    again = tiny.load_base(tiny_base, labels=tiny.LABELS, prompt=PROMPT)
    adapters.load(again, tmp_path / "adapter")
    for other in (None, "{text}"):
        base = tiny.load_base(tiny_base, labels=tiny.LABELS, prompt=other)
        with pytest.raises(IntegrityError, match=r"trained with the prompt .*Message"):
            adapters.load(base, tmp_path / "adapter")


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "GPTNeoXTokenizer"])
def test_whoever_loads_the_folder_has_the_prompt(
    tiny_base: Path, tmp_path: Path, kind: str
) -> None:
    """GPT-NeoX's tokenizer puts its own template in the place of the file's when it is loaded."""
    tokenizer = checkpoint.load_tokenizer(tiny_base)
    tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(settings | {"tokenizer_class": kind})
    )
    prompt.save(with_prompt(), tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("a fee")["input_ids"] == with_prompt()("a fee")["input_ids"]
    assert (again.eos_token_id, again.pad_token_id, again.chat_template) == (
        tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.chat_template
    )  # fmt: skip
