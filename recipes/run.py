"""A run: one recipe, and the folder that its results are in."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from finetune import adapter as adapters
from finetune import checkpoint as checkpoints
from finetune.quantization import VERSION, Quantization, dtype_name
from privacy.errors import LedgerError
from privacy.ledger import LedgerSummary, verify
from recipes import agreement, config, documents, domains
from recipes.config import Recipe
from recipes.domains import Domain
from recipes.errors import InputError, RunDiffers
from recipes.locks import HOLDER, LOCK, locked
from recipes.long_paths import refuse_long
from recipes.public_recipe import public_recipe

RECORD = documents.RECORD
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.", re.IGNORECASE)
"""Names that Windows gives to no folder."""


@dataclass(frozen=True)
class Run:
    """One recipe and the folder that its results are in."""

    recipe: Recipe
    folder: Path
    source: Path
    """The folder where the recipe's relative paths start."""

    @property
    def ledger(self) -> Path:
        """The privacy ledger of a private run."""
        return self.folder / "ledger.jsonl"


def start(recipe_path: Path, overrides: list[str], runs: Path, *, is_fresh: bool) -> Run:
    """Open the run folder of a recipe file, new or to go on with.

    Raises:
        InputError: if the folder belongs to another recipe of the same name.
        RunDiffers: if the run was begun on another base.
        finetune.errors.IntegrityError: if it holds an adapter of another base.
    """
    recipe = config.load(recipe_path, overrides)
    refuse_long(runs / recipe.name)
    checkpoints.prepare_cpu(recipe.train.num_threads)
    run = Run(recipe, runs / recipe.name, recipe_path.resolve().parent)
    if is_fresh and run.folder.exists():
        domains.read(recipe, run.source)  # a bad row must not cost the run before
        with locked(run.folder):  # never under the feet of another process
            _clear(run.folder)
    if not run.folder.exists() and _OF_WINDOWS.fullmatch(recipe.name):
        raise InputError(
            f"name: {recipe.name!r} cannot be a folder on Windows, and runs are passed on; wanted "
            "one that ends in no dot and is no device such as con, nul or com1"
        )
    if (run.folder / RECORD).is_file():
        refuse_other_base(run, base_folder(run))
    resolved = run.folder / "resolved.yaml"
    text = config.dump(recipe).encode()
    is_same = not resolved.is_file() or resolved.read_bytes() == text
    if not is_same and not _differs_in_the_card_alone(recipe, resolved):
        raise InputError(
            f"{run.folder} holds a run of the same name with other settings; choose another "
            "name, or begin it anew with --fresh (which deletes that run)"
        )
    return run


def _clear(folder: Path) -> None:
    """Remove all that is in a folder but its lock, which Windows does not give away while held."""
    for path in folder.iterdir():
        if path.name in (LOCK, HOLDER):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _differs_in_the_card_alone(recipe: Recipe, resolved: Path) -> bool:
    """Return whether a run may go on under a recipe: what only its documents say may change."""
    try:
        before = config.load(resolved)
    except InputError:
        return False
    return before.model_copy(update={"card": recipe.card}) == recipe


def open_run(folder: Path) -> Run:
    """Open a run folder that is there.

    Raises:
        InputError: if it is none.
        RunDiffers: if its recipe is not the one that its record was made by.
    """
    resolved = folder / "resolved.yaml"
    if not resolved.is_file():
        raise InputError(f"{folder} is not a run folder: it has no resolved.yaml")
    record = documents.record(folder)
    recipe = _as_split_then(config.load(resolved), resolved)
    # before a changed path or column of it is met as a fault of the data
    if changed := list(agreement.of_recipe(record, public_recipe(recipe), RECORD, resolved.name)):
        raise RunDiffers(
            "\n".join(
                [
                    f"what lies in {folder} does not belong together:",
                    *(f"  {one}" for one in changed),
                    f"Nothing was done. Bring {resolved} back from a copy",
                ]
            )
        )
    checkpoints.prepare_cpu(recipe.train.num_threads)
    return Run(recipe, folder, Path(record["source"]))


