"""Fold an adapter into the weights it was trained on, from files to files, and prove the result.

The default base of a merge is the *dequantised* 4-bit base: the very numbers that the adapter was
trained and evaluated on. Merging into the original 16-bit weights gives another model (measured on
a 135M model: 10 points of exact match lost), and storing the merged model in 4-bit again erases
the adapter, because the 4-bit grid is idempotent. So neither is offered here.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from finetune import adapter as adapters
from finetune import checkpoint as checkpoints
from finetune.adapter import AdapterRecord
from finetune.errors import InputError, IntegrityError
from finetune.quantization import add_codes, nf4_round_trip

MERGE_RECORD = "merge.json"

_KNOWN_CONFIG = {"rank_pattern", "alpha_pattern", "bias", "lora_bias", "fan_in_fan_out"}


@dataclass(frozen=True)
class _Update:
    """One layer's update: scaling * B @ A, and DoRA's magnitude where it has one."""

    A: Tensor
    B: Tensor
    scaling: float
    magnitude: Tensor | None

    def applied_to(self, weight: Tensor) -> Tensor:
        """Return the float32 weight with the update folded in."""
        merged: Tensor = torch.addmm(weight, self.B, self.A, alpha=self.scaling)
        if self.magnitude is None:
            return merged
        # DoRA: W' = m * (W + s B A) / ||W + s B A||, one norm per output row (Liu et al. 2024, 4.1)
        scaled: Tensor = merged * (self.magnitude / merged.norm(dim=1)).unsqueeze(1)
        return scaled


def merge(base_folder: Path, adapter_folder: Path, out: Path) -> dict[str, Any]:
    """Write the merged model to ``out`` and return its record (also written as ``merge.json``).

    Every tensor goes from the base's files to the merged files one shard at a time. Targeted layers
    get the update in float32; layers that were quantised but not targeted are dequantised; all
    other tensors are copied. Storage is the base's own 16-bit type.

    Raises:
        IntegrityError: if the base is not the adapter's, if its 4-bit codes come out otherwise
            than in training, if an adapter tensor is left over, missing or not finite.
        InputError: if ``out`` exists, or the adapter is of a kind that cannot be merged.
    """
    if out.exists():
        raise InputError(f"{out} exists already; remove it, or merge into another folder")
    record = adapters.read_record(adapter_folder)
    identity = checkpoints.identity(base_folder)
    adapters.check_identity(record, identity, base_folder, adapter_folder)
    updates, heads = _read_adapter(adapter_folder)
    _check_complete(record, updates, heads)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        tensors = _write_weights(base_folder, scratch, record, updates, heads)
        _write_rest(base_folder, scratch, record)
        made = {
            "schema": 1,
            "base": identity,
            "adapter": adapter_identity(adapter_folder),
            "into": "dequantised nf4" if record.quantization.kind == "nf4" else "original weights",
            "identity": checkpoints.identity(scratch),
            "tensors": tensors,
        }
        (scratch / MERGE_RECORD).write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
        for file in scratch.iterdir():
            file.chmod(0o644)
        scratch.chmod(0o755)
        scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return made


def adapter_identity(folder: Path) -> str:
    """Return ``sha256:...`` over an adapter's weights, configuration and record."""
    digest = hashlib.sha256()
    for name in ("adapter_model.safetensors", "adapter_config.json", adapters.RECORD):
        digest.update(f"{name} {checkpoints.sha256_file(folder / name)}\n".encode())
    return "sha256:" + digest.hexdigest()


def _read_adapter(folder: Path) -> tuple[dict[str, _Update], dict[str, Tensor]]:
    """Return the updates by layer name, and the trained head's tensors by name."""
    config = json.loads((folder / "adapter_config.json").read_text())
    used = sorted(k for k in _KNOWN_CONFIG if config.get(k) not in (None, {}, False, "none"))
    if config.get("peft_type") != "LORA" or used:
        raise InputError(
            f"{folder} is an adapter of kind {config.get('peft_type')} with {used or 'no'} special "
            "settings; only LoRA, rsLoRA and DoRA without per-layer patterns can be merged"
        )
    rank, alpha = config["r"], config["lora_alpha"]
    scaling = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    parts: dict[str, dict[str, Tensor]] = {}
    heads: dict[str, Tensor] = {}
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        for key in file.keys():  # noqa: SIM118 (a safetensors file is no mapping)
            tensor = file.get_tensor(key).float()
            if not bool(torch.isfinite(tensor).all()):
                raise IntegrityError(f"the adapter tensor {key} holds NaN or infinity")
            name = key.removeprefix("base_model.model.")
            layer, _, part = name.partition(".lora_")
            if part:
                parts.setdefault(layer, {})[part.removesuffix(".weight")] = tensor
            elif layer.rpartition(".")[0] in set(config.get("modules_to_save") or ()):
                heads[layer] = tensor
            else:
                raise IntegrityError(f"the adapter holds {key}, which is no part of a LoRA update")
    updates = {}
    for layer, found in parts.items():
        wanted = {"A", "B"} | ({"magnitude_vector"} if config.get("use_dora") else set())
        if set(found) != wanted:
            raise IntegrityError(
                f"the adapter holds {sorted(found)} for the layer {layer}, wanted {sorted(wanted)}"
            )
        A, B = found["A"], found["B"]
        if A.shape[0] != rank or B.shape[1] != rank:
            raise IntegrityError(
                f"the layer {layer} has factors of shape {tuple(A.shape)} and {tuple(B.shape)}, "
                f"but the adapter's rank is {rank}"
            )
        updates[layer] = _Update(A, B, scaling, found.get("magnitude_vector"))
    return updates, heads


