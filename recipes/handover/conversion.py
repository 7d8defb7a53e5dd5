"""GGUF files of a model folder, each measured before it gets its name, with an Ollama Modelfile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finetune import checkpoint as checkpoints
from finetune import scratch as scratches
from finetune.room import require
from recipes.errors import InputError
from recipes.files import sha256_file, write_json, write_text
from recipes.handover import gguf, ollama, parity

FOLDER = "gguf"
RECORD = "gguf.json"
_SHARE: dict[gguf.Kind, float] = {"F16": 1.0, "Q8_0": 34 / 64}  # of a model in 16 bits


def convert(
    folder: Path,
    kinds: Sequence[gguf.Kind],
    *,
    name: str = "model",
    texts: Sequence[str] = parity.PROBES,
) -> dict[str, Any]:
    """Write ``gguf/model-KIND.gguf`` for each kind, a Modelfile, and ``gguf.json``; return that.

    The folder appears whole or not at all. Where the chat template is not ChatML there is no
    Modelfile, and the record says why. Writing needs the memory of one tensor; measuring needs that
    of the model in float32.

    Args:
        folder: config, safetensors, tokenizer; the folder ``gguf`` is made in it.
        kinds: F16, Q8_0 or both.
        name: of the model, as the file says it.
        texts: on which each file is measured against the folder.

    Raises:
        InputError: if the model cannot be written as GGUF, or ``gguf`` exists.
        finetune.errors.IntegrityError: if a file answers otherwise than the folder.
    """
    config = gguf.check(folder)
    out = folder / FOLDER
    if out.exists():
        raise InputError(f"{out} exists already; remove it first")
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    require(out, round(size * sum(_SHARE[kind] for kind in kinds)), "a GGUF file")
    with scratches.beside(out) as scratch:
        scratch.mkdir()
        files = [_convert(folder, scratch, kind, name, texts) for kind in kinds]
        record = {
            "schema": 1,
            "model": checkpoints.identity(folder),
            "files": files,
            "modelfile": _modelfile(folder, scratch, files[-1]["file"], config),
        }
        write_json(scratch / RECORD, record)
        for path in scratch.iterdir():
            path.chmod(0o644)
        scratch.chmod(0o755)
        scratch.rename(out)
    return record


def _convert(
    folder: Path, out: Path, kind: gguf.Kind, name: str, texts: Sequence[str]
) -> dict[str, Any]:
    path = out / f"model-{kind}.gguf"
    written = gguf.write(folder, path, kind, name=name)
    measured = parity.measure(folder, path, kind, texts)
    return {
        "file": path.name,
        "sha256": sha256_file(path),
        "size_bytes": path.stat().st_size,
        **asdict(written),
        "parity": asdict(measured),
    }


def _modelfile(folder: Path, out: Path, name: str, config: dict[str, Any]) -> dict[str, Any]:
    try:
        text = ollama.modelfile(folder, name, context_length=config["max_position_embeddings"])
    except InputError as error:
        return {"file": None, "reason": str(error).replace(str(folder), "the model")}
    write_text(out / "Modelfile", text)
    return {"file": "Modelfile", "reason": None}
