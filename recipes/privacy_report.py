"""Fill the privacy report of a run or a release from what lies in its folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privacy import report as fields
from privacy.ledger import LedgerSummary
from privacy.report import Known, Missing, PrivacyReport, Release
from privacy.statement import PrivacyStatement
from recipes import findings, provenance
from recipes.auditing import Audit
from recipes.errors import InputError
from recipes.evidence import Evidence
from recipes.files import read_json, write_json, write_text

Stated = Known | Missing

OFFICER = "whoever answers for the data (privacy.report in the recipe)"


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
    from_ = _From(evidence, summary)
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
        sampler=_sampler(from_),
        steps=_steps(from_),
        data=_data(from_, audit),
        account=_account(evidence),
        tuning=fields.Tuning(trials=from_.by_people("tuning", "how settings were chosen")),
        released=tuple(_released(evidence)),
        trained=_trained(from_),
        software=_software(from_),
        self_test=_self_test(from_),
        canary_audit=_canaries(from_),
        membership=_membership(from_),
        utility=_utility(evidence),
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


@dataclass(frozen=True)
class _From:
    """Where values are read from."""

    evidence: Evidence
    summary: LedgerSummary

    def plan(self, key: str) -> Known:
        """A number of the plan, from the ledger's first line."""
        value = getattr(self.summary.plan, key)
        return Known(value=value, source=f"{self._ledger}, line 1: plan.{key}")

    def ledger(self, value: float | int | str, what: str) -> Known:
        return Known(value=value, source=f"{self._ledger}, {what}")

    def computed(self, value: float, by: str) -> Known:
        """A number computed from the plan and the charges."""
        charged = self.summary.steps_charged
        source = f"{by}, from {self._ledger}: plan in line 1, {charged} charges below it"
        return Known(value=value if math.isfinite(value) else "unbounded", source=source)

    def computed_text(self, text: str) -> Known:
        """A sentence whose numbers are computed from the plan and the charges."""
        return Known(value=text, source=self.computed(0.0, "privacy.statement").source)

    def record(self, *keys: str, why: str = "the record does not say") -> Stated:
        """A value of the run's record."""
        return self.of(self.evidence.record, "record.json", *keys, why=why)

    def of(
        self, values: Mapping[str, Any], file: str, *keys: str, why: str = "the record does not say"
    ) -> Stated:
        """A value by its keys, of a file of the run."""
        found: Any = values
        for key in keys:
            if not isinstance(found, Mapping) or found.get(key) is None:
                return Missing(missing=why)
            found = found[key]
        if not isinstance(found, float | int | str | bool):
            return Missing(missing=why)
        return Known(value=found, source=f"{self.evidence.name_of(file)}: {'.'.join(keys)}")

    def by_people(self, key: str, what: str) -> Stated:
        """What only people can say: a key of privacy.report in the recipe."""
        recipe = self.evidence.recipe
        if recipe is not None and recipe.privacy is not None:
            value = getattr(recipe.privacy.report, key)
            if value is not None:
                return Known(value=value, source=f"resolved.yaml: privacy.report.{key}")
        return Missing(missing=f"{what} is not recorded", to_be_completed_by=OFFICER)

    @property
    def _ledger(self) -> str:
        return self.evidence.name_of("ledger.jsonl")


def _claim(from_: _From, said: PrivacyStatement) -> fields.Claim:
    return fields.Claim(
        sentence=from_.computed_text(said.in_words),
        released=Known(
            value="the trained weights and every checkpoint on the way; nothing else",
            source="privacy.statement: in_words",
        ),
    )


def _unit(from_: _From, audit: Audit) -> fields.Unit:
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


def _adjacency(from_: _From) -> fields.Adjacency:
    return fields.Adjacency(
        relation=from_.plan("adjacency"),
        is_n_public=Known(value=True, source="privacy.plan: DPPlan"),
    )


def _epsilon(from_: _From, said: PrivacyStatement) -> fields.Epsilon:
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


def _user_level(from_: _From, audit: Audit) -> fields.UserLevel:
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


def _mechanism(from_: _From) -> fields.Mechanism:
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


