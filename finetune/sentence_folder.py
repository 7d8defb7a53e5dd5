"""A pooled classifier as a folder of Sentence-Transformers: Transformer, Pooling, Dense.

Anyone loads it with that library alone; its ``encode`` returns the logits, in the order of
``id2label`` in config.json. The head stands in the folder twice, under its own name beside the
encoder's tensors and as the Dense module, and the proof of a merge holds the two together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from finetune.encoder_kinds import POOLED_HEAD, Pooling
from finetune.errors import IntegrityError
from finetune.identity import DENSE_WEIGHTS

POOLING = "1_Pooling/config.json"
DENSE = "2_Dense/config.json"
MODULES = "modules.json"
LENGTH = "sentence_bert_config.json"

_TYPES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"))


def write(folder: Path, pooling: Pooling, head: dict[str, Tensor], max_length: int) -> None:
    """Add to a merged folder what makes it one of Sentence-Transformers.

    Args:
        folder: with the encoder's weights, configuration and tokenizer.
        pooling: ``mean`` or ``cls``.
        head: the merged tensors of `POOLED_HEAD`, by their names in the model.
        max_length: tokens at which a text is cut.
    """
    for name, values in _settings(pooling, head, max_length).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(
            json.dumps(values, indent=2) + "\n", encoding="utf-8", newline="\n"
        )
    save_file(_as_dense(head), folder / DENSE_WEIGHTS, metadata={"format": "pt"})


def check(folder: Path, pooling: Pooling, head: dict[str, Tensor], max_length: int) -> None:
    """Hold those files against the model that they stand beside.

    Raises:
        IntegrityError: naming the first that says otherwise.
    """
    for name, values in _settings(pooling, head, max_length).items():
        if json.loads((folder / name).read_text(encoding="utf-8")) != values:
            raise IntegrityError(f"{folder / name} does not describe the model beside it")
    wanted, found = _as_dense(head), load_file(folder / DENSE_WEIGHTS)
    if wanted.keys() != found.keys() or not all(
        found[name].dtype == tensor.dtype and bool((found[name] == tensor).all())
        for name, tensor in wanted.items()
    ):
        raise IntegrityError(f"{folder / DENSE_WEIGHTS} is not the head of the model beside it")


def _as_dense(head: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace(f"{POOLED_HEAD}.", "linear."): tensor.contiguous()
        for name, tensor in head.items()
    }


def _settings(pooling: Pooling, head: dict[str, Tensor], max_length: int) -> dict[str, Any]:
    num_labels, width = head[f"{POOLED_HEAD}.weight"].shape
    return {
        MODULES: [
            {
                "idx": number,
                "name": str(number),
                "path": path,
                "type": f"sentence_transformers.models.{name}",
            }
            for number, (path, name) in enumerate(_TYPES)
        ],
        LENGTH: {"max_seq_length": max_length, "do_lower_case": False},
        POOLING: {
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        DENSE: {
            "in_features": width,
            "out_features": num_labels,
            "bias": f"{POOLED_HEAD}.bias" in head,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }
