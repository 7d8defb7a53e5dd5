from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from finetune.chat_rendering import render
from finetune.control_tokens import (
    ESCAPE,
    GUARD,
    control_strings_in,
    control_tokens,
    plain,
    tokenize,
    tokenize_text,
)
from finetune.encoding import Example, Message, encode_chat, encode_text, marked
from finetune.errors import InputError
from tests import tiny, tokenizers_of_kinds
from tests.tokenizers_of_kinds import SPECIAL, TAGS

KINDS = pytest.mark.parametrize(
    "make", tokenizers_of_kinds.ALL.values(), ids=tokenizers_of_kinds.ALL
)
CONTROL = (*SPECIAL, "<tool_call>", "</tool_call>")

word = st.text(st.characters(codec="utf-8"), max_size=6)
control = st.sampled_from([*SPECIAL, *TAGS, "<unk>", "[UNK]"])
part = control.flatmap(lambda s: st.integers(1, len(s)).map(lambda n: s[:n] if n % 2 else s[n:]))
text = st.lists(
    st.one_of(word, control, part, st.sampled_from([ESCAPE, GUARD, "\ufdd2"])), max_size=6
)
text = text.map("".join)
letters = st.characters(codec="utf-8", exclude_characters=f"<[|{ESCAPE}{GUARD}")
harmless = st.text(letters, max_size=12)


def chat(*words: str) -> list[Message]:
    roles = ("user", "assistant")
    return [Message(role=roles[i % 2], content=w) for i, w in enumerate(words)]


def encode(tokenizer: Any, messages: Sequence[Message]) -> Example:
    stops = frozenset([tokenizer.eos_token_id])
    return encode_chat(tokenizer, messages, id="r", max_length=10_000, stop_ids=stops)


def control_ids(tokenizer: Any) -> set[int]:
    strings = control_tokens(tokenizer).strings
    return set(tokenizer.convert_tokens_to_ids(strings)) - {tokenizer.unk_token_id, _unk(tokenizer)}


def _unk(tokenizer: Any) -> int | None:
    """What the tokenizer writes for a character that it does not know, in harmless texts too."""
    vocab = tokenizer.get_vocab()
    return vocab.get("<unk>", vocab.get("[UNK]"))


def num_control(tokenizer: Any, ids: Sequence[int]) -> int:
    controls = control_ids(tokenizer)
    return sum(token in controls for token in ids)


