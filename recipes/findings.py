"""What of the check-list only the roof can look at: rows, records, accounts and lineage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privacy import accountant, budget, provable
from privacy.checklist import Finding, Status, finding
from privacy.errors import LedgerError
from privacy.ledger import LedgerSummary, verify
from privacy.plan import BudgetConfig
from privacy.statement import GroupEpsilon
from recipes.data import near_duplicates
from recipes.evidence import Evidence

_RELEASED = "a release beside the model, without noise, that no account counts"


@dataclass(frozen=True)
class Owned:
    """What one person owns of the training data, as far as anybody has counted."""

    unit: str
    column: str | None
    """Whose values were counted."""

    num_units: int
    largest_num_rows: int | None
    """Rows of whoever has the most; None if nobody has counted."""

    source: str


def owned(evidence: Evidence) -> Owned | None:
    """Count what one person owns: from the rows, else from the run's record."""
    recipe, rows, record = evidence.recipe, evidence.rows, evidence.record
    if recipe is not None and recipe.privacy is not None and rows:
        unit, column = recipe.privacy.unit, recipe.data.group
        counts = Counter(row.group for row in rows)
        most = max(counts.values()) if column is not None else None
        num_units = len(rows) if unit == "example" else len(counts)
        return Owned(unit, column, num_units, most, "the training rows, counted by this audit")
    noted = record.get("privacy_units")
    if not isinstance(noted, dict):
        return None
    unit = str(noted["unit"])
    column = noted.get("column", None if unit == "example" else unit)
    most = noted["largest_num_rows"] if unit != "example" else noted.get("largest_num_rows_owned")
    source = f"{evidence.name_of('record.json')}: privacy_units"
    return Owned(unit, column, int(noted["num_units"]), most, source)


def unit_findings(found: Owned | None, epsilons: tuple[GroupEpsilon, ...]) -> Iterator[Finding]:
    """Say what the statement covers of one person."""
    if found is None:
        return
    if found.unit != "example":
        yield finding(
            "U4",
            "pass",
            f"{found.num_units} values of {found.unit} with up to {found.largest_num_rows} rows "
            "each, of which a step uses one; no row had to be cut",
        )
        return
    told = ", ".join(_group(one) for one in epsilons)
    if found.largest_num_rows is None:
        evidence = (
            "nobody has counted whose rows they are: name the column of people in data.group. "
            f"Epsilon for somebody who owns several: {told or 'follows from the plan'}"
        )
        yield finding("U4", "not_checked", evidence)
        return
    status: Status = "warn" if found.largest_num_rows > 1 else "pass"
    evidence = (
        f"the {found.column} with the most rows has {found.largest_num_rows}; epsilon for all of "
        f"them together: {told or 'follows from the plan'}"
    )
    yield finding("U4", status, evidence)


def _group(one: GroupEpsilon) -> str:
    shown = f"{one.epsilon:.3f}" if one.epsilon < 1e6 else "none worth stating"
    return f"{shown} at {one.size}"


def likeness(evidence: Evidence) -> Mapping[str, Any] | None:
    """Return what is known of copies across units: from the record, else from the rows."""
    noted = evidence.record.get("privacy_duplicates")
    if isinstance(noted, dict):
        return noted
    if not evidence.rows or evidence.recipe is None:
        return None
    from recipes.training import private_units

    units = private_units(evidence.recipe, evidence.rows)
    return near_duplicates.near_duplicates(evidence.rows, units).to_json()


def duplicate_finding(alike: Mapping[str, Any] | None, epsilon: float | None) -> Finding:
    """Say how many texts stand in several units, and what that does to epsilon."""
    if alike is None:
        return finding("U5", "not_checked", "the rows are not at hand, and no count is on record")
    how = (
        f"word shingles of {alike['words_per_shingle']}, Jaccard {alike['threshold']:g} or more, "
        f"{alike['permutations']} MinHash permutations, every pair checked"
    )
    if not alike["num_near"]:
        return finding("U5", "pass", f"no text stands in two units ({how})")
    told = f": epsilon {epsilon:.3f}" if epsilon is not None and epsilon < 1e6 else ""
    return finding(
        "U5",
        "warn",
        f"{alike['num_exact']} rows stand word for word in another unit too and "
        f"{alike['num_near']} nearly; the largest family spans {alike['largest_family']} units "
        f"({how})",
        f"whoever wrote them is protected as one who owns {alike['largest_family']} units{told}",
    )


