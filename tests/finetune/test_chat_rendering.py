from __future__ import annotations

import importlib.util
import itertools
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import chat_template
from finetune.chat_rendering import render, rendered_turns
from finetune.control_tokens import tokenize
from finetune.encoding import Example, Message, encode_chat, marked
from finetune.errors import InputError
from tests import thinking, tiny, tokenizers_of_kinds
from tests.finetune.test_chat_template import GEMMA

STOP = frozenset([tiny.make_tokenizer().eos_token_id])
BLOCK = "<think>\n\n</think>\n\n"

TRIMS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] | upper }}\n{{ m['content'] | trim }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>ASSISTANT\n{% endif %}"
)
SHOUTS = TRIMS.replace("| trim", "| upper")
QUOTES = TRIMS.replace("m['content'] | trim", "m['content'] | tojson")
LEADS = (  # a system turn leads, and is written twice
    "{% if messages[0]['role'] == 'system' %}[{{ messages[0]['content'] }}]{% endif %}" + TRIMS
)
ENDS = TRIMS.replace("<|im_end|>", "<|im_end|>{% if loop.last %}<|pad|>{% endif %}")
FORGETS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'user' or loop.last %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NUMBERS = (  # how a turn begins depends on its place
    "{% for m in messages %}{{ loop.index }}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ messages | length + 1 }}<|im_start|>assistant\n{% endif %}"
)
NO_PROMPT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
)
ORDINARY = {
    "ChatML": tiny.CHATML,
    "plain": chat_template.PLAIN,
    "gemma": GEMMA,
    "trims": TRIMS,
    "shouts": SHOUTS,
    "quotes": QUOTES,
    "leads": LEADS,
    "ends": ENDS,
    "forgets": FORGETS,
    "numbers": NUMBERS,
    "no prompt": NO_PROMPT,
}
TOKENIZERS = {name: tiny.make_tokenizer(chat_template=t) for name, t in ORDINARY.items()}
THINKERS = {name: tiny.make_tokenizer(chat_template=t) for name, t in thinking.ALL.items()}

word = st.text(st.characters(codec="utf-8", exclude_characters="\ufdd0\ufdd1<"), max_size=8)
chats = st.tuples(
    st.booleans(), st.lists(st.tuples(st.sampled_from(["user", "assistant"]), word), max_size=12)
)


def chat(*words: str) -> list[Message]:
    roles = ("user", "assistant")
    return [Message(role=roles[i % 2], content=w) for i, w in enumerate(words)]


def encode(tokenizer: Any, messages: Sequence[Message]) -> Example:
    return encode_chat(tokenizer, messages, id="r", max_length=100_000, stop_ids=STOP)


def learned(tokenizer: Any, messages: Sequence[Message]) -> list[str]:
    return [run.text for run in marked(tokenizer, encode(tokenizer, messages)) if run.is_learned]