def _as_split_then(recipe: Recipe, resolved: Path) -> Recipe:
    """Return the recipe of a run with the rule by which its rows were split.

    A file that lacks the two keys was written when only case and blanks were compared.
    """
    if "keep_alike_together" in resolved.read_text(encoding="utf-8"):
        return recipe
    before = {"keep_alike_together": False, "keep_passages_together": False}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=before)})


def is_trained(run: Run) -> bool:
    """Return whether a run's training has ended: the adapter is there, and the record has its end.

    An adapter with a record that lacks it was left by a process that ended between the two.

    Raises:
        InputError: if there is an adapter, and the record is damaged or missing.
    """
    has_adapter = (run.folder / "adapter").is_dir()
    return has_adapter and documents.record(run.folder).get("training") is not None


def read_domain(run: Run) -> Domain:
    """Read the rows of a run; a trained classifier's labels keep the order of its head.

    Before training, every check is made, and personal data is searched for.

    Raises:
        InputError: if the data cannot be used.
    """
    adapter = run.folder / "adapter"
    was_trained = is_trained(run) or (run.folder / "merged").is_dir()
    has_head = adapter.is_dir() and run.recipe.recipe == "classification"
    return domains.read(
        run.recipe,
        run.source,
        labels=adapters.read_record(adapter).labels if has_head else (),
        is_trained=was_trained,
        scan_personal_data=not was_trained,
    )


def spent(run: Run) -> float | None:
    """Return the epsilon of the ledger, or None for a plain run.

    Raises:
        LedgerError: if a private run's ledger is damaged or missing.
    """
    if run.recipe.privacy is None:
        return None
    return checked_ledger(run).epsilon_spent


def checked_ledger(run: Run) -> LedgerSummary:
    """Return the ledger of a private run, if it is whole and its own.

    Raises:
        LedgerError: if it is damaged or missing, lacks steps that the record says were taken, or
            is another run's, or a seeded run's.
    """
    if not run.ledger.is_file():
        raise LedgerError(
            f"{run.ledger} is missing, so nobody knows what this private run has spent; bring it "
            "back, or train anew under another name"
        )
    summary = verify(run.ledger)
    record = documents.record(run.folder) if (run.folder / RECORD).is_file() else {}
    why = summary.disagreement(record)
    if why is None and not summary.is_private:
        why = "it was written with noise that a seed repeats, which protects nobody"
    if why is not None:
        raise LedgerError(f"{run.ledger}: {why}; bring the run's own ledger back")
    return summary


def base_folder(run: Run) -> Path:
    """Return the folder of a run's base, read as when the run began."""
    held = held_as(run)
    version = held.version if held else VERSION
    return checkpoints.resolve(run.recipe.base, run.source, version=version)


def held_as(run: Run) -> Quantization | None:
    """Return how a run's base was held when the run began; None for one that begins now.

    Of a run that was trained, the adapter's record says it, and of one that was interrupted, its
    own. A record that does not say is older than version 2.
    """
    adapter, record = run.folder / "adapter", run.folder / RECORD
    if adapter.is_dir():
        return adapters.read_record(adapter).quantization
    if not record.is_file():
        return None
    version = documents.record(run.folder)["base"].get("weights_version", 1)
    dtype = dtype_name(checkpoints.compute_dtype())
    return Quantization(run.recipe.base.quantization, compute_dtype=dtype, version=version)


def refuse_other_base(run: Run, folder: Path) -> None:
    """Refuse a base that the run in the folder was not begun on, or its adapter not trained on.

    Raises:
        RunDiffers: if the record of the run names another.
        finetune.errors.IntegrityError: if the adapter does.
    """
    adapter = run.folder / "adapter"
    if adapter.is_dir():
        record = adapters.read_record(adapter)
        adapters.check_identity(record, checkpoints.identity(folder), folder, adapter)
    if (run.folder / RECORD).is_file():
        begun_on, found = (
            documents.record(run.folder)["base"]["identity"],
            checkpoints.identity(folder),
        )
        if begun_on != found:
            raise RunDiffers(
                f"the run in {run.folder} was begun on the base {begun_on}, as its {RECORD} says, "
                f"and {folder} is now {found}; bring that base back, give the run another name "
                "(--set name=...), or begin it anew with --fresh (which deletes that run)"
            )
