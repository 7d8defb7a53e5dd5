from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune import chat_template
from finetune.encoding import (
    MAX_PADDING,
    Example,
    Message,
    collate,
    encode_chat,
    encode_text,
    marked,
    render,
    weigh_classes,
)
from finetune.errors import InputError
from tests import tiny
from tests.finetune.test_chat_template import GEMMA

TOKENIZER = tiny.make_tokenizer()
STOP = frozenset([TOKENIZER.eos_token_id])

NEVER_STOPS = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
FORGETS = (  # like templates that drop the reasoning of earlier turns
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'user' or loop.last %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_PROMPT = (  # takes no notice of add_generation_prompt, and wraps the answer
    "{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
)

text = st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=12)
turns = st.lists(st.tuples(text, text), min_size=1, max_size=4)


def chat(*words: str) -> list[Message]:
    """User and assistant in turn."""
    roles = ("user", "assistant")
    return [Message(role=roles[i % 2], content=w) for i, w in enumerate(words)]


def encode(messages: Sequence[Message], tokenizer: Any = TOKENIZER, **options: Any) -> Example:
    settings = {"id": "row-7", "max_length": 10_000, "stop_ids": STOP, **options}
    return encode_chat(tokenizer, messages, **settings)


def learned(example: Example, tokenizer: Any = TOKENIZER) -> list[str]:
    return [run.text for run in marked(tokenizer, example) if run.is_learned]


def runs(example: Example, tokenizer: Any = TOKENIZER) -> list[tuple[str, bool]]:
    return [(run.text, run.is_learned) for run in marked(tokenizer, example)]


def test_all_assistant_turns_and_their_stop_tokens_are_learned_and_nothing_else() -> None:
    example = encode(chat("hi", "hello", "why?", "so."))
    assert runs(example) == [
        ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", False),
        ("hello<|im_end|>", True),
        ("\n<|im_start|>user\nwhy?<|im_end|>\n<|im_start|>assistant\n", False),
        ("so.<|im_end|>", True),
    ]
    assert example.has_stop
    assert example.num_cut == 0


@given(turns)
def test_what_is_learned_is_what_the_assistant_says(said: list[tuple[str, str]]) -> None:
    example = encode(chat(*(words for turn in said for words in turn)))
    assert learned(example) == [f"{answer}<|im_end|>" for _, answer in said]
    assert len(example.supervised) == len(example.input_ids)
    assert TOKENIZER.decode(example.input_ids) + "\n" == render(
        TOKENIZER, chat(*(words for turn in said for words in turn)), is_prompt=False
    )


@given(turns)
def test_the_last_prompt_has_the_very_tokens_that_generation_begins_with(
    said: list[tuple[str, str]],
) -> None:
    messages = chat(*(words for turn in said for words in turn))
    example = encode(messages)
    num_last = len(TOKENIZER(messages[-1]["content"])["input_ids"]) + 1
    prompt = TOKENIZER(render(TOKENIZER, messages[:-1], is_prompt=True), add_special_tokens=False)[
        "input_ids"
    ]
    assert list(example.input_ids[:-num_last]) == prompt


def test_a_stop_token_in_the_users_words_is_not_learned() -> None:
    example = encode(chat("say <|im_end|> now", "no"))
    assert learned(example) == ["no<|im_end|>"]


def test_a_system_turn_and_what_follows_the_last_answer_are_not_learned() -> None:
    system = Message(role="system", content="Be kind.")
    example = encode([system, *chat("hi", "hello", "unanswered")])
    assert learned(example) == ["hello<|im_end|>"]
    assert TOKENIZER.decode(example.input_ids).endswith("hello<|im_end|>")


def test_an_empty_answer_is_a_stop_token() -> None:
    assert learned(encode(chat("hi", ""))) == ["<|im_end|>"]


