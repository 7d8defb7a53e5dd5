"""An encoder's checkpoint, stored once in the cache under the names that its classifier has.

Encoders are published in many forms: with the name of their kind before each tensor or without,
with the head of their pretraining, with LayerNorm's old names, with a table of positions that is
no weight. transformers knows them all. What it makes of them is stored once, so that adapters,
merges and proofs read files whose tensors are named as the model's layers are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, cast, get_args

from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from finetune import scratch as scratches
from finetune.cache import cache_folder, prepare_to_cache
from finetune.encoder_kinds import ENCODERS, Pooling, is_inside, kind_of, stated_pooling
from finetune.errors import InputError
from finetune.identity import TOKENIZER_FILES, identity, sha256_file
from finetune.tensor_files import WEIGHTS

MADE_FROM = "made_from.json"
"""In a stored encoder: what it was made from, and the pooling that the source's files name."""

_FORM = 1
"""Raised when the same source would be stored otherwise; part of the folder's name."""


def is_stored(folder: Path) -> bool:
    """Return whether a folder is one that `store` made."""
    return (folder / MADE_FROM).is_file()


def pooling_of(folder: Path) -> Pooling:
    """Return the pooling that a stored encoder's source names: ``mean``, ``cls`` or ``model``.

    Raises:
        InputError: if the folder is none that `store` made.
    """
    try:
        found = json.loads((folder / MADE_FROM).read_text(encoding="utf-8"))["pooling"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found not in get_args(Pooling):
        raise InputError(
            f"{folder} is no encoder as this program stores it ({MADE_FROM} is missing or not "
            "readable); remove the folder, and it is made again"
        )
    return cast("Pooling", found)


def store(source: Path) -> Path:
    """Return the folder in the cache that holds an encoder for classification; make it if need be.

    It is named by its source's content, written under a temporary name and renamed, so it is
    either absent or whole. Weights keep the type that they are stored in.

    Args:
        source: a checkpoint folder with safetensors, of a kind in `finetune.encoders.ENCODERS`.

    Raises:
        InputError: if the checkpoint lacks tensors, or names a pooling that cannot be read.
    """
    if is_stored(source):
        return source
    folder = cache_folder() / "bases" / f"{source.name}-encoder{_FORM}-{_digest(source)}"
    if (folder / MADE_FROM).is_file():
        return folder
    prepare_to_cache(folder)
    with scratches.beside(folder) as scratch:
        scratch.mkdir()
        _write(source, scratch)
        for file in scratch.iterdir():
            file.chmod(0o644)
        scratch.chmod(0o755)
        try:
            scratch.rename(folder)
        except OSError:
            if not (folder / MADE_FROM).is_file():  # else another process was first
                raise
    return folder


_OLD_VOCABULARIES = ("vocab.txt", "spm.model", "sentencepiece.bpe.model")


def _digest(source: Path) -> str:
    """Return 16 hex digits of all that decides what is stored."""
    parts = [identity(source), stated_pooling(source)]
    parts += [sha256_file(source / n) for n in _OLD_VOCABULARIES if (source / n).is_file()]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _write(source: Path, out: Path) -> None:
    model, missing = _load(source)
    heads = ENCODERS[kind_of(source)].heads
    lacking = sorted(name for name in missing if not is_inside(name, heads))
    if lacking:
        raise InputError(
            f"{source} lacks {len(lacking)} tensors of a {type(model).__name__} (first "
            f"{lacking[0]}), which would be random numbers; name a whole checkpoint in "
            "base.checkpoint"
        )
    prefix = f"{model.base_model_prefix}."
    tensors = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        # above the encoder stands what each training begins anew
        if name not in missing and (name.startswith(prefix) and not is_inside(name, heads[-1:]))
    }
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    config = AutoConfig.from_pretrained(source, local_files_only=True)
    config.architectures = [type(model.base_model).__name__]
    config.dtype = next(iter(tensors.values())).dtype
    config.save_pretrained(out)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    _complete_tokenizer(source, out)
    made = {
        "schema": 1,
        "source": identity(source),
        "pooling": stated_pooling(source),
    }
    (out / MADE_FROM).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8", newline="\n")


def _complete_tokenizer(source: Path, out: Path) -> None:
    """Write the fast tokenizer where a checkpoint has only the older vocabulary file."""
    if not (out / "tokenizer.json").is_file():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(out)


def _load(source: Path) -> tuple[Any, set[str]]:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is told by the caller
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            source,
            dtype="auto",
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(before)
    return model, set(found["missing_keys"])
