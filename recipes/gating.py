"""The gate step of a run: gather what the policy asks about, decide, write the decision."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from eval import harness
from eval.cost import read_cost
from eval.decision import Check, Override
from eval.errors import EvaluationError
from eval.gate import Facts, decide
from eval.policy import FAMILIES, GatePolicy
from eval.scores import without_text
from eval.stats import Difference, paired_difference
from eval.task import Metric, Report, Task
from finetune import checkpoint as checkpoints
from finetune import merge as merging
from privacy.errors import LedgerError
from privacy.ledger import verify
from recipes import approvals, decisions, documents, provenance
from recipes.documents import DECISION
from recipes.domains import Domain
from recipes.dsse import read_private_key
from recipes.errors import DecisionVoid, InputError
from recipes.evaluating import differences
from recipes.files import finite, read_json, write_json
from recipes.run import Run, spent
from recipes.run_agreement import KINDS, has_report, hold, hold_results

OVERRIDES = "overrides.json"
APPROVALS = "approvals.json"


@dataclass(frozen=True)
class Plea:
    """What somebody who asks for an override says."""

    rule: str
    by: str
    reason: str
    ticket: str
    expires: str


def gate(run: Run, domain: Domain, kind: str) -> dict[str, Any]:
    """Decide on the adapter or the merged model; decision.json is the last decision of the run.

    Returns:
        What stands in decision.json, as `decided` gives it.

    Raises:
        DecisionVoid: if what lies in the folder is not what was evaluated.
        EvaluationError: if the results cannot be read.
    """
    written = decided(run, domain, kind)
    write_json(run.folder / "eval" / kind / DECISION, written)
    write_json(run.folder / DECISION, written)
    return written


def refuse_other(run: Run, domain: Domain, kind: str, decision: Mapping[str, Any]) -> None:
    """Refuse a decision that is not the one that would be made now: a file can be edited.

    Raises:
        DecisionVoid: if it is not.
    """
    now = decided(run, domain, kind)
    # what is bound, and who approved, `decisions.require_open` has looked at
    differs = [
        key for key in ("outcome", "passed", "checks", "overrides") if _differs(key, decision, now)
    ]
    if differs:
        raise DecisionVoid(
            f"the decision on the {kind} model in {run.folder} is not the one that its results "
            f"make (other {', '.join(differs)}): decide again with: assay gate {run.folder}"
        )


def _differs(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return json.dumps(one.get(key)) != json.dumps(finite(other.get(key)))


def decided(run: Run, domain: Domain, kind: str) -> dict[str, Any]:
    """Return the decision on the adapter or the merged model, and write nothing.

    Returns:
        Overrides, outcome, target, policy, binds, approvals, checks.

    Raises:
        DecisionVoid: if what lies in the folder is not what was evaluated.
        RunDiffers: if documents of the run, or its base, name different things, or a report is
            not what its samples make.
        EvaluationError: if the results cannot be read.
    """
    folder, policy = run.folder / "eval" / kind, run.recipe.gate
    report = harness.read_report(folder)
    candidate = identity(run, kind)
    evaluated = report.target.merged if kind == "merged" else report.target.adapter
    if evaluated != candidate:
        raise DecisionVoid(
            f"the {kind} model in {run.folder} is {candidate}, and {evaluated} was evaluated; "
            f"evaluate it with: assay eval {run.folder}"
        )
    record = documents.record(run.folder)
    is_merged = kind == "merged"
    kinds = [k for k in (KINDS if is_merged else ("base", "adapter")) if has_report(run, k)]
    hold(run, merged=is_merged, kinds=kinds)
    hold_results(run, domain, {"base", *kinds})  # a gate without the base's figures is none
    releases = decisions.releases_of(policy, run.source)
    bound_policy = decisions.bound_policy(policy, run.source)
    binds = decisions.binding(
        run.folder,
        kind,
        candidate=candidate,
        policy=bound_policy,
        releases=decisions.by_name(releases),
        evidence=policy.evidence_of(kind),
    )
    found = differences(run, domain, kind)
    decision = decide(
        policy,
        report,
        {f"{task}/{metric}": d for task, by in found.items() for metric, d in by.items()},
        epsilon=spent(run),
        is_private=run.recipe.privacy is not None,
        facts=Facts(
            size_bytes=_size(run, kind),
            seconds_per_item=_seconds_per_item(folder, report),
            releases=_compared(policy, releases, report, folder, domain),
            evidence={name: _wrong_with(run, name, candidate) for name in policy.evidence_of(kind)},
            is_refuted=decisions.is_refuted(decisions.told_by_canaries(run.folder)),
            digests=decisions.digests_of(report, record, bound_policy),
        ),
        overrides=_overrides(folder, binds, datetime.now(UTC).date()),
    )
    said = decision.to_json()
    return {
        "overrides": said["overrides"],
        "outcome": said["outcome"],
        "passed": said["passed"],
        "schema": decisions.SCHEMA,
        "target": asdict(report.target),
        "policy": bound_policy,
        "binds": binds,
        "approvals": _list(folder / APPROVALS),
        "checks": said["checks"],
    }


def override(run: Run, domain: Domain, kind: str, plea: Plea) -> dict[str, Any]:
    """Record that a person lets a model pass although it missed a rule, and decide again.

    Raises:
        InputError: if there is no such check, it was not missed, it may not be overridden, or the
            plea lacks a name, a reason, a ticket or a day to come.
    """
    decision = gate(run, domain, kind)
    checks = {one["name"]: Check.from_json(one) for one in decision["checks"]}
    _refuse_plea(plea, checks, datetime.now(UTC).date())
    path = run.folder / "eval" / kind / OVERRIDES
    given = Override(
        **asdict(plea),
        given=provenance.now(),
        candidate=decision["binds"]["candidate"],
        policy=decision["binds"]["policy"],
    )
    kept = [one for one in _list(path) if one["rule"] != plea.rule]
    write_json(path, [*kept, asdict(given)])
    return gate(run, domain, kind)


def approve(run: Run, domain: Domain, kind: str, key: Path) -> dict[str, Any]:
    """Sign that the decision on a run is approved, with an approver's key, and decide again.

    Raises:
        GateRefused: if the gate does not pass it.
        InputError: if the key cannot be used, or the policy does not name it.
    """
    signer = read_private_key(key)
    decision = gate(run, domain, kind)
    envelope = approvals.approve(decision, signer, provenance.now())
    kept = [one for one in decision["approvals"] if _holds(decision, one)]
    others = [one for one in kept if one["signatures"][0]["keyid"] != signer.public_key.keyid]
    write_json(run.folder / "eval" / kind / APPROVALS, [*others, envelope])
    return gate(run, domain, kind)


def identity(run: Run, kind: str) -> str:
    """Return the identity of a run's adapter or merged model, from its files as they are now."""
    if kind == "merged":
        return checkpoints.identity(run.folder / "merged")
    return merging.adapter_identity(run.folder / "adapter")


