"""docs/data-checks.md is what the code says."""

from __future__ import annotations

from pathlib import Path

from recipes.check.documentation import PATH, document
from recipes.data import catalog

ROOT = Path(__file__).parents[3]


def test_the_table_of_findings_is_made_from_the_code() -> None:
    written = (ROOT / PATH).read_text(encoding="utf-8")
    assert written == document(), f"python -m recipes.check.documentation > {PATH}"


def test_every_finding_says_what_it_means_and_what_to_do() -> None:
    for kind in catalog.all_kinds():
        assert kind.meaning.endswith("."), kind.code
        assert kind.way_out.endswith((".", ")")), kind.code
        assert f"`{kind.code}`" in document()