def _lines(from_: _From) -> list[Mapping[str, Any]]:
    found = from_.evidence.record.get("privacy_self_test", [])
    return [one for one in found if isinstance(one, Mapping)]


def _measured(from_: _From, name: str) -> Stated:
    name_of = from_.evidence.name_of("record.json")
    for one in _lines(from_):
        if one["name"] == name and one["value"] is not None:
            source = f"{name_of}: privacy_self_test, {name}"
            return Known(value=float(one["value"]), source=source)
    return Missing(missing="the self-test has no such line")


def _sampler(from_: _From) -> fields.Sampler:
    return fields.Sampler(
        kind=Known(
            value="Poisson: a coin for each unit at each step, independently",
            source="privacy.mechanism: PoissonSampler, held by the lines below",
        ),
        rate=_measured(from_, "sampling-rate"),
        spread_of_examples=_measured(from_, "sampling-of-examples"),
        spread_of_batches=_measured(from_, "sampling-of-batches"),
    )


def _steps(from_: _From) -> fields.Steps:
    summary = from_.summary
    repeated = summary.steps_charged - len(set(summary.steps))
    return fields.Steps(
        planned=from_.plan("steps"),
        taken=from_.record("training", "num_steps"),
        charged=from_.ledger(summary.steps_charged, f"lines 2 to {len(summary.hashes)}"),
        repeated=from_.ledger(repeated, "steps that stand twice"),
        resumed_from=_resumed_from(from_),
        ledger_head=from_.ledger(summary.head, f"line {len(summary.hashes)}: hash"),
    )


def _resumed_from(from_: _From) -> Stated:
    training = from_.evidence.record.get("training")
    if isinstance(training, Mapping) and training.get("resumed_from") is None:
        source = f"{from_.evidence.name_of('record.json')}: training.resumed_from"
        return Known(value="none: the run was not interrupted", source=source)
    return from_.record("training", "resumed_from")


def _data(from_: _From, audit: Audit) -> fields.Data:
    alike = audit.alike or {}
    file = "record.json"
    noted = {"privacy_duplicates": alike}
    how: Stated = Missing(missing="copies were not looked for")
    if alike:
        how = Known(
            value=f"sets of {alike['words_per_shingle']} words in a row, {alike['threshold']:.0%} "
            f"or more in common (Jaccard); candidates by MinHash of {alike['permutations']} "
            "permutations, each then compared exactly",
            source="recipes.near_duplicates",
        )
    return fields.Data(
        fingerprint=from_.ledger(from_.summary.data, "line 1: data"),
        num_rows=from_.record("rows", "train"),
        source=from_.by_people("data_source", "where the rows come from"),
        lawful_basis=from_.by_people("lawful_basis", "the lawful basis"),
        duplicates=from_.of(noted, file, "privacy_duplicates", "num_exact"),
        near_duplicates=from_.of(noted, file, "privacy_duplicates", "num_near"),
        method=how,
    )


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
        file=Known(value=found.file, source="resolved.yaml: privacy.budget.file"),
        num_runs=Known(value=found.num_runs, source=lines),
        epsilon=Known(value=spent, source=f"PLD of all runs, from {lines}"),
        limit=Known(value=found.limit, source=f"{found.file}, line 1: epsilon"),
        delta=Known(value=found.delta, source=f"{found.file}, line 1: delta"),
    )


