"""Which files a release folder may hold, and what is wrong with one that holds anything else.

The list is of names that are allowed, not of names that are known to be bad: code beside the
weights, a pickle, an adapter that would be applied twice, a version-control folder that signers
like to overlook, and whatever is thought of next, are all simply not on it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from finetune.errors import IntegrityError
from finetune.identity import SENTENCE_FILES, TOKENIZER_FILES
from finetune.settings_that_run import settings_that_run
from finetune.tensor_files import read_strict_json

ABOUT = "release.json"
"""Name and version of the release, the model's identity, the key: bound by the signature."""

CARD, HUB_CARD = "MODEL_CARD.md", "README.md"
"""One text under two names: the one that people look for and the one that the Hub shows."""

BILL_OF_MATERIALS = "bom.cdx.json"
DECISION = "decision.json"
EMPIRICAL = "evidence/empirical.json"
"""What the canaries of a private run told, if it was audited so."""

GGUF = "gguf/gguf.json"
"""What was measured of the GGUF files beside it."""

HASHES = "SHA256SUMS"
"""Every file but itself and the signature, in the form that ``sha256sum --check`` reads."""

INSTRUCTIONS = "VERIFY.md"
LEDGER = "evidence/ledger.jsonl"
MERGE = "merge.json"
PRIVACY, PRIVACY_TEXT = "evidence/privacy.json", "PRIVACY.md"
"""The privacy report of a private run, and what every release says of privacy on one page."""

PROVENANCE = "attestations/provenance.dsse.json"
RECIPE = "evidence/recipe.json"
RECORD = "evidence/record.json"
REPORT, BASE_REPORT = "evidence/eval/report.json", "evidence/base/report.json"
REPORT_PAGE = "report.html"
SIGNATURE = "model.sig"
TECHNICAL_DOCUMENTATION = "TECHNICAL_DOCUMENTATION.md"
TEST_RESULT = "attestations/test-result.dsse.json"

ONNX = "onnx/parity.json"
"""What was measured of the ONNX graphs beside it."""

MODEL_FILES = ("config.json", "generation_config.json", *TOKENIZER_FILES, *SENTENCE_FILES)
_WEIGHTS = r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
SAMPLES = "evidence/eval/samples"
_SAMPLES = rf"{SAMPLES}/[\w.-]+\.jsonl"

REQUIRED = (
    ABOUT,
    BILL_OF_MATERIALS,
    CARD,
    DECISION,
    HASHES,
    HUB_CARD,
    INSTRUCTIONS,
    MERGE,
    PRIVACY_TEXT,
    RECIPE,
    RECORD,
    REPORT,
    BASE_REPORT,
    REPORT_PAGE,
    TECHNICAL_DOCUMENTATION,
    "config.json",
)
HANDED_OVER = (
    "SERVING.md",
    "evidence/serving.json",
    "evidence/smoke.json",
    GGUF,
    "gguf/Modelfile",
    ONNX,
)
"""What `recipes.handover` adds."""
_OF_PRIVATE_RUNS = (
    *(LEDGER, PRIVACY, EMPIRICAL),
    *("evidence/privacy.schema.json", "evidence/privacy.html"),
)
_GGUF = r"gguf/model-[A-Z0-9_]+\.gguf"
_ONNX = r"onnx/model(_int8)?\.onnx"

_ALLOWED = frozenset(
    (*REQUIRED, *MODEL_FILES, *HANDED_OVER, *_OF_PRIVATE_RUNS, PROVENANCE, SIGNATURE, TEST_RESULT),
)


def is_model_file(name: str) -> bool:
    """Return whether a file is part of the model itself: weights, configuration, tokenizer."""
    return name in MODEL_FILES or re.fullmatch(_WEIGHTS, name) is not None


def is_allowed(name: str) -> bool:
    """Return whether a release may hold a file of this name, relative to its folder."""
    is_known = name in _ALLOWED or is_model_file(name)
    return is_known or re.fullmatch(f"{_SAMPLES}|{_GGUF}|{_ONNX}", name, re.A) is not None


def files_of(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return every file below a folder by its relative name, and what must not be there at all.

    Links and devices are told and never followed. A folder without a file is told too, because no
    hash and no signature would see it.
    """
    files: dict[str, Path] = {}
    problems: list[str] = []
    folders: set[str] = set()
    for root, subfolders, names in os.walk(folder):
        for name in sorted((*subfolders, *names)):
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                problems.append(f"a link: {shown(relative)}")
            elif stat.S_ISDIR(mode):
                folders.add(relative)
            elif stat.S_ISREG(mode):
                files[relative] = path
            else:
                problems.append(f"no regular file: {shown(relative)}")
    used = {parent.as_posix() for name in files for parent in Path(name).parents}
    problems += [f"an empty folder: {shown(name)}" for name in sorted(folders - used)]
    return files, problems


def misplaced(files: Mapping[str, Path]) -> list[str]:
    """Return what is wrong with the names and the configuration of a release's files."""
    problems = [f"not allowed in a release: {shown(n)}" for n in sorted(files) if not is_allowed(n)]
    problems += [f"missing: {name}" for name in REQUIRED if name not in files]
    if not any(name.endswith(".safetensors") for name in files):
        problems.append("missing: the weights (model*.safetensors)")
    by_lower: dict[str, str] = {}
    for name in sorted(files):
        other = by_lower.setdefault(name.lower(), name)
        if other != name:
            problems.append(f"one name in two spellings: {shown(other)} and {shown(name)}")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        if name in files:
            problems += [f"{name} has the key {key}" for key in _code_keys(files[name])]
    return problems


def shown(name: str) -> str:
    """Write a file's name so that it misleads no terminal and no reader."""
    return name if name.isascii() and name.isprintable() else ascii(name)


def _code_keys(path: Path) -> list[str]:
    try:
        values = read_strict_json(path)
    except IntegrityError:
        return ["(it is no JSON, or says two things)"]
    return settings_that_run(values)
