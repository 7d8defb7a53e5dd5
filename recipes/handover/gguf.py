"""A merged model as one GGUF file, for llama.cpp and what is built on it.

Only the Llama architecture is written here; for others llama.cpp's own converter is named. Tensors
go from safetensors to the file one at a time. llama.cpp turns pairs of neighbouring numbers where
transformers turns the two halves of a head, so the rows of q and k are put in its order (as
``LlamaModel.permute`` of llama.cpp's ``conversion/llama.py`` does).

F16 is what was gated, but for rounding. Q8_0 (8 bits, one 16-bit scale for each 32 weights) is
measured against it; a lower precision would be another model, which the gate has to see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from recipes.errors import InputError
from recipes.handover import vocabulary

Kind = Literal["F16", "Q8_0"]
KINDS: tuple[Kind, ...] = ("F16", "Q8_0")

_FILE_TYPES = {"F16": gguf.LlamaFileType.MOSTLY_F16, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
_LARGEST_F16 = 65504.0


@dataclass(frozen=True)
class Written:
    """One file that was written."""

    kind: Kind
    pre_tokenizer: str
    """llama.cpp's name of the rule that cuts text up."""

    num_tensors: int
    kept_f16: tuple[str, ...]
    """Matrices of a Q8_0 file whose rows are no multiple of 32, so that they stay F16."""


def check(folder: Path) -> dict[str, Any]:
    """Return a folder's configuration, if its model can be written as GGUF.

    Raises:
        InputError: with the reason and the way out, if it cannot.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no model: it has no config.json")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture.endswith("ForSequenceClassification"):
        raise InputError(
            f"{folder} has a classification head ({architecture}), and the GGUF of a Llama holds a "
            "language model; serve it with transformers or vLLM (see SERVING.md)"
        )
    if architecture != "LlamaForCausalLM":
        raise InputError(
            f"{folder} is a {architecture}, and only LlamaForCausalLM can be written as GGUF here; "
            f"{vocabulary.HAND_OVER}"
        )
    unknown = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "attention_bias": bool(config.get("attention_bias")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "quantization_config": config.get("quantization_config") is not None,
        "rope_parameters": _rope(config)[0] != "default",
    }
    odd = [name for name, is_odd in unknown.items() if is_odd]
    if odd:
        found = ", ".join(f"{name} = {config.get(name)!r}" for name in odd)
        raise InputError(
            f"{folder}/config.json has {found}, which cannot be written as GGUF here; "
            f"{vocabulary.HAND_OVER}"
        )
    vocabulary.pre_tokenizer(folder)
    return config


def write(folder: Path, path: Path, kind: Kind, *, name: str) -> Written:
    """Write the model of a folder as one GGUF file.

    Args:
        folder: config, safetensors, tokenizer.
        path: the file to write; it is overwritten.
        kind: how matrices are stored. Vectors are always float32.
        name: of the model, for ``general.name``.

    Raises:
        InputError: as `check`, or if a weight is beyond what F16 can hold.
    """
    config = check(folder)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    with closing(gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA])) as writer:
        _write_settings(writer, config, kind, name)
        pre_tokenizer = vocabulary.write(writer, folder, config["vocab_size"])
        stored: dict[str, gguf.GGMLQuantizationType] = {}
        for key, shape in _shapes(folder, config):
            target = names.get_name(key, try_suffixes=(".weight",))
            if target is None:
                raise InputError(f"{folder} holds {key}, which a Llama in GGUF has no place for")
            stored[key] = _type_of(shape, kind)
            size = gguf.quant_shape_to_byte_shape(shape, stored[key])
            writer.add_tensor_info(
                target, shape, np.dtype(np.float32), int(np.prod(size)), raw_dtype=stored[key]
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for key, tensor in _tensors(folder, stored):
            writer.write_tensor_data(gguf.quantize(_in_place(key, tensor, config), stored[key]))
    f16 = gguf.GGMLQuantizationType.F16
    return Written(
        kind,
        pre_tokenizer,
        num_tensors=len(stored),
        kept_f16=tuple(k for k, t in stored.items() if t == f16) if kind == "Q8_0" else (),
    )


def _write_settings(writer: gguf.GGUFWriter, config: dict[str, Any], kind: Kind, name: str) -> None:
    num_heads = config["num_attention_heads"]
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(num_heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or num_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    width = config.get("head_dim") or config["hidden_size"] // num_heads
    writer.add_rope_dimension_count(width)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_freq_base(_rope(config)[1])


def _rope(config: dict[str, Any]) -> tuple[str, float]:
    """Return the kind and the base of the rotary embedding, in the old or the new form."""
    told = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = told.get("rope_type") or told.get("type") or "default"
    return kind, float(told.get("rope_theta") or config.get("rope_theta") or 10000.0)


def _type_of(shape: tuple[int, ...], kind: Kind) -> gguf.GGMLQuantizationType:
    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    is_whole = shape[-1] % block == 0
    return gguf.GGMLQuantizationType[kind] if is_whole else gguf.GGMLQuantizationType.F16


def _shapes(folder: Path, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each tensor's name and shape, file by file, from the headers alone."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for key in opened.keys():  # noqa: SIM118 (a safetensors file is no mapping)
                if key == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue  # transformers reads the embedding in its place
                yield key, tuple(opened.get_slice(key).get_shape())


def _tensors(folder: Path, wanted: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors in the order in which they were announced."""
    with ExitStack() as stack:
        places: dict[str, Any] = {}
        for file in sorted(folder.glob("*.safetensors")):
            opened = stack.enter_context(safe_open(file, "pt"))
            places |= dict.fromkeys(opened.keys(), opened)
        for key in wanted:
            yield key, places[key].get_tensor(key)


def _in_place(key: str, tensor: torch.Tensor, config: dict[str, Any]) -> NDArray[np.float32]:
    """Return a tensor in float32, with the rows of q and k in llama.cpp's order."""
    array: NDArray[np.float32] = tensor.float().numpy()
    if array.ndim > 1 and not np.abs(array).max(initial=0.0) <= _LARGEST_F16:  # also refuses NaN
        raise InputError(
            f"{key} holds weights beyond {_LARGEST_F16:g} or NaN, which F16 and the scales of Q8_0 "
            "cannot hold; serve the safetensors"
        )
    num_heads = config["num_attention_heads"]
    heads = {
        "q_proj": num_heads,
        "k_proj": config.get("num_key_value_heads") or num_heads,
    }.get(key.split(".")[-2])
    if heads is None:
        return array
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))
