"""One look at a recipe's data: everything that is in it, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipes import domains
from recipes.check.languages import languages
from recipes.check.lengths import Fits, Lengths, Shown, encoding, measure
from recipes.check.privacy_units import note_readings
from recipes.config import Recipe
from recipes.console import OpenBar, shares_on
from recipes.data import catalog
from recipes.data.contamination import find_contamination
from recipes.data.dataset import DataSplit, new_findings
from recipes.data.findings import Finding, Findings
from recipes.data.leakage import find_near_leaks
from recipes.data.personal_data.reading import NOT_SEARCHED, PersonalData
from recipes.data.readers import FileRead
from recipes.domains import Domain


@dataclass(frozen=True)
class Inspection:
    """What is in a recipe's data, and what is wrong with it."""

    recipe: str
    files: tuple[FileRead, ...]
    """How each file was read."""

    rows: Mapping[str, int]
    """Rows by part, and how many were left out or are duplicates."""

    labels: Mapping[str, Mapping[str, int]]
    """Label: part: rows. Empty where rows have no labels."""

    train_lengths: Lengths | None
    test_lengths: Lengths | None
    languages: Mapping[str, float]
    shown: tuple[Shown, ...]
    findings: tuple[Finding, ...]
    near_duplicates: Mapping[str, Any] | None
    """Private recipes: texts that are in several units of privacy, counts and row ids."""

    personal_data: PersonalData = NOT_SEARCHED
    set_keys: frozenset[str] = frozenset()
    """Keys of `data` that the recipe sets."""

    @property
    def num_errors(self) -> int:
        """Number of kinds of errors; training is refused until it is 0."""
        return sum(one.severity == "error" for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values, with every place and row id."""
        lengths = self.train_lengths
        return {
            "fit": self.num_errors == 0,
            "files": [one.to_json() for one in self.files],
            "rows": dict(self.rows),
            "labels": {label: parts["train"] for label, parts in self.labels.items()},
            "labels_by_part": {label: dict(parts) for label, parts in self.labels.items()},
            "median_tokens": lengths.median if lengths else None,
            "longest_tokens": lengths.longest if lengths else None,
            "supervised_share": lengths.supervised_share if lengths else None,
            "num_cut": lengths.num_cut if lengths else None,
            "train_lengths": asdict(lengths) if lengths else None,
            "test_lengths": asdict(self.test_lengths) if self.test_lengths else None,
            "languages": dict(self.languages),
            "personal_data": self.personal_data.to_json(),
            "near_duplicates": self.near_duplicates,
            "findings": [
                {
                    "code": one.kind.code,
                    "severity": one.severity,
                    "count": one.count,
                    "meaning": one.kind.meaning,
                    "way_out": one.kind.way_out,
                    "notes": list(one.notes),
                    "to_paste": list(one.to_paste),
                    "places": [asdict(occurrence) for occurrence in one.occurrences],
                }
                for one in self.findings
            ],
            "shown": [asdict(one) for one in self.shown],
        }


def inspect(recipe: Recipe, folder: Path, open_bar: OpenBar, *, num_shown: int = 0) -> Inspection:
    """Read, check and encode a recipe's data as training would, without loading weights.

    Args:
        recipe: the run.
        folder: where relative paths start.
        open_bar: opens a progress bar.
        num_shown: training rows that are returned as the model reads them.

    Raises:
        InputError: if a file cannot be read at all, or a setting is not for this recipe.
    """
    findings = new_findings(recipe)
    domain = domains.read(recipe, folder, findings, scan_personal_data=True, open_bar=open_bar)
    parts = domain.parts
    train = (*parts.train, *parts.validation)
    base = _Base.load(recipe, folder, domain) if train or parts.test else None
    with ExitStack() as stack:
        fits = None
        if base is not None and base.error is None:
            fits = stack.enter_context(encoding(domain, train, base.tokenizer, base.stop_ids))
        if train and parts.test:
            on_share = shares_on(open_bar("near-duplicates across the split", 100))
            find_near_leaks(train, parts.test, findings, on_share)
            if not any(one.kind in catalog.STRUCTURAL for one in findings.errors()):
                find_contamination(domain.tasks, parts.train, findings)  # else there are no tasks
        shares = languages([*train, *parts.test], findings)
        train_lengths, test_lengths, shown = _measure(
            recipe, domain, base, fits, findings, open_bar, num_shown=num_shown
        )
    note_readings(recipe, parts.train, findings)
    alike = _near_duplicates(recipe, parts) if recipe.privacy and parts.train else None
    return Inspection(
        recipe=recipe.recipe,
        files=parts.reads,
        rows=parts.manifest()["rows"],
        labels=_labels(domain),
        train_lengths=train_lengths,
        test_lengths=test_lengths,
        languages=shares,
        personal_data=parts.personal_data,
        shown=shown,
        findings=findings.all(),
        near_duplicates=alike,
        set_keys=frozenset(recipe.data.model_fields_set),
    )


def _labels(domain: Domain) -> dict[str, dict[str, int]]:
    """Return rows by label and part, the labels in the order of the classifier's head."""
    parts = {
        "train": domain.parts.train,
        "validation": domain.parts.validation,
        "test": domain.parts.test,
    }
    counts = {name: Counter(row.label for row in rows) for name, rows in parts.items()}
    found = {label for count in counts.values() for label in count if label}
    ordered = [label for label in domain.labels if label in found]
    ordered += sorted(found - set(ordered))
    return {label: {name: counts[name][label] for name in parts} for label in ordered}


@dataclass(frozen=True)
class _Base:
    """What of a base the rows are encoded with."""

    tokenizer: Any = None
    stop_ids: frozenset[int] = frozenset()
    error: str | None = None
    """Why it cannot be loaded."""

    @staticmethod
    def load(recipe: Recipe, folder: Path, domain: Domain) -> _Base:
        from finetune import checkpoint as checkpoints
        from finetune.errors import InputError as BaseError

        try:
            base = checkpoints.resolve(recipe.base, folder)
            checkpoints.refuse_other_kinds(base, domain.head)
            tokenizer = checkpoints.load_tokenizer(base, prompt=recipe.adapter.prompt)
            return _Base(tokenizer, checkpoints.stop_ids_of(base, tokenizer))
        except BaseError as error:
            return _Base(error=str(error))


def _measure(
    recipe: Recipe,
    domain: Domain,
    base: _Base | None,
    fits: Fits | None,
    findings: Findings,
    open_bar: OpenBar,
    *,
    num_shown: int,
) -> tuple[Lengths | None, Lengths | None, tuple[Shown, ...]]:
    """Measure the rows in tokens; a base that cannot be loaded is a finding."""
    if base is None:
        return None, None, ()
    if base.error is not None:
        findings.add(catalog.BASE_UNAVAILABLE, "base.checkpoint", base.error)
        return None, None, ()
    train = (*domain.parts.train, *domain.parts.validation)
    test = domain.parts.test
    bar = open_bar("rows as tokens", len(train) + len(test))
    max_length = recipe.train.max_length
    train_lengths, shown = measure(
        *(domain, train, base.tokenizer, base.stop_ids, findings),
        max_length=max_length,
        num_shown=num_shown,
        advance=bar,
        fits=fits,
    )
    test_lengths, _ = measure(
        *(domain, test, base.tokenizer, base.stop_ids, findings),
        max_length=max_length,
        is_test=True,
        advance=bar,
    )
    return train_lengths, test_lengths, shown


def _near_duplicates(recipe: Recipe, parts: DataSplit[Any]) -> dict[str, Any]:
    from recipes.data.near_duplicates import near_duplicates
    from recipes.training import private_units

    return near_duplicates(parts.train, private_units(recipe, parts.train)).to_json()
