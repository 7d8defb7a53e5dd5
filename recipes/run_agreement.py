"""Hold the documents of a run folder, and its base, against one another before they are used.

A verb calls `hold` before it evaluates or writes: what is of another base, adapter, data set or
recipe is refused with exit code 5, and the folder is left as it was.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from eval import harness
from eval.cost import read_cost
from eval.errors import EvaluationError
from eval.task import Report, Target, Task
from finetune import adapter_files
from finetune import checkpoint as checkpoints
from finetune import merge as merging
from finetune.adapter_files import AdapterRecord
from finetune.errors import InputError as FinetuneInputError
from finetune.errors import IntegrityError
from finetune.merge_record import ORIGINAL
from privacy.errors import LedgerError
from recipes import agreement, documents
from recipes.agreement import differing
from recipes.documents import EMPIRICAL, MANIFEST, MERGE, RECORD
from recipes.domains import Domain
from recipes.errors import InputError, RunDiffers
from recipes.public_recipe import public_recipe
from recipes.run import Run, checked_ledger

RECIPE = "resolved.yaml"
_ADAPTER = f"adapter/{adapter_files.RECORD}"
_WEIGHTS_OF_ADAPTER = "adapter/, its files"
_WEIGHTS_OF_MERGED = "merged/, its files"

KINDS = ("base", "adapter", "merged")


def hold(
    run: Run,
    *,
    merged: bool = True,
    kinds: Collection[str] = KINDS,
    base: Path | None = None,
    skip_torn_adapter: bool = False,
) -> None:
    """Refuse a run whose documents name different things, or whose base is another one.

    Args:
        run: that has begun.
        merged: whether what is merged counts; not where it would be merged again.
        kinds: whose reports count, of ``base``, ``adapter`` and ``merged``; not of a model that
            would be evaluated again.
        base: folder of the run's base, where the verb uses it; without it, the base is looked at
            only if it is a local folder that is there (`base_at_hand`).
        skip_torn_adapter: leave an adapter out that cannot be read, for who tells of it himself.

    Raises:
        RunDiffers: naming every disagreement.
        InputError: if a document is missing or damaged, with the way out.
    """
    record = documents.record(run.folder)
    base = base or base_at_hand(run)
    problems = [] if base is None else list(_of_base_files(record, base))
    problems += _disagreements(run, record, merged=merged, kinds=kinds, skip_torn=skip_torn_adapter)
    if problems:
        raise RunDiffers(
            "\n".join(
                [
                    f"what lies in {run.folder} does not belong together:",
                    *(f"  {problem}" for problem in dict.fromkeys(problems)),
                    "Nothing was done. Bring the changed file or base back from a copy; an "
                    f"evaluation that is of another model is made again by removing its folder in "
                    f"{run.folder / 'eval'} and: assay eval {run.folder}",
                ]
            )
        )


def base_at_hand(run: Run) -> Path | None:
    """Return the run's base where it is a folder of this machine; None if that is missing.

    A base from the Hub, a package or a GGUF file is fetched or converted where it is used, and
    held against the record there.
    """
    name = run.recipe.base.checkpoint
    if not Path(name).expanduser().is_dir():
        return None
    try:
        return checkpoints.resolve(run.recipe.base, run.source)
    except FinetuneInputError:  # no checkpoint any more
        return None


def hold_results(run: Run, domain: Domain, kinds: Collection[str]) -> None:
    """Refuse reports whose figures are not those that their own samples make.

    Args:
        run: that was evaluated.
        domain: of the run, on its rows as they are now.
        kinds: of ``base``, ``adapter`` and ``merged``.

    Raises:
        RunDiffers: naming each figure.
        EvaluationError: if a report or its samples cannot be read.
    """
    problems = [
        f"  {kind}: {problem}"
        for kind in kinds
        for problem in harness.contradictions(
            tasks_of(run, domain, kind), run.folder / "eval" / kind
        )
    ]
    if problems:
        folder = run.folder / "eval"
        raise RunDiffers(
            "\n".join(
                [
                    f"the results in {folder} are not what was measured:",
                    *problems,
                    *_changed_rows(run, domain),
                    "Nothing was decided or written. Remove the folder of that model in "
                    f"{folder}, and evaluate again with: assay eval {run.folder}",
                ]
            )
        )


def _changed_rows(run: Run, domain: Domain) -> list[str]:
    """Name the files of rows that are not those of the run any more, by content."""
    known = set(documents.record(run.folder)["data"]["files"].values())
    changed = [
        name for name, found in domain.parts.manifest()["files"].items() if found not in known
    ]
    return [f"  {name} has changed since the run began" for name in changed]


def has_report(run: Run, kind: str) -> bool:
    """Return whether a model of a run was evaluated to the end, on whatever."""
    return (run.folder / "eval" / kind / documents.REPORT).is_file()


def is_evaluated(run: Run, domain: Domain, kind: str) -> bool:
    """Return whether a model of a run was asked all that is asked now, on whatever machine."""
    folder = run.folder / "eval" / kind
    try:
        target = harness.read_report(folder).target
    except EvaluationError:
        return False
    return harness.finished(tasks_of(run, domain, kind), target, folder) is not None


def tasks_of(run: Run, domain: Domain, kind: str) -> list[Task]:
    """Return the tasks of a model of a run: of ``base``, ``adapter`` or ``merged``.

    A language model is asked for labels in words, one by one, and so of fewer rows. An encoder
    embeds each text once, and is asked of all.
    """
    is_encoder = documents.record(run.folder)["base"].get("pooling") is not None
    return domain.base_tasks if kind == "base" and not is_encoder else domain.tasks


def _of_base_files(record: Mapping[str, Any], base: Path) -> Iterator[str]:
    yield from differing(
        "base", {RECORD: record["base"]["identity"], str(base): checkpoints.identity(base)}
    )


def _disagreements(
    run: Run, record: Mapping[str, Any], *, merged: bool, kinds: Collection[str], skip_torn: bool
) -> Iterator[str]:
    folder = run.folder
    for kind in KINDS:
        for name in harness.changed_files(folder / "eval" / kind):
            yield f"{kind} evaluation: eval/{kind}/{name} is not what its evaluation wrote"
    yield from agreement.of_recipe(record, public_recipe(run.recipe), RECORD, RECIPE)
    yield from _of_rows(record, documents.manifest(folder))
    try:
        adapter, adapter_identity = _adapter(folder / "adapter")
    except (InputError, FinetuneInputError, IntegrityError):
        if not skip_torn:
            raise
        adapter, adapter_identity = None, None
    has_merge = merged and (folder / MERGE).is_file()
    merge = documents.merge(folder / "merged") if has_merge else None
    reports = dict(_reports(folder, kinds))
    targets = {file: report.target for file, report in reports.items()}
    training = record.get("training") or {}
    if adapter_identity and not training:
        yield (
            f"training: adapter/ holds an adapter, and {RECORD} not its end: the training was "
            "interrupted, and the same assay train goes on"
        )

    yield from differing(
        "base",
        {
            RECORD: record["base"]["identity"],
            _ADAPTER: adapter and adapter.base,
            MERGE: merge and merge["base"],
            **{file: target.base for file, target in targets.items()},
        },
    )
    yield from differing(
        "adapter",
        {
            RECORD: training.get("adapter"),
            _WEIGHTS_OF_ADAPTER: adapter_identity,
            MERGE: merge and merge["adapter"],
            **{file: target.adapter for file, target in targets.items()},
        },
    )
    yield from differing(
        "merged model",
        {
            _WEIGHTS_OF_MERGED: checkpoints.identity(folder / "merged") if merge else None,
            MERGE: merge and merge["identity"],
            # of a merge that is not looked at, what was said of it is not either
            **{file: target.merged for file, target in targets.items() if merge},
        },
    )
    yield from differing(
        "base.quantization",
        {RECORD: record.get("quantization"), _ADAPTER: adapter and adapter.quantization.kind},
    )
    yield from differing(
        "chat template",
        {RECORD: record["base"].get("chat_template"), _ADAPTER: adapter and adapter.chat_template},
    )
    yield from differing(
        "chat template of the merged model",
        {
            "merged/, its tokenizer": merge and adapter_files.template_of(folder / "merged"),
            MERGE: merge and merge.get("chat_template"),
        },
    )
    if merge and (candidate := record.get("candidate")):
        is_original = merge["into"] == ORIGINAL
        into = "original" if is_original else "dequantised"
        yield from differing("merged into", {RECORD: candidate["into"], MERGE: into})
    for file, report in reports.items():
        yield from _of_report(report, file, folder, record)
    yield from _of_canaries(run, record)


def _of_rows(record: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    data = record["data"]
    for thing, in_record, in_manifest in (
        ("training rows", data["fingerprint"], manifest["fingerprint"]),
        ("number of rows", record["rows"], manifest["rows"]),
    ):
        yield from differing(thing, {RECORD: in_record, MANIFEST: in_manifest})
    # by hash alone: the files of an archive lie elsewhere now
    known, found = (sorted(one["files"].values()) for one in (data, manifest))
    if known != found:
        yield f"files of the rows: {MANIFEST} and {RECORD} name files of other hashes"
    for part in ("train", "validation", "test"):
        counted = len(manifest[part])
        yield from differing(
            f"rows in {part}", {RECORD: record["rows"].get(part), MANIFEST: counted}
        )


def _adapter(folder: Path) -> tuple[AdapterRecord | None, str | None]:
    """Return what an adapter folder says of itself, and the hash of its files as they are."""
    if not folder.is_dir():
        return None, None
    record = adapter_files.read_record(folder)
    try:
        return record, merging.adapter_identity(folder)
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename} is missing; bring it back from a copy, or train anew with --fresh"
        ) from None


def _reports(folder: Path, kinds: Collection[str]) -> Iterator[tuple[str, Report]]:
    for path in sorted((folder / "eval").glob(f"*/{documents.REPORT}")):
        if path.parent.name in KINDS and path.parent.name not in kinds:
            continue
        yield f"eval/{path.parent.name}/{documents.REPORT}", harness.read_report(path.parent)


def _of_report(report: Report, file: str, folder: Path, record: Mapping[str, Any]) -> Iterator[str]:
    target: Target = report.target
    evaluation = (folder / file).parent
    if evaluation.name in KINDS:
        yield from agreement.of_kind(target, evaluation.name, file)
    yield from agreement.of_quantization(target, record.get("quantization"), file, RECORD)
    cost = read_cost(evaluation)
    if cost and not math.isclose(cost.num_seconds, report.num_seconds, rel_tol=1e-9):
        yield (
            f"seconds of the evaluation: {file} says {report.num_seconds:g}, and its cost.json "
            f"{cost.num_seconds:g}"
        )


def _of_canaries(run: Run, record: Mapping[str, Any]) -> Iterator[str]:
    has_audit = (run.folder / EMPIRICAL).is_file()
    if not (has_audit or record.get("canaries")):
        return  # the account of a ledger takes a second
    account = None
    if run.recipe.privacy is not None:
        with suppress(LedgerError):  # which whoever reads the ledger tells
            ledger = checked_ledger(run)
            account = agreement.Account(ledger.epsilon_spent, ledger.plan.delta, ledger.canaries)
    if not has_audit:
        yield from agreement.of_canaries(record, account, RECORD, {})
        return
    found = documents.empirical(run.folder / EMPIRICAL)
    yield from agreement.of_empirical(found, record, account, (EMPIRICAL, RECORD))
