"""Rows and files for the tests of `recipes`: small, and made on the spot."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recipes.config import DataConfig
from recipes.data.dataset import DataSplit, Reading, prepare, read_data
from recipes.data.findings import FindingKind, Findings, Note
from recipes.data.rows import Parsed, Row, get_column
from recipes.data.split import DataRow


def write_jsonl(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file, compressed where its name says so."""
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def ignore(kind: FindingKind, detail: str) -> None:
    """Note nothing."""


def parse(row: Row, data: DataConfig, name: str, note: Note) -> Parsed[str]:
    """The simplest domain: a text that is its own content, and a label."""
    del name, note
    text = get_column(row, "text", data.columns)
    return Parsed(text, text, get_column(row, "label", data.columns, required=False) or "")


def settings_of(**settings: Any) -> DataConfig:
    return DataConfig.model_validate({"train": "rows.jsonl"} | settings)


def checked(path: Path, findings: Findings | None = None, **settings: Any) -> list[DataRow[str]]:
    config = settings_of(train=(str(path),), **settings)
    return read_data([path], config, parse, Reading(findings or Findings()))


def places(findings: Findings) -> list[str]:
    """Return ``place: detail`` of everything that was found."""
    return [str(one) for finding in findings.all() for one in finding.occurrences]


def prepared(
    folder: Path, *, seed: int = 0, validation_fraction: float = 0.0, **settings: Any
) -> DataSplit[str]:
    config = DataConfig.model_validate({"train": "*.jsonl"} | settings)
    return prepare(config, folder, parse, seed=seed, validation_fraction=validation_fraction)


def row_of(**values: Any) -> Row:
    return Row("rows.jsonl:1", values)
