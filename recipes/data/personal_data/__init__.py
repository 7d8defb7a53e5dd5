"""Personal data and secrets in the texts of rows: found, counted, redacted, never printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any


def in_words(known: Mapping[str, Any] | None) -> str:
    """Return in one line, without any of it, what was found and what was done about it.

    Args:
        known: `personal_data` of data.json or of a run's record; None in an older one.

    Example:
        >>> found = [{"kind": "email", "column": "text", "count": 3, "action": "redact"}]
        >>> in_words({"found": found, "all_kinds_searched": True})
        'redacted: 3 email; names of persons searched by introductions alone'
    """
    if not known:
        return "not searched for"
    counts: dict[str, Counter[str]] = {}
    for one in known["found"]:
        counts.setdefault(one["action"], Counter())[one["kind"]] += one["count"]
    parts = [
        f"{words}: " + ", ".join(f"{count:,} {kind}" for kind, count in counts[action].items())
        for action, words in (("redact", "redacted"), ("keep", "kept"), ("error", "found"))
        if action in counts
    ]
    if not known["all_kinds_searched"]:
        return "; ".join([*parts, "searched for in the kinds to be redacted alone"])
    model = known.get("model_for_names")
    how = f"with the model {model}" if model else "by introductions alone"
    return "; ".join([*(parts or ["none found"]), f"names of persons searched {how}"])
