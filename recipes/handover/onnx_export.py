"""An encoder's classifier as ONNX graphs, float32 and int8, measured before they get their names.

A graph takes ``input_ids`` and ``attention_mask``, both int64 of shape ``(texts, tokens)``, and
gives ``logits`` and ``probabilities``, both float32 of shape ``(texts, labels)``. The softmax, or
the sigmoid where several labels may hold, is inside: which of them is right cannot be seen from
outside of a graph. ``logits`` is the first output, as tools that were made for transformers' ONNX
exports expect it. The labels are in the graph's metadata, and in config.json as everywhere.

Int8 is dynamic: weights by output channel, activations as they come. Weights have 7 bits of range,
because sums of 8-bit products saturate on x86 without VNNI: what is measured here holds there.

B texts, T tokens, C classes.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finetune import checkpoint as checkpoints
from finetune import scratch as scratches
from finetune.encoder_kinds import ENCODERS
from finetune.room import require
from recipes.errors import InputError
from recipes.files import write_json
from recipes.handover import onnx_packages, onnx_parity
from recipes.handover.onnx_record import (
    FILES,
    FLOAT32_LIMIT,
    FOLDER,
    MAX_CHANGED_LABELS,
    RECORD,
    OnnxRecord,
)
from recipes.handover.reference import load_classifier

_MAX_BYTES = 2**31  # of one protobuf message


def check(folder: Path) -> None:
    """Refuse a model folder that is no encoder's classifier, from its configuration alone.

    Raises:
        InputError: with the reason and the way out.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no model: it has no config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_type") not in ENCODERS:
        architecture = (config.get("architectures") or ["none"])[0]
        raise InputError(
            f"{folder} is a {architecture}, and --onnx writes the classifiers of encoders alone "
            f"({', '.join(ENCODERS)}); ship it without --onnx and serve it with an engine that "
            "SERVING.md names"
        )
    if not (folder / "tokenizer.json").is_file():
        raise InputError(
            f"{folder} has no tokenizer.json, without which an ONNX graph cannot be used; ship it "
            "without --onnx"
        )
    size = _float32_bytes(folder)
    if size >= _MAX_BYTES:
        raise InputError(
            f"{folder} has {size / 1e9:.1f} GB of weights in float32, and one ONNX file holds "
            "2.1 GB; ship it without --onnx"
        )


def convert(
    folder: Path, *, texts: Sequence[str] = (), max_length: int | None = None
) -> OnnxRecord:
    """Write ``onnx/model.onnx``, ``onnx/model_int8.onnx`` and ``onnx/parity.json``.

    The folder ``onnx`` appears whole or not at all.

    Args:
        folder: of a merged classifier on an encoder.
        texts: on which the graphs are measured; without any, on sample texts of our own.
        max_length: tokens at which the evaluation cut a text; without it, what the encoder can
            read.

    Returns:
        What was measured.

    Raises:
        InputError: as `check`, or if ``onnx`` exists.
        finetune.errors.IntegrityError: if the float32 graph differs from the classifier by more
            than `FLOAT32_LIMIT`, or reads other tokens.
    """
    onnx_packages.refuse_missing()
    check(folder)
    out = folder / FOLDER
    if out.exists():
        raise InputError(f"{out} exists already; remove it first")
    require(out, round(1.3 * _float32_bytes(folder)), "the ONNX graphs")
    reference = load_classifier(folder, max_length)
    with scratches.beside(out) as scratch:
        scratch.mkdir()
        _write_graph(reference, scratch / FILES["float32"])
        _quantize(scratch / FILES["float32"], scratch / FILES["int8"])
        found = onnx_parity.measure(folder, scratch, reference, texts)
        record = OnnxRecord(
            model=checkpoints.identity(folder),
            engine=onnx_parity.engine(),
            texts="test rows" if texts else "sample texts",
            num_texts=found.num_texts,
            num_other_tokens=found.num_other_tokens,
            max_length=reference.max_length,
            is_multi_label=reference.is_multi_label,
            limit_float32=FLOAT32_LIMIT,
            limit_changed_labels=MAX_CHANGED_LABELS,
            files=found.files,
        )
        write_json(scratch / RECORD, record.model_dump(mode="json", by_alias=True))
        for path in scratch.iterdir():
            path.chmod(0o644)
        scratch.chmod(0o755)
        scratch.rename(out)
    return record


class _Graph(nn.Module):
    """A classifier that gives probabilities beside its logits."""

    def __init__(self, model: Any, *, is_multi_label: bool) -> None:
        super().__init__()
        self.model = model
        self.is_multi_label = is_multi_label

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        logits_BC = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits_BC, logits_BC.sigmoid() if self.is_multi_label else logits_BC.softmax(-1)


def _write_graph(reference: Any, path: Path) -> None:
    import onnx

    model = reference.model
    graph = _Graph(model, is_multi_label=reference.is_multi_label).eval()
    # two texts, one of them padded, so that neither axis is taken for a constant 1
    ids_BT = torch.full((2, 7), _some_token(reference.tokenizer))
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[1, 5:] = 0
    ids_BT[1, 5:] = model.config.pad_token_id or 0
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (ids_BT, mask_BT),
            dynamo=True,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits", "probabilities"],
            dynamic_shapes={"input_ids": axes, "attention_mask": axes},
            verbose=False,
        )
    if program is None:
        raise AssertionError("torch.onnx.export(dynamo=True) returned no program")
    proto = program.model_proto
    _strip(proto)
    about = {
        "labels": json.dumps(list(reference.labels)),
        "problem_type": model.config.problem_type or "single_label_classification",
        "max_length": str(reference.max_length),
        "truncation_side": reference.tokenizer.truncation_side,
    }
    onnx.helper.set_model_props(proto, about)
    onnx.checker.check_model(proto)
    onnx.save_model(proto, str(path))


def _quantize(source: Path, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
        )


def _strip(proto: Any) -> None:
    """Remove where in which file of this machine each node came from."""
    graph = proto.graph
    parts = [graph, *graph.node, *graph.input, *graph.output, *graph.value_info]
    parts += [*graph.initializer, *proto.functions]
    parts += [node for function in proto.functions for node in function.node]
    for part in (proto, *parts):
        part.doc_string = ""
        del part.metadata_props[:]


def _some_token(tokenizer: Any) -> int:
    return next(i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids)


def _float32_bytes(folder: Path) -> int:
    from safetensors import safe_open

    size = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            for key in opened.keys():  # noqa: SIM118 (a safetensors file is no mapping)
                size += 4 * torch.Size(opened.get_slice(key).get_shape()).numel()
    return size


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch and onnxruntime say of themselves, none of it about this model."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