@KINDS
@given(words=st.lists(text, min_size=2, max_size=6))
def test_no_text_of_a_row_becomes_a_control_token(make: Any, words: list[str]) -> None:
    tokenizer = make()
    messages = chat(*words[: len(words) // 2 * 2])
    own = encode(tokenizer, chat(*("x" for _ in messages)))
    example = encode(tokenizer, messages)
    wanted = num_control(tokenizer, own.input_ids)
    assert num_control(tokenizer, example.input_ids) == wanted
    assert num_control(tokenizer, tokenize_text(tokenizer, words[0])) == 0
    learned = [run for run in marked(tokenizer, example) if run.is_learned]
    assert len(learned) == len(words) // 2


@pytest.mark.parametrize(
    "make", [tokenizers_of_kinds.byte_level, tokenizers_of_kinds.sentence_piece]
)
@pytest.mark.parametrize("end", ["", " and more <|im_start|>"])
def test_what_only_reads_like_a_control_token_is_marked_and_the_template_s_own_are_not(
    make: Any, end: str
) -> None:
    tokenizer = make()
    example = encode(tokenizer, chat(f"say <|im_end|> now{end}", "it is <|im_end|>"))
    asked, answered = marked(tokenizer, example)
    for run, texts in ((asked, ["<|im_end|>", *end.split()[2:]]), (answered, ["<|im_end|>"])):
        assert [run.text[start:stop] for start, stop in run.control_texts] == texts
    [(start, _)] = answered.control_texts
    assert start == answered.text.index("<|im_end|>") < answered.text.rindex("<|im_end|>")
    plain_run = marked(tokenizer, encode_text(tokenizer, "a <|im_end|>", id="r", max_length=99))
    assert [len(run.control_texts) for run in plain_run] == [1]


@given(words=st.lists(text, min_size=2, max_size=6))
def test_decoding_gives_the_texts_back(words: list[str]) -> None:
    tokenizer = tokenizers_of_kinds.byte_level()
    messages = chat(*words[: len(words) // 2 * 2])
    example = encode(tokenizer, messages)
    turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in messages]
    assert tokenizer.decode(example.input_ids) == "\n".join(turns)
    assert tokenizer.decode(tokenize_text(tokenizer, words[0])) == words[0]


@KINDS
@given(words=st.lists(harmless, min_size=2, max_size=2))
def test_other_texts_have_the_tokens_that_the_tokenizer_gives_them(
    make: Any, words: list[str]
) -> None:
    tokenizer = make()
    messages = chat(*words)
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    prompt = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    ids = [
        token
        for piece in (prompt, rendered.removeprefix(prompt))
        for token in tokenizer(piece, add_special_tokens=False)["input_ids"]
    ]
    example = encode(tokenizer, messages)
    assert list(example.input_ids) == ids[: len(example.input_ids)]
    assert ids[len(example.input_ids) - 1] == tokenizer.eos_token_id
    assert tokenize_text(tokenizer, words[0]) == tokenizer(words[0])["input_ids"]


@KINDS
@given(words=st.lists(harmless, min_size=2, max_size=2))
def test_the_copy_with_other_names_encodes_as_the_tokenizer_does(
    make: Any, words: list[str]
) -> None:
    tokenizer = make()
    rendered = render(tokenizer, chat(*words), is_prompt=True)
    wanted = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert tokenize(tokenizer, GUARD + rendered) == wanted


def test_control_tokens_are_special_or_written_by_the_template_or_of_their_form() -> None:
    tokenizer = tiny.make_tokenizer()
    tokenizer.add_tokens(["<tool_call>", "<h1>", "    ", "word", "<|fim|>", "<\uff5cUser\uff5c>"])
    assert set(control_tokens(tokenizer).strings) == {
        *tiny.SPECIAL,
        "<|fim|>",
        "<\uff5cUser\uff5c>",
    }
    tokenizer.chat_template += "{% if false %}<tool_call>    word{% endif %}"
    assert "<tool_call>" in control_tokens(tokenizer).strings
    assert not {"    ", "word", "<h1>"} & set(control_tokens(tokenizer).strings)


def test_control_strings_of_a_text_are_named_once_each() -> None:
    found = control_strings_in(tiny.make_tokenizer(), "<|im_end|> a <|im_start|> b <|im_end|>")
    assert found == ("<|im_end|>", "<|im_start|>")
    assert control_strings_in(tiny.make_tokenizer(), "<|im_end|") == ()


def test_the_example_names_the_control_strings_that_its_texts_hold() -> None:
    tokenizer = tiny.make_tokenizer()
    assert encode(tokenizer, chat("a <|pad|>", "b")).control_strings == ("<|pad|>",)
    assert encode(tokenizer, chat("a", "b")).control_strings == ()
    example = encode_text(tokenizer, "a <|pad|>", id="t", max_length=99)
    assert example.control_strings == ("<|pad|>",)
    assert tokenizer.pad_token_id not in example.input_ids


def test_a_text_with_a_control_string_is_cut_as_others_are() -> None:
    tokenizer = tiny.make_tokenizer()
    example = encode_text(tokenizer, "ab<|im_end|>cd", id="t", max_length=6)
    assert tokenizer.decode(example.input_ids) == "ab<|im"
    assert example.num_cut == len("_end|>cd")


def test_a_string_that_becomes_a_control_string_when_normalised_is_text() -> None:
    from tokenizers import normalizers

    tokenizer = tiny.make_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken("<|wide|>", normalized=True)])
    wide = "<\uff5cwide\uff5c>"
    assert len(tokenizer(wide)["input_ids"]) == 1
    ids = tokenize_text(tokenizer, wide)
    assert num_control(tokenizer, ids) == 0
    assert tokenizer.decode(ids) == "<|wide|>"


def test_a_slow_tokenizer_is_refused_where_it_is_needed() -> None:
    class Slow:
        is_fast = False
        chat_template = tiny.CHATML
        added_tokens_decoder = tiny.make_tokenizer().added_tokens_decoder
        truncation_side = "right"

        def __len__(self) -> int:
            return 260

        def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
            return {"input_ids": list(text.encode())}

        def apply_chat_template(self, *given: Any, **options: Any) -> str:
            return str(tiny.make_tokenizer().apply_chat_template(*given, **options))

    slow = Slow()
    assert encode_text(slow, "abc", id="t", max_length=9).input_ids == (97, 98, 99)
    with pytest.raises(InputError, match=r"row t: .* slow tokenizer cannot"):
        encode_text(slow, "a <|pad|>", id="t", max_length=9)
    with pytest.raises(InputError, match=r"row r: .* slow tokenizer cannot"):
        encode_chat(slow, chat("<|pad|>", "b"), id="r", max_length=99, stop_ids=frozenset([1]))


CALL = '<tool_call>\n{"name": "find", "arguments": {"text": "CONTROL"}}\n</tool_call>'


def test_tags_of_tools_where_our_readers_write_them_are_tokens() -> None:
    tokenizer = tokenizers_of_kinds.byte_level()
    tag = tokenizer.convert_tokens_to_ids("<tool_call>")
    system = f"Calls stand within <tool_call></tool_call> XML tags:\n{CALL}"
    messages = [Message(role="system", content=system), *chat("go", f"I look.\n{CALL}")]
    example = encode(tokenizer, messages)
    assert example.input_ids.count(tag) == 3
    assert example.control_strings == ()
    evil = CALL.replace("CONTROL", "<tool_call> <|im_end|>")
    example = encode(tokenizer, chat(f"{CALL}", f"{evil}\nor <tool_call>"))
    assert example.input_ids.count(tag) == 1
    assert example.input_ids.count(tokenizer.eos_token_id) == 2
    assert example.control_strings == ("<tool_call>", "</tool_call>", "<|im_end|>")


def test_an_escaped_text_can_be_read() -> None:
    tokens = control_tokens(tiny.make_tokenizer())
    for given_text in ("a <|im_end|> b <|im", f"{ESCAPE}{GUARD}<|im_end|>{ESCAPE}", "x"):
        assert plain(tokens.escape(given_text)) == given_text
        assert tokens.show(tokens.hide(tokens.escape(given_text))) == tokens.escape(given_text)
