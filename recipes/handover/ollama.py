"""An Ollama Modelfile beside a GGUF file: template in Ollama's language, stops, no surprises.

Ollama writes prompts with Go templates, and the tokenizer's Jinja template cannot be run there. So
the template is recognised by what it writes, not by its text: it is put to a handful of chats, and
is ChatML if each comes out as ChatML. Any other template is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from finetune import checkpoint as checkpoints
from finetune.adapter_files import template_of
from recipes.errors import InputError

_GO_CHATML = """{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
"""Ollama puts the Modelfile's SYSTEM before chats without a system turn, among ``.Messages``."""

_CHATS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("system", "Be brief."), ("user", "Hello.")),
    (("system", "Be brief."), ("user", "Hello."), ("assistant", "Good day."), ("user", "Bye.")),
    (("system", "Two\nlines."), ("user", " spaces around \n and below\n"), ("assistant", "")),
    (("user", "Hello."),),
    (("user", "Hello."), ("assistant", "Good day."), ("user", "Bye.")),
    (("user", " {{ .System }} <b>&amp;</b> \"quoted\" 'so' "),),
)

_MAX_CONTEXT = 8192


def modelfile(folder: Path, gguf_name: str, *, context_length: int) -> str:
    """Return a Modelfile for a GGUF file of the folder's model.

    Sampling is greedy and unpenalised, which is how the model was evaluated; Ollama's own defaults
    are not. The context is the model's own, at most 8192, because Ollama reserves its memory.

    Args:
        folder: the model that the file was made of, with its tokenizer.
        gguf_name: of the file, beside which the Modelfile will lie.
        context_length: of the model, in tokens.

    Raises:
        InputError: if the chat template is none, or not ChatML.
    """
    tokenizer = checkpoints.load_tokenizer(folder)
    system = _default_system(tokenizer, folder)
    stops = sorted(checkpoints.stop_ids_of(folder, tokenizer))
    lines = [f"FROM ./{gguf_name}", f'TEMPLATE """{_GO_CHATML}"""']
    if system is not None:
        if '"""' in system:
            raise InputError(f"{folder}: the template's system text holds three quotes in a row")
        lines.append(f'SYSTEM """{system}"""')
    lines += [f'PARAMETER stop "{tokenizer.convert_ids_to_tokens(stop)}"' for stop in stops]
    lines += [
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1.0",
        f"PARAMETER num_ctx {min(context_length, _MAX_CONTEXT)}",
    ]
    return "\n".join(lines) + "\n"


def chatml(chat: tuple[tuple[str, str], ...]) -> str:
    """Return a chat in ChatML, up to where the assistant's next words begin."""
    turns = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in chat)
    return f"{turns}<|im_start|>assistant\n"


def _default_system(tokenizer: Any, folder: Path) -> str | None:
    """Return the system text that the template adds to a chat without one, or None."""
    if not template_of(folder):
        raise InputError(f"{folder} has no chat template, so Ollama would have to guess one")
    alone = _rendered(tokenizer, (("user", "Hello."),), folder)
    lead = alone.removesuffix(chatml((("user", "Hello."),)))
    opening, closing = "<|im_start|>system\n", "<|im_end|>\n"
    has_system = lead.startswith(opening) and lead.endswith(closing)
    system = lead.removeprefix(opening).removesuffix(closing) if has_system else None
    for chat in _CHATS:
        is_bare = chat[0][0] != "system"
        wanted = chatml((("system", system), *chat) if is_bare and system is not None else chat)
        if _rendered(tokenizer, chat, folder) != wanted:
            roles = ", ".join(role for role, _ in chat)
            raise InputError(
                f"the chat template of {folder} is not ChatML (it writes a chat of {roles} "
                "otherwise), and only ChatML is translated for Ollama; serve the GGUF with "
                "llama-server --jinja, which runs the template that the file holds"
            )
    return system


def _rendered(tokenizer: Any, chat: tuple[tuple[str, str], ...], folder: Path) -> str:
    messages = [{"role": role, "content": text} for role, text in chat]
    try:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )
    except jinja2.TemplateError as error:
        raise InputError(
            f"the chat template of {folder} refuses a plain chat ({error}), so it is not ChatML; "
            "serve the GGUF with llama-server --jinja"
        ) from None
