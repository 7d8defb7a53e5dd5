"""What a finished run or a release has lying in its folder, held against the check-list.

Nothing is trusted that can be read: logged figures, generator states, the adapter's own
configuration and the names and types of its tensors. Texts are only ever counted.
"""

import json
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from privacy.checklist import Finding, finding
from privacy.provable import NOTHING
from privacy.refusals import DATA_DRIVEN_INITS

__all__ = ["audit_artefacts"]

PUBLIC_FIGURES = frozenset({"step", "learning_rate", "epoch"})
"""What a step may log: known without the data."""

_STATES = ("rng_state", "random_states", "generator_state")
_LOGS = ("training.jsonl", "trainer_state.json")
_LEFTOVERS = (".arrow", ".parquet", ".pkl", ".pickle", ".dmp", ".core")
_HEADS = ("score", "classifier")  # trained in full, and linear layers
_UNCLIPPED = ("lora_magnitude", "embed", "wte", "wpe", "lm_head", "token_adapter", "router")
_LARGEST_TEXT = 20_000_000  # bytes; beyond it a file is not searched for texts
_SHORTEST_TEXT = 20  # characters of a training text that are worth looking for


def audit_artefacts(
    folder: str | os.PathLike[str],
    *,
    texts: Sequence[str] = (),
    is_release: bool = False,
) -> list[Finding]:
    """Hold the files of a run or of a release against the check-list.

    Args:
        folder: of the run or the release.
        texts: of training rows, to be looked for in what would leave the house; none are printed.
        is_release: whether the folder is what others get.

    Returns:
        Findings; several may be of one line.
    """
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [
        *_states(root, files),
        *_logged(root, files),
        *_adapter(root, files),
        *_leftovers(root, files, is_release=is_release),
        *_bundle(root, files, texts, is_release=is_release),
    ]


def _states(root: Path, files: Sequence[Path]) -> Iterator[Finding]:
    states = [_name(root, path) for path in files if path.name.startswith(_STATES)]
    has_checkpoints = any(path.name == "trainer_state.json" for path in files)
    if states:
        evidence = f"generator states are stored: {_some(states)}; delete them, and train anew"
        effect = f"noise that is drawn again after a restart can be subtracted: {NOTHING}"
        yield finding("N3", "fail", evidence, effect)
        yield finding("L3", "fail", evidence, effect)
    else:
        where = "in the checkpoints" if has_checkpoints else "anywhere, and no checkpoint is kept"
        yield finding("N3", "pass", f"no generator state is stored {where}")
        yield finding("L3", "pass", f"no generator state is stored {where}")


def _logged(root: Path, files: Sequence[Path]) -> Iterator[Finding]:
    logs = [path for path in files if path.name in _LOGS]
    if not logs:
        yield finding("L1", "not_applicable", "no training log is there")
        return
    for path in logs:
        keys = {key for line in _lines(path) for key in line}
        private = sorted(keys - PUBLIC_FIGURES)
        name = _name(root, path)
        if private:
            evidence = f"{name} holds {', '.join(private)} of private batches; delete the file"
            effect = "a release beside the model, without noise, that no account counts"
            yield finding("L1", "fail", evidence, effect)
        else:
            told = ", ".join(sorted(keys)) or "nothing"
            yield finding("L1", "pass", f"{name} holds {told}")
        if path.name == "trainer_state.json" and b'"best_metric": null' not in path.read_bytes():
            evidence = f"{name} names a best checkpoint, chosen by private rows"
            yield finding("A6", "fail", evidence, "each look at private rows is a further release")


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        if path.suffix == ".jsonl":
            found = [
                json.loads(line)
                for line in path.read_text(encoding="utf-8").splitlines()
                if line.strip()
            ]
        else:
            found = json.loads(path.read_text(encoding="utf-8")).get("log_history", [])
    except (ValueError, AttributeError, TypeError, RecursionError):
        return [{"an unreadable line": None}]
    return [line for line in found if isinstance(line, dict)]


def _adapter(root: Path, files: Sequence[Path]) -> Iterator[Finding]:
    for path in files:
        if "checkpoint-" in str(path):
            continue
        name = _name(root, path)
        try:
            if path.name == "adapter_config.json":
                yield from _adapter_config(name, json.loads(path.read_text(encoding="utf-8")))
            if path.name == "adapter_model.safetensors":
                yield from _adapter_tensors(name, _header(path))
                if not path.with_name("adapter_config.json").is_file():
                    evidence = f"{name} has no adapter_config.json beside it"
                    yield finding("D3", "fail", evidence, "what kind of adapter it is is not known")
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError, struct.error):
            yield finding("D3", "fail", f"{name} cannot be read", "what it holds is not known")


