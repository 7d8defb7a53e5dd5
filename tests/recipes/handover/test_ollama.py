"""Modelfiles: ChatML is recognised by what a template writes, and anything else is refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from recipes.errors import InputError
from recipes.handover import ollama
from tests import tiny
from tests.recipes.handover.folders import edit_json

WITH_SYSTEM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are an assistant named Tiny<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMING = tiny.CHATML.replace("message['content']", "message['content'] | trim")
OTHER = tiny.CHATML.replace("<|im_start|>", "<|start|>")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
ONCE = tiny.CHATML.replace("messages %}", "messages[-1:] %}")


@pytest.fixture
def folder(mergeable: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mergeable, tmp_path / "model"))


def with_template(folder: Path, template: str) -> Path:
    (folder / "chat_template.jinja").write_text(template)
    return folder


def as_ollama(modelfile: str, chat: tuple[tuple[str, str], ...]) -> str:
    """Write a chat as Ollama would: its system text before a chat without one, then each turn."""
    found = re.search(r'TEMPLATE """(.*?)"""', modelfile, re.DOTALL)
    system = re.search(r'SYSTEM """(.*?)"""', modelfile, re.DOTALL)
    assert found
    whole = re.fullmatch(
        r"\{\{- range \.Messages \}\}(.*?)\{\{ end \}\}(.*)", found.group(1), re.DOTALL
    )
    assert whole
    turn, last = whole.groups()
    if system and chat[0][0] != "system":
        chat = (("system", system.group(1)), *chat)
    turns = [turn.replace("{{ .Role }}", r).replace("{{ .Content }}", c) for r, c in chat]
    return "".join(turns) + last


CHATS = (
    (("user", "Why?"),),
    (("system", "Short."), ("user", "Why?")),
    (("user", " Why? \n"), ("assistant", "So."), ("user", "Ah.")),
)


@pytest.mark.parametrize("template", [tiny.CHATML, WITH_SYSTEM])
def test_ollama_writes_a_chat_as_the_template_does(folder: Path, template: str) -> None:
    tokenizer = tiny.make_tokenizer(chat_template=template)
    text = ollama.modelfile(with_template(folder, template), "m.gguf", context_length=1024)
    for chat in CHATS:
        messages = [{"role": role, "content": content} for role, content in chat]
        wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert as_ollama(text, chat) == wanted


def test_a_modelfile_asks_as_the_model_was_evaluated(folder: Path) -> None:
    text = ollama.modelfile(with_template(folder, WITH_SYSTEM), "m.gguf", context_length=131072)
    lines = text.splitlines()
    assert lines[0] == "FROM ./m.gguf"
    assert 'SYSTEM """You are an assistant named Tiny"""' in lines
    assert [line for line in lines if line.startswith("PARAMETER")] == [
        'PARAMETER stop "<|im_end|>"',
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1.0",
        "PARAMETER num_ctx 8192",
    ]


def test_every_stop_of_the_model_is_one_of_ollama(folder: Path) -> None:
    edit_json(folder / "generation_config.json", eos_token_id=[1, 3])
    text = ollama.modelfile(folder, "m.gguf", context_length=1024)
    assert 'PARAMETER stop "<|im_end|>"\nPARAMETER stop "<|unused|>"\n' in text
    assert "SYSTEM" not in text


@pytest.mark.parametrize("template", [TRIMMING, OTHER, NO_SYSTEM + tiny.CHATML, ONCE])
def test_a_template_that_is_not_chatml_is_refused(folder: Path, template: str) -> None:
    with pytest.raises(InputError, match=r"not ChatML.*llama-server --jinja"):
        ollama.modelfile(with_template(folder, template), "m.gguf", context_length=1024)


def test_a_folder_without_a_template_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        ollama.modelfile(folder, "m.gguf", context_length=1024)
