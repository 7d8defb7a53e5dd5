"""Markdown for the papers of a release: what every one of them writes in the same way."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from eval.report.text import clean
from recipes.card import MISSING
from recipes.decisions import is_refuted
from recipes.release.facts import Facts

_MARKUP = re.compile(r"([\\`*\[\]|~$])")


def plain(value: object) -> str:
    """Write a text so that it stands for itself, on one line."""
    return html.escape(_MARKUP.sub(r"\\\1", " ".join(clean(str(value)).split())), quote=False)


def said(value: str | None) -> str:
    """Write what somebody has said, or that nobody has."""
    return f"**{MISSING}**" if value is None else plain(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figure(one: dict[str, Any] | None) -> str:
    """Write a figure with its 95 % interval."""
    if one is None:
        return "not measured"
    if one["value"] is None:
        return f"undefined on {one['n']} items"
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def warnings(facts: Facts) -> list[str]:
    """Return what every paper says first: overrides, a refuted claim, that nobody has signed."""
    found = [f"> **{facts.verdict.outcome}.** {plain(o)}." for o in facts.verdict.overrides]
    if is_refuted(facts.empirical):
        found.append(
            "> **THE PRIVACY CLAIM IS REFUTED** by an audit with canaries (PRIVACY.md tells how). "
            "Do not rely on its epsilon."
        )
    if not facts.is_signed:
        found.append(
            "> **NOT SIGNED.** Nobody stands for this folder: whoever passed it on may have "
            "changed any of it."
        )
    return found


def joined(blocks: Iterable[str]) -> str:
    """Put blocks under one another, with a final newline."""
    return "\n\n".join(block for block in blocks if block) + "\n"
