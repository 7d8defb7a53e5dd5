"""An adapter folder as files: read with suspicion, before torch or peft sees any of it.

An adapter may come from anyone. Measured on peft 0.21: a full ``lm_head.weight`` in an adapter
overwrites the base's without a word, a missing factor is a warning, a regular expression in
``target_modules`` is run as it is. So an adapter is taken here for what its tensors are, by an
allow-list that its record spells out, and peft is given settings of our own making.

A and B are the factors of an update scaling * B @ A (Hu et al. 2021, arXiv:2106.09685).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from finetune.config import TEXT
from finetune.encoder_kinds import ENCODERS, POOLED_HEAD, Pooling, heads_of, is_inside
from finetune.errors import InputError, IntegrityError
from finetune.quantization import VERSION, Quantization
from finetune.tensor_files import TensorFile, open_file, read_strict_json, shown

Head = Literal["causal-lm", "sequence-classification"]

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
RECORD = "assay.json"
"""Beside peft's own files: the base's identity and how it was quantised in training."""

CLASSIFIERS = ("score", "classifier")
"""What classification models call their one trained layer."""

HEADS = ("lm_head", *CLASSIFIERS, POOLED_HEAD, "embed_out", "output")

MAX_RANK = 8192
"""Twice the largest rank that can be configured: a PiSSA adapter is saved with twice its rank."""

_MAX_SETTINGS_BYTES = 4 << 20
_NAME = re.compile(r"[\w-]{1,100}(\.[\w-]{1,100}){0,15}")  # no two ways to match: linear time
_DIGEST = re.compile(r"sha256:[0-9a-f]{1,64}")
_EXPONENTS = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")

# what an adapter's settings may say; whatever else they name must be off (null, false or empty)
_UNDERSTOOD = {
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora"),
    *("target_modules", "modules_to_save"),
}
_ALLOWED: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", "SEQ_CLS", None),
    "bias": ("none", None),
    # all others take something out of the base's weights when they are loaded
    "init_lora_weights": (True, False, "gaussian", None),
    "inference_mode": (True, False),
    "megatron_core": ("megatron.core", None),
}
_HARMLESS = {
    "base_model_name_or_path": "never followed: the record's digest says which base it is",
    "revision": "of that name",
    "layers_to_transform": "of training: which layers have an update is told by the tensors",
    "lora_dropout": "of training",
    "peft_version": "of training",
    "qalora_group_size": "has no effect without use_qalora",
}


@dataclass(frozen=True)
class AdapterRecord:
    """What an adapter folder says of its own training."""

    base: str
    """Identity of the base."""

    head: Head
    labels: tuple[str, ...]
    is_multi_label: bool
    quantization: Quantization
    layers: tuple[str, ...]
    """Names of the adapted layers in the base model, sorted: all of them must be in the folder."""

    chat_template: str | None = None
    """``sha256:...`` of the chat template that it was trained with; None: an old record."""

    prompt: str | None = None
    """What the tokenizer put around a classifier's texts."""

    encoder: str | None = None
    """``model_type`` of an encoder; None for other models, and in old records."""

    pooling: Pooling | None = None
    """How an encoder's classifier reads a text."""

    @property
    def head_modules(self) -> tuple[str, ...]:
        """Modules of an encoder's classifier that were trained whole; none for other models."""
        if self.encoder is None or self.pooling is None:
            return ()
        return heads_of(self.encoder, self.pooling)


@dataclass(frozen=True)
class Factors:
    """The shape of one layer's update, from the header alone."""

    rank: int
    alpha: float
    scaling: float
    num_out: int
    num_in: int


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter folder that is what it says, as far as can be told without its base."""

    folder: Path
    record: AdapterRecord
    weights: TensorFile
    layers: Mapping[str, Factors]
    use_dora: bool
    use_rslora: bool
    heads: Mapping[str, str]
    """Tensors of a trained classification head: their names in the model, and in the file."""

    def names(self, layer: str) -> dict[str, str]:
        """Return the names of one layer's tensors in the file, by ``A``, ``B``, ``magnitude``."""
        stem = f"base_model.model.{layer}.lora_"
        found = {"A": f"{stem}A.weight", "B": f"{stem}B.weight"}
        return found | ({"magnitude": f"{stem}magnitude_vector"} if self.use_dora else {})


