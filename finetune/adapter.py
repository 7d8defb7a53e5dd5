"""LoRA adapters through peft: put one on a base, save it, load it, refuse another base."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

from finetune import scratch as scratches
from finetune.adapter_files import (
    CONFIG,
    HEADS,
    RECORD,
    WEIGHTS,
    AdapterFiles,
    AdapterRecord,
    check_finite,
    check_identity,
    check_on,
    inspect,
    read_record,
    template_digest,
)
from finetune.checkpoint import Base
from finetune.config import AdapterConfig
from finetune.encoder_kinds import is_inside
from finetune.encoders import blocks_of, head_modules
from finetune.errors import InputError, IntegrityError
from finetune.tensor_files import open_weights, read_strict_json

__all__ = [
    "RECORD",
    "AdapterRecord",
    "active",
    "attach",
    "check_base",
    "check_identity",
    "effect",
    "inject",
    "load",
    "read_record",
    "save",
]


def linear_names(model: torch.nn.Module) -> dict[str, list[str]]:
    """Return the model's linear layers (but its heads), grouped by the last part of their name."""
    found: dict[str, list[str]] = {}
    heads = head_modules(model)
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        is_head = is_inside(name, heads) if heads else last in HEADS
        if isinstance(module, torch.nn.Linear) and not is_head:
            found.setdefault(last, []).append(name)
    return found


def linear_shapes(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """Return (out, in) of each linear layer but the heads, by its full name."""
    modules = dict(model.named_modules())
    return {
        name: (int(modules[name].out_features), int(modules[name].in_features))
        for names in linear_names(model).values()
        for name in names
    }


def refuse_unmergeable(base: Base) -> None:
    """Refuse a base before an adapter is trained on it that nothing could be merged into.

    It can be asked all the same.

    Raises:
        InputError: if its files are quantised already, or hold a linear layer transposed or under
            another name than the model does.
    """
    config = read_strict_json(base.folder / "config.json")
    if config.get("quantization_config"):
        raise InputError(
            f"{base.folder} is quantised already (its config.json has a quantization_config), so "
            "an adapter of it could never be merged. Name the 16-bit original in "
            "base.checkpoint; base.quantization: nf4 quantises it as it is loaded"
        )
    files = open_weights(base.folder)
    shapes = {name: entry.shape for file in files for name, entry in file.entries.items()}
    for name, wanted in linear_shapes(base.model).items():
        found = shapes.get(f"{name}.weight")
        if found == wanted[::-1] != wanted:
            raise InputError(
                f"{base.folder} holds the linear layer {name} transposed, as GPT-2 does, and an "
                "adapter of it could never be merged; choose another base. It can be evaluated"
            )
        if found != wanted:
            raise InputError(
                f"the model has a linear layer {name} of shape {wanted}, and the files in "
                f"{base.folder} have {found or 'none of that name'}, so an "
                "adapter of it could never be merged. Save the whole model anew: "
                "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(OTHER)"
            )


def inject(base: Base, config: AdapterConfig) -> Any:
    """Put a new, untrained adapter on the base and return the peft model.

    The initial A comes from torch's global generator, so seed that first. Adapter parameters are
    float32. On a classification base the new head is trained and saved with the adapter.

    Raises:
        InputError: if a target matches no linear layer, there are not so many blocks, PiSSA is
            asked of a 4-bit base, or no adapter of this base could ever be merged.
    """
    refuse_unmergeable(base)
    targets = _targets(base.model, config.targets)
    if config.init == "pissa" and base.quantization.kind != "none":
        raise InputError(
            "adapter.init: pissa moves the principal part of each weight into the adapter and "
            "would quantise the rest anew, so the 4-bit base would not be the pinned one; "
            "set base.quantization: none, or adapter.init: default"
        )
    if config.init == "pissa":
        shapes = linear_shapes(base.model)
        smallest = min(min(shapes[n]) for n in shapes if n.rpartition(".")[2] in targets)
        if config.rank > smallest:
            raise InputError(
                f"adapter.rank: {config.rank}, and pissa takes that many singular values of each "
                f"weight, of which the smallest target has {smallest}; lower the rank"
            )
    num_blocks = base.model.config.get_text_config().num_hidden_layers
    if config.last_layers is not None and config.last_layers > num_blocks:
        raise InputError(
            f"adapter.last_layers: {config.last_layers} is more than the base's {num_blocks} blocks"
        )
    is_classifier = base.head == "sequence-classification"
    heads = head_modules(base.model)
    if heads:  # what an encoder's layers are called, its heads' are called too
        targets = _in_last_blocks(base.model, targets, config.last_layers)
    peft_config = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        layers_to_transform=list(range(num_blocks - config.last_layers, num_blocks))
        if config.last_layers and not heads
        else None,
        modules_to_save=list(heads) or None,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        init_lora_weights="pissa" if config.init == "pissa" else True,
        task_type=TaskType.SEQ_CLS if is_classifier else TaskType.CAUSAL_LM,
    )
    try:
        model = get_peft_model(base.model, peft_config)
    except ValueError as error:  # such as a layer of Mamba that is never called as one
        offered = ", ".join(sorted(targets))
        raise InputError(f"adapter.targets: {error} (targets are {offered})") from error
    _leave_casting_to_autocast(model, base)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def _targets(model: Any, wanted: Literal["all-linear"] | Sequence[str]) -> list[str]:
    """Return the last parts of the names of the layers to adapt."""
    names = linear_names(model)
    experts = _read_as_experts(model, names)
    others = sorted(set(names) - experts)
    all_linear = [name for name in others if name not in _OF_POSITIONS]
    targets = all_linear if wanted == "all-linear" else list(wanted)
    offered = ", ".join(others)
    unknown = [target for target in targets if target not in names]
    if unknown or not targets:
        raise InputError(
            f"adapter.targets: {', '.join(unknown) or 'nothing'} matches no linear layer of the "
            f"base; it has {offered} (or write all-linear)"
        )
    if found := experts.intersection(targets):
        raise InputError(
            f"adapter.targets: {', '.join(sorted(found))}: of a {model.config.model_type}, peft "
            "adapts its experts by these names, which are no linear layers, so the adapter could "
            f"not be merged; choose from {offered} (or write all-linear, which leaves them out)"
        )
    return targets


