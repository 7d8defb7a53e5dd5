"""Units of privacy that could be one: how many units there are, and epsilon, in both readings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recipes.config import Recipe
from recipes.data import catalog
from recipes.data.findings import Findings
from recipes.data.ids import loose_id
from recipes.data.split import DataRow


def note_readings(recipe: Recipe, rows: Sequence[DataRow[Any]], findings: Findings) -> None:
    """Add both readings of ambiguous units of privacy to their finding.

    Args:
        recipe: of a private run whose unit is its group column; else nothing is done.
        rows: that are trained on.
        findings: with the ambiguous ids.

    Raises:
        InputError: if the recipe's settings cannot be private.
    """
    if recipe.privacy is None or recipe.privacy.unit != recipe.data.group:
        return
    apart = {row.group for row in rows if row.group is not None}
    families: dict[str, int] = {}
    for group in apart:
        families[loose_id(group)] = families.get(loose_id(group), 0) + 1
    largest = max(families.values(), default=1)
    if largest == 1 or not findings.occurrences(catalog.AMBIGUOUS_IDS):
        return
    from privacy.provable import mechanism_of, of_group, said
    from recipes.training import private_plan

    plan = private_plan(recipe, len(apart) + recipe.data.canaries)
    joined = private_plan(recipe, len(families) + recipe.data.canaries)
    findings.note(
        catalog.AMBIGUOUS_IDS,
        f"as different: {len(apart)} units in train, epsilon {plan.epsilon():.3f} for each. If "
        f"they are the same, one person has up to {largest} units, for whom "
        f"{said(of_group(mechanism_of(plan), largest))}",
    )
    findings.note(
        catalog.AMBIGUOUS_IDS,
        f"written alike in the files: {len(families)} units, epsilon {joined.epsilon():.3f} for "
        "each",
    )
