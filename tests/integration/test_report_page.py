"""The page in a real browser: what it loads, how it behaves, who can read it.

Needs Debian's ``chromium`` (or another Chromium on the path) and ``pip install 'assay[browser]'``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.report import Page, render_html
from tests.eval.report import fake_page
from tests.eval.report.hostile import PAYLOADS, push, shorten

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'assay[browser]'"
)
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe is missing: pip install 'assay[browser]'"
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: apt install chromium"),
]

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
OPEN_ALL = "document.querySelectorAll('details').forEach(fold => { fold.open = true; })"
VERY_LONG = "Donaudampfschifffahrt" * 8
PAGES = ("run", "private", "compare", "empty", "hostile")

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    everything = " ".join(PAYLOADS.values()) + VERY_LONG
    pages: dict[str, Page] = {
        "run": fake_page.run_page(),
        "private": fake_page.private_page(),
        "compare": fake_page.compare_page(),
        "empty": fake_page.empty_page(),
        "hostile": hostile(everything),
        "harmless": hostile("x"),
    }
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(render_html(page), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


def hostile(payload: str) -> Page:
    """A comparison and a private statement, with a payload before every text."""
    page = shorten(fake_page.compare_page())
    few = replace(
        page,
        candidates=page.candidates[2:4],  # one of them private
        pairs=tuple(
            replace(p, first=0, second=1) for p in page.pairs if (p.first, p.second) == (2, 3)
        ),
        proof=fake_page.PROOF,
    )
    return push(few, lambda text: f"{payload} {text}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def tab(browser: Any) -> Any:
    """One tab for all tests: each opens its page anew, and a process of its own costs seconds."""
    page = browser.new_context().new_page()
    page.set_default_timeout(60_000)
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append("dialog"), dialog.dismiss()))
    return page


@pytest.fixture
def open_page(tab: Any, files: dict[str, Path]) -> Open:
    """Opens a page, and notes all that it asks for and complains of."""

    def opened(name: str, width: int = 1280, color_scheme: str = "light") -> Any:
        tab.emulate_media(media="screen", color_scheme=color_scheme)
        tab.set_viewport_size({"width": width, "height": 900})
        tab.goto("about:blank")
        tab.asked.clear()
        tab.complaints.clear()
        tab.goto(files[name].as_uri())
        return tab

    return opened


@pytest.mark.parametrize("name", PAGES)
def test_no_request_leaves_the_page_and_nothing_complains(open_page: Open, name: str) -> None:
    page = open_page(name)
    page.evaluate(OPEN_ALL)
    page.wait_for_timeout(200)
    assert [url for url in page.asked if not url.startswith(("file:", "data:,"))] == []
    assert len({url for url in page.asked if url.startswith("file:")}) == 1
    assert page.complaints == []


def test_the_policy_stops_a_request_even_if_a_script_asked_for_one(open_page: Open) -> None:
    page = open_page("run")
    said = page.evaluate(
        """async () => {
          const seen = [];
          addEventListener("securitypolicyviolation", e => seen.push(e.effectiveDirective));
          await fetch("https://evil.example/").catch(() => {});
          const image = new Image(); image.src = "https://evil.example/x.png";
          const script = document.createElement("script");
          script.textContent = "window.hacked = 1"; document.body.append(script);
          await new Promise(done => setTimeout(done, 200));
          return [seen.sort(), window.hacked === undefined];
        }"""
    )
    assert said == [["connect-src", "img-src", "script-src-elem"], True]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation(open_page: Open, name: str, scheme: str) -> None:
    page = open_page(name, color_scheme=scheme)
    page.evaluate(OPEN_ALL)
    found = axe.Axe().run(page).response["violations"]
    assert [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found] == []


def test_axe_finds_no_violation_on_a_phone(open_page: Open) -> None:
    page = open_page("compare", width=380)
    page.evaluate(OPEN_ALL)
    found = axe.Axe().run(page).response["violations"]
    assert [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found] == []


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_overflows_on_a_phone(open_page: Open, name: str, is_open: bool) -> None:
    page = open_page(name, width=380)
    if is_open:
        page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    outside = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter(e => {
          const box = e.getBoundingClientRect();
          return box.width > 0 && box.right > 381 && !e.closest(".scroll, svg, .skip");
        }).map(e => e.outerHTML.slice(0, 120))"""
    )
    assert outside == []