_OF_POSITIONS = ("pos_proj", "pos_q_proj", "pos_query_proj", "pos_key_proj")
"""DeBERTa's projections of relative positions. They see one table for the whole batch and no row,
so no gradient of theirs belongs to one record: all-linear leaves them out, and a private run
refuses them by name."""


def _in_last_blocks(model: Any, targets: Sequence[str], num_blocks: int | None) -> list[str]:
    """Return the full names of an encoder's layers to adapt, in its last blocks or in all."""
    names = linear_names(model)
    found = sorted(name for target in targets for name in names[target])
    if num_blocks is None:
        return found
    prefix, blocks = blocks_of(model)
    wanted = tuple(f"{prefix}.{i}" for i in range(len(blocks) - num_blocks, len(blocks)))
    return [name for name in found if is_inside(name, wanted)]


def _read_as_experts(model: Any, names: Iterable[str]) -> set[str]:
    """Return the names of linear layers that peft takes to mean a mixture's experts.

    Transformers 5 holds experts in one tensor, and peft turns the names that they had before into
    that tensor's. In models where some blocks have no experts, or shared ones, linear layers of
    those names are there too; whoever loads an adapter of them with peft would get another one.
    """
    found = set()
    for name in names:
        probe = LoraConfig(target_modules=[name])
        try:
            convert_peft_config_for_transformers(probe, model, None)
        except ValueError:  # one of several names that stand for one tensor together
            found.add(name)
        found |= {name} - set(probe.target_modules)
    return found


def _leave_casting_to_autocast(model: Any, base: Base) -> None:
    """Spare each adapted layer two copies of its input.

    peft casts the input of every LoRA layer to the adapter's float32, and autocast, which a
    bfloat16 base is always run under here, casts it back. Measured on two cores: 1.05 to 1.14
    times the speed of a training step without.
    """
    if base.quantization.compute_dtype == "bfloat16":
        for module in model.modules():
            if isinstance(module, LoraLayer):
                module.cast_input_dtype_enabled = False