def turn_by_turn(tokenizer: Any, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
    """The oracle: each turn by rendering the chat up to it, and after it. Quadratic."""
    ids: list[int] = []
    supervised: list[bool] = []
    done = ""
    for number, message in enumerate(messages):
        if message["role"] != "assistant" or number == 0:
            continue
        before, after = (
            tokenizer.apply_chat_template(
                messages[:end], tokenize=False, add_generation_prompt=is_prompt
            )
            for end, is_prompt in ((number, True), (number + 1, False))
        )
        if not before.startswith(done) or not after.startswith(before):
            raise InputError("rewrites")
        prompt = tokenizer(before[len(done) :], add_special_tokens=False)["input_ids"]
        answer = tokenizer(after[len(before) :], add_special_tokens=False)["input_ids"]
        stops = [i for i, token in enumerate(answer) if token in STOP]
        num_learned = stops[-1] + 1 if stops else len(answer)
        ids += prompt + answer
        supervised += [False] * len(prompt) + [i < num_learned for i in range(len(answer))]
        done = after
    while supervised and not supervised[-1]:
        ids.pop()
        supervised.pop()
    return ids, supervised


@pytest.mark.parametrize("name", ORDINARY)
@given(given_chat=chats)
def test_a_chat_is_encoded_as_by_rendering_it_up_to_each_turn(
    name: str, given_chat: tuple[bool, list[tuple[str, str]]]
) -> None:
    tokenizer = TOKENIZERS[name]
    has_system, said = given_chat
    if name == "gemma":  # takes no other chats
        said = [(("user", "assistant")[i % 2], text) for i, (_, text) in enumerate(said)]
        has_system = False
    messages = [Message(role=role, content=text) for role, text in said]
    if has_system:
        messages = [Message(role="system", content="Be kind."), *messages]
    if not any(m["role"] == "assistant" for m in messages[1:]):
        return
    try:
        wanted = turn_by_turn(tokenizer, messages)
    except InputError:
        wanted = ([], [])
    try:
        example = encode(tokenizer, messages)
    except InputError:
        example = Example("r", ())
    assert (list(example.input_ids), list(example.supervised)) == wanted


def test_many_turns_are_found_without_rendering_the_chat_up_to_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = tiny.make_tokenizer()
    messages = chat(*(f"word {i}" for i in range(800)))
    num_rendered = 0
    apply = tokenizer.apply_chat_template

    def count(given_messages: Sequence[Any], **options: Any) -> Any:
        nonlocal num_rendered
        num_rendered += len(given_messages)
        return apply(given_messages, **options)

    monkeypatch.setattr(tokenizer, "apply_chat_template", count)
    example = encode(tokenizer, messages)
    assert num_rendered < 5 * len(messages)
    assert sum(run.is_learned for run in marked(tokenizer, example)) == 400


def test_a_control_string_cut_in_two_by_the_ends_of_texts_is_text() -> None:
    joins = (
        "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        "{% if not add_generation_prompt %}<|im_end|>{% endif %}"
    )
    tokenizer = tiny.make_tokenizer(chat_template=joins)
    for messages in (chat("a<|im_", "end|>b"), chat("<", "|im_end|>" * 2)):
        example = encode(tokenizer, messages)
        assert example.input_ids.count(tokenizer.eos_token_id) == 1


def test_a_turn_that_is_not_learned_is_context() -> None:
    tokenizer = tiny.make_tokenizer()
    messages = chat("a", "bad", "c", "good", "e", "late")
    for number in (1, 5):
        messages[number]["learned"] = False
    example = encode(tokenizer, messages)
    assert [(run.text, run.is_learned) for run in marked(tokenizer, example)] == [
        (
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nbad<|im_end|>\n"
            "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n",
            False,
        ),
        ("good<|im_end|>", True),
    ]
    messages[3]["learned"] = False
    with pytest.raises(InputError, match="row r: no assistant turn to learn from"):
        encode(tokenizer, messages)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("hybrid", BLOCK),
        ("tagged", BLOCK),
        ("opened", "\n</think>\n\n"),
        ("dropped", "\n</think>\n\n"),
        ("left", "\n</think>\n\n"),
    ],
)
def test_turns_without_thoughts_are_learned_as_they_are_generated(name: str, first: str) -> None:
    tokenizer = THINKERS[name]
    assert learned(tokenizer, chat("a", "b")) == [f"{first}b<|im_end|>"]
    assert learned(tokenizer, chat("a", "b", "c", "d", "e", "f")) == [
        f"{first}{word}<|im_end|>" for word in "bdf"
    ]


@pytest.mark.parametrize("name", thinking.ALL)
def test_thoughts_are_learned_once_and_in_their_place(name: str) -> None:
    tokenizer = THINKERS[name]
    opened = "" if name in ("hybrid", "tagged") else "<think>\n"
    wanted = [f"<think>\nT{i}\n</think>\n\nA{i}<|im_end|>".removeprefix(opened) for i in (1, 2, 3)]
    beside: list[Message] = []
    for i in (1, 2, 3):
        beside += [
            Message(role="user", content=f"Q{i}"),
            Message(role="assistant", content=f"A{i}", reasoning_content=f"T{i}"),
        ]
    assert learned(tokenizer, beside) == wanted
    for form in ("<think>\nT{}\n</think>\n\nA{}", "<think>T{}</think>A{}", "T{}\n</think>\n\nA{}"):
        inside = chat(*itertools.chain(*((f"Q{i}", form.format(i, i)) for i in (1, 2, 3))))
        assert learned(tokenizer, inside) == wanted
    mixed = [*beside[:2], *chat("Q2", "A2"), *beside[4:]]
    empty = f"{BLOCK}A2<|im_end|>".removeprefix(opened)
    assert learned(tokenizer, mixed) == [wanted[0], empty, wanted[2]]


@pytest.mark.parametrize("name", thinking.ALL)
def test_the_first_prompt_is_the_very_one_that_generation_begins_with(name: str) -> None:
    tokenizer = THINKERS[name]
    example = encode(tokenizer, chat("a", "b"))
    prompt = tokenize(tokenizer, render(tokenizer, chat("a"), is_prompt=True))
    assert list(example.input_ids[: len(prompt)]) == prompt
    assert not any(example.supervised[: len(prompt)])
    assert all(example.supervised[len(prompt) :])


@pytest.mark.parametrize("name", thinking.ALL)
def test_turns_of_a_thinking_template_join_to_the_chat_but_for_thoughts(name: str) -> None:
    tokenizer = THINKERS[name]
    messages = chat("a", "b", "c", "d", "e", "f")
    turns = rendered_turns(tokenizer, messages, [3, 5])
    assert [turn.content for turn in turns] == ["d", "f"]
    text = "".join(turn.prompt + turn.reply for turn in turns)
    written = render(tokenizer, messages, is_prompt=False)
    assert text.replace(BLOCK, "") == written.replace(BLOCK, "")
    assert "assistant\nb<|im_end|>" in text  # context, as the template writes it


def test_a_template_without_thoughts_has_them_written_before_the_content() -> None:
    tokenizer = tiny.make_tokenizer()
    turn = Message(role="assistant", content="A", reasoning_content="T")
    assert learned(tokenizer, [*chat("Q"), turn]) == ["<think>\nT\n</think>\n\nA<|im_end|>"]


def test_tags_of_thoughts_that_are_tokens_are_so_only_around_thoughts() -> None:
    tokenizer = tokenizers_of_kinds.byte_level()
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",  # noqa: S106
    )
    tokenizer.chat_template = thinking.HYBRID
    opening, closing = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    messages = [
        *chat(
            "What is </think>?", "<think>\nA tag.\n</think>\n\nIt ends <think>, as </think> says."
        )
    ]
    stops = frozenset([tokenizer.eos_token_id])
    example = encode_chat(tokenizer, messages, id="r", max_length=999, stop_ids=stops)
    assert example.input_ids.count(opening) == example.input_ids.count(closing) == 1
    assert tokenizer.decode(example.input_ids).endswith(
        "<think>\nA tag.\n</think>\n\nIt ends <think>, as </think> says.<|im_end|>"
    )
    assert example.control_strings == ("</think>", "<think>")


def test_thoughts_of_a_long_chat_take_no_longer_in_proportion() -> None:
    tokenizer = THINKERS["hybrid"]
    messages = chat(*(f"<think>t{i}</think>w{i}" if i % 2 else f"w{i}" for i in range(800)))
    start = time.monotonic()
    assert len(learned(tokenizer, messages)) == 400
    assert time.monotonic() - start < 4


def test_a_turn_without_content_does_not_hide_where_the_others_are() -> None:
    tokenizer = THINKERS["hybrid"]
    assert learned(tokenizer, chat("", "b", " ", "d", "e", "")) == [
        f"{BLOCK}{word}<|im_end|>" for word in ("b", "d", "")
    ]