def _check_complete(
    record: AdapterRecord, updates: dict[str, _Update], heads: dict[str, Tensor]
) -> None:
    odd = set(record.layers) ^ set(updates)
    if odd:
        raise IntegrityError(
            f"the adapter's record and its tensors disagree on {len(odd)} layers, first {min(odd)}"
        )
    if bool(heads) != (record.head == "sequence-classification"):
        raise IntegrityError(
            f"the adapter was trained with a {record.head} head and holds "
            f"{sorted(heads) or 'no trained head'}"
        )


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _write_weights(
    base_folder: Path,
    out: Path,
    record: AdapterRecord,
    updates: dict[str, _Update],
    heads: dict[str, Tensor],
) -> dict[str, int]:
    """Write all weight files and the index; return how many tensors were what."""
    left = dict(updates)
    quantized = set(record.quantization.modules)
    dtype = getattr(torch, record.quantization.compute_dtype)
    counts = {"merged": 0, "dequantised": 0, "copied": 0, "head": len(heads)}
    codes: dict[str, tuple[Tensor, Any]] = {}
    places: dict[str, str] = {}
    size = 0
    shards = _shards(base_folder)
    storage: torch.dtype | None = None
    for shard in shards:
        written: dict[str, Tensor] = {}
        with safe_open(shard, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                layer = key.removesuffix(".weight")
                if record.head == "sequence-classification" and layer in adapters.HEADS:
                    continue  # the language-model head is replaced by the trained one
                tensor = file.get_tensor(key)
                storage = storage or _storage(tensor.dtype)
                if layer not in quantized and layer not in left:
                    written[key] = tensor
                    counts["copied"] += 1
                    continue
                weight = tensor.float()
                if layer in quantized:
                    weight, codes[layer] = nf4_round_trip(tensor.to(dtype))
                    counts["dequantised"] += layer not in left
                if layer in left:
                    weight = _with_update(layer, weight, left.pop(layer))
                    counts["merged"] += 1
                written[key] = weight.to(storage).contiguous()
        if shard is shards[-1]:
            written |= {name: t.to(storage or t.dtype).contiguous() for name, t in heads.items()}
        save_file(written, out / shard.name, metadata={"format": "pt"})
        places |= dict.fromkeys(written, shard.name)
        size += sum(t.numel() * t.element_size() for t in written.values())
    if left:
        raise IntegrityError(
            f"{len(left)} layers of the adapter are not in the base's files, first {min(left)}"
        )
    _check_codes(record, codes)
    if len(shards) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    return counts


def _storage(dtype: torch.dtype) -> torch.dtype:
    """16-bit files stay what they are; wider ones become bfloat16, which has the same range."""
    return dtype if dtype in (torch.bfloat16, torch.float16) else torch.bfloat16


def _with_update(layer: str, weight: Tensor, update: _Update) -> Tensor:
    if (update.B.shape[0], update.A.shape[1]) != tuple(weight.shape):
        raise IntegrityError(
            f"the layer {layer} has shape {tuple(weight.shape)} in the base, and its update "
            f"{(update.B.shape[0], update.A.shape[1])}"
        )
    return update.applied_to(weight)


def _check_codes(record: AdapterRecord, codes: dict[str, tuple[Tensor, Any]]) -> None:
    if record.quantization.kind == "none":
        return
    digest = hashlib.sha256()
    for layer in sorted(codes):
        add_codes(digest, layer, *codes[layer])
    found = "sha256:" + digest.hexdigest()
    if found != record.quantization.codes:
        raise IntegrityError(
            f"quantising the base again gave the codes {found}, and the adapter was trained on "
            f"{record.quantization.codes} ({record.quantization.library}); merge with the same "
            "library version and base"
        )


def _write_rest(base_folder: Path, out: Path, record: AdapterRecord) -> None:
    """Copy tokenizer and configuration; a classifier's configuration names its labels."""
    tokenizer = checkpoints.load_tokenizer(base_folder)
    for name in (*checkpoints.TOKENIZER_FILES, "config.json", "generation_config.json"):
        if (base_folder / name).is_file():
            shutil.copyfile(base_folder / name, out / name)
    if record.head == "sequence-classification":
        (out / "generation_config.json").unlink(missing_ok=True)
        config = checkpoints.classification_config(
            base_folder, record.labels, record.is_multi_label, tokenizer.pad_token_id
        )
        mapping = AutoModelForSequenceClassification._model_mapping
        config.architectures = [mapping[type(config)].__name__]
        config.save_pretrained(out)
