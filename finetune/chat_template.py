"""The chat template that a base is asked by: its own, or one that takes what recipes put to it.

Two kinds of bases have none that does. Bases that were never tuned for chats come without, and some
families (Gemma, Mistral) refuse a system turn, where the question-answering recipe has its
instruction. The template is made to fit where the tokenizer is loaded, so training, evaluation and
a merged folder, with whoever serves it, have the same one.
"""

from __future__ import annotations

from typing import Any

import jinja2

PLAIN = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For bases without a template.
The line end is an expression because transformers' Jinja drops one that follows a block."""

_FOLD = (
    "{%- if messages | length > 1 and messages[0]['role'] == 'system' and"
    " messages[1]['role'] == 'user' -%}"
    "{%- set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' +"
    " messages[1]['content']}] + messages[2:] -%}{%- endif -%}"
)
"""Before a template that takes no system turn: it opens the first user turn instead."""

_MARK = "Heed this."


def fit(tokenizer: Any) -> None:
    """Give the tokenizer a template if it has none, and one that takes a system turn.

    A template that drops a system turn without a word is one that takes none. Several templates by
    name are left as they are.
    """
    template = tokenizer.chat_template
    if template is None:
        # a template holds the start token, because its text is encoded as it stands
        starts = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = ("{{ bos_token }}" if starts else "") + PLAIN
    elif isinstance(template, str) and not _takes_system(tokenizer):
        tokenizer.chat_template = _FOLD + template
        if not _takes_system(tokenizer):  # it refuses more than that: whoever uses it is told
            tokenizer.chat_template = template


def _takes_system(tokenizer: Any) -> bool:
    chat = [{"role": "system", "content": _MARK}, {"role": "user", "content": "Hello."}]
    try:
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    except (jinja2.TemplateError, TypeError, ValueError):
        return False
    return _MARK in text
