"""Texts with NUL, the character of a zero byte: no text has it, and tokenizers take it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def nul_columns(values: Mapping[str, Any], columns: Collection[str] | None) -> tuple[str, ...]:
    r"""Return the columns in which a text, however deep it is nested, holds NUL.

    Args:
        values: by column.
        columns: that are looked at; None for all.

    Example:
        >>> nul_columns({"text": "a\0b", "note": "\0", "turns": [{"content": "\0"}]}, None)
        ('text', 'note', 'turns')
    """
    return tuple(
        column
        for column, value in values.items()
        if (columns is None or column in columns) and _holds_nul(value)
    )


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(map(_holds_nul, value.values()))
    return isinstance(value, list) and any(map(_holds_nul, value))
