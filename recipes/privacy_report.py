"""Fill the privacy report of a run or a release from what lies in its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from privacy import report as fields
from privacy.report import Known, Missing, PrivacyReport
from privacy.statement import PrivacyStatement
from recipes import findings, provenance, shortfall
from recipes import report_measured as measured
from recipes.auditing import Audit
from recipes.data import personal_data
from recipes.errors import InputError
from recipes.evidence import Evidence
from recipes.files import write_json, write_text
from recipes.provenance import memory_text
from recipes.report_sources import OFFICER, Sources, Stated


def write(evidence: Evidence, audit: Audit, folder: Path) -> dict[str, str]:
    """Write privacy.json, its schema and privacy.html.

    Returns:
        The paths by what they are.

    Raises:
        InputError: if there is nothing to report (see `build`).
    """
    from recipes.privacy_page import render

    report = build(evidence, audit)
    paths = {
        name: folder / name for name in ("privacy.json", "privacy.schema.json", "privacy.html")
    }
    write_json(paths["privacy.json"], report.model_dump(mode="json"))
    write_json(paths["privacy.schema.json"], fields.schema())
    write_text(paths["privacy.html"], render(report))
    return {name: str(path) for name, path in paths.items()}


def build(evidence: Evidence, audit: Audit) -> PrivacyReport:
    """Return the report of a private run or release.

    Raises:
        InputError: if it was not private, or has not been trained, or its ledger does not hold:
            then there is nothing to report but the audit.
    """
    summary, said = evidence.summary(), audit.statement
    if summary is None or said is None:
        why = "is not private" if not evidence.is_private else "has no ledger that holds"
        raise InputError(f"there is no privacy report of {evidence.name}: it {why}")
    from_ = Sources(evidence, summary)
    return PrivacyReport(
        title=evidence.name,
        made=provenance.now(),
        target="release" if evidence.kind == "release" else "run",
        claim=_claim(from_, said),
        unit=_unit(from_, audit),
        adjacency=_adjacency(from_),
        epsilon=_epsilon(from_, said),
        without_amplification=fields.Unamplified(
            epsilon=from_.computed(said.epsilon_without_amplification, "analytic Gaussian")
        ),
        user_level=_user_level(from_, audit),
        mechanism=_mechanism(from_),
        sampler=measured.sampler(from_),
        steps=_steps(from_),
        data=_data(from_, audit),
        account=_account(evidence),
        tuning=fields.Tuning(trials=from_.by_people("tuning", "how settings were chosen")),
        released=tuple(measured.released(evidence)),
        trained=_trained(from_),
        software=_software(from_),
        self_test=measured.self_test(from_),
        canary_audit=measured.canaries(from_),
        membership=measured.membership(from_),
        utility=measured.utility(evidence),
        checklist=tuple(
            fields.Check(
                id=one.id,
                severity=one.severity,
                status=one.status,
                what=one.what,
                evidence=one.evidence,
                effect=one.effect,
            )
            for one in audit.findings
        ),
        not_protected=_not_protected(said),
        in_words=_in_words(from_, said),
        approval=fields.Approval(
            owner=from_.by_people("owner", "who answers for the model"),
            approver=from_.by_people("approver", "who approves its use"),
            expires=from_.by_people("expires", "until when the approval holds"),
            signature=Missing(
                missing="this page is signed by hand, or with the release as a whole",
                to_be_completed_by="the approver",
            ),
        ),
    )


def _claim(from_: Sources, said: PrivacyStatement) -> fields.Claim:
    return fields.Claim(
        sentence=from_.computed_text(said.in_words),
        released=Known(
            value="the trained weights and every checkpoint on the way; nothing else",
            source="privacy.statement: in_words",
        ),
    )


def _unit(from_: Sources, audit: Audit) -> fields.Unit:
    owned, unit = audit.owned, from_.summary.plan.unit
    how = (
        "each row is a unit, and enters a step by a coin of its own"
        if unit == "example"
        else f"of all rows of one {unit}, a step uses one, chosen by chance"
    )
    largest: Stated = Missing(
        missing="nobody has counted how many rows one person owns",
        to_be_completed_by="whoever knows the data: name the column of people in data.group",
    )
    if owned is not None and owned.largest_num_rows is not None:
        largest = Known(value=owned.largest_num_rows, source=owned.source)
    return fields.Unit(
        unit=from_.plan("unit"),
        enforced_by=Known(value=how, source="privacy.mechanism: PoissonSampler"),
        num_units=from_.plan("num_examples"),
        largest_num_rows=largest,
        rows_cut=from_.record("privacy_units", "rows_cut"),
    )


def _adjacency(from_: Sources) -> fields.Adjacency:
    return fields.Adjacency(
        relation=from_.plan("adjacency"),
        is_n_public=Known(value=True, source="privacy.plan: DPPlan"),
    )


def _epsilon(from_: Sources, said: PrivacyStatement) -> fields.Epsilon:
    plan = from_.summary.plan
    libraries = from_.evidence.record.get("versions", {})
    google = f"dp-accounting {libraries.get('dp-accounting', 'of this machine')}"
    opacus = f"opacus {libraries.get('opacus', 'of this machine')}"
    return fields.Epsilon(
        pld=from_.computed(said.epsilon, f"{google}, PLD"),
        prv=from_.computed(said.epsilon_prv, f"{opacus}, PRV"),
        rdp=from_.computed(said.epsilon_rdp, f"{opacus}, RDP"),
        replace_one=from_.computed(said.epsilon_replace_one, f"{google}, PLD"),
        delta=from_.plan("delta"),
        delta_times_n=from_.computed(plan.delta * plan.num_examples, "a product"),
    )


def _user_level(from_: Sources, audit: Audit) -> fields.UserLevel:
    owned, alike = audit.owned, audit.alike
    if from_.summary.plan.unit != "example":
        known: Stated = Known(
            value=f"all rows of one {from_.summary.plan.unit} are one unit, so the figure of field "
            "4 holds for all of them together",
            source="ledger, line 1: plan.unit",
        )
    elif owned is not None and owned.largest_num_rows is not None:
        known = Known(
            value=f"the {owned.column} with the most rows has {owned.largest_num_rows}",
            source=owned.source,
        )
    else:
        known = Missing(
            missing="how many rows one person owns is not known; the figures are examples",
            to_be_completed_by="whoever knows the data: name the column of people in data.group",
        )
    family: Stated = Missing(missing="copies were not looked for")
    family_epsilon: Stated = Missing(missing="copies were not looked for")
    if alike is not None:
        name = from_.evidence.name_of("record.json")
        noted = "privacy_duplicates" in from_.evidence.record
        source = f"{name}: privacy_duplicates.largest_family" if noted else "counted by this audit"
        family = Known(value=int(alike["largest_family"]), source=source)
        family_epsilon = Known(value="that of field 4: no text stands in two units", source=source)
        if audit.family_epsilon is not None:
            family_epsilon = from_.computed(audit.family_epsilon, "mixture of Gaussians, PLD")
    return fields.UserLevel(
        known=known,
        groups=tuple(
            fields.GroupLevel(
                size=one.size,
                epsilon=from_.computed(one.epsilon, "mixture of Gaussians, PLD"),
                is_observed=one.is_observed,
            )
            for one in audit.groups
        ),
        family=family,
        family_epsilon=family_epsilon,
    )


def _mechanism(from_: Sources) -> fields.Mechanism:
    by = "privacy.mechanism, held by the self-test (field 16)"
    generator = "the operating system; there is no seed"
    if not from_.summary.is_private:
        generator = "a seed, for a test: THIS MODEL HAS NO PRIVACY"
    return fields.Mechanism(
        clipping_norm=from_.plan("clipping_norm"),
        noise_multiplier=from_.plan("noise_multiplier"),
        sample_rate=from_.plan("sample_rate"),
        steps=from_.plan("steps"),
        denominator=from_.plan("denominator"),
        clipping=Known(
            value="each record's gradient, over all trained tensors together", source=by
        ),
        randomness=from_.ledger(generator, "line 1: is_private"),
        arithmetic=Known(
            value="norms and noise in float64, sums in float32; attacks on floating-point numbers "
            "are not defended against",
            source=by,
        ),
    )


def _steps(from_: Sources) -> fields.Steps:
    summary = from_.summary
    repeated = summary.steps_charged - len(set(summary.steps))
    return fields.Steps(
        planned=from_.plan("steps"),
        taken=from_.record("training", "num_steps"),
        not_taken=_not_taken(from_),
        charged=from_.ledger(summary.steps_charged, f"lines 2 to {len(summary.hashes)}"),
        repeated=from_.ledger(repeated, "steps that stand twice"),
        resumed_from=_resumed_from(from_, repeated),
        ledger_head=from_.ledger(summary.head, f"line {len(summary.hashes)}: hash"),
    )


def _not_taken(from_: Sources) -> Stated:
    taken = from_.record("training", "num_steps")
    if not (isinstance(taken, Known) and isinstance(taken.value, int)):
        return Missing(missing="how many steps were taken is not recorded")
    lost = max(0, from_.summary.plan.steps - taken.value)
    return Known(value=lost, source="planned, less taken")


def _resumed_from(from_: Sources, repeated: int) -> Stated:
    training = from_.evidence.record.get("training")
    if isinstance(training, Mapping) and training.get("resumed_from") is None:
        source = f"{from_.evidence.name_of('record.json')}: training.resumed_from"
        if repeated:  # it ended before its first checkpoint
            return Known(value=f"the beginning, after {repeated} steps were charged", source=source)
        return Known(value="none: the run was not interrupted", source=source)
    return from_.record("training", "resumed_from")


def _data(from_: Sources, audit: Audit) -> fields.Data:
    alike = audit.alike or {}
    file = "record.json"
    noted = {"privacy_duplicates": alike}
    how: Stated = Missing(missing="copies were not looked for")
    if alike:
        how = Known(
            value=f"sets of {alike['words_per_shingle']} words in a row, {alike['threshold']:.0%} "
            f"or more in common (Jaccard); candidates by MinHash of {alike['permutations']} "
            "permutations, each then compared exactly",
            source="recipes.data.near_duplicates",
        )
    return fields.Data(
        fingerprint=from_.ledger(from_.summary.data, "line 1: data"),
        num_rows=from_.record("rows", "train"),
        source=from_.by_people("data_source", "where the rows come from"),
        lawful_basis=from_.by_people("lawful_basis", "the lawful basis"),
        duplicates=from_.of(noted, file, "privacy_duplicates", "num_exact"),
        near_duplicates=from_.of(noted, file, "privacy_duplicates", "num_near"),
        method=how,
        personal_data=_personal_data(from_),
    )


def _personal_data(from_: Sources) -> Stated:
    record = from_.evidence.record
    if "personal_data" not in record:
        return Missing(missing="the record does not say whether it was searched for")
    name = from_.evidence.name_of("record.json")
    known = record["personal_data"]
    return Known(value=personal_data.in_words(known), source=f"{name}: personal_data")


def _account(evidence: Evidence) -> fields.Account:
    found = findings.account_facts(evidence)
    if found is None:
        noted = evidence.record.get("account")
        why = "no account is named, so other runs on the same data are not counted"
        if isinstance(noted, Mapping):
            why = f"the account {noted.get('file')} is not here"
        missing = Missing(missing=why, to_be_completed_by=OFFICER)
        return fields.Account(
            file=missing, num_runs=missing, epsilon=missing, limit=missing, delta=missing
        )
    lines = f"{found.file}, lines 2 to {found.num_runs + 1}"
    spent: float | str = found.spent if math.isfinite(found.spent) else "unbounded"
    return fields.Account(
        file=Known(value=found.file, source=f"{evidence.settings}: privacy.budget.file"),
        num_runs=Known(value=found.num_runs, source=lines),
        epsilon=Known(value=spent, source=f"PLD of all runs, from {lines}"),
        limit=Known(value=found.limit, source=f"{found.file}, line 1: epsilon"),
        delta=Known(value=found.delta, source=f"{found.file}, line 1: delta"),
    )


def _trained(from_: Sources) -> fields.Trained:
    covered = sorted(from_.summary.covered - {""})
    coverage: Stated = Missing(missing="no charge names what was clipped")
    if covered:
        coverage = from_.ledger(", ".join(covered), "lines 2 and below: covered")
    recipe = from_.evidence.recipe
    adapter: Stated = Missing(missing="the settings cannot be read")
    if recipe is not None:
        targets = recipe.adapter.targets
        named = targets if isinstance(targets, str) else ", ".join(targets)
        head = "; a head on features whitened by public texts" if recipe.adapter.whiten_head else ""
        adapter = Known(
            value=f"LoRA of rank {recipe.adapter.rank} on {named}{head}",
            source=f"{from_.evidence.settings}: adapter",
        )
    base = from_.record("base", "checkpoint")
    if isinstance(base, Known):
        base = base.model_copy(update={"value": Path(str(base.value)).name})
    return fields.Trained(
        num_parameters=from_.record("training", "num_parameters"),
        adapter=adapter,
        coverage=coverage,
        base=base,
        base_identity=from_.record("base", "identity"),
        lineage=Missing(
            missing="what the base learned before is not known to us, and no figure here covers it",
            to_be_completed_by="whoever published the base",
        ),
    )


def _software(from_: Sources) -> fields.Software:
    record = from_.evidence.record
    versions: Stated = Missing(missing="the record does not say")
    hardware: Stated = Missing(missing="the record does not say")
    if isinstance(record.get("versions"), Mapping):
        told = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        versions = Known(value=told, source=f"{from_.evidence.name_of('record.json')}: versions")
    if isinstance(record.get("machine"), Mapping):
        machine = record["machine"]
        told = (
            f"{machine.get('system')}, {machine.get('processor')}, {machine.get('cores')} cores, "
            f"{memory_text(machine)}, {', '.join(machine.get('gpus', ())) or 'no GPU'}"
        )
        hardware = Known(value=told, source=f"{from_.evidence.name_of('record.json')}: machine")
    return fields.Software(
        versions=versions,
        commit=from_.record("commit", why="the record holds the version, and no commit"),
        hardware=hardware,
        seeds=Known(
            value="train.seed reaches the split and the adapter's first values; noise and draws "
            "have no seed, and no generator state is stored",
            source="privacy.mechanism: OSRandomness; line N2 of field 20",
        ),
    )


def _not_protected(said: PrivacyStatement) -> tuple[str, ...]:
    return (
        *said.not_protected,
        "What is listed in field 13 as not covered: fingerprints, counts, labels, figures on "
        "held-out rows.",
        "Anybody about whom others tell: a text about you in somebody else's row is protected as "
        "theirs.",
    )


def _in_words(from_: Sources, said: PrivacyStatement) -> fields.InWords:
    training = from_.evidence.record.get("training")
    taken = training.get("num_steps") if isinstance(training, Mapping) else None
    fewer = shortfall.in_words(taken if isinstance(taken, int) else None, said.steps_planned)
    posterior, rate = said.max_posterior, said.max_true_positive_rate
    unit = "row" if said.unit == "example" else said.unit
    return fields.InWords(
        max_posterior=from_.computed(posterior, "e^epsilon / (1 + e^epsilon)"),
        max_true_positive_rate=from_.computed(rate, "0.01 e^epsilon + delta"),
        sentences=(
            f"Suppose somebody knows every other {unit}, and thinks it as likely as not that one "
            f"certain {unit} was used. However they study the model, they cannot become more than "
            f"{_percent_up(posterior)} sure. Not knowing at all would be 50 %.",
            "Suppose somebody tries to name those who took part, and is wrong about one in a "
            f"hundred of those who did not. {_found_at_most(rate)}",
            "These are bounds for the worst case, not what an attack has found. They fail with a "
            f"chance of at most one in {1 / said.delta:,.0f} (delta).",
            _weight(said.epsilon),
            *([fewer] if fewer else []),
        ),
    )


def _found_at_most(rate: float) -> str:
    if rate >= 1:
        return "At this epsilon nothing rules out that they find all who did."
    return f"They then find at most {_percent_up(rate)} of those who did. Guessing finds 1 %."


def _weight(epsilon: float) -> str:
    """Say what size an epsilon is, without praise."""
    if epsilon <= 1:
        return "An epsilon of 1 or less is a strong bound: the model hardly depends on anyone."
    if epsilon <= 4:
        return "An epsilon between 1 and 4 is a moderate bound: it limits what anybody can learn."
    if epsilon <= 10:
        return (
            "An epsilon between 4 and 10 is a weak bound in the worst case, though common in "
            "practice: attacks that are known today find far less, and nothing guarantees it."
        )
    return (
        "An epsilon above 10 bounds hardly anything in the worst case; what protection there is "
        "must be shown by other means."
    )


def _percent_up(share: float) -> str:
    return f"{min(100.0, math.ceil(share * 10_000) / 100):g} %"
