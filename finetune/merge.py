"""Fold an adapter into the weights it was trained on, from files to files, one tensor at a time.

The default base of a merge is the *dequantised* 4-bit base: the very numbers that the adapter was
trained and evaluated on. Merging into the original 16-bit weights gives another model (measured on
a 135M model: 10 points of exact match lost), which is offered as a new candidate, to be evaluated
and gated by itself. Storing the merged model in 4-bit again erases the adapter, because the 4-bit
grid is idempotent, and is refused.

Each file's header is known before its first tensor, so tensors are read, merged in float32, hashed
and written one by one: memory is that of one tensor, whatever the model's size.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from finetune import adapter_files, sentence_folder
from finetune import checkpoint as checkpoints
from finetune import scratch as scratches
from finetune.adapter_files import AdapterFiles, AdapterRecord
from finetune.encoder_kinds import POOLED_HEAD, is_inside
from finetune.errors import InputError, IntegrityError
from finetune.merge_record import DEQUANTISED, MERGE_RECORD, NOT_IN_4_BIT, ORIGINAL, sealed
from finetune.quantization import Quantization, dtype_name
from finetune.room import require
from finetune.stream import FLOAT16_LIMIT, BeyondFloat16, Stream, Written
from finetune.tensor_files import ITEM_BYTES, TensorFile, open_weights
from finetune.update import DTYPES, Change, tensor_of

__all__ = ["MERGE_RECORD", "Into", "Storage", "adapter_identity", "merge", "write_serving_base"]

Into = Literal["dequantised", "original"]
Storage = Literal["auto", "bfloat16", "float16"]


def merge(
    base_folder: Path,
    adapter_folder: Path,
    out: Path,
    *,
    into: str = "dequantised",
    storage: str = "auto",
) -> dict[str, Any]:
    """Write the merged model to ``out`` and return its record (also written as ``merge.json``).

    Targeted layers get the update in float32; layers that were quantised but not targeted are
    dequantised; all other tensors are copied byte for byte.

    Args:
        base_folder: the base's checkpoint folder, 16-bit safetensors.
        adapter_folder: what training wrote, or a stranger says that it wrote.
        out: folder to write; it appears when it is whole.
        into: ``dequantised``: the weights that the adapter was trained on, as its record says;
            ``original``: the files' own weights, which is another model if that was 4-bit.
        storage: ``auto``: an encoder's own type; else the base's own 16-bit type, in which its
            activations are known to stay in range; a decoder in float32 or float16 becomes float16
            if all its weights are within 6e4, else bfloat16. Or one of the two by name;
            ``float16`` keeps three bits more.

    Raises:
        IntegrityError: if the base is not the adapter's, if its 4-bit codes come out otherwise
            than in training, if the adapter is not as training writes it, or not finite, or if
            storage keeps less than half of the update.
        InputError: if ``out`` exists, the adapter is of a kind that cannot be merged, or
            ``into`` is 4-bit.
    """
    refuse_wrong_choice(into, storage)
    _refuse_existing(out)
    adapter = adapter_files.inspect(adapter_folder)
    identity = checkpoints.identity(base_folder)
    adapter_files.check_identity(adapter.record, identity, base_folder, adapter_folder)
    files = checkpoints.check_files(base_folder)
    adapter_files.check_on(adapter, linear_shapes(base_folder, files))
    held = _held_as(adapter.record, into)
    is_original = into == "original" and adapter.record.quantization.kind == "nf4"
    said = {
        "base": identity,
        "adapter": adapter_identity(adapter_folder),
        "into": ORIGINAL if held.kind == "none" else DEQUANTISED,
        "is_new_candidate": is_original,
        "note": (
            "another model than the one that was evaluated: to be evaluated and gated by itself"
            if is_original
            else "the weights that the adapter was trained and evaluated on"
        ),
    }
    return _write(base_folder, files, out, adapter, adapter.record, held, storage, said)


def write_serving_base(
    base_folder: Path, adapter_folder: Path, out: Path, *, storage: str = "auto"
) -> dict[str, Any]:
    """Write the dequantised 4-bit base that an adapter was trained on, without any adapter.

    All adapters trained on that base can be served unmerged on it, by an engine that knows no
    4-bit, and answer as they were evaluated.

    Raises:
        InputError: if the adapter was not trained on a 4-bit base, or ``out`` exists.
        IntegrityError: as `merge`.
    """
    refuse_wrong_choice("dequantised", storage)
    _refuse_existing(out)
    record = adapter_files.read_record(adapter_folder)
    if record.quantization.kind != "nf4" or record.head != "causal-lm":
        raise InputError(
            f"{adapter_folder} was trained on {record.quantization.kind} weights with a "
            f"{record.head} head; a serving base is for language models trained on 4-bit weights. "
            "Adapters of unquantised weights are served on their base as it is"
        )
    identity = checkpoints.identity(base_folder)
    adapter_files.check_identity(record, identity, base_folder, adapter_folder)
    files = checkpoints.check_files(base_folder)
    said = {
        "base": identity,
        "adapter": None,
        "into": DEQUANTISED,
        "codes": record.quantization.codes,
        "note": "a base to serve adapters on, unmerged, that were trained on these 4-bit codes",
    }
    held = _held_as(record, "dequantised")
    return _write(base_folder, files, out, None, record, held, storage, said)


def _check_kept(written: Written) -> None:
    kept = survival(written.changes)
    if kept is not None and not 0.5 <= kept <= 1.5:
        way_out = (
            "ship it unmerged, or train it further"
            if written.storage == torch.float16
            else "--storage float16 has three bits more"
        )
        raise IntegrityError(
            f"of the adapter's update {kept:.3f} is left in {dtype_name(written.storage)} weights: "
            f"it is too small beside them to be merged into these; {way_out}"
        )


def adapter_identity(folder: Path) -> str:
    """Return ``sha256:...`` over an adapter's weights, configuration and record."""
    digest = hashlib.sha256()
    for name in (adapter_files.WEIGHTS, adapter_files.CONFIG, adapter_files.RECORD):
        digest.update(f"{name} {checkpoints.sha256_file(folder / name)}\n".encode())
    return "sha256:" + digest.hexdigest()


