from __future__ import annotations

import pytest

from finetune.chat_template import PLAIN
from finetune.content_flow import only_writes_contents
from tests import thinking, tiny
from tests.finetune.test_chat_template import GEMMA

EACH = "{% for m in messages %}"
END = "{% endfor %}"

WRITE = {
    "as it is": EACH + "{{ m.role }}: {{ m['content'] }}" + END,
    "joined to words": EACH + "{{ '<' + m.role ~ '>' ~ m.content + eos_token }}" + END,
    "trimmed": EACH + "{{ m.content | trim }}{{ m.content.strip() }}" + END,
    "trimmed with words": EACH + "{{ ('\n' + m.content) | trim }}" + END,
    "by name": EACH + "{% set c = m.content %}{{ c.rstrip() + '\n' }}" + END,
    "captured": EACH + "{% set c %}{{ m.content }}!{% endset %}{{ c }}" + END,
    "under one name of many": (
        "{% set n = namespace(first='') %}{% set n.first = messages[0].content %}{{ n.first }}"
    ),
    "by place": (
        "{{ messages[0].content }}{{ (messages | last).content }}{{ messages[1:][0].role }}"
    ),
    "by roles": (
        EACH + "{% if m.role == 'user' and not loop.last %}{{ m.content }}{% elif m.tool_calls %}"
        "{{ m.tool_calls | tojson }}{% endif %}" + END
    ),
    "where it is not empty": EACH
    + "{% if m.content %}{{ m.content or 'nothing' }}{% endif %}"
    + END,
    "where there is one": (
        "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% else %}"
        "{% set s = false %}{% endif %}{% if s != false and s != '' %}{{ s }}{% endif %}"
    ),
    "of a type": (
        EACH + "{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for part in m.content %}{{ part.text | tojson }}{% endfor %}{% endif %}" + END
    ),
    "folded": (
        "{% set messages = [{'role': 'user', 'content': messages[0]['content'] + '\n' +"
        " messages[1]['content']}] + messages[2:] %}" + EACH + "{{ m.content | trim }}" + END
    ),
    "refused by roles": EACH + "{{ raise_exception('no') if m.role == 'tool' }}" + END,
    "ChatML": tiny.CHATML,
    "plain": PLAIN,
    "Gemma": GEMMA,
}

LOOK = {
    "looked into": EACH + "{% if '</think>' in m.content %}a{% endif %}" + END,
    "compared": EACH + "{% if m.content == 'a' %}b{% endif %}" + END,
    "compared with another": "{{ messages[0].content == messages[1].content }}",
    "ordered": "{{ messages[0].content < 'm' }}",
    "counted": EACH + "{{ m.content | length }}" + END,
    "changed": EACH + "{{ m.content | upper }}" + END,
    "quoted": EACH + "{{ m.content | tojson }}" + END,
    "split": EACH + "{{ m.content.split('x')[-1] }}" + END,
    "cut of lines": EACH + "{{ m.content.strip('\n') }}" + END,
    "trimmed of letters": EACH + "{{ m.content | trim('a') }}" + END,
    "sliced": EACH + "{{ m.content[:9] }}" + END,
    "repeated": EACH + "{{ m.content * 2 }}" + END,
    "formatted": EACH + "{{ '%5s' % m.content }}" + END,
    "formatted by a filter": EACH + "{{ '%.3s' | format(m.content) }}" + END,
    "formatted by a method": EACH + "{{ '{0:.3}'.format(m.content) }}" + END,
    "searched in": EACH + "{{ 'abc'.find(m.content) }}" + END,
    "iterated": EACH + "{% for letter in m.content %}{{ letter }} {% endfor %}" + END,
    "tested": EACH + "{{ m.content is equalto 'a' }}" + END,
    "a test of letters": EACH + "{{ m.content is upper }}" + END,
    "by a name that is assigned later": (
        "{% set c = '' %}" + EACH + "{% if c == 'a' %}b{% endif %}{% set c = m.content %}" + END
    ),
    "through another name": EACH + "{% set a = m.content %}{% set b = a %}{{ b | length }}" + END,
    "through a capture": EACH + "{% set a %}{{ m.content }}{% endset %}{{ 'x' in a }}" + END,
    "through a namespace": (
        "{% set n = namespace(a='') %}{% set n.a = messages[0].content %}{{ n.a == 'a' }}"
    ),
    "through a namespace's second name": (
        "{% set n = namespace(a='') %}{% set o = n %}{% set n.a = messages[0].content %}"
        "{{ o.a == 'a' }}"
    ),
    "through a choice": EACH + "{{ (m.content if loop.first else 'x') | length }}" + END,
    "through a list": EACH + "{{ [m.content] | length }}" + END,
    "through the message": EACH + "{{ m | tojson }}" + END,
    "through its values": EACH + "{% for v in m.values() %}{{ v | length }}{% endfor %}" + END,
    "through its items": EACH + "{{ m['items']() }}" + END,
    "through a key that is not known": EACH + "{{ m[key] | length }}" + END,
    "through a string of the messages": "{{ messages | string | length }}",
    "through a filter of messages": "{{ messages | map(attribute='content') | join | length }}",
    "through the next turn": EACH + "{{ loop.nextitem.content | length }}" + END,
    "through another loop": EACH + "{% set x = loop %}{{ x.nextitem.content | length }}" + END,
    "through a change": EACH + "{{ loop.changed(m.content) }}" + END,
    "through a macro": "{% macro f(x) %}{{ x | length }}{% endmacro %}{{ f(messages[0].content) }}",
    "through a function": "{{ range(messages[0].content) }}",
    "through a refusal": "{{ raise_exception(messages[0].content) }}",
    "through a folded message": (
        "{% set messages = [{'role': messages[0].content, 'content': 'x' + messages[1].content}]"
        " %}{{ messages[0].role == 'a' }}"
    ),
    "through a message of no content": (
        "{% set ms = [{'role': 'user', 'content': messages[0].content or false}] %}"
        "{% for m in ms %}{% if m.content is string %}a{% else %}{{ m.content }}{% endif %}" + END
    ),
    "under the name of a function": (
        "{% set range = messages[0].content %}{{ range == 'a' }}{{ loop }}"
    ),
    "beside the date": tiny.CHATML + "{{ strftime_now('%d') }}",
    "beside chance": tiny.CHATML + "{{ ['a', 'b'] | random }}",
    "beside our white space": tiny.CHATML + "{{ '\\u2003' }}",
    "no template": "{% for m in messages %}",
    "with unknown blocks": EACH + "{% generation %}{{ m.content }}{% endgeneration %}" + END,
}


@pytest.mark.parametrize("template", WRITE.values(), ids=WRITE)
def test_a_template_that_only_writes_contents_is_known(template: str) -> None:
    assert only_writes_contents(template)


@pytest.mark.parametrize("template", LOOK.values(), ids=LOOK)
def test_a_template_that_does_more_with_contents_is_not_taken_for_one(template: str) -> None:
    assert not only_writes_contents(template)


@pytest.mark.parametrize("name", thinking.ALL)
def test_templates_with_thoughts_look_into_contents(name: str) -> None:
    assert not only_writes_contents(thinking.ALL[name])
