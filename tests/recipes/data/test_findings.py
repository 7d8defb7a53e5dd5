"""Findings: what a recipe's policy makes of them, and how they are printed."""

from __future__ import annotations

import re

import pytest

from recipes.config import DataConfig
from recipes.data import catalog
from recipes.data.dataset import data_findings
from recipes.data.findings import MOST_PLACES, DataErrors, FindingKind, Findings

BAD = FindingKind("bad-row", "error", "A row is bad.", "Mend it.", drops_row=True)
ODD = FindingKind("odd-row", "warning", "A row is odd.", "Look at it.")


def test_a_recipe_decides_how_severe_a_finding_is() -> None:
    findings = Findings({"bad-row": "warning", "odd-row": "ignore"})
    assert (findings.severity(BAD), findings.severity(ODD)) == ("warning", "ignore")
    assert Findings().severity(BAD) == "error"


def test_rows_that_are_left_out_are_a_warning_unless_the_recipe_names_the_finding() -> None:
    assert Findings(drop_bad_rows=True).severity(BAD) == "warning"
    assert Findings({"bad-row": "error"}, drop_bad_rows=True).severity(BAD) == "error"
    assert Findings({}, drop_bad_rows=True).severity(ODD) == "warning"


def test_a_row_is_never_left_out_without_a_word() -> None:
    assert Findings({"bad-row": "ignore"}).severity(BAD) == "warning"


def test_what_nothing_can_be_trained_on_is_always_an_error() -> None:
    for severity in ("warning", "ignore"):
        with pytest.raises(ValueError, match="one-class is always an error"):
            DataConfig.model_validate({"train": "a.csv", "findings": {"one-class": severity}})
    assert DataConfig.model_validate({"train": "a.csv", "findings": {"one-class": "error"}})


def test_errors_come_first_and_warnings_alone_raise_nothing() -> None:
    findings = Findings()
    findings.add(ODD, "a.csv:1")
    findings.raise_errors()
    findings.add(BAD, "a.csv:2", "no label")
    assert [one.kind for one in findings.all()] == [BAD, ODD]
    with pytest.raises(DataErrors) as caught:
        findings.raise_errors()
    text = str(caught.value)
    assert text.startswith("the data has 1 kind of error:\nbad-row (1): A row is bad.")
    assert "a.csv:2: no label" in text
    assert "odd-row" not in text


def test_the_first_places_are_printed_and_all_are_counted() -> None:
    findings = Findings()
    for line in range(MOST_PLACES + 5):
        findings.add(BAD, f"a.csv:{line}")
    findings.note(BAD, "paste this")
    findings.note(BAD, "paste this")
    with pytest.raises(DataErrors) as caught:
        findings.raise_errors()
    text = str(caught.value)
    assert len(re.findall(r"a\.csv:\d+", text)) == MOST_PLACES
    assert f"and 5 more ({MOST_PLACES + 5} in all)" in text
    assert text.count("paste this") == 1
    assert len(findings.dropped()) == MOST_PLACES + 5


def test_codes_are_unique_and_a_misspelt_one_in_a_recipe_is_refused_with_the_nearest() -> None:
    codes = [kind.code for kind in catalog.all_kinds()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code) for code in codes)
    with pytest.raises(ValueError, match="did you mean unusable-row"):
        DataConfig.model_validate({"train": "a.csv", "findings": {"unusable-rows": "warning"}})


def test_duplicates_across_the_split_may_be_allowed_by_the_older_key_too() -> None:
    config = DataConfig.model_validate({"train": "a.csv", "allow_duplicates_across_split": True})
    assert data_findings(config).severity(catalog.EXACT_LEAK) == "warning"
