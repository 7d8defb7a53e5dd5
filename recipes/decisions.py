"""A decision and what it binds: candidate, policy, results and data, by digest.

``decision.json`` says of one model, under one policy, on one set of results, whether it may leave.
It names all of these by SHA-256, so that one changed byte voids it. Here it is written, read and
held against what lies in a run folder (`require_open`, before a merge and a shipment) or in a
release folder (`differs_in_release`, by whoever received it). Neither needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import SSlibKey

from eval import harness
from eval.decision import Decision, Override
from eval.errors import EvaluationError
from eval.policy import FAMILIES, GatePolicy, release_name
from eval.rederive import departures
from eval.scores import without_text
from eval.task import Report, Sample, fingerprint
from recipes import approvals, config, documents
from recipes.documents import DECISION
from recipes.dsse import pem_of, read_public_key
from recipes.empirical_result import RESULT, publishable
from recipes.errors import DecisionVoid, GateRefused, InputError
from recipes.files import read_json, sha256_file

SCHEMA = 2
LEDGER = "ledger.jsonl"

OF_THE_RECORD = (
    *("recipe", "settings", "quantization", "rows", "seed", "is_private", "started", "versions"),
    *("machine", "commit", "privacy_self_test"),
)
"""Of a run's record: what is bound as it stands. A release holds it, or nobody could check it."""

NAMED_EVIDENCE = {
    "merge_proof": "merged/merge.json:proof",
    "privacy_self_test": "record.json:privacy_self_test",
    "privacy_statement": LEDGER,
}
"""Where each named piece of evidence lies in a run folder."""


def bound_policy(policy: GatePolicy, source: Path) -> dict[str, Any]:
    """Return the policy as JSON values that hold no path: this is what a decision binds.

    An earlier release is named by its folder's name (its results are bound beside the policy), and
    an approver by the public key itself and not by the file that it was in.

    Args:
        policy: the gate section of a recipe.
        source: where its relative paths start.

    Raises:
        InputError: if a public key cannot be read.
    """
    values = _without_places(policy)
    if policy.approval is not None:
        keys = [read_public_key(source / Path(key).expanduser()) for key in policy.approval.keys]
        values["approval"]["keys"] = [pem_of(key) for key in keys]
    return values


def _without_places(policy: GatePolicy) -> dict[str, Any]:
    values: dict[str, Any] = policy.model_dump(mode="json", exclude_none=True)
    for family in FAMILIES:
        rules = values.get(family, [])
        for rule in rules if isinstance(rules, list) else [rules]:
            if "release" in rule:
                rule["release"] = release_name(rule["release"])
    return values


def is_policy_of(recipe: Mapping[str, Any], bound: Mapping[str, Any]) -> bool:
    """Return whether a released recipe asks for what a decision's policy asks for.

    Approvers are left out: a recipe names files, and a decision the keys in them.
    """
    asked = [_without_places(GatePolicy.model_validate(recipe["gate"])), dict(bound)]
    for values in asked:
        if "approval" in values:
            values["approval"] = {k: v for k, v in values["approval"].items() if k != "keys"}
    return asked[0] == asked[1]


def policy_digest(bound: Mapping[str, Any]) -> str:
    """Return the digest of a policy in the form of `bound_policy`: its canonical JSON's SHA-256."""
    return fingerprint(bound)


def stated_policy_digest(bound: Mapping[str, Any]) -> str:
    """Return the digest that `EqualRule.policy` states: of the policy without that line."""
    equal = {key: value for key, value in bound.get("equal", {}).items() if key != "policy"}
    return fingerprint({**bound, "equal": equal})


def digests_of(
    report: Report, record: Mapping[str, Any], bound: Mapping[str, Any]
) -> dict[str, str]:
    """Return the digests that a policy can state, by the names of `EqualRule.wanted`.

    Args:
        report: of the candidate.
        record: of the run.
        bound: the policy as `bound_policy` gives it.
    """
    return {
        "base": record["base"]["identity"],
        "training_data": record["data"]["fingerprint"],
        "policy": stated_policy_digest(bound),
    } | {f"tasks.{name}": result.data for name, result in report.tasks.items()}


