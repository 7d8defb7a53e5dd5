"""A GGUF file as a base: dequantised once, into a folder of safetensors in this program's cache.

No bit is lost that the file holds. Its blocks are dequantised in float32, as the gguf library does,
and each tensor is stored in the narrowest type that holds all its numbers exactly: F32 for whatever
was quantised (the product of a float16 scale and a code of 4 bits has more digits than 16-bit types
have), BF16 or F16 for what was stored in these. So the folder takes up to 4 bytes a parameter,
about 6 times a file of 5 bits a weight. Its ``config.json`` names bfloat16, in which any engine can
compute with it, and in which weights that are merged into it are stored.

Version 1 dequantised in bfloat16, in 2 bytes a parameter; runs that were trained on that can still
be evaluated and merged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from finetune import scratch as scratches
from finetune.cache import cache_folder, prepare_to_cache
from finetune.identity import sha256_file
from finetune.quantization import VERSION


def materialize(path: Path, version: int = VERSION) -> Path:
    """Dequantise a GGUF file, unless that was done before; return the folder.

    The folder is named by the file's content and the version, written under a temporary name and
    renamed, so it is either absent or whole, and two processes that make it at once agree. Making
    it takes about 7 bytes of memory a parameter.

    Args:
        path: of the file.
        version: see `finetune.quantization.Quantization.version`.
    """
    folder = folder_of(path, version)
    if (folder / "config.json").is_file():
        return folder
    prepare_to_cache(folder)
    with scratches.beside(folder) as scratch:
        scratch.mkdir()
        model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.bfloat16 if version == 1 else torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
        # transformers would store the packed file's quantisation although none is left
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config.name_or_path = path.stem
        for parameter in model.parameters():  # those that are tied are one object
            parameter.data = narrowest(parameter.data)
        model.save_pretrained(scratch)
        _compute_in_bfloat16(scratch / "config.json")
        tokenizer = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True
        )
        tokenizer.save_pretrained(scratch)
        try:
            scratch.rename(folder)
        except OSError:
            if not (folder / "config.json").is_file():  # else another process was first
                raise
    return folder


def folder_of(path: Path, version: int = VERSION) -> Path:
    """Return the folder in the cache that a GGUF file is dequantised into, made or not."""
    kind = "" if version == 1 else "-exact"
    return cache_folder() / "bases" / f"{path.stem}-{sha256_file(path)[:16]}{kind}"


def narrowest(tensor: Tensor) -> Tensor:
    """Return a tensor in bfloat16 or float16 if that holds its numbers to the bit, else as it is.

    Args:
        tensor: of any shape; of another type than float32, it is returned as it is.
    """
    if tensor.dtype != torch.float32:
        return tensor
    bits = tensor.contiguous().view(torch.int32)  # numbers would be compared without denormals
    for dtype in (torch.bfloat16, torch.float16):
        narrow = tensor.to(dtype)
        if torch.equal(narrow.float().contiguous().view(torch.int32), bits):
            return narrow
    return tensor


def _compute_in_bfloat16(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "bfloat16"}
    path.write_text(
        json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n"
    )
