"""The page of a check: complete in itself, and safe against what rows, labels and names hold."""

from __future__ import annotations

import re

from recipes.check.inspection import Inspection
from recipes.check.lengths import summarize
from recipes.check.page import render
from recipes.data.findings import MOST_PLACES, FindingKind, Findings

BAD = FindingKind("bad-row", "error", "A row is bad.", "Mend it.")
ODD = FindingKind("odd-row", "warning", "A row is odd.", "Look at it.")


def inspection(findings: Findings, label: str = "refund") -> Inspection:
    lengths = summarize([3, 4, 9], 1.0, 1)
    return Inspection(
        recipe="classification",
        files=(),
        rows={"train": 3, "validation": 0, "test": 1},
        labels={label: {"train": 3, "validation": 0, "test": 1}},
        train_lengths=lengths,
        test_lengths=None,
        languages={"en": 1.0},
        shown=(),
        findings=findings.all(),
        near_duplicates=None,
    )


def test_the_page_loads_nothing_and_has_every_finding_with_its_way_out() -> None:
    findings = Findings()
    for line in range(MOST_PLACES + 3):
        findings.add(BAD, f"/long/way/to/a.csv:{line}", "no label")
    findings.add(ODD, "b.csv:1")
    findings.note(BAD, "data.label_map: {a: b}")
    page = render(inspection(findings), "tickets")
    assert not re.search(r"https?://|<script|<link|@import|url\((?!#)", page)
    assert "Not fit to train on." in page
    assert "1 kind of errors, 1 kind of warnings" in page
    assert page.count("no label") == MOST_PLACES
    assert "and 3 more" in page
    assert "data.label_map: {a: b}" in page
    assert "Mend it." in page
    assert "/long/way" not in page


def test_a_page_without_errors_says_so() -> None:
    assert "Fit to train on." in render(inspection(Findings()), "tickets")


def test_what_users_write_is_text_on_the_page() -> None:
    findings = Findings()
    findings.add(BAD, "a.csv:1", "<img src=x onerror=alert(1)>")
    page = render(inspection(findings, label="<b>bold</b>"), "<script>alert(1)</script>")
    assert "<script>" not in page
    assert "<img" not in page
    assert "<b>" not in page


def test_the_same_inspection_gives_the_same_page() -> None:
    assert render(inspection(Findings()), "x") == render(inspection(Findings()), "x")
