from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from finetune import chat_rendering
from finetune.chat_patterns import RenderedTurn
from finetune.chat_rendering import rendered_turns
from finetune.chat_template import _FOLD
from finetune.content_flow import only_writes_contents
from finetune.encoding import Message
from tests import tiny
from tests.finetune.test_chat_rendering import APPENDING, ORDINARY, published
from tests.finetune.test_content_flow import WRITE

SHAPES = {
    "one answer": ("user", "assistant"),
    "two": ("user", "assistant", "user", "assistant"),
    "a system turn": ("system", "user", "assistant", "user", "assistant"),
    "many": ("user", "assistant") * 4,
    "a late system turn": ("user", "assistant", "system", "user", "assistant"),
    "merged turns": ("user", "user", "assistant", "assistant", "user", "assistant"),
    "a tool": ("user", "assistant", "tool", "assistant"),
}
TEMPLATES = (
    ORDINARY | WRITE | {f"folded {name}": _FOLD + ORDINARY[name] for name in ("gemma", "trims")}
)
TOKENIZERS = {
    name: tiny.make_tokenizer(chat_template=template)
    for name, template in TEMPLATES.items()
    if only_writes_contents(template)
}

bits = st.sampled_from(
    [
        *("a", "Hi {0}", "{x}", "%s", "é", "{{ x }}", "\n", " ", "\t", "\u2003", "\u2002"),
        *("\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3\U00100000", "\ufdd4"),
        *("<|im_end|>", "<|im_", "end|>", "</think>"),
        '<tool_call>\n{"name": "<|im_end|>"}\n</tool_call>',
        "<tool_response>\nx\n</tool_response>",
    ]
)
content = st.lists(bits, max_size=4).map("".join).filter(str.strip)  # others are rendered


def chat(roles: Sequence[str], contents: Sequence[str]) -> list[Message]:
    return [Message(role=r, content=c) for r, c in zip(roles, contents, strict=True)]


def wanted_of(messages: Sequence[Message]) -> list[int]:
    return [i for i, m in enumerate(messages) if i and m["role"] == "assistant"]


def outcome(render: Any, tokenizer: Any, messages: Sequence[Message]) -> Any:
    wanted = wanted_of(messages)
    try:
        turns: list[RenderedTurn] = render(tokenizer, messages[: wanted[-1] + 1], wanted)
    except ValueError:
        return "refused"
    return [(turn.number, turn.prompt, turn.reply) for turn in turns]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=15)
@given(shape=st.sampled_from([*SHAPES]), data=st.data())
def test_a_filled_chat_is_the_one_that_is_rendered(name: str, shape: str, data: Any) -> None:
    tokenizer, roles = TOKENIZERS[name], SHAPES[shape]
    for number in range(2):  # makes the pattern
        messages = chat(roles, [f"word {number} {i}" for i in range(len(roles))])
        outcome(rendered_turns, tokenizer, messages)
    messages = chat(roles, [data.draw(content) for _ in roles])
    wanted = outcome(chat_rendering._turns_one_by_one, tokenizer, messages)
    assert outcome(rendered_turns, tokenizer, messages) == wanted
    assert outcome(chat_rendering._turns_by_rendering, tokenizer, messages) == wanted


@pytest.mark.parametrize("name", APPENDING)
def test_a_filled_chat_is_the_one_that_published_templates_render(name: str) -> None:
    tokenizer = published(name)
    for shape in ("one answer", "two", "many"):
        roles = SHAPES[shape]
        for filler in ("a", " b\n", "{c} <|im_end|>", "d"):
            messages = chat(roles, [f"{filler}{i}{filler}" for i in range(len(roles))])
            wanted = outcome(chat_rendering._turns_one_by_one, tokenizer, messages)
            assert outcome(rendered_turns, tokenizer, messages) == wanted


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many messages each rendering had."""
    calls: list[int] = []
    apply = chat_rendering._render

    def count(tokenizer: Any, messages: Sequence[Any], *given: Any, **options: Any) -> str:
        calls.append(len(messages))
        return apply(tokenizer, messages, *given, **options)

    monkeypatch.setattr(chat_rendering, "_render", count)
    return calls


def turns(tokenizer: Any, *words: str) -> list[RenderedTurn]:
    messages = chat(SHAPES["two"], words)
    return rendered_turns(tokenizer, messages, wanted_of(messages))


def test_the_third_chat_with_the_same_roles_is_not_rendered(rendered: list[int]) -> None:
    tokenizer = tiny.make_tokenizer()
    for number in range(100):
        turns(tokenizer, *(f"{number} {i}" for i in range(4)))
    assert len(rendered) == 3 * 4


def test_chats_in_which_a_template_looks_are_rendered(rendered: list[int]) -> None:
    looks = tiny.CHATML.replace("{{ message['content'] }}", "{{ message['content'] | upper }}")
    tokenizer = tiny.make_tokenizer(chat_template=looks)
    for number in range(5):
        assert turns(tokenizer, *(f"a{number}{i}" for i in range(4)))[1].reply.startswith("A")
    assert len(rendered) == 5 * 4


def test_another_template_or_special_token_takes_another_pattern() -> None:
    tokenizer = tiny.make_tokenizer(chat_template="{{ bos_token }}" + tiny.CHATML)
    tokenizer.bos_token = "<|unused|>"  # noqa: S105 (a token of text)
    for _ in range(4):
        assert turns(tokenizer, *"abcd")[0].prompt.startswith("<|unused|><|im_start|>")
    tokenizer.bos_token = "<|pad|>"  # noqa: S105
    for _ in range(4):
        assert turns(tokenizer, *"abcd")[0].prompt.startswith("<|pad|><|im_start|>")
    tokenizer.chat_template = tiny.CHATML
    for _ in range(4):
        assert turns(tokenizer, *"abcd")[0].prompt.startswith("<|im_start|>")


def test_a_tokenizer_with_a_rendering_of_its_own_renders_every_chat(rendered: list[int]) -> None:
    tokenizer = tiny.make_tokenizer()

    class Own(type(tokenizer)):  # type: ignore[misc]
        def apply_chat_template(self, messages: Any, **options: Any) -> Any:
            messages = [m | {"content": m["content"].upper()} for m in messages]
            return PreTrainedTokenizerBase.apply_chat_template(self, messages, **options)

    tokenizer.__class__ = Own
    for _ in range(5):
        assert turns(tokenizer, *"abcd")[1].reply.startswith("D")
    assert len(rendered) == 5 * 4


def test_a_refusal_is_told_for_every_chat() -> None:
    refuses = (
        tiny.CHATML + "{% if messages[0].role == 'user' %}{{ raise_exception('no') }}{% endif %}"
    )
    tokenizer = tiny.make_tokenizer(chat_template=refuses)
    for _ in range(4):
        with pytest.raises(ValueError, match="refuses a chat with the roles user: no"):
            turns(tokenizer, *"abcd")