def record_findings(evidence: Evidence, summary: LedgerSummary | None) -> Iterator[Finding]:
    """Hold the record of a run against its ledger."""
    record, name = evidence.record, evidence.name_of("record.json")
    if record.get("is_private") is not True:
        yield finding("A1", "fail", f"{name} does not say that the run was private", "")
    training = record.get("training", {})
    if training.get("num_tokens"):
        evidence_ = f"{name} holds the tokens of private batches ({training['num_tokens']})"
        yield finding("L1", "fail", evidence_, _RELEASED)
    if training.get("best_step") is not None:
        yield finding("A6", "fail", f"{name}: the best step was chosen by private rows", _RELEASED)
    if summary is None:
        return
    for where, print_ in _fingerprints(evidence):
        if print_ != summary.data:
            told = f"{where} names other rows than the ledger does, so it is not this run's ledger"
            yield finding("A1", "fail", told, f"what was spent is not known: {provable.NOTHING}")
        else:
            yield finding("A1", "pass", f"the ledger is of the rows that {where} names")
    head = training.get("ledger_head")
    if head is not None and head != summary.head:
        told = f"the ledger does not end with the line that {name} noted when training ended"
        effect = f"lines may be missing, so what was spent is not known: {provable.NOTHING}"
        yield finding("A1", "fail", told, effect)
    steps = training.get("num_steps")
    if steps is None:
        return
    if steps > summary.last_step:
        told = f"{name} says that {steps} steps were taken, and fewer are charged"
        missing = provable.honest(
            provable.mechanism_of(summary.plan, max(steps, summary.steps_charged))
        )
        yield finding("A4", "fail", told, provable.said(missing))
    else:
        yield finding("A4", "pass", f"{name} says that {steps} steps were taken")


def _fingerprints(evidence: Evidence) -> Iterator[tuple[str, str]]:
    noted = evidence.record.get("data", {}).get("fingerprint")
    if noted is not None:
        yield f"{evidence.name_of('record.json')}: data.fingerprint", str(noted)
    if "fingerprint" in evidence.manifest:
        yield "data.json: fingerprint", str(evidence.manifest["fingerprint"])


def label_finding(evidence: Evidence) -> Finding:
    """Say whether names that the model carries come from private rows."""
    if evidence.recipe is None:
        return finding("L4", "not_checked", "nothing says where the labels come from")
    if evidence.recipe.recipe != "classification":
        return finding("L4", "pass", "the tokenizer is the base's; nothing is learned from rows")
    if not evidence.rows:
        return finding("L4", "not_checked", f"labels were not counted: {evidence.rows_missing}")
    counts = Counter(_label_names(evidence))
    rarest = min(counts.values())
    return finding(
        "L4",
        "warn",
        f"the {len(counts)} label names are those of the training rows, and the rarest has "
        f"{rarest} rows; a label that only few people could have shows that one of them is there",
        "the list of labels is a release beside the model, without noise",
    )


def _label_names(evidence: Evidence) -> Iterator[str]:
    for row in evidence.rows:
        label = row.item.label
        yield from label if isinstance(label, tuple) else (label,)


@dataclass(frozen=True)
class AccountFacts:
    """The account that a run is on."""

    file: str
    limit: float
    delta: float
    spent: float
    num_runs: int
    num_data_sets: int


def account_of(evidence: Evidence) -> tuple[BudgetConfig, Path] | None:
    """Return the account that a recipe names, and where it is."""
    recipe, source = evidence.recipe, evidence.source
    if recipe is None or recipe.privacy is None or recipe.privacy.budget is None or source is None:
        return None
    return recipe.privacy.budget, source / recipe.privacy.budget.file


def account_facts(evidence: Evidence) -> AccountFacts | None:
    """Return what the account holds, if it is there and whole."""
    named = account_of(evidence)
    if named is None:
        return None
    config, path = named
    try:
        found = budget.read(path)
    except (LedgerError, FileNotFoundError):
        return None
    data_sets = {run.data for run in found.reservations}
    return AccountFacts(
        config.file,
        found.epsilon,
        found.delta,
        found.spent(),
        len(found.reservations),
        len(data_sets),
    )


