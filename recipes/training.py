"""The training step of a run: encode, plan the privacy, train, leave the adapter and its record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from finetune import checkpoint as checkpoints
from finetune import merge as merging
from finetune.encoding import Example, weigh_classes
from finetune.machine import refuse_float64
from finetune.train import TrainResult, train
from finetune.watch import StepInfo
from privacy.ledger import verify
from privacy.plan import DPPlan, make_plan
from privacy.provable import mechanism_of
from privacy.refusals import refused
from privacy.trainer_refusals import refuse_processes
from recipes import config, documents, planting, provenance, shortfall
from recipes.check.lengths import find_unfit
from recipes.config import Recipe
from recipes.console import Bar, Narrator, shares_on
from recipes.data import catalog, dataset, readers
from recipes.data.leakage import find_near_leaks
from recipes.data.split import DataRow
from recipes.domains import Domain
from recipes.errors import InputError, Problem, Problems
from recipes.files import read_json, write_json, write_text
from recipes.private_rule import private_rule
from recipes.run import RECORD, Run, base_folder, held_as, is_trained, refuse_other_base
from recipes.run_agreement import hold

NOTES = "training_notes"
"""Of a record: what somebody should know of how the training went, in sentences."""


def train_adapter(run: Run, domain: Domain, narrator: Narrator) -> None:
    """Train the adapter, unless the run folder holds it already."""
    recipe = run.recipe
    folder = base_folder(run)
    refuse_other_rows(run, domain)
    refuse_other_base(run, folder)
    if is_trained(run):
        hold(run, merged=False, kinds=(), base=folder)
        write_text(run.folder / "resolved.yaml", config.dump(recipe))  # its card may have changed
        narrator.say(f"trained already: {run.folder / 'adapter'}")
        _tidy(run)
        return
    # of a process that ended before the record had its training: the last checkpoint makes it again
    shutil.rmtree(run.folder / "adapter", ignore_errors=True)
    _refuse_missing_trackers(recipe.train.report_to)
    if recipe.privacy:
        refuse_float64("a private run")
        refuse_processes()
    alike = _find_near_leaks(run, domain, narrator)
    base = load_base(run, folder, domain)
    encoded = encode(run, domain, base)
    examples, held_back = ([e for e in part if e.is_learnable] for part in encoded)
    cut = [e.id for part in encoded for e in part if e.num_cut]
    unlearned = [e.id for part in encoded for e in part if not e.is_learnable]
    learned = [row for row, e in zip(domain.parts.train, encoded[0], strict=True) if e.is_learnable]
    members = private_units(recipe, learned)
    plan = private_plan(recipe, num_private_units(recipe, learned)) if recipe.privacy else None
    if recipe.train.class_weights == "balanced":
        examples = weigh_classes(examples, len(domain.labels))
    planted = planting.plant(run, domain, base)
    if planted:
        examples += planted.examples
    write_text(run.folder / "resolved.yaml", config.dump(recipe))
    write_json(run.folder / documents.MANIFEST, domain.parts.manifest())
    record = provenance.begin(run.source, recipe, base, domain.parts)
    notes = _Notes(run.folder / RECORD, narrator)
    # at once, or a crash in between would let a resumed run toss its coins again
    write_json(
        run.folder / RECORD,
        record | notes.of_before() | ({"canaries": planted.declare()} if planted else {}),
    )
    provenance.add(run.folder / RECORD, "near_leaks", alike)
    if cut:
        narrator.say(
            f"{len(cut)} rows are cut at {recipe.train.max_length} tokens, and {len(unlearned)} of "
            "them are left out, because nothing to learn is left; record.json lists them"
        )
        provenance.add(run.folder / RECORD, "rows_cut", cut)
        provenance.add(run.folder / RECORD, "rows_left_out", unlearned)
    if planted:
        narrator.say(
            f"{len(planted.examples)} of {len(examples)} rows are canaries, each trained on if its "
            f"coin said so; the coins are sealed in {planting.SEALED}"
        )
    sealed = planted.design.commitment if planted else ""
    rule = private_rule(run, domain, plan, learned, members, sealed, narrator) if plan else None
    if any((run.folder / "checkpoints").glob("checkpoint-*")):
        narrator.say(f"going on with the interrupted run in {run.folder} (--fresh begins anew)")
    narrator.say(
        f"training on {len(examples)} rows, {len(held_back)} held back"
        + (f", epsilon {plan.epsilon():.2f} at delta {plan.delta:g}" if plan else "")
    )
    with narrator.bars() as open_bar:
        result = train(
            base,
            examples,
            held_back,
            adapter=recipe.adapter,
            config=recipe.train,
            folder=run.folder,
            rule=rule,
            on_step=_training_bar(open_bar),
            on_rows=_rows_bar(open_bar, len(examples) + len(held_back)),
            public_texts=public_texts() if recipe.adapter.whiten_head else (),
            say=notes.add,
        )
    # what the ledger's own chain cannot show: that lines are missing at its end
    head = {"ledger_head": verify(run.ledger).head} if plan else {}
    made = {"adapter": merging.adapter_identity(run.folder / "adapter")}
    provenance.add(run.folder / RECORD, "training", asdict(result) | head | made)
    _tidy(run)
    narrator.say(_trained(result))
    if plan and (fewer := shortfall.in_words(result.num_steps, plan.steps)):
        narrator.say(fewer)


class _Notes:
    """What somebody should know of a training: said at once, and kept in the record of the run."""

    def __init__(self, record: Path, narrator: Narrator) -> None:
        self._record = record
        self._narrator = narrator
        self._notes: list[str] = []
        with suppress(InputError):  # a record that is missing or damaged is begun anew
            before = read_json(record)
            noted = before.get(NOTES) if isinstance(before, dict) else None
            self._notes += [str(note) for note in noted] if isinstance(noted, list) else []

    def of_before(self) -> dict[str, list[str]]:
        """Return the part of a record with the notes of a run that goes on; none if it has none."""
        return {NOTES: list(self._notes)} if self._notes else {}

    def add(self, note: str) -> None:
        """Say it, and write it down."""
        self._narrator.say(note)
        self._notes.append(note)
        provenance.add(self._record, NOTES, self._notes)


def _find_near_leaks(run: Run, domain: Domain, narrator: Narrator) -> list[str]:
    """Return the ids of test rows that are nearly the same as a row that is not tested on.

    Raises:
        DataErrors: if the recipe makes that an error.
    """
    parts = domain.parts
    findings = dataset.new_findings(run.recipe)
    with narrator.bars() as open_bar:
        bar = open_bar("near-duplicates across the split", 100)
        find_near_leaks([*parts.train, *parts.validation], parts.test, findings, shares_on(bar))
    findings.raise_errors()
    alike = [one.row for found in findings.all() for one in found.occurrences]
    if alike and findings.severity(catalog.NEAR_LEAK) == "warning":
        narrator.say(
            f"{len(alike)} test rows are nearly the same as a training row; record.json lists them"
        )
    return alike


def _refuse_missing_trackers(names: Sequence[str]) -> None:
    from transformers.integrations import get_available_reporting_integrations

    at_hand = get_available_reporting_integrations()
    if missing := [name for name in names if name not in (*at_hand, "all", "none")]:
        raise InputError(
            f"train.report_to: {', '.join(missing)} is not installed, or no tracker of "
            f"transformers; at hand: {', '.join(at_hand) or 'none'}"
        )


def public_texts() -> list[str]:
    """Return what the users of our sample chats say: texts that no classifier is trained on."""
    chats = readers.files_of(["sample:chat/support.jsonl"], Path())[0].read_text(encoding="utf-8")
    turns = (turn for line in chats.splitlines() for turn in json.loads(line)["messages"])
    return [turn["content"] for turn in turns if turn["role"] == "user"]


def encode(run: Run, domain: Domain, base: checkpoints.Base) -> tuple[list[Example], list[Example]]:
    """Encode the training and the validation rows.

    Raises:
        DataErrors: if answers would be cut and that is not allowed, or a stop token is not learned.
    """
    stops = checkpoints.stop_ids_of(base.folder, base.tokenizer)
    parts = (domain.parts.train, domain.parts.validation)
    encoded = [[domain.encode(row.item, base.tokenizer, stops) for row in part] for part in parts]
    findings = dataset.new_findings(run.recipe)
    for part, examples in zip(parts, encoded, strict=True):
        for row, example in zip(part, examples, strict=True):
            find_unfit(row, example, findings, max_length=run.recipe.train.max_length)
    findings.raise_errors()
    return encoded[0], encoded[1]


def _tidy(run: Run) -> None:
    """Remove the checkpoints of a training that is complete, unless they were asked for."""
    if not run.recipe.train.keep_checkpoints:
        shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)


def refuse_other_rows(run: Run, domain: Domain) -> None:
    """Refuse to go on with a run whose files have changed since it began.

    Raises:
        InputError: if they have.
    """
    if not (run.folder / documents.MANIFEST).is_file():
        return
    before, now = documents.manifest(run.folder), domain.parts.manifest()
    parts = ("fingerprint", "train", "validation", "test")
    # a corrected label or answer shows in the hash of its file alone
    hashes = [sorted(values["files"].values()) for values in (before, now)]
    if any(before[part] != now[part] for part in parts) or hashes[0] != hashes[1]:
        raise InputError(
            f"the rows have changed since the run in {run.folder} began; give the run another name "
            "(--set name=...), or begin it anew with --fresh (which deletes that run)"
        )


def _trained(result: TrainResult) -> str:
    rate = f" ({result.num_tokens / result.num_seconds:.0f} tokens/s)" if result.num_tokens else ""
    loss = f", best evaluation loss {result.best_eval_loss:.3f}" if result.best_eval_loss else ""
    return (
        f"trained {result.num_parameters:,} parameters in {result.num_steps} steps and "
        f"{result.num_seconds:.0f} s{rate}{loss}"
    )


def _training_bar(open_bar: Callable[[str, int], Bar]) -> Callable[[StepInfo], None]:
    """Open the bar at the first step, when the number of steps is known."""
    bar: Bar | None = None
    seen = 0

    def on_step(info: StepInfo) -> None:
        nonlocal bar, seen
        bar = bar or open_bar("training", info.num_steps)
        loss = "" if info.loss is None else f"loss {info.loss:.3f}, "
        rate = f"{info.tokens_per_second:.0f} tokens/s" if info.tokens_per_second else ""
        bar.note(f"{loss}{rate}")  # a private run tells neither
        bar.advance(info.step - seen)
        seen = info.step

    return on_step


def _rows_bar(open_bar: Callable[[str, int], Bar], num_rows: int) -> Callable[[int], None]:
    """Open the bar at the first rows: most runs have no blocks that are run ahead of training."""
    bar: Bar | None = None

    def on_rows(num: int) -> None:
        nonlocal bar
        bar = bar or open_bar("what is not trained, once for each row", num_rows)
        bar.advance(num)

    return on_rows


def private_plan(recipe: Recipe, num_examples: int) -> DPPlan:
    """Return the privacy plan of a recipe.

    Raises:
        InputError: if another setting of the recipe would make the stated epsilon untrue.
    """
    if recipe.privacy is None:
        raise InputError("the recipe has no privacy section")
    plan = make_plan(
        recipe.privacy,
        num_examples=num_examples,
        batch_size=recipe.train.batch_size,
        epochs=recipe.train.epochs,
        max_steps=recipe.train.max_steps,
    )
    wrong = [
        Problem(f"{section}.{one.setting}", f"{one.reason} ({one.effect}); {one.way_out}")
        for section in ("train", "adapter")
        for one in refused(getattr(recipe, section).model_dump(), mechanism_of(plan))
        # a private run holds no rows back, whatever this says
        if one.setting != "validation_fraction"
    ]
    if recipe.adapter.init == "pissa":
        why = "its residual would have to be part of what is released; set it to default"
        wrong.append(Problem("adapter.init", why))
    if wrong:
        raise Problems("these settings cannot be private:", wrong)
    return plan


def private_units(recipe: Recipe, rows: Sequence[DataRow[Any]]) -> list[list[int]]:
    """Return the numbers of the rows of each unit of privacy.

    Raises:
        InputError: if the unit is a column that the split does not keep together.
    """
    unit = recipe.privacy.unit if recipe.privacy else "example"
    if unit == "example":
        return [[i] for i in range(len(rows))]
    if unit != recipe.data.group:
        raise InputError(
            f"privacy.unit: {unit!r} must also be data.group (it is {recipe.data.group!r}), "
            "so that nobody's rows stand in training and test data alike"
        )
    members: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        members.setdefault(str(row.group), []).append(i)
    return list(members.values())


def num_private_units(recipe: Recipe, rows: Sequence[DataRow[Any]]) -> int:
    """Return how many units a private run draws from.

    Each canary is one by itself, whether its coin put it in or a blank in its place: the number of
    units tells nothing of the coins.
    """
    return len(private_units(recipe, rows)) + recipe.data.canaries


class OutputHead(Protocol):
    """What comes out of a model: a domain's, or what the record of an adapter says."""

    @property
    def head(self) -> checkpoints.Head:
        """Of words or of classes."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes of a classification head, in the order of its outputs."""

    @property
    def is_multi_label(self) -> bool:
        """Whether several labels may hold at once."""


def load_base(run: Run, folder: Path, domain: OutputHead) -> checkpoints.Base:
    """Load the base of a run with the head that its recipe trains, held as when the run began."""
    from transformers import set_seed

    recipe = run.recipe
    set_seed(recipe.train.seed)  # a classification head begins at random
    return checkpoints.load(
        folder,
        quantization=recipe.base.quantization,
        head=domain.head,
        labels=domain.labels,
        is_multi_label=domain.is_multi_label,
        prompt=recipe.adapter.prompt,
        held_as=held_as(run),
        pooling=recipe.base.pooling,
    )
