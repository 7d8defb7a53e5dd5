"""The classifier of a merged folder in float32: what a served one is held against."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eval.classifier import Classifier
from finetune import checkpoint as checkpoints


@dataclass(frozen=True)
class Reference:
    """A loaded classifier and the engine that evaluates it."""

    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    is_multi_label: bool
    max_length: int
    engine: Classifier


def load_classifier(folder: Path, max_length: int | None = None) -> Reference:
    """Load the classifier of a model folder in float32.

    Args:
        folder: config.json with the labels, safetensors, tokenizer.
        max_length: tokens at which a text is cut; without it, what the model can read.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels = tuple(config["id2label"][key] for key in sorted(config["id2label"], key=int))
    is_multi_label = config.get("problem_type") == "multi_label_classification"
    base = checkpoints.load(
        folder,
        quantization="none",
        head="sequence-classification",
        labels=labels,
        is_multi_label=is_multi_label,
        dtype=torch.float32,
    )
    window = getattr(base.model.config.get_text_config(), "max_position_embeddings", None)
    length = checkpoints.longest(base.tokenizer, max_length or window or 512)
    engine = Classifier(
        base.model, base.tokenizer, labels, is_multi_label=is_multi_label, max_length=length
    )
    return Reference(base.model, base.tokenizer, labels, is_multi_label, length, engine)