def scores_digest(samples: Sequence[Sample]) -> str:
    """Return the digest of per-item scores without text, however their file is laid out.

    Args:
        samples: what `eval.scores.without_text` gave, or what was read of its file.
    """
    return fingerprint([asdict(sample) for sample in samples])


def binding(
    folder: Path,
    kind: str,
    *,
    candidate: str,
    policy: Mapping[str, Any],
    releases: Mapping[str, Path],
    evidence: Sequence[str],
) -> dict[str, Any]:
    """Return the digests of all that a decision on a run's adapter or merged model rests on.

    Args:
        folder: the run folder.
        kind: ``adapter`` or ``merged``.
        candidate: identity of the model as it lies there now; not as a report remembers it.
        policy: as `bound_policy` gives it.
        releases: folders of the evaluations of earlier releases, by name.
        evidence: names of the evidence that the policy asks of this kind.

    Raises:
        EvaluationError: if the results cannot be read.
    """
    report = harness.read_report(folder / "eval" / kind)
    samples = {task: harness.read_samples(folder / "eval" / kind, task) for task in report.tasks}
    compared = ("base", kind) if (folder / "eval" / "base" / "report.json").is_file() else (kind,)
    bound: dict[str, Any] = {
        "candidate": candidate,
        "policy": policy_digest(policy),
        "results": {
            name: digest
            for place in compared
            for name, digest in results_digests(folder / "eval" / place, f"{place}/").items()
        },
        "scores": {task: scores_digest(without_text(found)) for task, found in samples.items()},
        "data": {task: result.data for task, result in report.tasks.items()},
    }
    record = documents.record(folder)
    bound["record"] = record_digest(record)
    if kind == "merged":
        bound["merge"] = fingerprint(documents.merge(folder / "merged"))
    if record["is_private"] and (empirical := told_by_canaries(folder)) is not None:
        bound["empirical"] = fingerprint(empirical)
    if releases:
        bound["releases"] = {
            name: fingerprint(results_digests(place)) for name, place in sorted(releases.items())
        }
    if evidence:
        bound["evidence"] = {name: fingerprint(evidence_at(folder, name)) for name in evidence}
    if (folder / LEDGER).is_file():
        bound["ledger"] = f"sha256:{sha256_file(folder / LEDGER)}"
    return bound


def told_by_canaries(folder: Path) -> dict[str, Any] | None:
    """Return what of the empirical audit of a private run may leave; None where none was made."""
    path = folder / RESULT
    return publishable(documents.empirical(path)) if path.is_file() else None


def is_refuted(empirical: Mapping[str, Any] | None) -> bool:
    """Return whether an audit by canaries has refuted the epsilon that the run claims."""
    return empirical is not None and empirical.get("verdict") == "refuted"


def record_digest(record: Mapping[str, Any]) -> str:
    """Return the digest of what a run's record says of how the model was made, and releases keep.

    Its name, its state and where its files lay are left out: they change, or do not leave.
    """
    said = {key: record[key] for key in OF_THE_RECORD if key in record}
    training = without_path_of_training(record.get("training") or {})
    base, rows = record["base"]["identity"], record["data"]["fingerprint"]
    return fingerprint({**said, "training": training, "base": base, "data": rows})