def _holds(decision: Mapping[str, Any], envelope: Mapping[str, Any]) -> bool:
    return bool(approvals.checked({**decision, "approvals": [envelope]})[0])


def _list(path: Path) -> list[Any]:
    found = read_json(path) if path.is_file() else []
    if not isinstance(found, list):
        raise InputError(f"{path} is damaged: wanted a list; delete it, and give anew what it held")
    return found


def _overrides(folder: Path, binds: Mapping[str, Any], today: date) -> list[Override]:
    """Return the overrides that are for this model and this policy and have not expired.

    Raises:
        InputError: if one of them lacks a name, a reason or a ticket.
    """
    try:
        found = [Override(**one) for one in _list(folder / OVERRIDES)]
    except TypeError as error:
        raise InputError(f"{folder / OVERRIDES} is damaged: {error}; delete it") from None
    ours = [
        one
        for one in found
        if (one.candidate, one.policy) == (binds["candidate"], binds["policy"])
        and decisions.is_in_force(one, today)
    ]
    for one in ours:
        if why := one.wanting():
            raise InputError(
                f"{folder / OVERRIDES}: the override of {one.rule} counts for nothing ({why}); "
                "take it out, and give it with: assay gate --override"
            )
    return ours


def _refuse_plea(plea: Plea, checks: Mapping[str, Check], today: date) -> None:
    check = checks.get(plea.rule)
    missed = [name for name, one in checks.items() if not one.passed and one.overridable]
    if check is None or check.passed:
        why = "there is no such rule" if check is None else "that rule holds"
        names = ", ".join(missed) or "none"
        raise InputError(f"--override {plea.rule}: {why}; what could be overridden is {names}")
    if not Override(rule=plea.rule, by="", reason="", ticket="", expires="").stands_for(check):
        raise InputError(
            f"--override {plea.rule}: this cannot be overridden. Only a rule that the policy marks "
            "overridable: true can, and only where its figure is sound; what concerns integrity, "
            f"evidence, digests or privacy never can. It was missed because {check.reason}"
        )
    if lacking := Override(**asdict(plea)).wanting():
        raise InputError(lacking)
    try:
        expires = date.fromisoformat(plea.expires)
    except ValueError:
        raise InputError(f"--expires: wanted a day as YYYY-MM-DD, found {plea.expires!r}") from None
    if expires <= today:
        raise InputError(f"--expires: wanted a day after today ({today}), found {plea.expires}")