def linear_shapes(folder: Path, files: Sequence[TensorFile]) -> dict[str, tuple[int, ...]]:
    """Return (out, in) of each layer of a checkpoint that may be adapted, from its headers.

    That is every matrix but the head and the embedding, which have a row for each word of the
    vocabulary, and a name that says so.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    num_words = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    return {
        name.removesuffix(".weight"): entry.shape
        for file in files
        for name, entry in file.entries.items()
        if name.endswith(".weight")
        and len(entry.shape) == 2
        and not (entry.shape[0] == num_words and _is_of_words(name.removesuffix(".weight")))
    }


def _is_of_words(layer: str) -> bool:
    last = layer.rpartition(".")[2]
    return last in (*adapter_files.HEADS, "wte", "shared") or "embed" in last


def refuse_wrong_choice(into: str, storage: str) -> None:
    """Refuse a kind of merge that there is not, and one that would erase the adapter.

    Raises:
        InputError: with the choices, or with what a merge back into 4-bit was measured to do.
    """
    if into in ("nf4", "4bit", "4-bit", "quantised", "quantized"):
        raise InputError(f"a merge back into 4-bit is refused: {NOT_IN_4_BIT}")
    if into not in get_args(Into):
        raise InputError(f"--into {into}: wanted {' or '.join(get_args(Into))}")
    if storage not in get_args(Storage):
        raise InputError(f"--storage {storage}: wanted {' or '.join(get_args(Storage))}")


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise InputError(f"{out} exists already; remove it, or merge into another folder")


def _held_as(record: AdapterRecord, into: str) -> Quantization:
    """Return how the base is to be held under the update."""
    held = record.quantization
    if into == "original" or held.kind == "none":
        return Quantization("none", compute_dtype=held.compute_dtype)
    if not held.layer_codes:
        raise IntegrityError(
            "the adapter's record has no fingerprint of each layer's 4-bit codes, so nobody can "
            "say that these would be the weights it was trained on; train it again"
        )
    return held


def _write(
    base_folder: Path,
    files: Sequence[TensorFile],
    out: Path,
    adapter: AdapterFiles | None,
    record: AdapterRecord,
    held: Quantization,
    storage: str,
    said: Mapping[str, Any],
) -> dict[str, Any]:
    """Write everything beside ``out`` and rename it; nothing is left of a failure."""
    entries = [entry for file in files for entry in file.entries.values()]
    # what is not stored in 16 bits takes more, and a full disk says so then
    size = sum(math.prod(entry.shape) * min(2, ITEM_BYTES[entry.dtype]) for entry in entries)
    require(out, size, "the merged model")
    with scratches.beside(out) as scratch:
        scratch.mkdir()
        written, why = _write_weights(base_folder, files, scratch, adapter, held, storage)
        _check_kept(written)
        _write_rest(base_folder, scratch, record, written.storage)
        made = {
            "schema": 2,
            **said,
            "storage": {
                "dtype": dtype_name(written.storage),
                "why": why,
                "largest_weight": written.max_abs,
            },
            "identity": checkpoints.identity(scratch),
            "chat_template": adapter_files.template_of(scratch),
            "update_survival": survival(written.changes),
            "tensors": written.counts,
            "adapter_tensors_used_once": sorted(written.used),
            "changes": {layer: asdict(change) for layer, change in written.changes.items()},
            "files": written.files,
            "tensor_sha256": written.tensors,
        }
        (scratch / MERGE_RECORD).write_text(
            json.dumps(sealed(made), indent=1, sort_keys=True) + "\n",
            encoding="utf-8",
            newline="\n",
        )
        for path in (scratch, *scratch.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        _sync_folder(scratch)
        scratch.rename(out)
        _sync_folder(out.parent)
    return made


def _write_weights(
    base_folder: Path,
    files: Sequence[TensorFile],
    out: Path,
    adapter: AdapterFiles | None,
    held: Quantization,
    storage: str,
) -> tuple[Written, str]:
    """Write all weights; return what was written, and why in that type."""
    own = {
        DTYPES[entry.dtype]
        for file in files
        for entry in file.entries.values()
        if len(entry.shape) == 2 and entry.dtype in DTYPES
    }
    # a base that is stored in float32 and is to be computed in bfloat16, as one from a GGUF file
    config = json.loads((base_folder / "config.json").read_text(encoding="utf-8"))
    own |= {torch.bfloat16} if config.get("dtype") == "bfloat16" else set()

    def attempt(dtype: torch.dtype) -> Written:
        for leftover in out.iterdir():
            leftover.unlink()
        return Stream(out, adapter, held, dtype).write(files)

    if storage != "auto":
        try:
            return attempt(getattr(torch, storage)), "asked for"
        except BeyondFloat16 as error:
            raise InputError(f"{error}; leave out --storage float16") from None
    if adapter and adapter.record.encoder and torch.float32 in own:
        return attempt(torch.float32), "an encoder keeps its base's own type: it is small"
    if torch.bfloat16 in own:  # also one that keeps its embedding in float32
        why = "the base's own type, in which its activations are known to stay in range"
        return attempt(torch.bfloat16), why
    try:
        why = f"every weight is within {FLOAT16_LIMIT:g}, and float16 has three bits more"
        return attempt(torch.float16), why
    except BeyondFloat16 as error:
        return attempt(torch.bfloat16), str(error)


def survival(changes: Mapping[str, Change]) -> float | None:
    """Return how much of the whole update is in the stored weights; None if there is none."""
    weights = {layer: change.norm**2 for layer, change in changes.items()}
    total = sum(weights.values())
    if not total:
        return None
    return sum((c.survival or 0.0) * weights[layer] for layer, c in changes.items()) / total


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows opens no folder, and keeps names without being asked
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_rest(base_folder: Path, out: Path, record: AdapterRecord, storage: torch.dtype) -> None:
    """Copy tokenizer and configuration; a classifier's configuration names its labels."""
    checkpoints.copy_tokenizer(base_folder, out, prompt=record.prompt)
    for name in ("config.json", "generation_config.json"):
        if (base_folder / name).is_file():
            shutil.copyfile(base_folder / name, out / name)
    if record.head == "sequence-classification":
        from transformers import AutoModel, AutoModelForSequenceClassification

        (out / "generation_config.json").unlink(missing_ok=True)
        tokenizer = checkpoints.load_tokenizer(base_folder)
        config = checkpoints.classification_config(
            base_folder, record.labels, record.is_multi_label, tokenizer.pad_token_id
        )
        mapping = AutoModelForSequenceClassification._model_mapping
        config.architectures = [mapping[type(config)].__name__]
        if record.pooling not in (None, "model"):
            config.architectures = [AutoModel._model_mapping[type(config)].__name__]
        config.save_pretrained(out)
        if record.pooling not in (None, "model"):
            sentence_folder.write(out, record.pooling, read_head(out), longest_text(tokenizer))
    path = out / "config.json"
    config_values = json.loads(path.read_text(encoding="utf-8"))
    name = dtype_name(storage)
    known = [key for key in ("dtype", "torch_dtype") if config_values.get(key) is not None]
    keys = [key for key in known or ["dtype"] if config_values.get(key) != name]
    came_from = config_values.pop("_name_or_path", None)  # older libraries: a folder of somebody's
    if keys or came_from:
        # the type is what an engine loads the weights as
        path.write_text(
            json.dumps(config_values | dict.fromkeys(keys, name), indent=2) + "\n",
            encoding="utf-8",
            newline="\n",
        )


def read_head(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a merged folder's pooled head, by their names in the model."""
    return {
        name: tensor_of(file, name)
        for file in open_weights(folder)
        for name in file.entries
        if is_inside(name, (POOLED_HEAD,))
    }


def longest_text(tokenizer: Any) -> int:
    """Return the tokens at which a pooled classifier cuts a text: all that it has positions for."""
    return checkpoints.longest(tokenizer, _NO_TABLE)


_NO_TABLE = 8192  # where rotary positions set no limit: what ModernBERT was trained to read
