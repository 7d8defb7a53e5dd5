"""What there is to audit: a recipe, a run or a release, read once and with its sources."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from privacy.errors import LedgerError
from privacy.ledger import LedgerSummary, verify
from recipes import config, documents, domains
from recipes.config import Recipe
from recipes.data import dataset
from recipes.data.split import DataRow
from recipes.errors import InputError
from recipes.run import open_run
from recipes.run_agreement import hold

Kind = Literal["recipe", "run", "release"]


@dataclass(frozen=True)
class Evidence:
    """One target of an audit."""

    kind: Kind
    name: str
    is_private: bool
    folder: Path | None = None
    """Of the run or the release."""

    recipe: Recipe | None = None
    """Of a release, with file names instead of paths; None where it holds no settings."""

    source: Path | None = None
    """Where the recipe's relative paths start."""

    record: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Of the data: data.json."""

    rows: Sequence[DataRow[Any]] = ()
    """Training rows, where they are at hand and are those that were trained on."""

    rows_missing: str = ""
    """Why there are none."""

    is_trained: bool = False

    @property
    def ledger(self) -> Path | None:
        """Where the ledger is, or should be."""
        if self.folder is None or not self.is_trained:
            return None
        return self.folder / self.name_of("ledger.jsonl")

    def name_of(self, file: str) -> str:
        """Name a file of the run as it is called in this folder."""
        return f"evidence/{file}" if self.kind == "release" else file

    @property
    def settings(self) -> str:
        """Name the file that the settings of a run or release stand in."""
        return "evidence/recipe.json" if self.kind == "release" else "resolved.yaml"

    def summary(self) -> LedgerSummary | None:
        """Return what the ledger says; None where it is missing or not to be believed."""
        if self.ledger is None:
            return None
        try:
            return verify(self.ledger)
        except (LedgerError, FileNotFoundError):
            return None


def gather(target: Path) -> Evidence:
    """Read a recipe file, a run folder or a release folder.

    Raises:
        InputError: if it is none of them.
    """
    if not target.is_dir():
        _refuse_missing(target)
        recipe = config.load(target)
        source = target.resolve().parent
        if recipe.privacy is None:
            return Evidence("recipe", recipe.name, False, recipe=recipe, source=source)
        given = domains.read(recipe, source, is_trained=True).parts.train
        return Evidence("recipe", recipe.name, True, recipe=recipe, source=source, rows=given)
    if (target / "evidence" / "record.json").is_file():
        return _release(target)
    if not (target / "resolved.yaml").is_file():
        raise InputError(
            f"{target} is none of the folders that can be audited: a run folder, which holds "
            "resolved.yaml, or a release folder, which holds evidence/record.json; beside these, "
            "name a recipe file, an account (.jsonl) or a described run (.json)"
        )
    run = open_run(target)
    hold(run, skip_torn_adapter=True)  # a line of the check-list
    record = documents.record(target)
    is_trained = (target / "adapter").is_dir() or run.ledger.is_file()
    is_private = run.recipe.privacy is not None
    rows: Sequence[DataRow[Any]] = ()
    missing = ""
    if is_private:
        rows, missing = training_rows(run.recipe, run.source, record)
    return Evidence(
        "run",
        run.recipe.name,
        is_private,
        folder=target,
        recipe=run.recipe,
        source=run.source,
        record=record,
        manifest=documents.manifest(target),
        rows=rows,
        rows_missing=missing,
        is_trained=is_trained,
    )


def _refuse_missing(target: Path) -> None:
    """Tell of a path that is not there what an audit is of; a recipe would be one of several."""
    if not target.exists():
        raise InputError(
            f"there is nothing to audit at {target}; wanted a recipe file, a run folder "
            "(resolved.yaml in it), a release folder (evidence/record.json in it), an account "
            "(.jsonl) or a described run (.json)"
        )


def _release(target: Path) -> Evidence:
    record = documents.released_record(target / "evidence" / "record.json")
    return Evidence(
        "release",
        str(record.get("name", target.name)),
        record["is_private"] is True,
        folder=target,
        recipe=_settings(target / "evidence" / "recipe.json"),
        record=record,
        rows_missing="a release holds no rows",
        is_trained=True,
    )


def _settings(path: Path) -> Recipe | None:
    """Return the settings that a release holds; None where it holds none that can be read."""
    try:
        return Recipe.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def training_rows(
    recipe: Recipe, source: Path, record: Mapping[str, Any]
) -> tuple[Sequence[DataRow[Any]], str]:
    """Return the rows that a run was trained on, if its files are there and unchanged.

    Args:
        recipe: of the run.
        source: where its relative paths start.
        record: of the run.

    Returns:
        The rows, and why there are none (empty where there are).
    """
    try:
        rows = domains.read(recipe, source, is_trained=True).parts.train
    except (InputError, OSError):
        return (), "the data files are not at hand"
    known = record.get("data", {}).get("fingerprint")
    left_out = set(record.get("rows_left_out", ()))
    if known is not None and dataset.fingerprint(rows) != known:
        return (), "the data files have changed since the run"
    return [row for row in rows if row.id not in left_out], ""


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """Return what the check-list looks at among the settings of a recipe."""
    values: dict[str, Any] = json.loads(recipe.model_dump_json())
    # a private run holds nothing back, whatever the recipe says
    return {**values["train"], **values["adapter"], "validation_fraction": 0.0}