def read_record(folder: Path) -> AdapterRecord:
    """Return what the adapter folder says of its base.

    Raises:
        InputError: if the folder is no adapter folder of ours.
        IntegrityError: if its record is not in order.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} is not an adapter folder: it has no {CONFIG}")
    unknown = InputError(
        f"{folder} does not say which base it was trained on ({RECORD} is missing or not "
        "readable); an adapter cannot be used on a guess. Train it with this program"
    )
    path = folder / RECORD
    if not path.is_file() or path.stat().st_size > _MAX_SETTINGS_BYTES:
        raise unknown
    try:
        values = json.loads(path.read_bytes())
        quantization = dict(values["quantization"])
        for key in ("modules", "layer_codes"):
            quantization[key] = tuple(quantization.get(key, ()))
        quantization.setdefault("version", 1)
        record = AdapterRecord(
            base=values["base"],
            head=values["head"],
            labels=tuple(values["labels"]),
            is_multi_label=values["is_multi_label"],
            quantization=Quantization(**quantization),
            layers=tuple(values["layers"]),
            chat_template=values.get("chat_template"),
            prompt=values.get("prompt"),
            encoder=values.get("encoder"),
            pooling=values.get("pooling"),
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        raise unknown from None
    _check_record(path, record, read_strict_json(path, _MAX_SETTINGS_BYTES))
    return record


def _check_record(path: Path, record: AdapterRecord, values: Mapping[str, Any]) -> None:
    known = {"schema", *AdapterRecord.__dataclass_fields__}
    held = record.quantization
    problems = {
        f"it holds {shown(str(min(values.keys() - known, default='')))}": not values.keys()
        <= known,
        "base is no sha256": not _is(_DIGEST, record.base),
        "head is none that we train": record.head not in get_args(Head),
        "schema is not 1": values.get("schema", 1) != 1,
        "a label is no text": not all(isinstance(label, str) for label in record.labels),
        "a label stands twice": len(set(record.labels)) < len(record.labels),
        "is_multi_label is not true or false": not isinstance(record.is_multi_label, bool),
        "layers is no sorted list of names": not (record.layers and _are_names(record.layers)),
        "quantization.modules is no sorted list of names": not _are_names(held.modules),
        "quantization.kind is neither nf4 nor none": held.kind not in ("nf4", "none"),
        "it was quantised in other blocks than ours": (held.block_size, held.is_double)
        != (64, True),
        f"quantization.version is not 1 to {VERSION}, and may be a newer program's": held.version
        not in range(1, VERSION + 1),
        "compute_dtype is none that we train in": held.compute_dtype
        not in ("bfloat16", "float16", "float32"),
        "nf4 without its codes, or codes without nf4": (held.kind == "nf4")
        != (bool(held.modules) and _is(_DIGEST, held.codes)),
        "layer_codes are not one for each module": len(held.layer_codes)
        not in (0, len(held.modules))
        or not all(_is(_DIGEST, code) for code in held.layer_codes),
        "chat_template is no sha256": record.chat_template not in (None, "")
        and not _is(_DIGEST, record.chat_template),
        "a prompt is around a classifier's texts alone": record.prompt is not None
        and record.head == "causal-lm",
        "encoder and pooling are none that we train": (record.encoder, record.pooling)
        != (None, None)
        and not (
            record.head == "sequence-classification"
            and isinstance(record.encoder, str)
            and record.encoder in ENCODERS
            and record.pooling in get_args(Pooling)
        ),
        f"prompt is no text with one {TEXT}": record.prompt is not None
        and not (isinstance(record.prompt, str) and record.prompt.count(TEXT) == 1),
    }
    found = [problem for problem, is_so in problems.items() if is_so]
    if found:
        raise IntegrityError(
            f"the record {path} is not one that training wrote: {'; '.join(found)}. "
            "Take the folder that training wrote"
        )


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _are_names(values: tuple[object, ...]) -> bool:
    names = [value for value in values if _is(_NAME, value)]
    return len(names) == len(values) and sorted(set(names), key=str) == names


def template_digest(template: object) -> str:
    """Return ``sha256:...`` of a tokenizer's chat template; empty for none."""
    if not template:
        return ""
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def template_of(folder: Path) -> str:
    """Return the digest of the chat template that stands in a folder's tokenizer files.

    Raises:
        IntegrityError: if it is no text, or longer than any template.
    """
    path = folder / "chat_template.jinja"
    if path.is_file():
        if path.stat().st_size > _MAX_SETTINGS_BYTES:
            raise IntegrityError(f"{path} has more than {_MAX_SETTINGS_BYTES} bytes")
        try:
            return template_digest(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{path} is no text in UTF-8: {error.reason}") from None
    settings = folder / "tokenizer_config.json"
    found = read_strict_json(settings) if settings.is_file() else {}
    return template_digest(found.get("chat_template") if isinstance(found, dict) else None)


def inspect(folder: Path) -> AdapterFiles:
    """Check an adapter folder from its names, settings and header, and return what it holds.

    No tensor is read or allocated. What the base must confirm is `check_on`'s, what the numbers
    are is `check_finite`'s.

    Raises:
        InputError: if it is no adapter folder of ours, or of a kind that is not supported.
        IntegrityError: if anything in it is not as training writes it.
    """
    record = read_record(folder)
    _check_file_names(folder, record)
    settings = _settings(folder, record)
    if not (folder / WEIGHTS).is_file():
        raise IntegrityError(f"the adapter {folder} has no {WEIGHTS}")
    weights = open_file(folder / WEIGHTS)
    adapter = AdapterFiles(
        folder,
        record,
        weights,
        {},
        use_dora=bool(settings.get("use_dora")),
        use_rslora=bool(settings.get("use_rslora")),
        heads=_heads(settings, record, weights),
    )
    wanted = [name for layer in record.layers for name in adapter.names(layer).values()]
    _check_names(folder, record, {*wanted, *adapter.heads.values()}, weights)
    ranks = _by_layer(folder, "rank_pattern", settings, record.layers, settings.get("r"))
    alphas = _by_layer(folder, "alpha_pattern", settings, record.layers, settings.get("lora_alpha"))
    layers = {
        layer: _factors(adapter, layer, ranks[layer], alphas[layer]) for layer in record.layers
    }
    return replace(adapter, layers=layers)


def _check_file_names(folder: Path, record: AdapterRecord) -> None:
    for path in sorted(folder.iterdir()):
        name = path.name
        reason = None
        if path.suffix in _PICKLES:
            reason = "a pickle, which runs code when it is loaded"
        elif path.suffix in (".py", ".so", ".pyc"):
            reason = "code, and an adapter is data"
        elif name == "config.json" or (path.suffix == ".safetensors" and name != WEIGHTS):
            reason = "part of a whole model, on which the adapter would be put a second time"
        elif name.endswith(".index.json"):
            reason = f"an index, and an adapter is one file, {WEIGHTS}"
        if reason:
            raise IntegrityError(
                f"the adapter {folder} holds {shown(name)}: {reason}. "
                "Take the folder that training wrote"
            )
    if (folder / "additional_chat_templates").exists() or (
        (found := template_of(folder)) and found != record.chat_template
    ):
        raise IntegrityError(
            f"the adapter {folder} brings another chat template than it was trained with "
            f"({record.chat_template or 'not recorded'}). A template is part of what is asked, and "
            "can hold words of its own; take the folder that training wrote"
        )


def _settings(folder: Path, record: AdapterRecord) -> dict[str, Any]:
    path = folder / CONFIG
    settings = read_strict_json(path, _MAX_SETTINGS_BYTES)
    if not isinstance(settings, dict):
        raise IntegrityError(f"{path} is no JSON object")
    for key, value in settings.items():
        if key in _UNDERSTOOD or key in _HARMLESS:
            continue
        if key in _ALLOWED:
            is_fine = any(value is one or value == one for one in _ALLOWED[key])
        else:
            is_fine = value is None or value is False or value in ("", {}, [])
        if not is_fine:
            raise InputError(
                f"{path} sets {shown(key)} to {shown(str(value))}; only LoRA, rsLoRA and DoRA on "
                "linear layers are supported, and a trained PiSSA once it is converted to LoRA"
            )
    if settings.get("peft_type") != "LORA":
        raise InputError(f"{path} does not say peft_type: LORA; only LoRA is supported")
    for key in ("use_rslora", "use_dora"):
        if settings.get(key) not in (True, False, None):
            raise IntegrityError(f"{path}: {key} is neither true nor false")
    _check_targets(path, settings.get("target_modules"), record.layers)
    return settings


def _check_targets(path: Path, targets: Any, layers: tuple[str, ...]) -> None:
    """Hold the targets against the layers there are. They are names; none is run as a pattern."""
    targets = [targets] if isinstance(targets, str) else targets
    if not (isinstance(targets, list) and all(_is(_NAME, one) for one in targets)):
        raise IntegrityError(
            f"{path}: target_modules is no list of names (of at most 16 parts of at most 100 "
            "letters). Regular expressions from outside are never run; name the layers"
        )
    ends = {end for layer in layers for end in _ends(layer)}
    for target in targets:
        if target not in ends:
            raise IntegrityError(
                f"{path} targets {shown(target)}, of which the adapter holds no layer"
            )
    named = set(targets)
    if any(named.isdisjoint(_ends(layer)) for layer in layers):
        raise IntegrityError(f"the adapter holds layers that {path} does not target")


def _ends(layer: str) -> Iterator[str]:
    """Yield ``a.b.c``, ``b.c``, ``c``: what peft matches a plain name against."""
    while layer:
        yield layer
        layer = layer.partition(".")[2]


def _heads(
    settings: Mapping[str, Any], record: AdapterRecord, weights: TensorFile
) -> dict[str, str]:
    """Return the tensors of a trained head, which only a classifier may bring."""
    saved = settings.get("modules_to_save") or []
    if not (isinstance(saved, list) and all(_is(_NAME, one) for one in saved)):
        raise IntegrityError("modules_to_save is no list of names")
    if record.head == "causal-lm":
        if saved:
            raise InputError(
                f"the adapter {weights.path.parent} brings whole trained modules "
                f"({', '.join(saved[:5])}). A head or embedding of a language model is often one "
                "tensor with the other (tie_word_embeddings), so it is trained and merged only "
                "after they are untied; train adapters on linear layers alone"
            )
        return {}
    if record.head_modules:
        return _encoder_heads(record, weights)
    allowed = {f"{head}.{part}" for head in set(saved) & set(HEADS) for part in ("weight", "bias")}
    stem = "base_model.model."
    found = {n.removeprefix(stem): n for n in weights.entries if n.removeprefix(stem) in allowed}
    num_labels = len(record.labels)
    shapes = {own: weights.entries[name].shape for own, name in found.items()}
    if not any(name.endswith(".weight") for name in found) or any(
        shape[:1] != (num_labels,) or len(shape) != (2 if name.endswith(".weight") else 1)
        for name, shape in shapes.items()
    ):
        raise IntegrityError(
            f"the adapter {weights.path.parent} was trained with a sequence-classification head "
            f"of {num_labels} labels and holds "
            + (f"{sorted(found)} of other sizes" if found else "no trained head")
        )
    return found


def _encoder_heads(record: AdapterRecord, weights: TensorFile) -> dict[str, str]:
    """Return the tensors of an encoder's head: in most kinds, more than one layer's."""
    stem = "base_model.model."
    heads = record.head_modules
    found = {
        name.removeprefix(stem): name
        for name in weights.entries
        if name.startswith(stem)
        and is_inside(name.removeprefix(stem), heads)
        and ".lora_" not in name
    }
    num_labels = len(record.labels)
    classes = [
        own
        for own, name in found.items()
        if is_inside(own, heads[-1:])
        and own.endswith(".weight")
        and weights.entries[name].shape[:1] == (num_labels,)
    ]
    lacking = [head for head in heads if not any(is_inside(own, (head,)) for own in found)]
    # a kind may keep a part that the published encoder has; the classes are always new
    if not classes or lacking[-1:] == [heads[-1]]:
        raise IntegrityError(
            f"the adapter {weights.path.parent} was trained with a head of {num_labels} labels on "
            f"an encoder ({record.encoder}, pooling {record.pooling}) and holds "
            + (f"{sorted(found)} of other sizes" if found else "no trained head")
        )
    return found


def _check_names(
    folder: Path, record: AdapterRecord, wanted: set[str], weights: TensorFile
) -> None:
    extra, missing = set(weights.entries) - wanted, wanted - set(weights.entries)
    if extra:
        raise IntegrityError(
            f"the adapter {folder} holds {shown(min(extra))}, which is no part of an update of the "
            f"{len(record.layers)} layers that it was trained on ({len(extra)} such tensors). peft "
            "would write it over the base's weights"
        )
    if missing:
        raise IntegrityError(
            f"the adapter {folder} lacks {shown(min(missing))} ({len(missing)} missing tensors); "
            "without it the model would be partly its base"
        )


def _by_layer(
    folder: Path,
    key: str,
    settings: Mapping[str, Any],
    layers: tuple[str, ...],
    default: object,
) -> dict[str, Any]:
    """Return each layer's value of a pattern whose keys are names; the first that fits holds."""
    pattern = settings.get(key) or {}
    if not (isinstance(pattern, dict) and all(_is(_NAME, name) for name in pattern)):
        raise IntegrityError(
            f"{folder / CONFIG}: the keys of {key} must be names of layers or ends of names. "
            "Regular expressions from outside are never run"
        )
    # peft takes a key for a regular expression, in which a dot stands for any letter
    if strange := pattern.keys() - {end for layer in layers for end in _ends(layer)}:
        raise IntegrityError(
            f"{folder / CONFIG}: {key} names {shown(min(strange))}, of which the adapter holds no "
            "layer"
        )
    place = {name: number for number, name in enumerate(pattern)}
    found = {}
    for layer in layers:
        fitting = [end for end in _ends(layer) if end in place]
        found[layer] = pattern[min(fitting, key=place.__getitem__)] if fitting else default
    return found


def _factors(adapter: AdapterFiles, layer: str, rank: Any, alpha: Any) -> Factors:
    """Check the shapes and types of one layer's tensors against its rank."""
    entries = {part: adapter.weights.entries[n] for part, n in adapter.names(layer).items()}
    where = f"the adapter {adapter.folder}, layer {layer}"
    for entry in entries.values():
        if entry.dtype not in _EXPONENTS:
            raise IntegrityError(
                f"{where}: a tensor is {entry.dtype}, and factors are 16 or 32 bit"
            )
    A, B = entries["A"].shape, entries["B"].shape
    if not (type(rank) is int and 1 <= rank <= MAX_RANK):
        raise IntegrityError(f"{where}: the rank {shown(str(rank))} is not 1 to {MAX_RANK}")
    if len(A) != 2 or len(B) != 2 or (A[0], B[1]) != (rank, rank):
        raise IntegrityError(f"{where}: factors of shape {A} and {B}, but its rank is {rank}")
    if adapter.use_dora and entries["magnitude"].shape != (B[0],):
        raise IntegrityError(f"{where}: {entries['magnitude'].shape} magnitudes for {B[0]} rows")
    if type(alpha) not in (int, float) or not 0 < alpha <= 1e6:
        raise IntegrityError(f"{where}: the alpha {shown(str(alpha))} is not within 0 to 1e6")
    scaling = alpha / (math.sqrt(rank) if adapter.use_rslora else rank)
    return Factors(rank, float(alpha), scaling, num_out=B[0], num_in=A[1])


def check_on(adapter: AdapterFiles, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Hold an adapter against the linear layers of its base.

    Args:
        adapter: from `inspect`.
        shapes: (out, in) of each layer of the base that may be adapted, by name.

    Raises:
        IntegrityError: if a layer is none of them, or of another shape.
    """
    heads = adapter.record.head_modules
    for layer, factors in adapter.layers.items():
        is_head = layer.rpartition(".")[2] in HEADS or is_inside(layer, heads)
        if is_head or layer not in shapes:
            raise IntegrityError(
                f"the adapter {adapter.folder} changes {shown(layer)}, which is no linear layer "
                "inside its base"
            )
        if (factors.num_out, factors.num_in) != tuple(shapes[layer]):
            raise IntegrityError(
                f"the layer {layer} has shape {tuple(shapes[layer])} in the base, and its update "
                f"{(factors.num_out, factors.num_in)}"
            )


def check_finite(adapter: AdapterFiles) -> None:
    """Read every number of an adapter, a block at a time.

    Raises:
        IntegrityError: naming the first tensor that holds NaN or infinity.
    """
    for name, entry in adapter.weights.entries.items():
        kind, exponent = _EXPONENTS[entry.dtype]
        for block in adapter.weights.blocks(name):
            if bool(((np.frombuffer(block, kind) & exponent) == exponent).any()):
                raise IntegrityError(f"the adapter tensor {name} holds NaN or infinity")


def check_identity(record: AdapterRecord, identity: str, base_folder: Path, folder: Path) -> None:
    """Refuse a base of another identity.

    Raises:
        IntegrityError: with both identities.
    """
    if record.base != identity:
        raise IntegrityError(
            f"the adapter {folder} was trained on the base {record.base}, and this base is "
            f"{identity} ({base_folder}). An adapter is right only on its own base: "
            "name that one in base.checkpoint, or train again"
        )
