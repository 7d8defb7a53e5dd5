"""The report's verdict and wins as Markdown, for a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from eval.report.cells import Cell
from eval.report.checks import Verdict, verdict
from eval.report.comparison import compare
from eval.report.judgements import FAMILIES
from eval.report.page import Page
from eval.report.standings import Score
from eval.report.text import clean

_PUNCTUATION = re.compile(r"([\\`*_\[\]#|~$])")
_RESULTS = {"PASS": "pass", "UNDECIDED": "**undecided**"}
_DIRECTIONS = {"up": "higher is better", "down": "lower is better", "none": "descriptive"}


def render_markdown(page: Page) -> str:
    """Return the verdict, its checks and who wins where, for a pull request.

    Every text is escaped: it renders as it is written, on one line, without markup, images,
    mentions or automatic links.
    """
    blocks = [f"# {_escape(page.title)}", _escape(page.summary)]
    blocks += ["## Verdict", *_standings(page)]
    for index, candidate in enumerate(page.candidates):
        blocks += _verdict(verdict(candidate, index))
    if not page.candidates:
        blocks += ["No candidate: only the base was measured."]
    blocks += ["## Who wins where, beyond noise", *_wins(page)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _standings(page: Page) -> list[str]:
    """Say where each model stands among all, on the page of a comparison."""
    if not page.pairs:
        return []
    found = compare(page).standings
    names = {one.index: _escape(one.name) for one in found}
    unbeaten = [names[one.index] for one in found if not one.beaten_by]
    rows = [
        [
            names[one.index],
            *(_score(score) if one.index is not None else "" for score in one.families.values()),
            f"{one.beats} of {len(one.others)}",
            ", ".join(names[other] for other in one.beaten_by) or "**no other**",
        ]
        for one in found
    ]
    families = [f"{family} against base" for family in FAMILIES]
    return [
        f"Beaten by no other: {', '.join(unbeaten) or 'none, each is beaten by another'}.",
        _table(["model", *families, "beats", "beaten by"], rows),
        "One model beats another if it is better on at least one figure and worse on none, beyond "
        "noise and after correction (Holm, within each family of figures).",
    ]


def _score(score: Score) -> str:
    words = [f"{n} {word}" for n, word in ((score.better, "better"), (score.worse, "worse")) if n]
    return f"{', '.join(words) or 'undecided'} of {score.total}" if score.total else "not compared"


def _verdict(found: Verdict) -> list[str]:
    word = "NO GATE ASKED" if found.word == "not asked" else found.word.upper()
    head = f"**{word}**: {_escape(found.candidate)}"
    if found.word == "not asked":
        return [head]
    rows = [
        [
            _RESULTS.get(row.outcome, "**fail**") + " (overridden)" * row.is_overridden,
            _escape(row.rule),
            _escape(f"{row.measured} {row.interval}{_minus(row.compared_with)}"),
            f"{row.n:,}" if row.n else "",
            _escape(row.reason),
        ]
        for row in found.rows
    ]
    head += f" ({found.num_passed} of {len(found.rows)} checks hold)"
    overrides = [
        f"**OVERRIDDEN**: {_escape(o.rule)} by {_escape(o.by)}, ticket {_escape(o.ticket)}, until "
        f"{_escape(o.expires)}: {_escape(o.reason)}"
        for o in found.overrides
    ]
    approval = [f"Approval: {_escape(found.approval)}"] if found.approval else []
    table = _table(["check", "rule", "measured", "items", "reason"], rows)
    return [*overrides, head, *approval, table]


def _minus(other: str) -> str:
    return f" minus {other.removeprefix('the ')}" if other else ""


def _wins(page: Page) -> list[str]:
    comparison = compare(page)
    if not page.candidates or not comparison.wins:
        return ["Nothing was compared."]
    rows = [
        [
            f"{_escape(row.task)} / {_escape(row.metric)}",
            row.family,
            _DIRECTIONS[row.direction],
            *(_cell(cell) for cell in row.cells),
        ]
        for row in comparison.wins
    ]
    head = ["figure", "family", "direction", *(_escape(c.name) for c in page.candidates)]
    return [
        _table(head, rows),
        "Candidate minus base on the same items, with 95% intervals. Better and worse hold after "
        f"correction, within each family, for {comparison.num_comparisons} comparisons (Holm); a "
        "perhaps does not.",
    ]


def _cell(cell: Cell) -> str:
    is_decided = cell.judgement in ("better", "worse")
    word = f"**{cell.judgement}**" if is_decided else cell.judgement
    figures = f"{cell.value} {cell.interval}".strip()
    shows_figures = cell.judgement not in ("undefined", "not compared")
    return f"{word}, {_escape(figures)}" if shows_figures else word


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    """Make a text stand for itself, on one line, in a paragraph, heading or table cell."""
    text = _PUNCTUATION.sub(r"\\\1", " ".join(clean(text).split()))
    text = re.sub(r"^([-+=])(?=[-=\s]|$)", r"\\\1", text)  # a list, a heading's underline, a rule
    text = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)  # a numbered list
    # A word joiner, unseen, keeps GitHub from mentioning people, issues and addresses.
    text = re.sub(r"(@|#(?=\d)|\bwww(?=\.)|//|\bGH(?=-\d))", "\\1\u2060", text, flags=re.IGNORECASE)
    return html.escape(text)