def test_a_template_that_never_stops_is_noticed() -> None:
    tokenizer = tiny.make_tokenizer(chat_template=NEVER_STOPS)
    example = encode(chat("hi", "hello"), tokenizer)
    assert not example.has_stop
    assert learned(example, tokenizer) == ["hello\n"]


def test_one_turn_without_a_stop_is_enough_to_be_noticed() -> None:
    tokenizer = tiny.make_tokenizer(
        chat_template="{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
        "{% if loop.index == 2 %}<|im_end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert encode(chat("a", "b"), tokenizer).has_stop
    assert not encode(chat("a", "b", "c", "d"), tokenizer).has_stop


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    tokenizer = tiny.make_tokenizer(chat_template=FORGETS)
    assert learned(encode(chat("a", "b"), tokenizer), tokenizer) == ["b<|im_end|>"]
    with pytest.raises(InputError, match="row row-7: the chat template rewrites earlier turns"):
        encode(chat("a", "b", "c", "d"), tokenizer)


def test_a_template_without_a_generation_prompt_still_has_its_answers_learned() -> None:
    tokenizer = tiny.make_tokenizer(chat_template=NO_PROMPT)
    example = encode(chat("a", "b"), tokenizer)
    assert learned(example, tokenizer) == ["<|im_start|>assistant: b<|im_end|>"]


def test_a_chat_without_an_assistant_is_refused() -> None:
    for messages in ([], chat("hi")):
        with pytest.raises(InputError, match="row row-7: no assistant turn to learn from"):
            encode(messages)


def test_the_plain_template_has_its_stop_token_learned() -> None:
    tokenizer = tiny.make_tokenizer(chat_template=chat_template.PLAIN)
    example = encode(chat("hi", "hello", "why?", "so."), tokenizer)
    assert runs(example, tokenizer) == [
        ("User: hi\nAssistant:", False),
        (" hello<|im_end|>", True),
        ("\nUser: why?\nAssistant:", False),
        (" so.<|im_end|>", True),
    ]


def test_a_chat_that_the_template_refuses_is_named() -> None:
    twice = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    with pytest.raises(InputError, match=r"row row-7: the chat template refuses .*user, user: Con"):
        encode(twice, tiny.make_tokenizer(chat_template=GEMMA))  # type: ignore[arg-type]


@given(turns, st.integers(1, 150))
def test_what_is_cut_off_is_counted(said: list[tuple[str, str]], max_length: int) -> None:
    messages = chat(*(words for turn in said for words in turn))
    whole, cut = encode(messages), encode(messages, max_length=max_length)
    assert cut.input_ids == whole.input_ids[:max_length]
    assert cut.supervised == whole.supervised[:max_length]
    assert sum(cut.supervised) + cut.num_cut == sum(whole.supervised)


def test_the_first_token_is_never_predicted_so_it_does_not_count() -> None:
    assert Example("x", (1, 2, 3), (True, True, False)).num_supervised == 1


def test_a_text_is_cut_and_counted() -> None:
    example = encode_text(TOKENIZER, "abcdef", id="t", max_length=4, label=2)
    assert TOKENIZER.decode(example.input_ids) == "abcd"
    assert (example.num_cut, example.label) == (2, 2)
    assert encode_text(TOKENIZER, "abcd", id="t", max_length=4).num_cut == 0
    with pytest.raises(InputError, match="row t: the text has no tokens"):
        encode_text(TOKENIZER, "", id="t", max_length=4)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_every_class_that_occurs_weighs_the_same(labels: list[int]) -> None:
    weighed = weigh_classes([Example(str(i), (1,), label=c) for i, c in enumerate(labels)], 4)
    sums = [sum(e.weight for e in weighed if e.label == c) for c in set(labels)]
    assert sums == pytest.approx([len(labels) / 4] * len(sums))
    assert [e.label for e in weighed] == labels


@st.composite
def some_examples(draw: st.DrawFn) -> list[Example]:
    lengths = draw(st.lists(st.integers(1, 300), max_size=25))
    return [
        Example(str(i), tuple(range(1, n + 1)), tuple(t % 3 == 1 for t in range(n)))
        for i, n in enumerate(lengths)
    ]


@given(some_examples(), st.integers(1, 700), st.one_of(st.none(), st.integers(1, 5)))
def test_micro_batches_hold_every_row_once_within_their_limits(
    examples: list[Example], max_tokens: int, max_examples: int | None
) -> None:
    batch = collate(examples, pad_id=0, max_tokens=max_tokens, max_examples=max_examples)
    seen: list[tuple[tuple[int, ...], tuple[bool, ...]]] = []
    for micro_batch in batch.micro_batches:
        ids, mask = micro_batch["input_ids"], micro_batch["attention_mask"].bool()
        assert ids.numel() <= max_tokens or len(ids) == 1
        assert (~mask).sum() <= MAX_PADDING
        assert max_examples is None or len(ids) <= max_examples
        assert not micro_batch["supervised"][~mask].any()
        assert (ids[~mask] == 0).all()
        for row, learned_row, kept in zip(ids, micro_batch["supervised"], mask, strict=True):
            assert kept.sort(descending=True).values.equal(kept)  # padded on the right
            seen.append((tuple(row[kept].tolist()), tuple(learned_row[kept].tolist())))
    assert sorted(seen) == sorted((e.input_ids, e.supervised) for e in examples)
    assert batch.num_examples == len(examples)
    assert batch.num_tokens == sum(len(e.input_ids) for e in examples)
    assert batch.total_weight == sum(
        micro_batch["supervised"][:, 1:].sum().item() for micro_batch in batch.micro_batches
    )


@pytest.mark.parametrize(("max_tokens", "rows"), [(30, [3, 1]), (29, [2, 2]), (9, [1] * 4)])
def test_a_micro_batch_may_just_fill_its_limit(max_tokens: int, rows: list[int]) -> None:
    batch = collate([Example("x", (1,) * 10)] * 4, pad_id=0, max_tokens=max_tokens)
    assert [len(m["input_ids"]) for m in batch.micro_batches] == rows


def test_a_padding_token_that_is_a_real_token_is_told_apart_by_place() -> None:
    stop = TOKENIZER.eos_token_id
    examples = tiny.chat_examples(TOKENIZER, tiny.chat_rows(3))
    (micro_batch,) = collate(examples, pad_id=stop, max_tokens=10_000).micro_batches
    for row, example in enumerate(sorted(examples, key=lambda e: len(e.input_ids))):
        n = len(example.input_ids)
        assert micro_batch["attention_mask"][row].tolist() == [1] * n + [0] * (
            micro_batch["input_ids"].shape[1] - n
        )
        assert micro_batch["supervised"][row, n - 1]  # the true stop token
        assert not micro_batch["supervised"][row, n:].any()


@pytest.mark.parametrize(
    ("labels", "dtype"), [([0, 2], torch.int64), ([(1.0, 0.0), (1.0, 1.0)], torch.float32)]
)
def test_a_classification_batch_carries_labels_and_weights(
    labels: list[Any], dtype: torch.dtype
) -> None:
    examples = [
        Example(str(i), (1,) * (i + 1), label=label, weight=i + 0.5)
        for i, label in enumerate(labels)
    ]
    batch = collate(examples, pad_id=0, max_tokens=100)
    (micro_batch,) = batch.micro_batches
    assert micro_batch["labels"].equal(torch.tensor(labels, dtype=dtype))
    assert micro_batch["weights"].tolist() == [0.5, 1.5]
    assert batch.total_weight == 2.0
    assert "supervised" not in micro_batch


def test_an_empty_batch_has_no_micro_batches() -> None:
    batch = collate([], pad_id=0, max_tokens=10)
    assert (batch.micro_batches, batch.num_tokens, batch.total_weight) == ((), 0, 0)
