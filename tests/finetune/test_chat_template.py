from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from finetune import chat_template, checkpoint
from finetune.adapter_files import template_digest, template_of
from tests import tiny

ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
)
TURN = "<{{ m['role'] }}>{{ m['content'] }}<|im_end|>"
END = "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + ALTERNATE + TURN + END
)
MISTRAL = ALTERNATE + TURN + END  # a system turn is one that does not alternate
DEAF = "{% for m in messages %}{% if m['role'] != 'system' %}" + TURN + "{% endif %}" + END
KINDS = {"gemma": GEMMA, "mistral": MISTRAL, "deaf": DEAF}

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "And then?"},
]


def rendered(tokenizer: Any, chat: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


@pytest.mark.parametrize("template", KINDS.values(), ids=KINDS)
def test_a_system_turn_that_is_not_taken_opens_the_first_user_turn(template: str) -> None:
    tokenizer = tiny.make_tokenizer(chat_template=template)
    bare = rendered(tokenizer, CHAT[1:])
    chat_template.fit(tokenizer)
    assert rendered(tokenizer, CHAT) == (
        "<user>Be brief.\n\nWhy?<|im_end|><assistant>So.<|im_end|><user>And then?<|im_end|>"
        "<assistant>"
    )
    assert rendered(tokenizer, CHAT[1:]) == bare
    fitted = tokenizer.chat_template
    chat_template.fit(tokenizer)
    assert tokenizer.chat_template == fitted


@pytest.mark.parametrize(
    "template", [tiny.CHATML, "{{ raise_exception('not for chats') }}", "{{ messages + 1 }}"]
)
def test_a_template_that_takes_a_system_turn_or_nothing_at_all_is_left_alone(template: str) -> None:
    tokenizer = tiny.make_tokenizer(chat_template=template)
    chat_template.fit(tokenizer)
    assert tokenizer.chat_template == template


def test_the_plain_template_opens_with_the_start_token_where_the_tokenizer_adds_one() -> None:
    tokenizer = tiny.make_tokenizer(chat_template=None)
    tokenizer.bos_token = "<|unused|>"  # noqa: S105 (a token of text)
    chat_template.fit(tokenizer)
    assert rendered(tokenizer, CHAT[:2]) == "System: Be brief.\nUser: Why?\nAssistant:"
    tokenizer.chat_template = None
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|unused|> $A", special_tokens=[("<|unused|>", tokenizer.bos_token_id)]
    )
    chat_template.fit(tokenizer)
    assert rendered(tokenizer, CHAT[1:2]) == "<|unused|>User: Why?\nAssistant:"


@pytest.mark.parametrize("template", [None, *KINDS.values()], ids=["none", *KINDS])
def test_what_the_tokenizer_was_given_goes_where_it_is_copied(
    tiny_base: Path, tmp_path: Path, template: str | None
) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    shutil.copytree(tiny_base, base)
    out.mkdir()
    (base / "chat_template.jinja").unlink()
    if template:
        (base / "chat_template.jinja").write_text(template)
    loaded = checkpoint.load_tokenizer(base)
    checkpoint.copy_tokenizer(base, out, prompt=None)
    assert AutoTokenizer.from_pretrained(out).chat_template == loaded.chat_template
    assert template_of(out) == template_digest(loaded.chat_template) != template_of(base)
    assert (out / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_a_template_that_fits_is_copied_byte_for_byte(tiny_base: Path, tmp_path: Path) -> None:
    checkpoint.copy_tokenizer(tiny_base, tmp_path, prompt=None)
    name = "chat_template.jinja"
    assert (tmp_path / name).read_bytes() == (tiny_base / name).read_bytes()


def test_several_templates_by_name_go_along_as_they_are(tiny_base: Path, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    shutil.copytree(tiny_base, base)
    out.mkdir()
    (base / "chat_template.jinja").unlink()
    path = base / "tokenizer_config.json"
    named = [{"name": "default", "template": GEMMA}, {"name": "tool_use", "template": MISTRAL}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": named}))
    checkpoint.copy_tokenizer(base, out, prompt=None)
    loaded = AutoTokenizer.from_pretrained(out).chat_template
    assert loaded == {"default": GEMMA, "tool_use": MISTRAL}
    assert template_of(out) == template_of(base)