def _size(run: Run, kind: str) -> int | None:
    folder = run.folder / kind
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes) if sizes else None


def _seconds_per_item(evaluation: Path, report: Report) -> float | None:
    """Return what an item took, where all were asked in one go: answers from a cache take none."""
    cost, num_items = read_cost(evaluation), sum(task.n for task in report.tasks.values())
    return cost.num_seconds / num_items if cost and num_items else None


def _wrong_with(run: Run, name: str, candidate: str) -> str:
    """Say what is wrong with a piece of evidence; empty if it is there and says what it should."""
    place = decisions.NAMED_EVIDENCE.get(name, name)
    value = decisions.evidence_at(run.folder, name)
    if value is False or value in (None, "", {}, []):
        return f"{place} is not there, is empty, or is false"
    if name == "merge_proof":
        merged = documents.merge(run.folder / "merged")["identity"]
        return "" if merged == candidate else f"the proof is of {merged}, not of {candidate}"
    if name == "privacy_self_test":
        failed = [test["name"] for test in value if not test["passed"]]
        return f"failed: {', '.join(failed)}" if failed else ""
    if name == "privacy_statement":
        if run.recipe.privacy is None:
            return "the run was not trained privately, so there is nothing to state"
        try:
            verify(run.ledger)  # its first line holds unit, neighbours, delta and mechanism
        except LedgerError as error:
            return str(error)
    return ""


def _compared(
    policy: GatePolicy,
    releases: Mapping[str, Path],
    report: Report,
    folder: Path,
    domain: Domain,
) -> dict[str, dict[str, Difference | str]]:
    """Return the candidate minus each earlier release, on the figures that a rule asks about."""
    found: dict[str, dict[str, Difference | str]] = {}
    for family in FAMILIES:
        for rule in policy.rules(family):
            if rule.release is None:
                continue
            by_place = found.setdefault(rule.release, {})
            for task in domain.tasks:
                for metric in task.metrics:
                    place = f"{task.name}/{metric.name}"
                    if task.family == family and rule.metric in (metric.name, place):
                        by_place[place] = (
                            _minus_release(task, metric, report, folder, releases[rule.release])
                            if rule.release in releases
                            else "no report of it was found where the policy says it is"
                        )
    return found


def _minus_release(
    task: Task, metric: Metric, report: Report, folder: Path, release: Path
) -> Difference | str:
    """Return the candidate's figure minus that of an earlier release on the same items, or why not.

    A release folder keeps no text, and numbers in the place of ids; the candidate's items are then
    numbered the same way. A figure that does not come out of such scores (one of predicted labels)
    is told.
    """
    try:
        earlier = harness.read_report(release).tasks.get(task.name)
        now = report.tasks.get(task.name)
        if earlier is None or now is None:
            return f"the task {task.name} was not asked of both"
        if earlier.version != now.version or earlier.data != now.data:
            return (
                f"the task {task.name} was asked in version {earlier.version} on {earlier.data} "
                f"then, and in version {now.version} on {now.data} now"
            )
        first = harness.read_samples(folder, task.name)
        second = harness.read_samples(release, task.name)
        if decisions.is_released(release):
            if decisions.is_edited(release, task.name):
                return "its figures are not those that its own decision was made on"
            first = without_text(first)
        for samples, result, whose in ((first, now, "candidate"), (second, earlier, "release")):
            seen, said = metric.compute(samples), result.metrics[metric.name].value
            if not math.isclose(seen, said, rel_tol=1e-9, abs_tol=1e-9):
                return (
                    f"{metric.name} of the {whose} is {said:.4g}, and {seen:.4g} from its items' "
                    "scores; a release keeps no text, so compare a figure that needs none, or "
                    "name the run folder"
                )
        return paired_difference(metric, first, second)
    except (EvaluationError, KeyError) as error:
        return str(error)
