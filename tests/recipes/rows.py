"""Rows and files for the tests of `recipes`: small, and made on the spot."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recipes.config import DataConfig
from recipes.data import Checked, Parts, check_rows, prepare
from recipes.errors import Problem
from recipes.rows import Row, take


def write_jsonl(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file, compressed where its name says so."""
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def parse(row: Row, columns: Mapping[str, str], name: str) -> tuple[str, str, str]:
    """The simplest domain: a text that is its own content, and a label."""
    del name
    text = take(row, "text", columns)
    return text, text, take(row, "label", columns, required=False) or ""


def checked(path: Path, bad: list[Problem] | None = None, **settings: Any) -> list[Checked[str]]:
    config = DataConfig(train=(str(path),), **settings)
    return check_rows([path], config, parse, [] if bad is None else bad)


def prepared(
    folder: Path, *, seed: int = 0, validation_fraction: float = 0.0, **settings: Any
) -> Parts[str]:
    config = DataConfig.model_validate({"train": "*.jsonl"} | settings)
    return prepare(config, folder, parse, seed=seed, validation_fraction=validation_fraction)


def row_of(**values: Any) -> Row:
    return Row("rows.jsonl:1", values)
