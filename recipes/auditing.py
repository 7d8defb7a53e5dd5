"""Audit the privacy of a recipe before it runs, or of a run that ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from privacy import accountant, budget
from privacy.audit import Finding, audit_ledger, audit_settings
from privacy.calculator import Calculation, calculate
from privacy.check_described import check as check_described
from privacy.described import Described
from privacy.errors import LedgerError
from privacy.ledger import LedgerSummary, verify
from privacy.statement import PrivacyStatement, statement
from recipes import config, domains, training
from recipes.config import Recipe
from recipes.domains import Domain
from recipes.errors import Problem, Problems
from recipes.run import open_run

__all__ = [
    "Audit",
    "account",
    "audit",
    "calculate",
    "described",
    "fields",
    "show",
    "show_account",
    "show_calculation",
    "show_described",
]


_LARGEST_GROUP = 50  # beyond it no epsilon of a group means anything, and finding it takes minutes


@dataclass(frozen=True)
class Audit:
    """What was found, and what may be said."""

    is_private: bool
    findings: Sequence[Finding]
    statement: PrivacyStatement | None
    """Of a run: from its ledger."""

    is_damaged: bool
    """Whether the ledger is not to be believed."""

    def to_json(self) -> dict[str, Any]:
        """Return the audit as JSON values."""
        return {
            "is_private": self.is_private,
            "findings": [asdict(finding) for finding in self.findings],
            "statement": asdict(self.statement) if self.statement else None,
        }


def audit(target: Path) -> Audit:
    """Audit a recipe file or a run folder.

    Raises:
        recipes.errors.InputError: if the target is neither.
    """
    if target.is_dir():
        run = open_run(target)
        is_trained = (run.folder / "adapter").is_dir()  # and then has a ledger, or lost it
        has_ledger = is_trained or run.ledger.is_file()
        return _audit(run.recipe, run.source, run.ledger if has_ledger else None)
    return _audit(config.load(target), target.resolve().parent, None)


def _audit(recipe: Recipe, folder: Path, ledger: Path | None) -> Audit:
    if recipe.privacy is None:
        return Audit(is_private=False, findings=(), statement=None, is_damaged=False)
    domain = domains.read(recipe, folder)
    settings = json.loads(recipe.model_dump_json())
    found = audit_settings(
        recipe.privacy,
        num_examples=len(training.private_units(recipe, domain.parts.train)),
        batch_size=recipe.train.batch_size,
        epochs=recipe.train.epochs,
        train_settings=settings["train"] | settings["adapter"] | {"validation_fraction": 0.0},
    )
    if ledger is None:
        return Audit(True, found, None, is_damaged=False)
    found = [*found, *audit_ledger(ledger)]
    try:
        summary = verify(ledger)
    except (LedgerError, FileNotFoundError):
        return Audit(True, found, None, is_damaged=True)
    said = statement(summary.plan, steps_charged=summary.steps_charged)
    found += _groups(recipe, domain, summary)
    return Audit(True, found, said, is_damaged=False)


def _groups(recipe: Recipe, domain: Domain, summary: LedgerSummary) -> list[Finding]:
    """Say what an example-level run reveals of whoever owns the most rows, where that is known."""
    if recipe.data.group is None or summary.plan.unit != "example":
        return []
    counts = Counter(row.group for row in domain.parts.train)
    [(_, largest)] = counts.most_common(1)
    what = f"epsilon for the {recipe.data.group} with the most rows"
    if largest > _LARGEST_GROUP:
        evidence = f"it has {largest} rows: none worth stating; set privacy.unit to the column"
        return [Finding("U4", "scope", "warn", what, evidence)]
    plan = summary.plan
    epsilon = accountant.epsilon_of_group(
        plan.sample_rate, plan.noise_multiplier, summary.steps_charged, plan.delta, largest
    )
    evidence = f"{epsilon:.3f} for its {largest} rows together, at delta {plan.delta:g}"
    return [Finding("U4", "scope", "warn" if largest > 1 else "pass", what, evidence)]


def show(result: Audit) -> None:
    """Print an audit for a person."""
    console = Console(highlight=False)
    if not result.is_private:
        console.print("trained without differential privacy: no epsilon protects anyone")
        return
    table = Table("status", "severity", "check", "evidence")
    for finding in sorted(result.findings, key=lambda f: f.status != "fail"):
        style = {"fail": "bold red", "warn": "yellow"}.get(finding.status, "")
        table.add_row(
            Text(finding.status, style),
            finding.severity,
            Text(finding.what),
            Text(finding.evidence),
        )
    console.print(table)
    said = result.statement
    if said is None:
        return
    console.print(Text(said.in_words))
    figures = Table("epsilon", "value", box=None)
    figures.add_row("PLD (the figure that counts)", f"{said.epsilon:.4f}")
    figures.add_row("PRV, opacus", f"{said.epsilon_prv:.4f}")
    figures.add_row("RDP, opacus", f"{said.epsilon_rdp:.4f}")
    figures.add_row(
        "without amplification by sampling", f"{said.epsilon_without_amplification:.4f}"
    )
    figures.add_row("replace-one neighbours", f"{said.epsilon_replace_one:.4f}")
    figures.add_row("delta", f"{said.delta:g}")
    figures.add_row("steps charged", f"{said.steps_charged} of {said.steps_planned}")
    console.print(figures)
    console.print("not protected:")
    for line in said.not_protected:
        console.print(Text(f"  - {line}"))


def show_calculation(found: Calculation) -> None:
    """Print an account of bare numbers for a person."""
    console = Console(highlight=False)
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
    console = Console(highlight=False)
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
    table = Table("run", "rows", "sample rate", "noise", "steps", "epsilon alone")
    for run in found["runs"]:
        rows = run["data"].removeprefix("sha256:")[:12]
        noise, alone = f"{run['noise_multiplier']:.4g}", f"{run['epsilon']:.3f}"
        table.add_row(
            Text(run["name"]), rows, f"{run['sample_rate']:.4g}", noise, str(run["steps"]), alone
        )
    console = Console(highlight=False)
    console.print(table)
    limit = found["limit"]
    console.print(
        f"together: epsilon {found['epsilon_spent']:.3f} of {limit['epsilon']:g} at delta "
        f"{limit['delta']:g}; every run counts with all its planned steps"
    )
