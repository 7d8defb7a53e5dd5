"""Names of persons: by introduction always, by a model where one is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.data.findings import Findings
from recipes.data.personal_data import in_words, names
from recipes.data.personal_data.kinds import ALL, Kind
from recipes.data.personal_data.reading import PersonalDataReader
from recipes.data.personal_data.scan import scan
from recipes.data.rows import RowError
from tests.recipes.rows import row_of, settings_of


class _Entity:
    label_, start_char, end_char = "PER", 4, 15


class _Model:
    max_length = 1000

    def __call__(self, text: str) -> _Model:
        self.ents = [_Entity()] if "Anna Keller" in text else []
        return self


def test_names_after_an_introduction_are_found() -> None:
    text = "my name is Anna Keller and I ask Mr. John Smith"
    assert [text[s.start : s.end] for s in scan(text)] == ["Anna Keller", "John Smith"]


def test_names_are_found_by_an_installed_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_model", _Model)

    [span] = scan("Ask Anna Keller about it")

    assert (span.start, span.end, span.kind) == (4, 15, Kind.PERSON_NAME)


@pytest.mark.parametrize("model", [None, "xx_ent_wiki_sm"])
def test_the_result_says_how_names_were_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str | None
) -> None:
    monkeypatch.setattr("recipes.data.personal_data.reading.model_name", lambda: model)
    reader = PersonalDataReader(settings_of(), {"text"}, is_searching=True)
    row, found = reader.clean(row_of(text="a@example.com"))
    findings = Findings()
    reader.add_findings(row, found, findings, "1")

    result = reader.finish(findings, tmp_path)

    [finding] = findings.all()
    assert any("Names of persons were not searched" in n for n in finding.notes) == (model is None)
    assert result.to_json()["model_for_names"] == model
    assert (model or "introductions alone") in result.in_words()


def test_a_record_of_an_older_version_says_that_nothing_was_searched() -> None:
    assert in_words(None) == "not searched for"
    assert frozenset(Kind) == ALL


def test_a_row_that_is_nested_too_deep_is_an_unusable_row() -> None:
    deep: list[object] = []
    for _ in range(2000):
        deep = [deep]
    reader = PersonalDataReader(settings_of(), {"text"}, is_searching=True)

    with pytest.raises(RowError, match="nested too deep"):
        reader.clean(row_of(text=deep))
