"""Settings of a checkpoint's JSON files by which a loader runs code or reads files of their choice.

No torch here: a release is held to this where there is none.
"""

from __future__ import annotations

import re
from typing import Any

_NAMES_CODE = frozenset(
    {
        *("auto_map", "custom_pipelines", "custom_generate", "trust_remote_code"),
        *("_attn_implementation_internal", "_experts_implementation_internal"),
        # weights by another name, in any folder, past every hash and header check
        "transformers_weights",
    }
)
"""A checkpoint's own code, a kernel to fetch (CVE-2026-4372), or other weights."""

_NAMES_A_KERNEL = frozenset(
    {
        *("attn_implementation", "_attn_implementation"),
        *("experts_implementation", "_experts_implementation"),
    }
)
_OF_THE_LIBRARY = re.compile(r"[a-z0-9_]+")
"""A name without a slash is of transformers' own; one with it is a repository of the Hub."""


def settings_that_run(values: Any) -> list[str]:
    """Return the keys, at any depth of a JSON value, that make a loader run or read what they name.

    Example:
        >>> settings_that_run({"text_config": {"attn_implementation": "evil/kernel"}})
        ['attn_implementation']
        >>> settings_that_run({"attn_implementation": "sdpa"})
        []
    """
    found: set[str] = set()
    left = [values]  # no recursion: whoever wrote the file chose how deep it is
    while left:
        value = left.pop()
        if isinstance(value, dict):
            found |= value.keys() & _NAMES_CODE
            found |= {key for key in value.keys() & _NAMES_A_KERNEL if not _is_plain(value[key])}
            left += value.values()
        elif isinstance(value, list):
            left += value
    return sorted(found)


def _is_plain(value: Any) -> bool:
    """Return whether implementations, one or one a part of the model, are the library's own."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return value is None or (isinstance(value, str) and bool(_OF_THE_LIBRARY.fullmatch(value)))