def _released(evidence: Evidence) -> Iterator[Release]:
    """List what exists because of the run, and whether the claim covers it."""
    yield Release(
        what="the trained weights",
        where="adapter/ and merged/" if evidence.kind == "run" else "the release folder",
        is_covered=True,
        note="made from noisy sums alone",
    )
    yield Release(
        what="checkpoints, while they are kept",
        where="checkpoints/",
        is_covered=True,
        note="every step is accounted, so every state on the way is covered",
    )
    yield Release(
        what="the plan, the number of units and the steps",
        where=evidence.name_of("ledger.jsonl"),
        is_covered=True,
        note="fixed before the first step; the number of units counts as public",
    )
    yield Release(
        what="fingerprints of rows and files",
        where=f"{evidence.name_of('ledger.jsonl')}, {evidence.name_of('record.json')}",
        is_covered=False,
        note="who knows all rows but one can test a guess at that one against a fingerprint",
    )
    yield Release(
        what="counts: rows, rows of the largest unit, copies; ids of rows; the time it took",
        where=f"{evidence.name_of('record.json')}, data.json",
        is_covered=False,
        note="exact and without noise; keep them with the data",
    )
    recipe = evidence.recipe
    if recipe is None or recipe.recipe == "classification":
        yield Release(
            what="names of labels, where the model is a classifier",
            where="the model's configuration",
            is_covered=False,
            note="they are those of the training rows",
        )
    yield Release(
        what="figures on held-out rows, and the page that shows some of their texts",
        where="eval/, report.html, decision.json"
        if evidence.kind == "run"
        else "evidence/report.json, evidence/decision.json",
        is_covered=False,
        note="they are about other people, who were not trained on; the claim says nothing of them",
    )
    yield Release(
        what="learning rate by step",
        where="training.jsonl",
        is_covered=True,
        note="known without the data; loss, gradient norm and token counts are not written",
    )


