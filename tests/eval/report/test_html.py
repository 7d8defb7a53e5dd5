from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from eval.gate import Decision
from eval.report import Candidate, Page, render_html
from eval.report.text import clean
from eval.stats import Difference
from tests.eval.report.hostile import PAYLOADS, push, shorten

VOID = {"meta", "link", "br", "img", "input", "hr"}
DECEPTIVE = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
HOLDS_TEXT = {"aria-label", "content"}  # attributes whose value may hold outside text


class Reader(HTMLParser):
    """Collects the tags, attributes and texts of a page, and checks that tags nest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all_of(self, tag: str) -> list[dict[str, str | None]]:
        return [dict(attrs) for name, attrs in self.tags if name == tag]


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


def skeleton(reader: Reader) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    return [
        (tag, tuple((name, None if name in HOLDS_TEXT else value) for name, value in attrs))
        for tag, attrs in reader.tags
    ]


def test_all_payloads_at_once_are_but_text(compare_page: Page) -> None:
    check_that_it_stays_text(shorten(compare_page), " ".join(PAYLOADS.values()))


@pytest.mark.parametrize("name", PAYLOADS)
def test_no_text_of_any_field_adds_an_element_or_changes_an_attribute(
    name: str, private_page: Page
) -> None:
    check_that_it_stays_text(shorten(private_page, has_curves=False), PAYLOADS[name])


def check_that_it_stays_text(page: Page, payload: str) -> None:
    harmless = "x" * len(clean(payload))
    attacked = render_html(push(page, lambda text: f"{payload} {text}"))
    baseline = render_html(push(page, lambda text: f"{harmless} {text}"))
    assert skeleton(read(attacked)) == skeleton(read(baseline))
    assert not re.search(DECEPTIVE, attacked)


def test_outside_text_is_shown_as_it_is_written(run_page: Page) -> None:
    payload = PAYLOADS["svg onload"]
    reader = read(render_html(push(run_page, lambda text: f"{payload} {text}")))
    for field in (run_page.title, run_page.notes[0], run_page.candidates[0].name):
        assert f"{payload} {field}" in reader.text


def test_every_text_field_of_the_page_is_shown(
    private_page: Page, rendered: dict[str, str]
) -> None:
    html = rendered["private"]
    privacy = private_page.candidates[0].privacy
    assert privacy is not None
    shown = read(html).text
    for text in (
        private_page.summary,
        *private_page.provenance.values(),
        *privacy.mechanism,
        *privacy.plain_words,
        *privacy.not_protected,
        *(name for name, _, _ in privacy.self_test),
        *private_page.candidates[0].cost.values(),
        privacy.adjacency,
    ):
        assert text in shown


def test_the_page_needs_nothing_from_outside(rendered: dict[str, str]) -> None:
    for html in rendered.values():
        assert "http://" not in html
        assert "https://" not in html
        reader = read(html)
        for tag, attrs in reader.tags:
            for name, value in attrs:
                assert not name.startswith("on")
                if name in ("href", "xlink:href", "src"):
                    assert value == "data:," or (value or "").startswith("#"), (tag, name, value)
        assert not reader.all_of("img")
        assert not {"iframe", "object", "embed", "form", "base"} & {tag for tag, _ in reader.tags}


def test_the_policy_allows_our_script_and_nothing_else(rendered: dict[str, str]) -> None:
    reader = read(rendered["run"])
    [policy] = [
        meta["content"] or ""
        for meta in reader.all_of("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    [script] = reader.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == f"'sha256-{digest}'"
    assert directives["img-src"] == "data:"
    assert len(reader.all_of("script")) == 1
    position = [tag for tag, _ in reader.tags]
    assert position.index("meta") < position.index("style") < position.index("script")


def test_the_same_page_gives_the_same_bytes(run_page: Page, rendered: dict[str, str]) -> None:
    assert render_html(run_page) == rendered["run"]


def test_ids_are_unique_and_every_reference_has_its_target(rendered: dict[str, str]) -> None:
    for html in rendered.values():
        reader = read(html)
        ids = [value for _, attrs in reader.tags for name, value in attrs if name == "id"]
        assert len(ids) == len(set(ids))
        wanted = {
            (value or "").removeprefix("#")
            for _, attrs in reader.tags
            for name, value in attrs
            if (name == "href" and (value or "").startswith("#")) or name == "aria-labelledby"
        }
        wanted |= set(re.findall(r"url\(#([^)]*)\)", html))
        assert wanted <= set(ids)


def test_headings_descend_one_level_at_a_time(rendered: dict[str, str]) -> None:
    for html in rendered.values():
        levels = [int(tag[1]) for tag, _ in read(html).tags if re.fullmatch(r"h[1-6]", tag)]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_table_heading_has_a_scope_and_every_table_a_caption(
    rendered: dict[str, str],
) -> None:
    reader = read(rendered["compare"])
    assert all(th.get("scope") in ("col", "row", "rowgroup") for th in reader.all_of("th"))
    assert len(reader.all_of("caption")) == len(reader.all_of("table"))


def test_without_a_script_all_examples_are_shown_and_the_filter_is_not(
    rendered: dict[str, str],
) -> None:
    reader = read(rendered["run"])
    items = [attrs for attrs in reader.all_of("li") if attrs.get("class") == "example"]
    assert items
    assert not any("hidden" in item for item in items)
    filters = [attrs for attrs in reader.all_of("div") if attrs.get("class") == "filter"]
    assert filters
    assert all("hidden" in attrs for attrs in filters)


def test_the_verdict_comes_first_and_in_words(rendered: dict[str, str]) -> None:
    passed, refused = read(rendered["run"]), read(rendered["private"])
    assert passed.text.index("PASSED") < passed.text.index("Who wins where")
    assert "REFUSED" not in passed.text
    assert refused.text.index("REFUSED") < refused.text.index("Who wins where")
    assert "did you mean unsupported_rate?" in refused.text
    assert "PASSED" not in refused.text


def test_a_candidate_without_a_gate_is_not_said_to_have_passed(run_page: Page) -> None:
    ungated = [replace(candidate, decision=None) for candidate in run_page.candidates]
    text = read(render_html(replace(run_page, candidates=tuple(ungated)))).text
    assert text.count("NO GATE ASKED") == 1
    assert "PASSED" not in text
    mixed = read(render_html(replace(run_page, candidates=(run_page.candidates[0], ungated[1]))))
    assert mixed.text.count("NO GATE ASKED") == 1
    assert mixed.text.count("PASSED") == 1


def test_a_decision_without_checks_is_a_refusal(run_page: Page) -> None:
    candidate = replace(run_page.candidates[0], decision=Decision(()))
    text = read(render_html(replace(run_page, candidates=(candidate,)))).text
    assert "REFUSED" in text
    assert "nothing is not a pass" in text


def test_nan_is_called_undefined(rendered: dict[str, str]) -> None:
    html = rendered["compare"]
    text = read(html).text
    assert "undefined" in text
    assert not re.search(r"\bnan\b", html, flags=re.IGNORECASE)
    assert "was asked other items" in text


def test_one_candidate_without_differences_samples_or_losses_still_has_a_page(
    run_page: Page,
) -> None:
    candidate = Candidate("bare", run_page.candidates[0].report, {}, {})
    page = replace(run_page, candidates=(candidate,), base_samples={}, proof={}, notes=())
    text = read(render_html(page)).text
    assert "no figure could be compared with the base" in text
    assert "not compared" in text
    assert "no examples can be shown" in text
    assert "Trained without differential privacy." in text
    assert "Training loss" not in text


def test_a_page_of_the_base_alone_says_so(rendered: dict[str, str]) -> None:
    text = read(rendered["empty"]).text
    assert "only the base was measured" in text
    assert "Who wins where" not in text


def test_a_page_without_any_task_says_that_it_says_nothing(run_page: Page) -> None:
    base = replace(run_page.base, tasks={})
    candidate = replace(run_page.candidates[0], report=base, differences={}, samples={})
    text = read(render_html(replace(run_page, base=base, candidates=(candidate,)))).text
    assert text.count("this report says nothing about it") == 3


def test_more_candidates_than_colours_still_have_a_page(compare_page: Page) -> None:
    names = [f"candidate {i}" for i in range(9)]
    many = tuple(replace(compare_page.candidates[0], name=name) for name in names)
    text = read(render_html(replace(compare_page, candidates=many))).text
    assert all(name in text for name in names)


def test_only_settings_that_differ_are_shown(rendered: dict[str, str]) -> None:
    text = read(rendered["compare"]).text
    assert "adapter.rank" in text
    assert "base.quantization" not in text


def test_a_private_and_a_plain_candidate_are_told_apart(rendered: dict[str, str]) -> None:
    text = read(rendered["compare"]).text
    assert text.count("Trained without differential privacy.") == 4
    assert "7.992 at" in text


def test_losses_that_are_not_finite_are_counted_not_drawn(run_page: Page) -> None:
    losses = [(1, 2.0), (2, math.nan), (3, math.inf), (4, 1.0)]
    candidate = replace(run_page.candidates[0], losses=losses, eval_losses=())
    text = read(render_html(replace(run_page, candidates=(candidate,)))).text
    assert "2 logged values were not finite" in text


def test_a_long_answer_is_clipped_and_still_whole(run_page: Page) -> None:
    candidate = run_page.candidates[0]
    answer = "word " * 400 + "the very end"
    samples = {
        task: [replace(sample, prediction=answer) for sample in found]
        for task, found in candidate.samples.items()
    }
    reader = read(render_html(replace(run_page, candidates=(replace(candidate, samples=samples),))))
    assert answer in reader.text
    assert any(attrs.get("class") == "long" for attrs in reader.all_of("details"))


def test_every_field_of_the_contract_has_a_default_only_where_it_may_be_absent() -> None:
    required = [f.name for f in dataclasses.fields(Candidate) if not _has_default(f)]
    assert required == ["name", "report", "samples", "differences"]


def test_a_difference_without_direction_is_descriptive(run_page: Page) -> None:
    difference = Difference(3.0, 2.0, 4.0, 20, higher_is_better=None)
    candidate = replace(
        run_page.candidates[0], differences={"policy-qa": {"answer_words": difference}}
    )
    text = read(render_html(replace(run_page, candidates=(candidate,)))).text
    assert "descriptive +3.0 [+2.0, +4.0]" in text


def _has_default(field: dataclasses.Field[object]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing
