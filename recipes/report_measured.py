"""What was measured of a run, for its privacy report: self-test, attacks, usefulness, releases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from privacy import report as fields
from privacy.report import Known, Missing, Release
from recipes import documents
from recipes.empirical_result import RESULT
from recipes.errors import InputError
from recipes.evidence import Evidence
from recipes.report_sources import Sources, Stated


def _lines(from_: Sources) -> list[Mapping[str, Any]]:
    found = from_.evidence.record.get("privacy_self_test", [])
    return [one for one in found if isinstance(one, Mapping)]


def _measured(from_: Sources, name: str) -> Stated:
    name_of = from_.evidence.name_of("record.json")
    for one in _lines(from_):
        if one["name"] == name and one["value"] is not None:
            source = f"{name_of}: privacy_self_test, {name}"
            return Known(value=float(one["value"]), source=source)
    return Missing(missing="the self-test has no such line")


def sampler(from_: Sources) -> fields.Sampler:
    """Return field 8: how batches were drawn, and what the self-test saw of it."""
    return fields.Sampler(
        kind=Known(
            value="Poisson: a coin for each unit at each step, independently",
            source="privacy.mechanism: PoissonSampler, held by the lines below",
        ),
        rate=_measured(from_, "sampling-rate"),
        spread_of_examples=_measured(from_, "sampling-of-examples"),
        spread_of_batches=_measured(from_, "sampling-of-batches"),
    )


def self_test(from_: Sources) -> tuple[fields.SelfTestLine, ...]:
    """Return field 16: the lines of the self-test; none if it was not made."""
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


_NOT_ATTACKED = "no empirical audit was made (assay audit RUN --empirical)"


_KEPT = "kept where the rows are: it is computed from them, and outside the guarantee"


def _empirical(from_: Sources) -> Mapping[str, Any]:
    folder = from_.evidence.folder
    path = (folder or Path()) / from_.evidence.name_of(RESULT)
    return documents.empirical(path) if folder is not None and path.is_file() else {}


def canaries(from_: Sources) -> fields.CanaryAudit:
    """Return field 17, from empirical.json where that is there."""
    found = _empirical(from_)
    why = _NOT_ATTACKED if not found else "the run has no canaries (data.canaries)"

    def of(*keys: str) -> Stated:
        return from_.of(found, RESULT, *keys, why=why)

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


def membership(from_: Sources) -> fields.Membership:
    """Return field 18: the best attack on the run's own rows."""
    found = _empirical(from_)
    attacks = found.get("rows", {}).get("attacks", []) if found else []
    best: Mapping[str, Any] = max(attacks, key=lambda one: one["auc"]["value"], default={})
    place = f"rows.attacks, {best.get('statistic')}"
    why = (_KEPT if from_.evidence.kind == "release" else "not made") if found else _NOT_ATTACKED

    def of(*keys: str) -> Stated:
        stated = from_.of(best, RESULT, *keys, why=why)
        if isinstance(stated, Missing):
            return stated
        source = stated.source.replace(RESULT, f"{RESULT}: {place}")
        return stated.model_copy(update={"source": source})

    return fields.Membership(
        statistic=of("statistic"),
        auc=of("auc", "value"),
        auc_low=of("auc", "low"),
        auc_high=of("auc", "high"),
        true_positives=of("true_positives", "value"),
        false_positive_rate=of("true_positives", "false_positive_rate"),
        exposure=from_.of(found, RESULT, "canaries", "exposure", "median", why=_NOT_ATTACKED)
        if found
        else Missing(missing=_NOT_ATTACKED),
        num_members=of("auc", "num_members"),
        num_non_members=of("auc", "num_non_members"),
        controls=from_.of(found, RESULT, "positive_control", why="no positive control was named")
        if found
        else Missing(missing=_NOT_ATTACKED),
    )


def utility(evidence: Evidence) -> fields.Utility:
    """Return field 19, from the decision of the gate, and from a plain run beside this one."""
    folder = evidence.folder or Path()
    named = (evidence.name_of("decision.json"), "decision.json")  # a release has it on top
    decision = next((name for name in named if (folder / name).is_file()), named[0])
    metrics = tuple(_metrics(folder / decision, decision))
    twin = _plain_twin(evidence)
    without: Stated = Missing(
        missing="no run of the same rows without privacy stands beside this one",
        to_be_completed_by="a plain run: --set privacy=null --set name=...",
    )
    theirs: list[fields.Metric] = []
    if twin is not None:
        with suppress(InputError):  # a damaged decision of another run is not this one's fault
            theirs = list(_metrics(twin / "decision.json", "decision.json"))
        told = "; ".join(_told(one) for one in theirs)
        if told:
            without = Known(value=told, source=f"../{twin.name}/decision.json: checks")
    reports = [*folder.glob("eval/*/report.json"), *folder.glob("evidence/**/report.json")]
    is_sliced = any(
        "group" in task for path in reports for task in documents.report(path.parent)["tasks"]
    )
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
    decision = documents.decision(path)
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
            other = documents.record(path.parent)
        except InputError:
            continue
        is_same = other["recipe"] == evidence.record.get("recipe")
        if is_same and not other["is_private"]:
            files = sorted(other["data"]["files"].values())
            ours = sorted(evidence.record.get("data", {}).get("files", {}).values())
            # a plain run holds rows back to choose its checkpoint, so its training rows are fewer
            if other["data"]["fingerprint"] == rows or (files and files == ours):
                return path.parent
    return None


def released(evidence: Evidence) -> Iterator[Release]:
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
        else "decision.json and the reports in evidence/",
        is_covered=False,
        note="they are about other people, who were not trained on; the claim says nothing of them",
    )
    yield Release(
        what="learning rate by step",
        where="training.jsonl",
        is_covered=True,
        note="known without the data; loss, gradient norm and token counts are not written",
    )