def _trained(from_: _From) -> fields.Trained:
    covered = sorted(from_.summary.covered - {""})
    coverage: Stated = Missing(missing="no charge names what was clipped")
    if covered:
        coverage = from_.ledger(", ".join(covered), "lines 2 and below: covered")
    recipe = from_.evidence.recipe
    adapter: Stated = Missing(missing="a release does not hold the adapter's settings")
    if recipe is not None:
        targets = recipe.adapter.targets
        named = targets if isinstance(targets, str) else ", ".join(targets)
        adapter = Known(
            value=f"LoRA of rank {recipe.adapter.rank} on {named}",
            source="resolved.yaml: adapter",
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


def _software(from_: _From) -> fields.Software:
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
            f"{machine.get('memory_gb')} GB, {', '.join(machine.get('gpus', ())) or 'no GPU'}"
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


def _self_test(from_: _From) -> tuple[fields.SelfTestLine, ...]:
    return tuple(
        fields.SelfTestLine(
            name=str(one["name"]),
            passed=one["passed"] is True,
            value=_measured(from_, str(one["name"])),
            low=one["low"],
            high=one["high"],
            wanted=str(one["wanted"]),
            detail=str(one["detail"]),
        )
        for one in _lines(from_)
    )


_EMPIRICAL = "empirical.json"
_NOT_ATTACKED = "no empirical audit was made (assay audit RUN --empirical)"


def _empirical(from_: _From) -> Mapping[str, Any]:
    folder = from_.evidence.folder
    path = (folder or Path()) / from_.evidence.name_of(_EMPIRICAL)
    found = read_json(path) if folder is not None and path.is_file() else {}
    return found if isinstance(found, Mapping) else {}


def _canaries(from_: _From) -> fields.CanaryAudit:
    found = _empirical(from_)
    why = _NOT_ATTACKED if not found else "the run has no canaries (data.canaries)"

    def of(*keys: str) -> Stated:
        return from_.of(found, _EMPIRICAL, *keys, why=why)

    run = ("canaries", "one_run")
    return fields.CanaryAudit(
        num_canaries=of(*run, "num_canaries"),
        statistic=of("canaries", "statistic"),
        num_guesses=of(*run, "num_guesses"),
        num_correct=of(*run, "num_correct"),
        epsilon_lower=of(*run, "epsilon_lower"),
        confidence=of(*run, "confidence"),
        power=of(*run, "power", "epsilon_at_most"),
        verdict=of("verdict"),
    )


def _membership(from_: _From) -> fields.Membership:
    found = _empirical(from_)
    attacks = found.get("rows", {}).get("attacks", []) if found else []
    best: Mapping[str, Any] = max(attacks, key=lambda one: one["auc"]["value"], default={})
    place = f"rows.attacks, {best.get('statistic')}"

    def of(*keys: str) -> Stated:
        stated = from_.of(best, _EMPIRICAL, *keys, why=_NOT_ATTACKED if not found else "not made")
        if isinstance(stated, Missing):
            return stated
        source = stated.source.replace(_EMPIRICAL, f"{_EMPIRICAL}: {place}")
        return stated.model_copy(update={"source": source})

    return fields.Membership(
        statistic=of("statistic"),
        auc=of("auc", "value"),
        auc_low=of("auc", "low"),
        auc_high=of("auc", "high"),
        true_positives=of("true_positives", "value"),
        false_positive_rate=of("true_positives", "false_positive_rate"),
        exposure=from_.of(found, _EMPIRICAL, "canaries", "exposure", "median", why=_NOT_ATTACKED)
        if found
        else Missing(missing=_NOT_ATTACKED),
        num_members=of("auc", "num_members"),
        num_non_members=of("auc", "num_non_members"),
        controls=from_.of(
            found, _EMPIRICAL, "positive_control", why="no positive control was named"
        )
        if found
        else Missing(missing=_NOT_ATTACKED),
    )


def _utility(evidence: Evidence) -> fields.Utility:
    folder = evidence.folder or Path()
    decision = evidence.name_of("decision.json")
    metrics = tuple(_metrics(folder / decision, decision))
    twin = _plain_twin(evidence)
    without: Stated = Missing(
        missing="no run of the same rows without privacy stands beside this one",
        to_be_completed_by="a plain run: --set privacy=null --set name=...",
    )
    if twin is not None:
        theirs = list(_metrics(twin / "decision.json", "decision.json"))
        told = "; ".join(_told(one) for one in theirs)
        if told:
            without = Known(value=told, source=f"../{twin.name}/decision.json: checks")
    reports = [*folder.glob("eval/*/report.json"), *folder.glob("evidence/report.json")]
    is_sliced = any("group" in task for path in reports for task in read_json(path)["tasks"])
    by_group: Stated = Missing(
        missing="groups were not compared; noise costs small groups most",
        to_be_completed_by="a column of groups in the data (data.columns: {group: ...})",
    )
    if is_sliced:
        by_group = Known(value="compared; see report.html", source="eval/*/report.json: tasks")
    return fields.Utility(metrics=metrics, without_privacy=without, by_group=by_group)


def _metrics(path: Path, name: str) -> Iterator[fields.Metric]:
    if not path.is_file():
        return
    decision = read_json(path)
    seen = set()
    for check in decision["checks"]:
        key = check["family"], check["metric"]
        if key in seen or check.get("value") is None or check["family"] == "privacy":
            continue
        seen.add(key)
        yield fields.Metric(
            task=str(check["family"]),
            metric=str(check["metric"]),
            target=str(decision["target"]["kind"]),
            value=Known(value=float(check["value"]), source=f"{name}: checks, {check['rule']}"),
            low=check["low"],
            high=check["high"],
            num_items=int(check["n"]),
            is_slice="group" in str(check["metric"]),
        )


def _told(one: fields.Metric) -> str:
    value = one.value.value if isinstance(one.value, Known) else math.nan
    return f"{one.task}, {one.metric}: {value:.3f} on {one.num_items} items"


def _plain_twin(evidence: Evidence) -> Path | None:
    """Return a run of the same rows without privacy, beside this one."""
    if evidence.kind != "run" or evidence.folder is None:
        return None
    rows = evidence.record.get("data", {}).get("fingerprint")
    for path in sorted(evidence.folder.resolve().parent.glob("*/record.json")):
        try:
            other = read_json(path)
        except InputError:
            continue
        is_same = isinstance(other, dict) and other.get("recipe") == evidence.record.get("recipe")
        if is_same and other.get("is_private") is False:
            files = sorted(other.get("data", {}).get("files", {}).values())
            ours = sorted(evidence.record.get("data", {}).get("files", {}).values())
            # a plain run holds rows back to choose its checkpoint, so its training rows are fewer
            if other["data"].get("fingerprint") == rows or (files and files == ours):
                return path.parent
    return None


def _not_protected(said: PrivacyStatement) -> tuple[str, ...]:
    return (
        *said.not_protected,
        "What is listed in field 13 as not covered: fingerprints, counts, labels, figures on "
        "held-out rows.",
        "Anybody about whom others tell: a text about you in somebody else's row is protected as "
        "theirs.",
    )


def _in_words(from_: _From, said: PrivacyStatement) -> fields.InWords:
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
