"""Encoders (BERT and its kind): which ones, and what stands above their blocks.

No torch here: an adapter's record is read by these names before any model is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finetune.errors import InputError

Pooling = Literal["model", "mean", "cls"]
"""``model``: transformers' own class; else how the last block's vectors become one."""

POOLED_HEAD = "pooled_classifier"
"""The head of a pooled model. It has a name of its own, so that transformers' class, which would
read another vector, does not take it for its own without a word."""


@dataclass(frozen=True)
class EncoderKind:
    """What transformers' sequence classifier of one kind has above its blocks."""

    heads: tuple[str, ...]
    """Modules that are trained whole, the one with the classes last."""

    positions: Literal["from 0", "after padding", "none"] = "from 0"
    """How the table of positions is used. RoBERTa, and what was made from it, begins behind the
    padding token's number; a kind with rotary positions has no table."""


ENCODERS = {
    "bert": EncoderKind(("bert.pooler", "classifier")),
    "roberta": EncoderKind(("classifier",), "after padding"),
    "xlm-roberta": EncoderKind(("classifier",), "after padding"),
    "camembert": EncoderKind(("classifier",), "after padding"),
    "distilbert": EncoderKind(("pre_classifier", "classifier")),
    "electra": EncoderKind(("classifier",)),
    "mpnet": EncoderKind(("classifier",), "after padding"),
    "deberta": EncoderKind(("pooler", "classifier")),
    "deberta-v2": EncoderKind(("pooler", "classifier")),
    "modernbert": EncoderKind(("head", "classifier"), "none"),
    "nomic_bert": EncoderKind(("nomic_bert.pooler", "classifier"), "none"),
}
"""By ``model_type``. Each is trained, merged and loaded again in the tests."""

_REFUSED = {
    "albert": "all its blocks are one set of weights, so an adapter of one would be one of all",
}


def kind_of(folder: Path) -> str:
    """Return the ``model_type`` that a checkpoint's config.json names, or an empty text."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(values.get("model_type", "")) if isinstance(values, dict) else ""
    except (OSError, ValueError, RecursionError):
        return ""


def why_refused(kind: str) -> str:
    """Return why classifiers are not trained on an encoder of this kind."""
    return _REFUSED.get(kind, "it was never tried here")


def heads_of(kind: str, pooling: Pooling) -> tuple[str, ...]:
    """Return the modules that are trained whole, the one with the classes last."""
    return ENCODERS[kind].heads if pooling == "model" else (POOLED_HEAD,)


def is_inside(name: str, modules: tuple[str, ...]) -> bool:
    """Return whether a module or tensor is one of these modules, or stands inside one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def max_positions(values: dict[str, Any]) -> int | None:
    """Return how many tokens an encoder can read at once; None for other models.

    Args:
        values: its config.json.
    """
    kind = ENCODERS.get(values.get("model_type", ""))
    limit = values.get("max_position_embeddings")
    if kind is None or not isinstance(limit, int):
        return None
    return (
        limit - int(values.get("pad_token_id") or 0) - 1
        if kind.positions == "after padding"
        else limit
    )


_POOLING_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def stated_pooling(folder: Path) -> Pooling:
    """Return the pooling that a folder's Sentence-Transformers files name; without them, ``model``.

    Raises:
        InputError: if they name one that is not supported, or are not in order.
    """
    modules = folder / "modules.json"
    if not modules.is_file():
        return "model"
    try:
        steps = json.loads(modules.read_text(encoding="utf-8"))
        paths = [step["path"] for step in steps if step["type"].endswith(".Pooling")]
        if not paths:
            return "model"
        path = folder / paths[0] / "config.json"
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{paths[0]!r} leads out of the folder")
        values = json.loads(path.read_text(encoding="utf-8"))
        if "pooling_mode" in values:  # since Sentence-Transformers 5
            named = values["pooling_mode"]
            modes = [named] if isinstance(named, str) else list(named)
        else:
            modes = [
                _POOLING_MODES.get(key, key)
                for key, is_on in values.items()
                if key.startswith("pooling_mode_") and is_on is True
            ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{modules} names a pooling that cannot be read ({error}); set base.pooling to "
            "mean, cls or model"
        ) from None
    if modes == ["mean"]:
        return "mean"
    if modes == ["cls"]:
        return "cls"
    raise InputError(
        f"{path} pools by {', '.join(map(str, modes)) or 'nothing'}; supported are mean and cls "
        "alone. Set base.pooling to mean, cls or model"
    )