def account_finding(evidence: Evidence, summary: LedgerSummary | None) -> Finding:
    """Say whether all runs on the same data are counted together."""
    named = account_of(evidence)
    if named is None:
        if evidence.kind == "release":
            noted = evidence.record.get("account")
            if isinstance(noted, dict):
                told = f"on account {noted['file']}, head {noted['head']}; it is not in a release"
                return finding("A5", "not_checked", told)
        return _neighbours(evidence, summary)
    config, path = named
    try:
        found = budget.read(path)
    except FileNotFoundError:
        if evidence.kind == "recipe":
            return finding("A5", "pass", f"the first run will make the account {config.file}")
        told = f"the account {config.file} is missing; bring it back"
        return finding("A5", "fail", told, "what all runs have spent together is not known")
    except LedgerError as error:
        return finding("A5", "fail", str(error), "what all runs have spent is not known")
    told = (
        f"{config.file}: {len(found.reservations)} runs, epsilon {found.spent():.3f} of "
        f"{found.epsilon:g} together at delta {found.delta:g}"
    )
    if evidence.kind == "recipe":
        return finding("A5", "pass", told)
    if summary is None or all(run.run != summary.hashes[0] for run in found.reservations):
        told = f"this run is not on the account {config.file} that its recipe names"
        return finding("A5", "fail", told, "the account understates what was spent")
    if found.last_lines.get(summary.hashes[0], summary.head) not in summary.hashes:
        told = f"{config.file} has noted a charge of this run that its ledger does not hold"
        return finding("A5", "fail", told, "a copy of the run went on, or the ledger was cut")
    return finding("A5", "pass", told)


def _neighbours(evidence: Evidence, summary: LedgerSummary | None) -> Finding:
    """Look for other runs on the same rows beside this one, where there is no account."""
    advice = "name an account in privacy.budget, so that runs on the same data add up"
    if evidence.kind != "run" or evidence.folder is None or summary is None:
        return finding("A5", "not_checked", f"no account is named: {advice}")
    others = []
    for path in sorted(evidence.folder.resolve().parent.glob("*/ledger.jsonl")):
        if path.parent == evidence.folder.resolve():
            continue
        try:
            other = verify(path)
        except LedgerError:
            continue
        if other.data == summary.data:
            others.append(other)
    if not others:
        told = (
            f"no other run on these rows stands beside this one, and no account is named: {advice}"
        )
        return finding("A5", "not_checked", told)
    together = accountant.epsilon_of_all(
        [
            (one.plan.sample_rate, one.plan.noise_multiplier, one.steps_charged)
            for one in (summary, *others)
        ],
        summary.plan.delta,
    )
    told = (
        f"{len(others)} more {'run' if len(others) == 1 else 'runs'} on the same rows, beside this "
        f"one and on no account: {advice}"
    )
    return finding("A5", "warn", told, f"together: {provable.said(together)}")


def lineage_finding(evidence: Evidence) -> Finding:
    """Say what is known of the base."""
    if evidence.recipe is None:
        return finding("L8", "not_checked", "nothing says what the base is")
    checkpoint = evidence.recipe.base.checkpoint
    if (Path(checkpoint).expanduser() / "merge.json").is_file():
        told = (
            f"the base {Path(checkpoint).name} is itself a merged model of ours: if its adapter "
            "saw these rows, their epsilons add; nothing holds if it was trained without privacy"
        )
        return finding("L8", "warn", told)
    told = f"what {Path(checkpoint).name} learned before is not known to us; ask its maker"
    return finding("L8", "not_checked", told)


def held_out_findings(evidence: Evidence) -> Iterator[Finding]:
    """Say what figures on held-out rows leave with the model."""
    if evidence.folder is None:
        yield finding("L2", "pass", "no evaluation on private rows during training")
        return
    reports = sorted(evidence.folder.glob("eval/*/report.json"))
    reports += sorted(evidence.folder.glob("evidence/**/report.json"))
    if not reports:
        yield finding("L2", "pass", "no figures on held-out rows are there")
        return
    names = ", ".join(p.relative_to(evidence.folder).as_posix() for p in reports[:3])
    yield finding(
        "L2",
        "warn",
        f"{names} hold figures on rows that were held out and not trained on; epsilon says nothing "
        "about the people in those rows",
        "a release of its own, about other people",
    )


def before_findings() -> Iterator[Finding]:
    """Say what cannot have gone wrong yet."""
    for line in ("A1", "A4", "L7", "L9"):
        yield finding(line, "not_applicable", "nothing has run yet")
