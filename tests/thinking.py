"""Chat templates that treat thoughts as those of reasoning models do. Of our own writing."""

from __future__ import annotations

_LAST_QUERY = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
)
OTHERS = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"

HYBRID = (
    _LAST_QUERY + "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{% set body = m['content'] %}{% set thought = '' %}"
    "{% if m['reasoning_content'] is string %}{% set thought = m['reasoning_content'] %}"
    "{% elif '</think>' in body %}"
    "{% set thought = body.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set body = body.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\n' }}{% if loop.index0 > ns.last %}"
    "{% if loop.last or thought %}"
    "{{ '<think>\n' + thought.strip('\\n') + '\n</think>\n\n' }}{% endif %}{% endif %}"
    "{{ body.lstrip('\\n') + '<|im_end|>\n' }}"
    "{% else %}" + OTHERS + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""Like Qwen3's: thoughts of earlier turns are dropped, the last answer has one, empty or not."""

TAGGED = HYBRID.replace(
    "{% if m['reasoning_content'] is string %}{% set thought = m['reasoning_content'] %}"
    "{% elif '</think>' in body %}",
    "{% if '</think>' in body %}",
)
"""The same, but thoughts are read from the content alone."""

OPENED = TAGGED.replace("'</think>' in body", "'<think>' in body and '</think>' in body").replace(
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}",
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}",
)
"""Like Qwen3.5's: the generation prompt opens the thought."""

DROPPED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "<|im_start|>assistant\n{{ m['content'].split('</think>')[-1].lstrip() }}<|im_end|>\n"
    "{% else %}" + OTHERS + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
"""Like DeepSeek-R1's: no answer has its thought, and the generation prompt opens one."""

LEFT = DROPPED.replace(".split('</think>')[-1].lstrip()", ".split('</think>')[-1]")
"""The same, but blanks between thought and answer are left."""

TIGHT = OPENED.replace(
    "<think>\n' + thought.strip('\\n') + '\n</think>\n\n",
    "<think>' + thought.strip('\\n') + '</think>",
)
"""Like Nemotron's: the thought of an answer has no blanks, and that of the prompt has."""

ALL = {
    "hybrid": HYBRID,
    "tagged": TAGGED,
    "opened": OPENED,
    "dropped": DROPPED,
    "left": LEFT,
}