def save(model: Any, base: Base, folder: Path, *, init_folder: Path | None = None) -> None:
    """Write adapter and record to ``folder`` at once: it is either absent, old, or whole.

    Args:
        model: the peft model.
        base: what the adapter was trained on.
        folder: where to; replaced if it exists.
        init_folder: a PiSSA adapter as it was before training. The saved adapter is then a plain
            LoRA of twice the rank on the unchanged base (Meng et al. 2024, section 3).
    """
    with scratches.beside(folder) as scratch:
        scratch.mkdir()
        options = {"path_initial_model_for_weight_conversion": str(init_folder)}
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "PiSSA changes the base weights"
            )  # so it is converted
            model.save_pretrained(
                scratch, safe_serialization=True, **(options if init_folder else {})
            )
        (scratch / "README.md").unlink(missing_ok=True)  # peft's stub names a local path
        _clean_config(scratch / CONFIG)
        record = {
            "schema": 1,
            "base": base.identity,
            "head": base.head,
            "labels": list(base.labels),
            "is_multi_label": base.is_multi_label,
            "quantization": asdict(base.quantization),
            "layers": _adapted_layers(model),
            "chat_template": template_digest(base.tokenizer.chat_template),
            "prompt": base.prompt,
        }
        if base.pooling is not None:
            record |= {"encoder": base.model.config.model_type, "pooling": base.pooling}
        (scratch / RECORD).write_text(
            json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8", newline="\n"
        )
        for file in scratch.iterdir():
            file.chmod(0o644)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
        folder.chmod(0o755)


def _adapted_layers(model: Any) -> list[str]:
    modules = model.get_base_model().named_modules()
    return sorted(name for name, module in modules if isinstance(module, LoraLayer))


