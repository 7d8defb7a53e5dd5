"""Audit the privacy of a recipe before it runs, of a run that ended, or of a release."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from privacy import accountant, budget, construction, provable
from privacy.artefacts import audit_artefacts
from privacy.audit import audit_ledger, audit_settings
from privacy.calculator import Calculation, calculate
from privacy.check_described import check as check_described
from privacy.checklist import Finding, Status, by_severity, complete
from privacy.described import Described
from privacy.ledger import LedgerSummary
from privacy.statement import GroupEpsilon, PrivacyStatement, statement
from privacy.statement import groups as epsilon_of_groups
from recipes import evidence, findings, training
from recipes.data import near_duplicates
from recipes.errors import Problem, Problems
from recipes.evidence import Evidence
from recipes.findings import Owned
from recipes.printing import Printer

__all__ = [
    "Audit",
    "account",
    "audit",
    "audit_evidence",
    "calculate",
    "described",
    "fields",
    "show",
    "show_account",
    "show_calculation",
    "show_described",
]


@dataclass(frozen=True)
class Audit:
    """What was found, and what may be said."""

    is_private: bool
    findings: Sequence[Finding]
    """The whole check-list in order, each line once."""

    statement: PrivacyStatement | None
    """Of a run or a release: from its ledger."""

    is_damaged: bool
    """Whether the ledger is not to be believed."""

    kind: str = "recipe"
    """recipe, run or release."""

    groups: tuple[GroupEpsilon, ...] = ()
    """What the run reveals of whoever owns several units."""

    owned: Owned | None = None
    alike: Mapping[str, Any] | None = None
    """Copies across units, as counted."""

    family_epsilon: float | None = None
    """What the run reveals of whoever wrote the text that stands in the most units."""

    def to_json(self) -> dict[str, Any]:
        """Return the audit as JSON values."""
        return {
            "kind": self.kind,
            "is_private": self.is_private,
            "findings": [asdict(finding) for finding in self.findings],
            "num_failed": sum(finding.status == "fail" for finding in self.findings),
            "statement": asdict(self.statement) if self.statement else None,
            "epsilon_of_groups": [asdict(one) for one in self.groups],
            "owned": asdict(self.owned) if self.owned else None,
            "near_duplicates": self.alike,
            "epsilon_of_family": self.family_epsilon,
        }


def audit(target: Path) -> Audit:
    """Audit a recipe file, a run folder or a release folder.

    Raises:
        recipes.errors.InputError: if the target is none of them.
    """
    return audit_evidence(evidence.gather(target))


def audit_and_report(target: Path, out: Path | None) -> tuple[Audit, dict[str, str]]:
    """Audit, and write the privacy report of a run or a release where a folder is named.

    Raises:
        recipes.errors.InputError: if the target is nothing to audit, or has nothing to report.
    """
    from recipes import privacy_report

    found = evidence.gather(target)
    result = audit_evidence(found)
    written = privacy_report.write(found, result, out) if out and not result.is_damaged else {}
    return result, written


def audit_evidence(found: Evidence) -> Audit:
    """Audit what was gathered."""
    if not found.is_private:
        return Audit(False, (), None, is_damaged=False, kind=found.kind)
    summary = found.summary()
    # then what it says was spent is not what this run has spent
    is_other = summary is not None and summary.disagreement(found.record) is not None
    ones = construction.findings()
    owned = findings.owned(found)
    # what one person owns is told from the rows, where somebody has counted
    ones += [one for one in _settings(found) if one.id != "U4" or owned is None]
    said: PrivacyStatement | None = None
    groups: tuple[GroupEpsilon, ...] = ()
    if summary is not None and not is_other:
        said = statement(summary.plan, steps_charged=summary.steps_charged)
        if summary.plan.unit == "example":
            most = owned.largest_num_rows if owned else None
            groups = epsilon_of_groups(summary.plan, summary.steps_charged, most)
    alike = findings.likeness(found)
    family_epsilon = _epsilon_of_family(alike, summary)
    ones += findings.unit_findings(owned, groups)
    ones += [
        findings.duplicate_finding(alike, family_epsilon),
        findings.label_finding(found),
        findings.account_finding(found, summary),
        findings.lineage_finding(found),
        *findings.held_out_findings(found),
    ]
    if found.ledger is None or found.folder is None:
        ones += findings.before_findings()
    else:
        ones += audit_ledger(found.ledger)
        ones += construction.self_test_findings(found.record.get("privacy_self_test", ()))
        ones += findings.record_findings(found, summary)
        texts = [near_duplicates.text_of(row) for row in found.rows]
        ones += audit_artefacts(found.folder, texts=texts, is_release=found.kind == "release")
    return Audit(
        True,
        complete(ones),
        said,
        is_damaged=found.ledger is not None and (summary is None or is_other),
        kind=found.kind,
        groups=groups,
        owned=owned,
        alike=alike,
        family_epsilon=family_epsilon,
    )


def _settings(found: Evidence) -> list[Finding]:
    recipe = found.recipe
    if recipe is None or recipe.privacy is None:
        return []
    num_units = found.record.get("privacy_units", {}).get("num_units")
    if num_units is None and not found.rows:
        return []
    return audit_settings(
        recipe.privacy,
        num_examples=num_units or training.num_private_units(recipe, found.rows),
        batch_size=recipe.train.batch_size,
        epochs=recipe.train.epochs,
        max_steps=recipe.train.max_steps,
        train_settings=evidence.settings_of(recipe),
    )


def _epsilon_of_family(
    alike: Mapping[str, Any] | None, summary: LedgerSummary | None
) -> float | None:
    """Return epsilon of whoever wrote the text that stands in the most units."""
    if alike is None or summary is None or alike["largest_family"] < 2:
        return None
    return provable.of_group(
        provable.mechanism_of(summary.plan, summary.steps_charged), alike["largest_family"]
    )


_SHOWN: dict[Status, tuple[str, str]] = {
    "fail": ("FAIL", "bold red"),
    "warn": ("warning", "yellow"),
    "not_checked": ("not checked", ""),
    "pass": ("pass", ""),
    "not_applicable": ("does not apply", "dim"),
}


def show(result: Audit, written: Mapping[str, str] = MappingProxyType({})) -> None:
    """Print an audit for a person: the check-list by severity, then what may be said."""
    console = Printer()
    if not result.is_private:
        console.print("trained without differential privacy: no epsilon protects anyone")
        return
    for title, group in by_severity(result.findings):
        table = Table("status", "id", "check", "evidence", title=title, title_justify="left")
        for one in group:
            word, style = _SHOWN[one.status]
            effect = f"\nThen: {one.effect}" if one.effect else ""
            told = one.evidence if one.status != "pass" else _short(one.evidence)
            cells = Text(one.what), Text(told + effect)
            table.add_row(Text(word, style), one.id, *cells)
        console.print(table)
    console.print("what passed is told in short; --json and -o DIR hold all of its evidence")
    counts = Counter(one.status for one in result.findings)
    told = ", ".join(f"{counts[status]} {_SHOWN[status][0]}" for status in _SHOWN)
    console.print(f"{len(result.findings)} lines: {told}; what is not checked is not shown to hold")
    if result.statement is not None:
        _show_statement(console, result.statement, result.groups)
    if written:
        console.print(Text(f"report: {written['privacy.html']}"))


def _short(evidence: str) -> str:
    """Return the first reason of several, without the test that holds it."""
    return evidence.partition("\n")[0].partition(" [tests/")[0]


def _show_statement(
    console: Printer, said: PrivacyStatement, groups: Sequence[GroupEpsilon]
) -> None:
    console.print(Text(said.in_words))
    figures = Table("epsilon", "value", box=None)
    figures.add_row("PLD (the figure that counts)", f"{said.epsilon:.4f}")
    figures.add_row("PRV, opacus", f"{said.epsilon_prv:.4f}")
    figures.add_row("RDP, opacus", f"{said.epsilon_rdp:.4f}")
    figures.add_row(
        "without amplification by sampling", f"{said.epsilon_without_amplification:.4f}"
    )
    figures.add_row("replace-one neighbours", f"{said.epsilon_replace_one:.4f}")
    for one in groups:
        whose = "the largest group" if one.is_observed else "somebody who owns"
        shown = f"{one.epsilon:.4f}" if math.isfinite(one.epsilon) else "none worth stating"
        figures.add_row(f"{whose}, {one.size} examples", shown)
    if groups and not groups[0].is_observed:
        figures.add_row("", "how many one person owns is not known: name data.group")
    figures.add_row("delta", f"{said.delta:g}")
    figures.add_row("steps charged", f"{said.steps_charged} of {said.steps_planned}")
    console.print(figures)
    console.print("not protected:")
    for line in said.not_protected:
        console.print(Text(f"  - {line}"))


def show_calculation(found: Calculation) -> None:
    """Print an account of bare numbers for a person."""
    console = Printer()
    console.print(
        Text(
            f"sample rate {found.sample_rate:.6g}, noise multiplier {found.noise_multiplier:.6g}, "
            f"{found.steps} steps, delta {found.delta:g}"
        )
    )
    figures = Table("epsilon", "value", box=None)
    figures.add_row("PLD (the figure that counts)", f"{found.epsilon:.4f}")
    figures.add_row("PRV, opacus", f"{found.accountants['prv']:.4f}")
    figures.add_row("RDP, opacus", f"{found.accountants['rdp']:.4f}")
    figures.add_row(
        "without amplification by sampling", f"{found.epsilon_without_amplification:.4f}"
    )
    figures.add_row("replace-one neighbours", f"{found.epsilon_replace_one:.4f}")
    console.print(figures)
    for line in found.warnings:
        console.print(Text(f"warning: {line}", "yellow"))
    console.print(
        "It holds for Poisson sampling, a clipping bound on each example over every trainable "
        "tensor, and noise that nobody can repeat."
    )


def described(path: Path) -> dict[str, Any]:
    """Check a private run of any tool, described in a JSON file; `privacy.described` has the words.

    Raises:
        InputError: if the file is no such description, naming each field that is wrong.
    """
    try:
        run = Described.model_validate_json(path.read_bytes())
    except ValidationError as error:
        wrong = [
            Problem(f"{path}: {'.'.join(map(str, one['loc'])) or 'the file'}", one["msg"])
            for one in error.errors()
        ]
        raise Problems(
            f"{path} does not describe a private run:",
            wrong,
            "assay audit --fields prints every field and what it means.",
        ) from None
    findings = check_described(run)
    return {
        "tool": run.tool,
        "epsilon_reported": run.reported_epsilon,
        "findings": [asdict(finding) for finding in findings],
        "num_failed": sum(finding.status == "fail" for finding in findings),
        "num_not_checked": sum(finding.status == "not_checked" for finding in findings),
    }


def show_described(found: Mapping[str, Any]) -> None:
    """Print the check of a described run for a person, what failed first."""
    order = {"fail": 0, "warn": 1, "not_checked": 2, "pass": 3}
    table = Table("status", "severity", "check", "evidence, and what it does to epsilon")
    for one in sorted(found["findings"], key=lambda f: order[f["status"]]):
        style = {"fail": "bold red", "warn": "yellow"}.get(one["status"], "")
        cells = Text(one["what"]), Text(one["evidence"])
        table.add_row(Text(one["status"], style), one["severity"], *cells)
    console = Printer()
    console.print(table)
    console.print(
        f"{found['num_failed']} failed, {found['num_not_checked']} not described; what is not "
        "described is not shown to hold"
    )


def fields() -> dict[str, Any]:
    """Return the JSON Schema of a described run."""
    return Described.model_json_schema()


def account(path: Path) -> dict[str, Any]:
    """Return what the account of a data set holds, as JSON values.

    Raises:
        privacy.errors.LedgerError: if the file is damaged.
    """
    found = budget.read(path)
    return {
        "limit": {"epsilon": found.epsilon, "delta": found.delta},
        "epsilon_spent": found.spent(),
        "runs": [
            asdict(run)
            | {
                "epsilon": accountant.epsilon(
                    run.sample_rate, run.noise_multiplier, run.steps, found.delta
                )
            }
            for run in found.reservations
        ],
    }


def show_account(found: Mapping[str, Any]) -> None:
    """Print the account of a data set for a person."""
    table = Table("run", "rows", "protects one", "sample rate", "noise", "steps", "epsilon alone")
    for run in found["runs"]:
        rows = run["data"].removeprefix("sha256:")[:12]
        noise, alone = f"{run['noise_multiplier']:.4g}", f"{run['epsilon']:.3f}"
        unit, rate = Text(run["unit"]), f"{run['sample_rate']:.4g}"
        table.add_row(Text(run["name"]), rows, unit, rate, noise, str(run["steps"]), alone)
    console = Printer()
    console.print(table)
    limit = found["limit"]
    console.print(
        f"together: epsilon {found['epsilon_spent']:.3f} of {limit['epsilon']:g} at delta "
        f"{limit['delta']:g}; every run counts with all its planned steps"
    )
