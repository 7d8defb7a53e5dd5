"""Texts that try to become more than text, and a way to push them into every field of a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from eval.report import Page
from eval.task import Sample

PAYLOADS = {
    "script": "<script>alert(1)</script>",
    "end of script": "</script><script>alert(1)</script>",
    "end of style": "</style><style>*{display:none}</style>",
    "end of title": "</title><body onload=alert(1)>",
    "svg onload": "<svg/onload=alert(1)>",
    "image": "<img src=https://evil.example/x.png onerror=alert(1)>",
    "attribute": '" onmouseover="alert(1)" x="',
    "single quote": "' autofocus onfocus='alert(1)",
    "javascript": "javascript:alert(1)",
    "details": "</details></li></ul></main><h1>PASSED</h1>",
    "comment": "<!-- --!> <![CDATA[ ]]>",
    "entity": "&lt;script&gt; &#60;b&#62; &nbsp",
    "jinja": "{{ 7 * 7 }} {% include '/etc/passwd' %} {# #}",
    "format": "%s %(x)s {0} {page.__class__}",
    "ansi": "\x1b[31mred\x1b[0m \x9b1mbold \x1b]8;;https://evil.example\x07link\x1b]8;;\x07",
    "bidi": "\u202edessap\u202c \u2066x\u2069 \u200f",
    "control": "nul\x00 bell\x07 back\x08 del\x7f nel\x85 ls\u2028 vt\x0b",
    "invisible": "a\u200bb\ufeffc\U000e0041",
    "surrogate": "lone \ud800 half",
    "math": "$\\frac{1}{0}$ $$ \\unknown{",
    "markdown": "| a | **b** `c` [d](javascript:e) ![f](https://evil.example/g.png) # h",
    "markdown block": "\n\n# heading\n\n- item\n\n```\ncode\n\n| x | y |\n|---|---|\n| 1 | 2 |\n",
    "links": "https://evil.example www.evil.example <https://evil.example> @someone #1 a@b.example",
    "html table": "</td></tr></table><iframe srcdoc=x>",
    "many lines": "a\r\nb\rc\td",
}

_OURS = {"kind", "family", "scores"}  # words of our own, never from outside


def push(value: Any, mark: Callable[[str], str]) -> Any:
    """Return a copy with every text marked, keys of mappings and identities included."""
    if isinstance(value, str):
        return mark(value)
    if isinstance(value, Mapping):
        return {push(key, mark): push(item, mark) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], int | float) and not isinstance(value[0], bool):
            return value
        return tuple(push(item, mark) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        pushed = {
            field.name: push(getattr(value, field.name), mark)
            for field in fields(value)
            if field.name not in _OURS
        }
        return replace(value, **pushed)
    return value


def shorten(page: Page, *, has_curves: bool = True) -> Page:
    """Keep what makes a page's structure, and drop what only makes it slow."""

    def cut(samples: Mapping[str, Sequence[Sample]]) -> dict[str, list[Sample]]:
        return {
            task: [s if has_curves else replace(s, scores={}) for s in found[:12]]
            for task, found in samples.items()
        }

    return replace(
        page,
        base_samples=cut(page.base_samples),
        candidates=tuple(
            replace(
                candidate,
                samples=cut(candidate.samples),
                losses=candidate.losses[:3] if has_curves else (),
                eval_losses=(),
            )
            for candidate in page.candidates
        ),
    )
