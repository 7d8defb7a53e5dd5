"""Values for the privacy report, each with the place that it was read from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from privacy.ledger import LedgerSummary
from privacy.report import Known, Missing
from recipes.evidence import Evidence

Stated = Known | Missing

OFFICER = "whoever answers for the data (privacy.report in the recipe)"


@dataclass(frozen=True)
class Sources:
    """Where the values of one report are read from."""

    evidence: Evidence
    summary: LedgerSummary

    def plan(self, key: str) -> Known:
        """A number of the plan, from the ledger's first line."""
        value = getattr(self.summary.plan, key)
        return Known(value=value, source=f"{self._ledger}, line 1: plan.{key}")

    def ledger(self, value: float | int | str, what: str) -> Known:
        """A value of the ledger, and where in it."""
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
                source = f"{self.evidence.settings}: privacy.report.{key}"
                return Known(value=value, source=source)
        return Missing(missing=f"{what} is not recorded", to_be_completed_by=OFFICER)

    @property
    def _ledger(self) -> str:
        return self.evidence.name_of("ledger.jsonl")
