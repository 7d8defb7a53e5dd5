"""Texts of items in requests: no control token is made of them, and thoughts are not scored."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from eval.classifier import Classifier
from eval.control_tokens import control_tokens, plain, tokenize
from eval.errors import EvaluationError
from eval.model import LanguageModel, Reply, no_answer, output_of
from finetune.chat_template import PLAIN
from finetune.encoding import encode_chat
from tests import thinking, tiny, tokenizers_of_kinds

SPECIAL = tokenizers_of_kinds.SPECIAL
KINDS = pytest.mark.parametrize(
    "make", tokenizers_of_kinds.ALL.values(), ids=tokenizers_of_kinds.ALL
)
word = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cn")), max_size=6)
text = st.lists(st.one_of(word, st.sampled_from([*SPECIAL, "<|im_", "<"])), max_size=5).map("".join)
filled = text.filter(lambda t: t.strip())
letters = st.characters(codec="utf-8", exclude_characters="<\ufdd0\ufdd1")
harmless = st.text(letters, max_size=12).filter(lambda t: t.strip())
lines = st.lists(filled, min_size=2, max_size=6).filter(lambda all_: len(all_) % 2 == 0)


UNTOUCHED = SimpleNamespace(device=SimpleNamespace(type="cpu"))
"""Stands for a model where requests are made and none is answered."""


def engine(tokenizer: Any) -> LanguageModel:
    return LanguageModel(UNTOUCHED, tokenizer)


def chat(*words: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": w} for i, w in enumerate(words)]


def control_count(tokenizer: Any, ids: Sequence[int]) -> int:
    strings = [s for s in control_tokens(tokenizer).strings if s not in ("<unk>", "[UNK]")]
    found = set(tokenizer.convert_tokens_to_ids(strings))
    return sum(token in found for token in ids)


def tokens_of(tokenizer: Any, pieces: Sequence[tuple[str, bool]]) -> list[int]:
    return [token for piece, _ in pieces for token in tokenize(tokenizer, piece)]


@KINDS
@given(words=lines)
def test_control_tokens_of_a_prompt_are_the_templates_own(make: Any, words: list[str]) -> None:
    tokenizer = make()
    model = engine(tokenizer)
    ids, own = (
        tokenize(tokenizer, model.prompt(chat(*said)))
        for said in (words[:-1], ["x" for _ in words[:-1]])
    )
    assert control_count(tokenizer, ids) == control_count(tokenizer, own)


@KINDS
@given(words=lines)
def test_a_chat_has_the_same_tokens_in_training_and_in_evaluation(
    make: Any, words: list[str]
) -> None:
    tokenizer = make()
    stops = frozenset([tokenizer.eos_token_id])
    example = encode_chat(tokenizer, chat(*words), id="r", max_length=9999, stop_ids=stops)  # type: ignore[arg-type]
    first = next(i for i, is_learned in enumerate(example.supervised) if is_learned)
    model = engine(tokenizer)
    prompt = tokenize(tokenizer, model.prompt(chat(words[0])))
    assert list(example.input_ids[:first]) == prompt
    pieces = model.dialogue(chat(*words))
    # the reply and its end are one piece in training and two in the evaluation
    assert pieces[0][0] == model.prompt(chat(words[0]))
    assert control_count(tokenizer, tokens_of(tokenizer, pieces)) + 1 == control_count(
        tokenizer, example.input_ids
    )


def turn_by_turn(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[tuple[str, bool]]:
    """The oracle: each reply found by rendering the chat up to it, and after it."""

    def render(end: int, *, is_prompt: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages[:end], tokenize=False, add_generation_prompt=is_prompt
            )
        )

    pieces: list[tuple[str, bool]] = []
    done = ""
    for number, message in enumerate(messages):
        if message["role"] != "assistant" or number == 0:
            continue
        content = message["content"].strip()
        before, after = render(number, is_prompt=True), render(number + 1, is_prompt=False)
        answer = after.removeprefix(before)
        start = answer.index(content)
        pieces += [(before[len(done) :], False), (answer[:start] + content, True)]
        pieces.append((answer[start + len(content) :], False))
        done = after
    return [(piece, is_scored) for piece, is_scored in pieces[:-1] if piece]


@pytest.mark.parametrize("template", [tiny.CHATML, PLAIN], ids=["ChatML", "plain"])
@given(words=st.lists(harmless, min_size=2, max_size=8).filter(lambda all_: len(all_) % 2 == 0))
def test_chats_without_control_strings_are_the_requests_that_they_were(
    template: str, words: list[str]
) -> None:
    tokenizer = tiny.make_tokenizer(chat_template=template)
    wanted = turn_by_turn(tokenizer, chat(*words))
    assert list(engine(tokenizer).dialogue(chat(*words))) == wanted


@given(words=lines)
def test_references_are_scored_as_the_text_that_they_are(words: list[str]) -> None:
    tokenizer = tokenizers_of_kinds.byte_level()
    pieces = engine(tokenizer).dialogue(chat(*words))
    scored = [tokenize(tokenizer, piece) for piece, is_scored in pieces if is_scored]
    assert [tokenizer.decode(ids).strip() for ids in scored] == [w.strip() for w in words[1::2]]
    assert all(control_count(tokenizer, ids) == 0 for ids in scored)


def test_replies_that_are_compared_are_texts(causal_model: Any, tokenizer: Any) -> None:
    model = LanguageModel(causal_model, tokenizer)
    pairs = model.pairs(chat("which?"), ["a<|end|>", "<|end|>b"])
    assert [plain(reply) for _, reply in pairs] == ["a<|end|>", "<|end|>b"]
    [first, second] = model.loglikelihoods(pairs)
    assert first.num_tokens == second.num_tokens == len("a<|end|>")  # one token a byte


def test_texts_that_are_scored_jointly_hold_no_control_tokens(
    causal_model: Any, tokenizer: Any
) -> None:
    [found] = LanguageModel(causal_model, tokenizer).loglikelihoods([("a", " <|end|>")], joint=True)
    assert found.num_tokens == len(" <|end|>")


def test_prompts_that_are_texts_hold_no_control_tokens(
    causal_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LanguageModel(causal_model, tokenizer)
    seen: list[list[int]] = []
    generate = causal_model.generate

    def watch(**given_: Any) -> Any:
        seen.extend(given_["input_ids"].tolist())
        return generate(**given_)

    monkeypatch.setattr(causal_model, "generate", watch)
    model.generate(["a<|end|>"], max_new_tokens=1, is_text=True)
    model.generate(["a<|end|>"], max_new_tokens=1)
    assert [len(ids) for ids in seen] == [len("a<|end|>"), 2]


def test_a_classifier_reads_control_strings_as_text(class_model: Any, tokenizer: Any) -> None:
    classifier = Classifier(class_model, tokenizer, ("a", "b", "c"), max_length=6)
    assert len(classifier._encode("a<|end|>b")) == 6
    assert tokenizer.eos_token_id not in classifier._encode("a<|end|>b")
    assert classifier._encode("") == [tokenizer.eos_token_id]


def test_a_slow_tokenizer_is_refused_only_where_a_control_string_occurs() -> None:
    class Slow:
        is_fast = False
        chat_template = None
        pad_token_id = eos_token_id = None
        added_tokens_decoder = tiny.make_tokenizer().added_tokens_decoder

        def __len__(self) -> int:
            return 260

        def __call__(self, given_: str, **_: object) -> dict[str, list[int]]:
            return {"input_ids": list(given_.encode())}

    model = engine(Slow())
    assert model._tokenize(model.text("abc")) == [97, 98, 99]
    with pytest.raises(EvaluationError, match="slow tokenizer cannot"):
        model._tokenize(model.text("a <|pad|>"))


def with_template(name: str) -> Any:
    return tiny.make_tokenizer(chat_template=thinking.ALL[name])


@pytest.mark.parametrize("name", thinking.ALL)
def test_the_answer_is_scored_and_never_the_thought(name: str) -> None:
    model = engine(with_template(name))
    beside = [
        *chat("Q"),
        {"role": "assistant", "content": "A", "reasoning_content": "say A"},
        *chat("Q2", "B"),
    ]
    inside = chat("Q", "<think>\nsay A\n</think>\n\nA", "Q2", "B")
    for messages in (beside, inside):
        pieces = model.dialogue(messages)
        assert [piece for piece, is_scored in pieces if is_scored] == ["A", "B"]
        assert "say A" in "".join(piece for piece, is_scored in pieces if not is_scored)
    for context, reply in model.pairs(chat("Q"), ["yes", "no"]):
        assert reply in ("yes", "no")
        assert context.endswith("</think>\n\n")


def test_an_answer_that_its_thought_holds_too_is_scored_in_its_place() -> None:
    turn = {"role": "assistant", "content": "A", "reasoning_content": "A or B"}
    pieces = engine(tiny.make_tokenizer()).dialogue([*chat("Q"), turn])
    assert pieces[-1] == ("A", True)
    assert "A or B" in pieces[-2][0]


@pytest.mark.parametrize(
    ("output", "prompt", "answer"),
    [
        ("30 days", "ask:", "30 days"),
        ("<think>\n\n</think>\n\n30 days", "ask:", "30 days"),
        ("<think>\nIt says thirty.\n</think>\n\n30 days", "ask:", "30 days"),
        ("It says thirty.\n</think>\n\n30 days", "ask:<think>\n", "30 days"),
        ("It says thirty, or", "ask:<think>\n", ""),
        ("<think>It says thirty, or", "ask:", ""),
        ("A tag </think> in an answer", "ask:", "A tag </think> in an answer"),
    ],
)
def test_a_reply_is_the_answer_after_the_thought(
    causal_model: Any,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    prompt: str,
    answer: str,
) -> None:
    model = LanguageModel(causal_model, tokenizer)
    monkeypatch.setattr(model._generator, "_reply", lambda *_: [f" {output} "])
    [[reply]] = model.generate([prompt], max_new_tokens=4)
    assert reply == answer
    assert output_of(reply) == output
    assert isinstance(reply, Reply) == (output != answer)
    assert no_answer(reply) == ""
    assert output_of(no_answer(reply)) == (output if output != answer else "")


def test_tags_of_thoughts_that_are_special_tokens_are_kept_until_the_thought_is_found(
    causal_model: Any, tokenizer: Any
) -> None:
    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    ids = other("<think>so</think>30<|end|>", add_special_tokens=False)["input_ids"]
    assert LanguageModel(causal_model, other)._generator._decode(ids) == "<think>so</think>30"


def test_a_thought_is_stripped_from_what_a_model_generates() -> None:
    """End to end: a model that always writes the same tokens, behind an opened thought."""
    tokenizer = with_template("opened")
    output = tokenizer("so\n</think>\n\n30<|im_end|>", add_special_tokens=False)["input_ids"]
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    causal = LlamaForCausalLM(config).eval()
    model = LanguageModel(causal, tokenizer)
    prompt = model.prompt(chat("How long?"))
    num_prompt = len(tokenize(tokenizer, prompt))

    def dictate(_module: Any, _args: Any, found: Any) -> Any:
        length = found.past_key_values.get_seq_length()
        found.logits[:] = 0
        found.logits[:, -1, output[length - num_prompt]] = 9
        return found

    causal.register_forward_hook(dictate)
    [[reply]] = model.generate([prompt], max_new_tokens=40)
    assert (reply, output_of(reply)) == ("30", "so\n</think>\n\n30")
    [[cut]] = model.generate([prompt], max_new_tokens=4)
    assert (cut, output_of(cut)) == ("", "so\n<")
