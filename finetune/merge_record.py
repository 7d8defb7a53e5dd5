"""What stands in a merged folder beside its weights, and what the folder must not be used for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.adapter_files import template_of
from finetune.errors import InputError, IntegrityError
from finetune.tensor_files import read_strict_json

MERGE_RECORD = "merge.json"

DEQUANTISED = "dequantised nf4"
ORIGINAL = "original weights"

NOT_IN_4_BIT = (
    "quantising weights that lie on the 4-bit grid again rounds the update away: measured on "
    "SmolLM2-135M, about 1 % of it survives, and exact match fell from 0.40 to 0.00 "
    "(tests/bench/merge.py). For a 4-bit engine ship the adapter, its base and its record as they "
    "are; for many adapters on one engine make a serving base once (assay merge RUN --serving-base "
    "DIR) and serve them unmerged"
)


_DIGEST = "digest"
"""Key of a record: ``sha256:...`` over the rest. Records of earlier versions have none."""


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its digest, so that a changed byte does not pass for what was written.

    Args:
        record: JSON values, without NaN and infinity.
    """
    return {**record, _DIGEST: _digest(record)}


def is_as_written(record: Mapping[str, Any]) -> bool:
    """Return whether a record agrees with its digest, or has none."""
    return record.get(_DIGEST) in (None, _digest(record))


def _digest(record: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in record.items() if key != _DIGEST}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def read(folder: Path) -> dict[str, Any] | None:
    """Return a merged folder's record; None if the folder is no merge.

    Raises:
        IntegrityError: if there is one that is not readable.
    """
    path = folder / MERGE_RECORD
    if not path.is_file():
        return None
    record = read_strict_json(path)
    if not isinstance(record, dict) or not {"into", "identity", "base"} <= record.keys():
        raise IntegrityError(f"{path} is no record of a merge; merge again")
    return record


def refuse_misuse(folder: Path, quantization: str) -> None:
    """Refuse to load a merged folder in 4-bit, or with another chat template than its own.

    Raises:
        InputError: in 4-bit, with the figure.
        IntegrityError: if the chat template has changed since the merge.
    """
    record = read(folder)
    if record is None:
        return
    if quantization == "nf4" and record["into"] == DEQUANTISED:
        raise InputError(f"{folder} must not be loaded in 4-bit: {NOT_IN_4_BIT}")
    recorded, found = record.get("chat_template"), template_of(folder)
    if recorded is not None and recorded != found:
        raise IntegrityError(
            f"{folder} has the chat template {found or '(none)'}, and was merged with "
            f"{recorded or '(none)'}. A template is part of what is asked, and can hold words of "
            "its own; merge again"
        )
