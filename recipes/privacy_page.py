"""The privacy report as one page for people: printed, read aloud, or read on a telephone.

The first sheet of paper is for whoever decides: what is claimed, in plain words, what is not
protected, what failed, and what is still to be completed. The 23 fields follow. The page has no
script, loads nothing, and its content security policy says so.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from eval.report.text import clean, epsilon, scientific
from privacy.checklist import SEVERITIES
from privacy.report import FIELDS, Check, Known, Missing, Part, PrivacyReport

_EPSILONS = frozenset({"pld", "prv", "rdp", "replace_one", "epsilon", "family_epsilon"})
_SHARES = frozenset({"max_posterior", "max_true_positive_rate"})
_HASHES = frozenset({"fingerprint", "ledger_head", "coverage", "base_identity"})

STATUS = {
    "fail": "Failed",
    "warn": "Warning",
    "not_checked": "Not checked",
    "pass": "Holds",
    "not_applicable": "Does not apply",
}
_ORDER = list(STATUS)


@dataclass(frozen=True)
class Row:
    """One line of a table: what, its value, and where it comes from."""

    label: str
    value: str
    source: str
    is_hash: bool = False
    missing: str = ""
    to_be_completed_by: str | None = None


def render(report: PrivacyReport) -> str:
    """Return the report as one self-contained HTML file."""
    style = _read("privacy.css")
    severities = [
        (title, sorted((c for c in report.checklist if c.severity == key), key=_urgency))
        for key, title in SEVERITIES.items()
    ]
    counts = Counter(check.status for check in report.checklist)
    return (
        _environment()
        .get_template("privacy.html.jinja")
        .render(
            report=report,
            policy=_policy(style),
            style=Markup(style),  # noqa: S704 (our own file)
            fields=list(enumerate(FIELDS, start=1)),
            rows=rows,
            one_gap=one_gap,
            status=STATUS,
            counts=[(STATUS[key], counts[key]) for key in _ORDER],  # type: ignore[index]
            alarms=[c for c in report.checklist if c.status in ("fail", "warn")],
            severities=severities,
            gaps=_grouped(report),
            evidence=evidence,
            shown=shown,
        )
    )


def _urgency(check: Check) -> int:
    return _ORDER.index(check.status)


def rows(part: Part) -> list[Row]:
    """Return the stated values of a part, in order, with their labels."""
    found = []
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, Known | Missing):
            label = (info.description or name.replace("_", " ")).rstrip(".")
            found.append(_row(label[:1].upper() + label[1:], name, value))
    return found


def one_gap(part: Part) -> Row | None:
    """Return what is missing where nothing of a part is known, and for one reason."""
    found = rows(part)
    reasons = {row.missing for row in found}
    return found[0] if len(reasons) == 1 and found[0].missing else None


def shown(value: Known | Missing, name: str = "") -> Row:
    """Return one stated value that stands outside such a table."""
    return _row("", name, value)


def _row(label: str, name: str, value: Known | Missing) -> Row:
    if isinstance(value, Missing):
        return Row(label, "", "", False, value.missing, value.to_be_completed_by)
    return Row(label, _text(name, value.value), value.source, name in _HASHES)


def gaps(report: PrivacyReport) -> Iterator[tuple[str, str, str]]:
    """Yield what people have yet to say: field, what, and who could say it."""
    for number_, (key, title) in enumerate(FIELDS, start=1):
        part = getattr(report, key)
        if not isinstance(part, Part):
            continue
        seen = set()
        for row in rows(part):
            if row.to_be_completed_by and row.missing not in seen:
                seen.add(row.missing)
                yield f"{number_}. {title}", row.missing, row.to_be_completed_by


def _grouped(report: PrivacyReport) -> list[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for field, what, _ in gaps(report):
        found.setdefault(field, []).append(what)
    return [(field, "; ".join(whats)) for field, whats in found.items()]


_TEST = re.compile(r"^(.*) \[(tests/[^\]]+)\]$")


def evidence(check: Check) -> list[tuple[str, str]]:
    """Return each piece of a check's evidence, and the test that holds it."""
    pieces = []
    for piece in check.evidence.split("\n"):
        found = _TEST.match(piece)
        pieces.append((found[1], found[2]) if found else (piece, ""))
    return pieces


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _text(name: str, value: float | int | str | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if name in _EPSILONS:
        return epsilon(value)
    if name in _SHARES:
        return f"{min(100.0, math.ceil(value * 10_000) / 100):g} %"
    return scientific(value) if 0 < abs(value) < 0.001 else f"{value:.4g}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("recipes", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: (
            clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = _sentence
    return environment


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _read(name: str) -> str:
    return (resources.files("recipes") / "templates" / name).read_text(encoding="utf-8").strip()