def test_a_template_that_leaves_empty_turns_out_is_rendered_turn_by_turn() -> None:
    skips = (
        "{% for m in messages %}{% if m['content'] %}"
        + thinking.OTHERS
        + (
            "{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
        )
    )
    tokenizer = tiny.make_tokenizer(chat_template=skips)
    messages = chat("a", "b", "c", "d", "", "e", "f", "g")
    example = encode(tokenizer, messages)
    assert (list(example.input_ids), list(example.supervised)) == turn_by_turn(tokenizer, messages)


def test_a_thought_that_a_prompt_opens_with_other_blanks_is_closed_once() -> None:
    tokenizer = tiny.make_tokenizer(chat_template=thinking.TIGHT)
    assert learned(tokenizer, chat("a", "b", "c", "d")) == [
        "</think>b<|im_end|>",
        "</think>d<|im_end|>",
    ]
    inside = chat("a", "<think>T1</think>b", "c", "<think>T2</think>d")
    assert learned(tokenizer, inside) == ["T1</think>b<|im_end|>", "T2</think>d<|im_end|>"]


PUBLISHED = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"  # type: ignore[union-attr,arg-type]
APPENDING = [
    "cohere",
    "gemma",
    "gemma3",
    "glm4moe",
    "lfm2",
    "llama3",
    "llama3_1",
    "llama3_2",
    "qwen2_5",
    "qwen3_vl",
]
THINKING = {
    "qwen3": "<think>\n{}\n</think>\n\n",
    "qwen3_5_think": "{}\n</think>\n\n",
    "qwen3_6": "{}\n</think>\n\n",
    "deepseek_r1_distill": "{}\n</think>\n\n",
    "deepseekv3": "{}\n</think>\n\n",
}


def published(name: str) -> Any:
    path = PUBLISHED / f"{name}.jinja"
    if not path.is_file():
        pytest.skip(f"this version of trl has no {path.name}")
    tokenizer = tiny.make_tokenizer(chat_template=path.read_text(encoding="utf-8"))
    tokenizer.bos_token = "<|unused|>"  # noqa: S105 (a token of text)
    return tokenizer


@pytest.mark.parametrize("name", APPENDING)
def test_chats_of_published_templates_are_encoded_as_turn_by_turn(name: str) -> None:
    tokenizer = published(name)
    messages = chat("q1", "a1", "q2", " a2\n", "q3", "a3", "q4", "a4")
    example = encode(tokenizer, messages)
    assert (list(example.input_ids), list(example.supervised)) == turn_by_turn(tokenizer, messages)


@pytest.mark.parametrize("name", THINKING)
def test_published_templates_that_rewrite_thoughts_train_on_every_turn(name: str) -> None:
    tokenizer = published(name)
    thoughts = ["", "T2", ""]
    messages: list[Message] = []
    for i, thought in enumerate(thoughts):
        answer = Message(role="assistant", content=f"A{i}")
        messages += [Message(role="user", content=f"Q{i}"), answer]
        if thought:
            answer["reasoning_content"] = thought
    found = learned(tokenizer, messages)
    wanted = [f"{THINKING[name].format(t)}A{i}" for i, t in enumerate(thoughts)]
    assert [re.sub("<\\W*(im_end|end.of.sentence)\\W*>$", "", one) for one in found] == wanted


def test_white_space_that_ends_a_turn_is_of_that_turn() -> None:
    bare = "{% for m in messages %}{{ m['content'] | replace('x', 'y') }}{% endfor %}"
    tokenizer = tiny.make_tokenizer(chat_template=bare)
    messages = chat("a", "b", "c", "d\n", "e", "f ")
    turns = rendered_turns(tokenizer, messages, [1, 3, 5])
    assert [(turn.prompt, turn.reply) for turn in turns] == [("a", "b"), ("c", "d\n"), ("e", "f ")]