def _clean_config(path: Path) -> None:
    """Take the local path of the base out of peft's config; the record holds its identity.

    peft holds the targets in a set, whose order is another in every process; the same training must
    leave the same files.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None
    config["target_modules"] = sorted(config["target_modules"])
    # not what stands in a pattern: the first of its keys that fits a layer holds
    config = {key: config[key] for key in sorted(config)}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8", newline="\n")


def check_base(folder: Path, base: Base) -> None:
    """Refuse a base that is not the one that the adapter was trained on.

    Raises:
        IntegrityError: with both identities, both fingerprints of the 4-bit codes, or both prompts.
    """
    record = read_record(folder)
    check_identity(record, base.identity, base.folder, folder)
    quantization = record.quantization
    if (quantization.kind, quantization.codes) != (base.quantization.kind, base.quantization.codes):
        raise IntegrityError(
            f"the adapter {folder} was trained on {quantization.kind} weights "
            f"{quantization.codes or '(unquantised)'}, and this base is loaded as "
            f"{base.quantization.kind} {base.quantization.codes or '(unquantised)'}; load it with "
            "the same base.quantization, as the adapter's record says (checkpoint.load(held_as=))"
        )
    if record.pooling != base.pooling:
        raise IntegrityError(
            f"the adapter {folder} reads a text by the pooling {record.pooling}, and this base is "
            f"loaded with {base.pooling}; set base.pooling: {record.pooling}"
        )
    if record.prompt != base.prompt:
        raise IntegrityError(
            f"the adapter {folder} was trained with the prompt {record.prompt!r}, and this base's "
            f"tokenizer puts {base.prompt!r} around a text; set adapter.prompt as it was"
        )


def load(base: Base, folder: Path) -> Any:
    """Put a saved adapter on its base, frozen, and return the peft model; see `attach`."""
    return attach(base, {"default": folder})


def attach(base: Base, folders: Mapping[str, Path], *, is_own_base: bool = True) -> Any:
    """Put saved adapters on one base, frozen, and return the peft model; the first is active.

    Every folder is checked as one that a stranger wrote (`finetune.adapter_files`) before peft sees
    it, and peft is given settings made from what was found, never the folder's own.

    Args:
        base: what all of them were trained on.
        folders: adapter folders by the name to give to `active`; a name has no dot.
        is_own_base: False only for what this program made of their base (its original weights, a
            serving base), which with them is another model, to be measured by itself.

    Raises:
        IntegrityError: if the base is another one than it was trained on, or if a folder lacks
            a tensor, holds one too many, or is not as training writes it in any other way.
        InputError: if a folder is no adapter folder, or of a kind that is not supported.
    """
    model: Any = None
    shapes = linear_shapes(base.model)
    for name, folder in folders.items():
        if is_own_base:
            check_base(folder, base)
        files = inspect(folder)
        check_on(files, shapes)
        _check_heads(files, base.model)
        check_finite(files)
        config = _peft_config(files)
        if model is None:
            model = PeftModel.from_pretrained(
                base.model, folder, adapter_name=name, config=config, local_files_only=True
            )
        else:
            model.add_adapter(name, config)
            model.load_adapter(folder, adapter_name=name, local_files_only=True)
        odd = set(files.weights.entries) ^ set(get_peft_model_state_dict(model, adapter_name=name))
        if odd:
            raise IntegrityError(
                f"peft makes other tensors of the adapter {folder} than stand in {WEIGHTS}: "
                f"{len(odd)} differ, first {min(odd)}"
            )
    _leave_casting_to_autocast(model, base)
    model.requires_grad_(False)
    return model.eval()


def _check_heads(files: AdapterFiles, model: Any) -> None:
    """Hold an encoder's trained head against the model that it is put on.

    Raises:
        IntegrityError: if it is another kind's, or a tensor has another shape.
    """
    if files.record.head_modules != head_modules(model):
        raise IntegrityError(
            f"the adapter {files.folder} was trained with the head "
            f"{', '.join(files.record.head_modules) or 'of a language model'}, and this base has "
            f"{', '.join(head_modules(model)) or 'that of a language model'}; set base.pooling as "
            "it was"
        )
    if not files.record.head_modules:
        return
    own = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if is_inside(name.replace("original_module.", ""), files.record.head_modules)
    }
    own = {name.replace("original_module.", ""): shape for name, shape in own.items()}
    for name, key in files.heads.items():
        if own.get(name) != tuple(files.weights.entries[key].shape):
            raise IntegrityError(
                f"the adapter {files.folder} holds {name} of shape "
                f"{files.weights.entries[key].shape}, and the model has {own.get(name)}"
            )


def _peft_config(files: AdapterFiles) -> LoraConfig:
    """Return peft's settings for what the folder was found to hold, each layer by its full name."""
    first = files.layers[files.record.layers[0]]
    names = {re.escape(layer): factors for layer, factors in files.layers.items()}
    is_classifier = files.record.head == "sequence-classification"
    return LoraConfig(
        r=first.rank,
        lora_alpha=first.alpha,
        rank_pattern={n: f.rank for n, f in names.items() if f.rank != first.rank},
        alpha_pattern={n: f.alpha for n, f in names.items() if f.alpha != first.alpha},
        target_modules=list(files.record.layers),
        use_rslora=files.use_rslora,
        use_dora=files.use_dora,
        modules_to_save=list(files.record.head_modules)
        or sorted({name.partition(".")[0] for name in files.heads})
        or None,
        inference_mode=True,
        task_type=TaskType.SEQ_CLS if is_classifier else TaskType.CAUSAL_LM,
    )


@contextmanager
def active(model: Any, name: str | None) -> Iterator[None]:
    """Answer with one of the attached adapters; with None, as the base does."""
    if name is None:
        with model.disable_adapter():
            yield
        return
    model.set_adapter(name, inference_mode=True)
    yield


@torch.no_grad()
def effect(model: Any, name: str, input_ids: torch.Tensor) -> float:
    """Return the largest change of a logit that an attached adapter makes on a text.

    Zero means that the adapter does nothing: its B factors are zero, or it is not applied.

    Args:
        model: from `attach`.
        name: of the adapter.
        input_ids: shape ``(1, T)``.
    """
    # the adapter is float32, and a bfloat16 base is always run under autocast here
    is_bf16 = model.dtype == torch.bfloat16
    with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=is_bf16):
        with active(model, None):
            without = model(input_ids=input_ids).logits.float()
        with active(model, name):
            change = model(input_ids=input_ids).logits.float() - without
    return float(change.abs().max())