def _adapter_config(name: str, config: dict[str, Any]) -> Iterator[Finding]:
    init = config.get("init_lora_weights", True)
    if str(init).lower() in DATA_DRIVEN_INITS:
        evidence = f"{name}: init_lora_weights is {init!r}, computed from private rows"
        effect = "a release beside the model, without noise, that no account counts"
        yield finding("L5", "fail", evidence, effect)
    else:
        yield finding("L5", "pass", f"{name}: init_lora_weights is {init!r}, made without the data")
    kind = str(config.get("peft_type", "LORA"))
    heads = set(config.get("modules_to_save") or ()) - set(_HEADS)
    names = {*heads, *_as_names(config.get("target_modules"))}
    wrong = [f"peft_type is {kind}"] if kind.upper() != "LORA" else []
    wrong += [f"{key} is on" for key in ("use_dora", "trainable_token_indices", "target_parameters")
              if config.get(key)]  # fmt: skip
    wrong += [f"{one} is trained" for one in sorted(names) if one in heads or _is_unclipped(one)]
    if wrong:
        evidence = f"{name}: {'; '.join(wrong)}, which has no gradient for each record"
        yield finding("D3", "fail", evidence, f"what is not clipped is unbounded: {NOTHING}")
    else:
        yield finding("D3", "pass", f"{name}: plain LoRA on linear layers")


def _adapter_tensors(name: str, header: dict[str, Any]) -> Iterator[Finding]:
    tensors = {key: value for key, value in header.items() if key != "__metadata__"}
    strange = sorted(t for t in tensors if not _is_clipped(t))
    if strange:
        evidence = f"{name} holds {_some(strange)}, which has no gradient for each record"
        yield finding("D3", "fail", evidence, f"what is not clipped is unbounded: {NOTHING}")
    else:
        yield finding("D3", "pass", f"{name} holds {len(tensors)} tensors of linear layers alone")
    narrow = sorted({value["dtype"] for value in tensors.values()} - {"F32", "F64"})
    if narrow:
        evidence = f"{name} holds tensors in {', '.join(narrow)}: noise in it takes few values"
        yield finding("N4", "fail", evidence, f"few values show what they hide: {NOTHING}")
    else:
        yield finding("N4", "pass", f"{name} is in float32")


def _header(path: Path) -> dict[str, Any]:
    """Names, types and shapes of a safetensors file."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, Any] = json.loads(stream.read(length))
    return header


def _is_clipped(tensor: str) -> bool:
    layers = tensor.split(".")
    return not _is_unclipped(tensor) and (
        any(part in ("lora_A", "lora_B") for part in layers) or any(h in layers for h in _HEADS)
    )


def _is_unclipped(name: str) -> bool:
    return any(part in name for part in _UNCLIPPED)


def _as_names(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


def _leftovers(root: Path, files: Sequence[Path], *, is_release: bool) -> Iterator[Finding]:
    left = [_name(root, p) for p in files if p.suffix in _LEFTOVERS or p.name == "core"]
    texts = [
        _name(root, p)
        for p in files
        if (p.parent.name == "samples" or p.name == "cache.jsonl") and _holds_text(p)
    ]
    if left:
        evidence = f"{_some(left)} may hold private rows; delete it"
        yield finding("L9", "fail", evidence, "rows themselves would leave, which no noise covers")
    elif texts and is_release:
        evidence = f"{_some(texts)} hold texts of held-out rows; leave them out of the release"
        yield finding("L9", "fail", evidence, "rows themselves would leave, which no noise covers")
    elif texts:
        evidence = (
            f"no caches or dumps; {len(texts)} files below eval/ hold texts of held-out rows, and "
            "stay with the data"
        )
        yield finding("L9", "pass", evidence)
    else:
        yield finding("L9", "pass", "no caches, dumps or samples")


def _holds_text(path: Path) -> bool:
    """Whether items are told; their scores without a word of them may leave."""
    try:
        lines = [
            json.loads(line)
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.strip()
        ]
        return any(line.get(key) for line in lines for key in ("prompt", "prediction", "target"))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return True  # who knows


def _bundle(
    root: Path, files: Sequence[Path], texts: Sequence[str], *, is_release: bool
) -> Iterator[Finding]:
    """Look for training texts, word for word, in what would leave the house."""
    wanted = {text for text in texts if len(text) >= _SHORTEST_TEXT}
    if not wanted:
        why = "the rows are not at hand" if not texts else "no text is long enough to look for"
        yield finding("L7", "not_checked", f"{why}, so files were not searched for them")
        return
    inside = ("eval", "checkpoints")  # stay with the data; a release has no such folder
    searched, holding = [], []
    for path in files:
        is_inside = path.relative_to(root).parts[0] in inside or path.name == "report.html"
        is_model = path.suffix == ".safetensors" or path.name == "tokenizer.json"
        if is_model or path.stat().st_size > _LARGEST_TEXT or (is_inside and not is_release):
            continue
        content = path.read_bytes().decode(errors="replace")
        searched.append(path)
        escaped = any(json.dumps(text)[1:-1] in content for text in wanted)
        if escaped or any(text in content for text in wanted):
            holding.append(_name(root, path))
    if holding:
        evidence = f"training texts stand word for word in {_some(holding)}; take them out"
        yield finding("L7", "fail", evidence, "rows themselves would leave, which no noise covers")
    else:
        evidence = f"none of {len(wanted)} training texts stands word for word in {len(searched)} "
        yield finding("L7", "pass", evidence + "files beside the weights")


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
