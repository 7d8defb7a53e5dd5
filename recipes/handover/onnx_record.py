"""``onnx/parity.json``: what was measured of the ONNX graphs of a classifier, as a frozen type."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FOLDER = "onnx"
RECORD = "parity.json"

Kind = Literal["float32", "int8"]
FILES: dict[Kind, str] = {"float32": "model.onnx", "int8": "model_int8.onnx"}

SCRIPT = """
import json, sys
import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

session = InferenceSession("onnx/model.onnx", providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation(int(about["max_length"]), direction=about["truncation_side"])
tokenizer.encode_special_tokens = True  # a name of a control token in a text is text
for text in sys.argv[1:]:
    ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
    logits, found = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    print(json.dumps(dict(zip(json.loads(about["labels"]), found[0].tolist()))))
"""
"""Run in the folder, with texts as arguments, it prints the probabilities of each. SERVING.md shows
it, and the smoke test runs it: so it holds no single quote."""

FLOAT32_LIMIT = 1e-4
"""Largest difference of a probability that is allowed; measured is 2e-7, so a wrong mask or weight
shows plainly."""

MAX_CHANGED_LABELS = 0.01
"""Share of texts with another label at which the int8 graph is named as another classifier."""


class Measured(BaseModel):
    """One graph beside the merged classifier, both computed on the same tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    file: str
    sha256: str
    size_bytes: int
    max_difference: float
    """Largest difference of a probability, over all texts and labels."""

    same_labels: float
    """Share of texts that get the same label; where several may hold, the same set of labels."""

    median_milliseconds: float
    """Wall time a text, without its tokens: one thread, one text at once."""


class OnnxRecord(BaseModel):
    """What ``onnx/parity.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    version: Literal[1] = Field(default=1, alias="schema")
    model: str
    """Identity of the merged model."""

    engine: str
    texts: Literal["test rows", "sample texts"]
    num_texts: int
    num_other_tokens: int
    """Of them, those that tokenizer.json cuts into other tokens than the evaluation; left out."""

    max_length: int
    """Tokens at which a text is cut."""

    is_multi_label: bool
    limit_float32: float
    limit_changed_labels: float
    files: tuple[Measured, ...]

    def of(self, kind: Kind) -> Measured:
        """Return what was measured of one graph."""
        return next(one for one in self.files if one.kind == kind)

    def warning(self) -> str:
        """Return what a reader must know of the int8 graph; empty if it is within its limit."""
        changed = 1 - self.of("int8").same_labels
        if changed <= self.limit_changed_labels:
            return ""
        return (
            f"{FILES['int8']} gives {changed:.1%} of the texts another label (limit "
            f"{self.limit_changed_labels:.0%}): it is another classifier than the one that passed "
            "the gate. Serve the float32 graph, or evaluate this one by itself."
        )


def read(folder: Path) -> OnnxRecord | None:
    """Return the record of a model folder; None if it holds no ONNX graph.

    Raises:
        ValueError: if the file is not in order.
    """
    path = folder / FOLDER / RECORD
    return OnnxRecord.model_validate_json(path.read_bytes()) if path.is_file() else None
