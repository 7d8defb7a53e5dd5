"""Dates in columns of rows that do not exist, such as 2026-02-30."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

_ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ]\d{2}:\d{2}.*)?")


def impossible_dates(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the columns whose whole value has the form of an ISO 8601 date that does not exist.

    Example:
        >>> list(impossible_dates({"created": "2026-02-30", "text": "on 2026-02-30", "no": 7}))
        ['created']
    """
    for column, value in values.items():
        if not isinstance(value, str) or not 10 <= len(value) <= 40 or value[4] != "-":
            continue
        if found := _ISO_DATE.fullmatch(value):
            try:
                date(*map(int, found.groups()))
            except ValueError:
                yield column