def column(page: Any, table: str, place: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr > :nth-child({place})").all_inner_texts()
    return [" ".join(text.split()) for text in cells]


def test_a_table_is_sorted_by_click_and_by_key_and_can_be_put_back(open_page: Open) -> None:
    page = open_page("compare")
    original = column(page, ".standings", 1)
    heads = page.locator(".standings thead th")
    beats = heads.filter(has_text="beats")
    beats.locator("button").click()
    shown = [int(text.split()[0]) for text in column(page, ".standings", 6)]
    assert shown == sorted(shown, reverse=True)
    assert beats.get_attribute("aria-sort") == "descending"
    beats.locator("button").press("Enter")
    assert [int(t.split()[0]) for t in column(page, ".standings", 6)] == sorted(shown)
    assert beats.get_attribute("aria-sort") == "ascending"
    beats.locator("button").press("Enter")
    assert column(page, ".standings", 1) == original
    assert beats.get_attribute("aria-sort") is None


def test_what_has_no_number_stays_last_however_it_is_sorted(open_page: Open) -> None:
    page = open_page("compare")
    button = page.locator(".standings thead th", has_text="epsilon").locator("button")
    for _ in range(2):
        button.click()
        assert column(page, ".standings", 8)[0] == "7.992"


def test_differences_are_filtered_by_model_family_and_noise(open_page: Open) -> None:
    page = open_page("compare")
    page.locator("#pairs summary").click()
    rows = page.locator("#duels tbody tr:visible")
    filters = page.locator("#pairs .filter")
    total = rows.count()
    assert total == 60  # 10 pairs of 6 figures that have a better side
    filters.locator("[data-by=model]").select_option(label="rank 16")
    assert rows.count() == 24  # 4 pairs
    filters.locator("[data-by=family]").select_option("bias")
    assert rows.count() == 4
    filters.locator("[data-by=decided]").check()
    assert set(column(page, "#duels", 4)) >= {"undecided"}
    assert all(text in ("better", "worse") for text in visible(page, "#duels", 4))
    filters.locator("[data-by=model]").select_option("")
    filters.locator("[data-by=family]").select_option("")
    assert 0 < rows.count() < total
    assert f"of {total}" in filters.locator("[role=status]").inner_text()


def visible(page: Any, table: str, place: int) -> list[str]:
    return page.locator(f"{table} tbody tr:visible > :nth-child({place})").all_inner_texts()


def test_examples_are_filtered_to_what_two_models_answer_differently(open_page: Open) -> None:
    page = open_page("compare")
    fold = page.locator("#accuracy details.examples").first
    fold.locator("> summary").click()
    items = fold.locator(".example:visible")
    total = items.count()
    fold.locator("[data-by=first]").select_option(label="rank 16, private at epsilon 8")
    fold.locator("[data-by=second]").select_option(label="SmolLM2-135M-Instruct")
    differing = items.count()
    assert 0 < differing <= total
    for kind in ("first", "second"):
        fold.locator("[data-by=kind]").select_option(kind)
        assert 0 < items.count() < differing
        for item in items.all():
            right = item.locator(".answer:visible[data-correct=yes] .who:visible")
            wrong = item.locator(".answer:visible[data-correct=no] .who:visible")
            names = right.inner_text(), wrong.inner_text()
            expected = ("rank 16, private at epsilon 8", "SmolLM2-135M-Instruct")
            assert names == (expected if kind == "first" else expected[::-1])
    assert fold.locator("[role=status]").inner_text() == f"showing {items.count()} of {total}"
    for by in ("first", "second"):
        fold.locator(f"[data-by={by}]").select_option("")
    assert items.count() == total
    assert fold.locator(".answer:not(:visible), .who:not(:visible)").count() == 0


def test_examples_of_a_run_are_filtered_by_kind(open_page: Open) -> None:
    page = open_page("run")
    fold = page.locator("details.examples[open]").first
    fold.get_by_role("button", name="fixed").click()
    kinds = fold.locator(".example:visible .kind").all_inner_texts()
    assert kinds
    assert set(kinds) == {"fixed"}
    none_broken = fold.locator("[data-kind=broken]").count() == 0
    assert fold.get_by_role("button", name="broken").is_disabled() == none_broken


def test_every_pair_finds_examples_of_its_own(open_page: Open) -> None:
    page = open_page("compare")
    fold = page.locator("#accuracy details.examples").first
    fold.locator("> summary").click()
    models = [o.get_attribute("value") for o in fold.locator("[data-by=first] option").all()][1:]
    assert len(models) == 6
    for i, first in enumerate(models):
        for second in models[:i]:
            fold.locator("[data-by=first]").select_option(first)
            fold.locator("[data-by=second]").select_option(second)
            assert fold.locator(".example:visible").count() > 0, (first, second)


def test_hostile_texts_stay_text_for_the_parser_that_counts(open_page: Open) -> None:
    shape = (
        "() => [...document.querySelectorAll('*')].map(e => e.tagName + ' ' + "
        "[...e.attributes].map(a => a.name).sort().join(' '))"
    )
    # a long answer is folded by elements of ours
    folds = "document.querySelectorAll('.text, details.long').forEach(e => e.remove())"
    shapes = []
    for name in ("hostile", "harmless"):
        page = open_page(name)
        page.evaluate(folds)
        shapes.append(page.evaluate(shape))
    assert shapes[0] == shapes[1]


def test_hostile_texts_run_nothing_link_nowhere_and_deceive_nobody(open_page: Open) -> None:
    page = open_page("hostile")
    page.evaluate(OPEN_ALL)
    page.wait_for_timeout(200)
    assert page.complaints == []
    links = page.evaluate("[...document.querySelectorAll('[href],[src]')].map(e => "
                          "e.getAttribute('href') ?? e.getAttribute('src'))")  # fmt: skip
    assert {link for link in links if not link.startswith("#")} == {"data:,"}
    text = page.evaluate("document.documentElement.outerHTML")
    for character in "\x00\x1b\u202e\u2066\u200b\x9b\ufeff":
        assert character not in text, repr(character)
    shown = page.locator("h1").inner_text()
    assert "<script>alert(1)</script>" in shown
    assert "javascript:alert(1)" in shown
    assert page.evaluate("document.querySelectorAll('script').length") == 1


def test_the_first_tab_leads_past_the_navigation(open_page: Open) -> None:
    page = open_page("compare")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"


def test_all_that_acts_can_be_reached_and_worked_by_keyboard(open_page: Open) -> None:
    page = open_page("compare")
    page.evaluate(OPEN_ALL)
    unreachable = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, summary, a, .scroll")]
          .filter(e => !e.closest("[hidden]") && e.tabIndex < 0).map(e => e.outerHTML)"""
    )
    assert unreachable == []
    summary = page.locator("#pairs summary")
    summary.press("Enter")
    assert page.evaluate("document.querySelector('#pairs details').open") is False


def test_without_a_script_everything_is_shown_and_no_control_pretends(
    browser: Any, files: dict[str, Path]
) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(files["compare"].as_uri(), timeout=120_000)
    for fold in page.locator("#accuracy details.examples").all():
        fold.locator("> summary").click()
    assert page.locator("#accuracy .example:not(:visible)").count() == 0
    assert page.locator(".filter:visible").count() == 0
    assert page.locator(".sort").count() == 0


def test_paper_shows_what_is_folded_and_the_screen_gets_it_back(open_page: Open) -> None:
    page = open_page("compare")
    closed = "document.querySelectorAll('details:not([open], .long)').length"
    before = page.evaluate(closed)
    assert before > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(closed) == 0
    page.emulate_media(media="print")
    assert page.locator("nav:visible, .filter:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(closed) == before
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_an_a4_page_cuts_nothing_off(open_page: Open) -> None:
    page = open_page("compare", width=680)  # A4 less its margins, at 96 dots an inch
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    wide = page.evaluate(
        "[...document.querySelectorAll('table')].filter(t => t.scrollWidth > 681)"
        ".map(t => t.caption.textContent + ' ' + t.scrollWidth)"
    )
    assert wide == []
