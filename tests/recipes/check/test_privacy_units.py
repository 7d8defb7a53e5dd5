"""Units of privacy that could be one: both readings are printed, each with its epsilon."""

from __future__ import annotations

import re
from typing import Any

from recipes.check.privacy_units import note_readings
from recipes.config import Recipe
from recipes.data import catalog
from recipes.data.dataset import new_findings
from recipes.data.findings import Findings
from recipes.data.split import DataRow
from recipes.training import private_plan


def recipe_of(**privacy: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "recipe": "classification",
            "base": {"checkpoint": "x"},
            "data": {"train": "rows.csv", "group": "customer"},
            "train": {"batch_size": 10, "epochs": 1},
            "privacy": {"epsilon": 8.0} | privacy,
            "gate": {},
        }
    )


def rows_of(groups: list[str]) -> list[DataRow[str]]:
    return [
        DataRow(f"r{i}", f"rows.csv:{i}", "text", f"{i}", f"{i}", "", group, f"{i}")
        for i, group in enumerate(groups)
    ]


def notes(findings: Findings) -> list[str]:
    findings.add(catalog.AMBIGUOUS_IDS, "column 'customer'")
    return [note for one in findings.all() for note in one.notes]


def test_both_numbers_of_units_are_printed_with_their_epsilon() -> None:
    recipe = recipe_of(unit="customer")
    findings = new_findings(recipe)
    assert findings.severity(catalog.AMBIGUOUS_IDS) == "error"
    findings.add(catalog.AMBIGUOUS_IDS, "column 'customer'")
    apart = [*map(str, range(1, 41)), *(f"00{i}" for i in range(1, 11))]
    note_readings(recipe, rows_of(apart), findings)
    first, second = notes(findings)
    epsilons = [private_plan(recipe, count).epsilon() for count in (50, 40)]
    assert f"50 units in train, epsilon {epsilons[0]:.3f} for each" in first
    assert "up to 2 units" in first
    assert f"40 units, epsilon {epsilons[1]:.3f} for each" in second
    of_two = re.search(r"epsilon (\d+\.\d+) is what can be proved", first)
    assert of_two is not None
    assert float(of_two[1]) > epsilons[0]


def test_nothing_is_added_where_the_unit_is_one_row_or_no_id_is_ambiguous() -> None:
    for recipe, groups in (
        (recipe_of(), ["7", "007", *map(str, range(20))]),
        (recipe_of(unit="customer"), [*map(str, range(20))]),
    ):
        findings = Findings()
        findings.add(catalog.AMBIGUOUS_IDS, "column 'customer'")
        note_readings(recipe, rows_of(groups), findings)
        assert notes(findings) == []