def without_path_of_training(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is on record of a training without where it was resumed from, which is a path."""
    return {key: value for key, value in training.items() if key != "resumed_from"}


def results_digests(evaluation: Path, prefix: str = "") -> dict[str, str]:
    """Return the SHA-256 of a report's bytes and of those of its tasks' samples, by name.

    Raises:
        EvaluationError: if there is no report that can be read, or samples are missing.
    """
    names = ["report.json"]
    names += [f"samples/{task}.jsonl" for task in harness.read_report(evaluation).tasks]
    if missing := [name for name in names if not (evaluation / name).is_file()]:
        raise EvaluationError(f"{evaluation} lacks {', '.join(missing)}; evaluate it again")
    return {f"{prefix}{name}": f"sha256:{sha256_file(evaluation / name)}" for name in names}


def evidence_at(folder: Path, name: str) -> Any:
    """Return the JSON value of a piece of evidence in a run folder; None where there is none.

    A file that is no JSON value (a ledger is a list of them) stands for the hash of its bytes.
    """
    file, _, key = NAMED_EVIDENCE.get(name, name).partition(":")
    path = folder / file
    if not path.is_file():
        return None
    if path.suffix == ".jsonl":
        return sha256_file(path)
    value = read_json(path)
    for part in key.split(".") if key else ():
        value = value.get(part) if isinstance(value, dict) else None
    return value


def differing(bound: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each digest that is bound and now another, or on one side only."""
    before, after = dict(_flat(bound)), dict(_flat(now))
    return [
        f"{name} is {after.get(name) or 'no more there'}, and the decision was made on "
        f"{before.get(name) or 'none'}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def read(folder: Path, kind: str) -> dict[str, Any]:
    """Return the decision of a run on its adapter or its merged model.

    Raises:
        InputError: if there is none, or it is of a form that binds nothing.
    """
    path = folder / DECISION
    if not path.is_file() or documents.decision(path)["target"]["kind"] != kind:
        path = folder / "eval" / kind / DECISION
    found = documents.decision(path)
    if found.get("schema") != SCHEMA:
        raise InputError(
            f"{path} is of form {found.get('schema')} and binds nothing; make it anew with: "
            f"assay gate {folder}"
        )
    return found


def require_open(
    folder: Path,
    kind: str,
    *,
    candidate: str,
    signer: SSlibKey | None = None,
    today: date | None = None,
) -> dict[str, Any]:
    """Return the decision that lets a run's model go on; whatever is not that is refused.

    Args:
        folder: the run folder.
        kind: ``adapter`` before a merge, ``merged`` before a shipment.
        candidate: identity of that model as it lies there now.
        signer: public key of whoever signs the release, who then may not have approved it.
        today: in UTC; overrides that expired before are void.

    Raises:
        GateRefused: if the gate did not pass it, an override has expired, or approvals are missing.
        DecisionVoid: if anything that the decision binds has changed, if the decision contradicts
            itself, or an approval is forged or of something else.
        InputError: if there is no decision.
    """
    decision = read(folder, kind)
    if not decision["passed"]:
        said = "refused" if decision["outcome"] == "FAIL" else f"is {decision['outcome']} on"
        raise GateRefused(
            f"the gate {said} the {kind} model in {folder}, so it goes no further; see its "
            "decision.json"
        )
    if decision["binds"]["candidate"] != candidate:
        raise DecisionVoid(
            f"the decision is about {decision['binds']['candidate']}, and the {kind} model in "
            f"{folder} is {candidate}; gate it again with: assay gate {folder}"
        )
    problems = differing(decision["binds"], _binding_now(folder, kind, candidate))
    problems += contradictions(
        decision,
        harness.read_report(folder / "eval" / kind),
        documents.record(folder),
        told_by_canaries(folder),
    )
    problems += _other_copy(folder, kind, decision)
    _, wrong = approvals.checked(decision)
    if problems or wrong:
        raise DecisionVoid(
            "\n".join(
                [
                    f"the decision on the {kind} model in {folder} is void:",
                    *(f"  {problem}" for problem in [*problems, *wrong]),
                    f"Decide again with: assay gate {folder} (evaluate it first, if results "
                    "changed; approvals must then be given again)",
                ]
            )
        )
    closed = expired(decision, today) + approvals.missing(decision, signer)
    if closed:
        raise GateRefused(
            "\n".join([f"the {kind} model in {folder} may not go on:", *map("  {}".format, closed)])
        )
    return decision


def _other_copy(folder: Path, kind: str, decision: Mapping[str, Any]) -> list[str]:
    """Say whether the decision of a model stands in its two places in two forms."""
    copies = [
        path for path in (folder / DECISION, folder / "eval" / kind / DECISION) if path.is_file()
    ]
    found = [documents.decision(path) for path in copies]
    if any(one["target"]["kind"] == kind and one != decision for one in found):
        return [f"{DECISION} and eval/{kind}/{DECISION} are two decisions"]
    return []


def differs_in_release(
    decision: Mapping[str, Any],
    evaluation: Path,
    record: Mapping[str, Any],
    merge: Mapping[str, Any],
    *,
    candidate: str,
    base: Path,
    ledger: Path | None = None,
    empirical: Mapping[str, Any] | None = None,
    signer: SSlibKey | None = None,
    today: date | None = None,
) -> list[str]:
    """Return all in which a release folder is not what its decision says; empty if nothing.

    The folder itself (every file listed, every hash right, the signature) is not looked at here.

    Args:
        decision: the parsed ``decision.json``.
        evaluation: folder of ``report.json``, byte for byte that of the run, and of
            ``samples/<task>.jsonl`` written through `eval.scores.without_text`.
        record: of the run, as it was released.
        merge: the parsed ``merge.json``.
        candidate: identity of the model in the release folder, computed from its files.
        base: the base's ``report.json``, byte for byte that of the run.
        ledger: the shipped privacy ledger; None where the release has none.
        empirical: what canaries told, as it was released; None where the release has none.
        signer: public key that the release was signed with, if it is known.
        today: in UTC; overrides that expired before are void.
    """
    if decision.get("schema") != SCHEMA:
        return [f"the decision is of form {decision.get('schema')}, which binds nothing"]
    kind, bound = decision["target"]["kind"], decision["binds"]
    problems = [] if decision["passed"] else [f"the gate said {decision['outcome']}"]
    if kind != "merged":
        problems.append(f"the decision is about the {kind} model")
    try:
        now = _binding_of_release(decision, evaluation, candidate)
    except EvaluationError as error:
        return [*problems, f"the results cannot be read: {error}"]
    now["record"], now["merge"] = record_digest(record), fingerprint(merge)
    if empirical is not None:
        now["empirical"] = fingerprint(empirical)
    if ledger is not None:
        now["ledger"] = f"sha256:{sha256_file(ledger)}"
    reports = {f"{kind}/report.json": evaluation / "report.json", "base/report.json": base}
    # one that is missing is told by whoever looks at the folder
    named = {n: path for n, path in reports.items() if n in bound["results"] and path.is_file()}
    now["results"] = {name: f"sha256:{sha256_file(path)}" for name, path in named.items()}
    # what else was bound (text of samples, other releases, evidence of a run) does not leave
    kept = {key: value for key, value in bound.items() if key not in ("releases", "evidence")}
    kept["results"] = {name: bound["results"][name] for name in named}
    problems += differing(kept, now)
    problems += contradictions(decision, harness.read_report(evaluation), record, empirical)
    problems += approvals.checked(decision)[1]
    return problems + expired(decision, today) + approvals.missing(decision, signer)


def contradictions(
    decision: Mapping[str, Any],
    report: Report,
    record: Mapping[str, Any],
    empirical: Mapping[str, Any] | None,
) -> list[str]:
    """Return in what a decision does not follow from its policy, figures, checks and overrides.

    Args:
        decision: the parsed ``decision.json``.
        report: of the candidate.
        record: of the run.
        empirical: what canaries told of a private run, if they were asked.
    """
    found = Decision.from_json(decision)
    bound = decision["binds"]
    policy = GatePolicy.model_validate(decision["policy"])
    problems = departures(
        found,
        policy,
        report,
        is_private=record["is_private"],
        is_refuted=is_refuted(empirical),
        digests=digests_of(report, record, decision["policy"]),
    )
    if (found.outcome, found.passed) != (decision["outcome"], decision["passed"]):
        problems.append(
            f"the decision says {decision['outcome']}, and its checks and overrides make "
            f"{found.outcome}"
        )
    if policy_digest(decision["policy"]) != bound["policy"]:
        problems.append("the policy that stands in the decision is not the one that it binds")
    target = asdict(report.target)
    problems += [
        f"the decision is about the {key} {said}, and the figures are of {target[key]}"
        for key, said in decision["target"].items()
        if key in target and said != target[key]
    ]
    if report.target.base != record["base"]["identity"]:
        problems.append(
            f"the figures are of the base {report.target.base}, and the run is on "
            f"{record['base']['identity']}"
        )
    problems += [
        f"the override of {override.rule} is for another model or policy"
        for override in found.overrides
        if (override.candidate, override.policy) != (bound["candidate"], bound["policy"])
    ]
    problems += [
        f"the override of {override.rule} counts for nothing ({why})"
        for override in found.overrides
        if (why := override.wanting())
    ]
    return problems


def expired(decision: Mapping[str, Any], today: date | None = None) -> list[str]:
    """Return a sentence for each override that holds no more."""
    today = today or datetime.now(UTC).date()
    return [
        f"the override of {override.rule} by {override.by} expired on {override.expires}"
        for override in Decision.from_json(decision).overrides
        if not is_in_force(override, today)
    ]


def is_in_force(override: Override, today: date) -> bool:
    """Return whether an override has not expired; a date that cannot be read has."""
    try:
        return date.fromisoformat(override.expires) >= today
    except ValueError:
        return False


def releases_of(policy: GatePolicy, source: Path) -> dict[str, Path]:
    """Return the evaluation folder of each earlier release that a policy names and that is there.

    Keys are the paths as the policy has them.
    """
    named = {rule.release for family in FAMILIES for rule in policy.rules(family) if rule.release}
    found = {name: evaluation_of(source / Path(name).expanduser()) for name in sorted(named)}
    return {name: place for name, place in found.items() if place is not None}


def evaluation_of(release: Path) -> Path | None:
    """Return where the results of an earlier release lie: in a release folder, or in a run folder.

    Of a run folder the merged model counts, and the adapter where nothing is merged.
    """
    places = ("evidence/eval", "eval/merged", "eval/adapter")
    return next((release / p for p in places if (release / p / "report.json").is_file()), None)


def is_released(evaluation: Path) -> bool:
    """Return whether results lie in a release folder, and so without their text."""
    return evaluation.parent.name == "evidence"


def is_edited(evaluation: Path, task: str) -> bool:
    """Return whether results in a release folder are not those that its decision, if any, binds.

    Whoever can edit these can edit the decision too: `assay verify --key` tells that.

    Raises:
        KeyError: if the decision is of a form that binds nothing.
    """
    try:
        bound = read_json(evaluation.parents[1] / DECISION)["binds"]
        results, known = list(bound["results"].values()), bound["scores"][task]
    # it names the path, and a reason in a decision holds none; or it is none that we wrote
    except (InputError, TypeError, AttributeError):
        return True
    report = f"sha256:{sha256_file(evaluation / 'report.json')}"
    return report not in results or known != scores_digest(harness.read_samples(evaluation, task))


def by_name(releases: Mapping[str, Path]) -> dict[str, Path]:
    """Return evaluation folders by the releases' names, as a decision binds them."""
    return {release_name(path): place for path, place in releases.items()}


def _binding_now(folder: Path, kind: str, candidate: str) -> dict[str, Any]:
    policy = config.load(folder / "resolved.yaml").gate
    source = Path(documents.record(folder)["source"])
    bound = bound_policy(policy, source)
    try:
        return binding(
            folder,
            kind,
            candidate=candidate,
            policy=bound,
            releases=by_name(releases_of(policy, source)),
            evidence=policy.evidence_of(kind),
        )
    except (EvaluationError, InputError) as error:  # what was read when it was bound is torn now
        raise DecisionVoid(
            f"what the decision on the {kind} model in {folder} binds cannot be read: {error}"
        ) from None


def _binding_of_release(
    decision: Mapping[str, Any], evaluation: Path, candidate: str
) -> dict[str, Any]:
    report = harness.read_report(evaluation)
    return {
        "candidate": candidate,
        "policy": policy_digest(decision["policy"]),
        "scores": {
            task: scores_digest(harness.read_samples(evaluation, task)) for task in report.tasks
        },
        "data": {task: result.data for task, result in report.tasks.items()},
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", str(value)
