from __future__ import annotations

import re
from dataclasses import replace

import pytest

from eval.report import Page, render_markdown
from tests.eval.report.hostile import PAYLOADS, push, shorten

markdown_it = pytest.importorskip("markdown_it")


def tokens(text: str) -> list[str]:
    parsed = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    inline = [child.type for token in parsed for child in token.children or ()]
    return [token.type for token in parsed] + inline


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize("which", ["private_page", "compare_page"])
def test_no_text_becomes_markup(name: str, which: str, request: pytest.FixtureRequest) -> None:
    page = shorten(request.getfixturevalue(which))
    attacked = render_markdown(push(page, lambda text: f"{PAYLOADS[name]} {text}"))
    baseline = render_markdown(push(page, lambda text: f"x {text}"))
    kinds = [kind for kind in tokens(attacked) if kind != "text_special"]
    plain = [kind for kind in tokens(baseline) if kind != "text_special"]
    assert _merge_texts(kinds) == _merge_texts(plain)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", attacked)


@pytest.mark.parametrize("text", ["- x", "1. x", "=", "+ x", "# x", "> x", "    x", "---", "```"])
def test_a_text_that_begins_like_a_block_stays_a_paragraph(run_page: Page, text: str) -> None:
    first = tokens(render_markdown(replace(run_page, summary=text)))
    assert _merge_texts(first) == _merge_texts(tokens(render_markdown(run_page)))


def test_nobody_is_mentioned_and_nothing_is_linked(run_page: Page) -> None:
    text = "@someone see #12, GH-7, https://evil.example and www.evil.example"
    shown = render_markdown(replace(run_page, summary=text))
    assert not re.search(r"@\w|#\d|GH-\d|://\w|www\.", shown)


def test_it_holds_the_verdict_the_checks_and_the_wins(private_page: Page) -> None:
    text = render_markdown(private_page)
    assert "**REFUSED**: policy-qa-dp8 (2 of 6 checks hold)" in text
    assert "| **fail** | policy-qa/f1 at least 0.7 |" in text
    assert "## Who wins where, beyond noise" in text
    assert "| policy-qa / exact\\_match | accuracy | higher is better |" in text


def test_it_says_undefined_and_not_asked(compare_page: Page) -> None:
    text = render_markdown(compare_page)
    assert "**NO GATE ASKED**: rank 8, one epoch" in text
    assert "undefined" in text
    assert not re.search(r"\bnan\b", text, flags=re.IGNORECASE)


def test_it_says_when_there_is_nothing_to_compare(empty_page: Page) -> None:
    text = render_markdown(empty_page)
    assert "only the base was measured" in text
    assert "Nothing was compared." in text


def _merge_texts(kinds: list[str]) -> list[str]:
    return [kind for kind in kinds if kind not in ("text", "text_special")]
