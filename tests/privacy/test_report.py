"""The report's shape: every value has a source or says who must complete it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from privacy.report import FIELDS, Known, Missing, PrivacyReport, schema


def test_the_report_has_the_surveys_23_fields_in_order() -> None:
    head = ["schema_version", "title", "made", "target"]
    assert list(PrivacyReport.model_fields) == head + [key for key, _ in FIELDS]
    assert len(FIELDS) == 23


def test_the_schema_describes_every_field() -> None:
    made = schema()
    assert set(made["required"]) >= {key for key, _ in FIELDS}
    assert made["additionalProperties"] is False


def test_a_value_without_a_source_is_no_value() -> None:
    with pytest.raises(ValidationError):
        Known(value=3.0, source="")
    with pytest.raises(ValidationError):
        Known.model_validate({"value": 3.0})
    with pytest.raises(ValidationError):
        Known(value=float("inf"), source="x")
    assert Missing(missing="not recorded").to_be_completed_by is None


def test_every_single_value_of_the_report_is_stated_or_a_word_of_a_closed_list() -> None:
    """A bare number may stand only where its line names the source for all of it."""
    allowed = {"GroupLevel": {"size"}, "SelfTestLine": {"low", "high"},
               "Metric": {"low", "high", "num_items"}}  # fmt: skip
    seen = set()

    def look(model: Any) -> None:
        if not isinstance(model, type) or not issubclass(model, BaseModel) or model in seen:
            return
        seen.add(model)
        for name, info in model.model_fields.items():
            if info.annotation in (int, float, float | None, int | None):
                assert name in allowed.get(model.__name__, set()), (model, name)
            for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
                look(inner)

    for name, info in PrivacyReport.model_fields.items():
        if name != "schema_version":
            for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
                look(inner)
    assert len(seen) > 20
