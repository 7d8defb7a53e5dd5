"""What a checkpoint is: one hash over the files that decide its answers.

This module needs no torch, so that a shipped model can be checked where there is none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from finetune import scratch as scratches
from finetune.cache import NoCache, cache_folder

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template.jinja",
)

DENSE_WEIGHTS = "2_Dense/model.safetensors"
"""The head of a pooled classifier, as Sentence-Transformers loads it."""

SENTENCE_FILES = (
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    DENSE_WEIGHTS,
)
"""Of a pooled classifier's folder (`finetune.sentence_folder`), which has all of them. A folder
without the head among them is a base, whose pooling the recipe decides."""

_IDENTITIES = "identities"
_IDENTITY = re.compile(r"sha256:[0-9a-f]{64}")
_ALSO = ("config.json", "generation_config.json", "model.safetensors.index.json")
"""What else decides an answer: a loader takes its stop tokens and penalties from the second, and
from the third which file holds a tensor."""


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def identity(folder: Path) -> str:
    """Return ``sha256:...`` over a checkpoint folder's weights, configurations and tokenizer.

    The result is cached under each file's path, size and times of change, because hashing a large
    base takes minutes; a file that was touched is hashed anew, and so is one that was replaced by
    a copy that keeps the old one's time.
    """
    files = {p.name: p for p in folder.iterdir() if _is_part(p.name)}
    files |= {name: folder / name for name in SENTENCE_FILES if (folder / name).is_file()}
    files = {name: files[name] for name in sorted(_parts(files))}
    marks = [(n, str(p.resolve()), *_marks_of_change(p.stat())) for n, p in files.items()]
    key = hashlib.sha256(json.dumps(marks).encode()).hexdigest()
    if known := _recall(key):
        return known
    found = identity_of({name: sha256_file(path) for name, path in files.items()})
    _remember(key, found)
    return found


def _recall(key: str) -> str | None:
    """Return a cached identity; None where there is none, or the file was cut or damaged."""
    with suppress(NoCache, OSError, UnicodeDecodeError):
        known = (cache_folder() / _IDENTITIES / key).read_text(encoding="ascii")
        if _IDENTITY.fullmatch(known):
            return known
    return None


def _remember(key: str, found: str) -> None:
    """Cache an identity; where that cannot be written, the next call hashes again."""
    with suppress(NoCache, OSError):
        remembered = cache_folder() / _IDENTITIES / key
        with scratches.beside(remembered) as scratch:
            scratch.write_text(found, encoding="ascii", newline="\n")
            scratch.replace(remembered)


def identity_of(hashes: Mapping[str, str]) -> str:
    """Return a checkpoint's identity from the hex SHA-256 of its files, by name.

    It is the SHA-256 of lines ``NAME HASH``, one for each file that decides an answer, in the
    names' order; a file that decides none (a card, a proof) may be among them and does not count.
    """
    lines = [f"{name} {hashes[name]}\n" for name in sorted(_parts(hashes))]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def _parts(names: Collection[str]) -> list[str]:
    """Return the names that decide an answer: those of a pooled head where there is one."""
    of_head = SENTENCE_FILES if DENSE_WEIGHTS in names else ()
    return [name for name in names if _is_part(name) or name in of_head]


def _is_part(name: str) -> bool:
    is_at_top = "/" not in name
    return is_at_top and (name.endswith(".safetensors") or name in (*_ALSO, *TOKENIZER_FILES))


def _marks_of_change(stat: os.stat_result) -> tuple[int, int, int]:
    # mtime can be set back by cp -p, tar and rsync; ctime cannot
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
