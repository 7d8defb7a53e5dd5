"""A model's weights written anew from its files, one tensor in memory at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetune.adapter_files import HEADS, AdapterFiles
from finetune.errors import IntegrityError
from finetune.quantization import Quantization, nf4_round_trip
from finetune.tensor_files import (
    INDEX,
    WEIGHTS,
    Block,
    Layout,
    TensorFile,
    TensorWriter,
    in_order,
    num_bytes_of,
)
from finetune.update import DTYPE_NAMES, DTYPES, Change, measure, read_update, tensor_of

FLOAT16_LIMIT = 6e4
"""Largest weight that is stored as float16, whose own largest number is 65,504."""


class BeyondFloat16(Exception):
    """A weight is too large for float16."""


@dataclass
class Written:
    """What was written, gathered tensor by tensor."""

    storage: torch.dtype
    counts: dict[str, int] = field(
        default_factory=lambda: {"merged": 0, "dequantised": 0, "copied": 0, "head": 0}
    )
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    tensors: dict[str, str] = field(default_factory=dict)
    """Hex SHA-256 of each tensor's bytes."""

    changes: dict[str, Change] = field(default_factory=dict)
    max_abs: float = 0.0
    used: list[str] = field(default_factory=list)
    """The adapter's tensors, in the order in which they were used."""


class Stream:
    """Writes a model's weights file by file and tensor by tensor, and knows what is left to do."""

    def __init__(
        self,
        out: Path,
        adapter: AdapterFiles | None,
        held: Quantization,
        storage: torch.dtype,
    ) -> None:
        self.out = out
        self.adapter = adapter
        self.targets = set(adapter.layers) if adapter else set()
        self.heads = adapter.heads if adapter else {}
        self.codes = dict(zip(held.modules, held.layer_codes, strict=True))
        self.held = held
        self.written = Written(storage)

    def write(self, files: Sequence[TensorFile]) -> Written:
        """Write all weights, the index last.

        Raises:
            IntegrityError: if a layer of the adapter, or a quantised one, is in no file.
        """
        places: dict[str, str] = {}
        size = 0
        for file in files:
            layout = self._layout(file, is_last=file is files[-1])
            if not layout:
                continue
            path = self.out / file.path.name
            with TensorWriter(path, layout) as writer:
                for name in layout:
                    writer.write(name, self._blocks(file, name))
            self.written.files[path.name] = {
                "sha256": writer.sha256,
                "bytes": path.stat().st_size,
            }
            self.written.tensors |= writer.tensors
            places |= dict.fromkeys(layout, path.name)
            size += sum(num_bytes_of(*line) for line in layout.values())
        for left, what in ((self.targets, "layers of the adapter"), (self.codes, "4-bit layers")):
            if left:
                raise IntegrityError(
                    f"{len(left)} {what} are not in the base's files, first {min(left)}"
                )
        if set(places.values()) != {WEIGHTS}:
            index = {"metadata": {"total_size": size}, "weight_map": places}
            _write_synced(self.out / INDEX, json.dumps(index, indent=1) + "\n")
        return self.written

    def _layout(self, file: TensorFile, *, is_last: bool) -> Layout:
        storage = DTYPE_NAMES[self.written.storage]
        layout = {
            name: (storage if self._layer(name) else entry.dtype, entry.shape)
            for name, entry in file.entries.items()
            # a language-model head is replaced by the trained one
            if not (self.heads and (name in self.heads or name.rpartition(".")[0] in HEADS))
        }
        if is_last and self.adapter:
            shapes = self.adapter.weights.entries
            layout |= {name: (storage, shapes[key].shape) for name, key in self.heads.items()}
        return in_order(layout)

    def _layer(self, name: str) -> str | None:
        """Return the layer whose weight this is, if it is to be changed."""
        layer = name.removesuffix(".weight")
        is_changed = layer != name and (layer in self.targets or layer in self.codes)
        return layer if is_changed else None

    def _blocks(self, file: TensorFile, name: str) -> Iterable[Block]:
        layer = self._layer(name)
        if layer is not None:
            return [_bytes_of(self._changed(file, name, layer))]
        if self.adapter and name in self.heads:
            self.written.counts["head"] += 1
            self.written.used.append(self.heads[name])
            return [
                _bytes_of(self._stored(name, tensor_of(self.adapter.weights, self.heads[name])))
            ]
        self.written.counts["copied"] += 1
        if self.written.storage == torch.float16:
            _check_range(file, name)
        return file.blocks(name)

    def _changed(self, file: TensorFile, name: str, layer: str) -> Tensor:
        """Return a layer's weight as it is stored: dequantised, merged, or both."""
        weight = tensor_of(file, name)
        if layer in self.codes:
            weight, codes = nf4_round_trip(self.held, layer, weight)
            if codes != self.codes.pop(layer):
                raise IntegrityError(
                    f"quantising the base again gave the layer {layer} the codes {codes}, and the "
                    f"adapter was trained on others ({self.held.library}); merge with the same "
                    "library version and base"
                )
        else:
            weight = weight.float()
        if not self.adapter or layer not in self.targets:
            self.written.counts["dequantised"] += 1
            return self._stored(name, weight)
        self.targets.remove(layer)
        update = read_update(self.adapter, layer)
        self.written.used += self.adapter.names(layer).values()
        intended = update.product()
        merged = update.applied_to(weight, intended)
        if update.magnitude is not None:
            intended = torch.sub(merged, weight, out=intended)
        stored = self._stored(name, merged)
        del merged
        self.written.changes[layer] = measure(weight, update, intended, stored)
        self.written.counts["merged"] += 1
        return stored

    def _stored(self, name: str, tensor: Tensor) -> Tensor:
        largest = max(map(abs, torch.stack(tensor.aminmax()).tolist())) if tensor.numel() else 0.0
        if not math.isfinite(largest):
            raise IntegrityError(f"the merged tensor {name} holds NaN or infinity")
        if self.written.storage == torch.float16 and largest > FLOAT16_LIMIT:
            raise BeyondFloat16(f"{name} holds {largest:g}, which is beyond float16")
        self.written.max_abs = max(self.written.max_abs, largest)
        return tensor.to(self.written.storage).contiguous()


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _check_range(file: TensorFile, name: str) -> None:
    """Refuse a tensor that an engine would have to cast to float16 and cannot."""
    dtype = DTYPES.get(file.entries[name].dtype)
    if dtype in (None, torch.float16):
        return
    for block in file.blocks(name):
        largest = torch.frombuffer(bytearray(block), dtype=dtype).abs().max().item()
        if not largest <= FLOAT16_LIMIT:
            raise BeyondFloat16(f"{name} holds {largest:g}, which is beyond float16")


def _write_synced(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
