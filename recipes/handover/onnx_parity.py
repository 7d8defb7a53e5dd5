"""How far ONNX graphs are from the classifier that they were exported from, by onnxruntime.

Texts are cut up by the package ``tokenizers`` from tokenizer.json alone, as somebody does who has
neither transformers nor Assay.
"""

from __future__ import annotations

import importlib.metadata
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.control_tokens import tokenize_text
from finetune.errors import IntegrityError
from recipes.files import sha256_file
from recipes.handover.onnx_record import FILES, FLOAT32_LIMIT, Kind, Measured
from recipes.handover.parity import PROBES
from recipes.handover.reference import Reference

MAX_TEXTS = 1000
"""Of more, this number is taken at even distances."""

_BATCH = 16
_WARM_UPS = 3
_MIN_READ_ALIKE = 0.99


@dataclass(frozen=True)
class Parity:
    """What was measured of all graphs."""

    num_texts: int
    num_other_tokens: int
    files: tuple[Measured, ...]


def engine() -> str:
    """Return the names and versions of what ran the graphs."""
    names = ("onnxruntime", "tokenizers")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def measure(folder: Path, graphs: Path, reference: Reference, texts: Sequence[str]) -> Parity:
    """Compare the graphs with the classifier, both on the same tokens.

    Args:
        folder: with tokenizer.json.
        graphs: where the files of `FILES` lie.
        reference: the classifier of the folder.
        texts: to be classified; without any, sample texts.

    Raises:
        IntegrityError: if tokenizer.json alone gives other tokens for more than one text in a
            hundred, or the float32 graph differs by more than `FLOAT32_LIMIT`.
    """
    chosen = list(texts or PROBES)
    if len(chosen) > MAX_TEXTS:
        chosen = [chosen[i * len(chosen) // MAX_TEXTS] for i in range(MAX_TEXTS)]
    tokens = _tokenize(folder, reference, chosen)
    alike = [
        i
        for i, text in enumerate(chosen)
        if tokens[i] == tokenize_text(reference.tokenizer, text, max_length=reference.max_length)
    ]
    if len(alike) < _MIN_READ_ALIKE * len(chosen):
        raise IntegrityError(
            f"tokenizer.json alone gives other tokens than the evaluation for "
            f"{len(chosen) - len(alike)} of {len(chosen)} texts, so the ONNX graph would answer "
            "otherwise; nothing was written. Ship it without --onnx"
        )
    kept = [tokens[i] for i in alike]
    wanted = reference.engine.probabilities([chosen[i] for i in alike])
    pad_id = reference.model.config.pad_token_id or 0
    measured = []
    for kind, name in FILES.items():
        session = _session(graphs / name)
        found, milliseconds = _one_by_one(session, kept)
        differences = [np.abs(found - wanted).max()]
        if kind == "float32":  # padded too: it must not matter
            differences.append(np.abs(_in_batches(session, kept, pad_id) - wanted).max())
        difference = float(np.max(differences))
        if kind == "float32" and not difference <= FLOAT32_LIMIT:  # also refuses NaN
            raise IntegrityError(
                f"{name} differs from the merged classifier by up to {difference:.2g} in a "
                f"probability, limit {FLOAT32_LIMIT:g}, on {len(kept)} texts; nothing was "
                "written. Ship it without --onnx"
            )
        measured.append(
            _measured(kind, graphs / name, difference, found, wanted, reference, milliseconds)
        )
    return Parity(len(chosen), len(chosen) - len(alike), tuple(measured))


def _measured(
    kind: Kind,
    path: Path,
    difference: float,
    found: NDArray[np.float64],
    wanted: NDArray[np.float64],
    reference: Reference,
    milliseconds: float,
) -> Measured:
    if reference.is_multi_label:
        is_same = ((found >= 0.5) == (wanted >= 0.5)).all(1)
    else:
        is_same = found.argmax(1) == wanted.argmax(1)
    return Measured(
        kind=kind,
        file=path.name,
        sha256=sha256_file(path),
        size_bytes=path.stat().st_size,
        max_difference=difference,
        same_labels=float(is_same.mean()),
        median_milliseconds=milliseconds,
    )


def _tokenize(folder: Path, reference: Reference, texts: Sequence[str]) -> list[list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(reference.max_length, direction=reference.tokenizer.truncation_side)
    tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text
    return [list(tokenizer.encode(text).ids) for text in texts]


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _ask(session: Any, rows: Sequence[Sequence[int]], pad_id: int) -> NDArray[np.float64]:
    length = max(map(len, rows))
    ids_BT = np.full((len(rows), length), pad_id, dtype=np.int64)
    mask_BT = np.zeros((len(rows), length), dtype=np.int64)
    for number, row in enumerate(rows):
        ids_BT[number, : len(row)] = row
        mask_BT[number, : len(row)] = 1
    (found,) = session.run(["probabilities"], {"input_ids": ids_BT, "attention_mask": mask_BT})
    return np.asarray(found, dtype=np.float64)


def _one_by_one(session: Any, tokens: Sequence[Sequence[int]]) -> tuple[NDArray[np.float64], float]:
    """Return probabilities ``(texts, labels)``, and the median milliseconds a text."""
    for row in tokens[:_WARM_UPS]:
        _ask(session, [row], 0)
    found, seconds = [], []
    for row in tokens:
        start = time.perf_counter()
        found.append(_ask(session, [row], 0))
        seconds.append(time.perf_counter() - start)
    return np.concatenate(found), 1000 * statistics.median(seconds)


def _in_batches(session: Any, tokens: Sequence[Sequence[int]], pad_id: int) -> NDArray[np.float64]:
    starts = range(0, len(tokens), _BATCH)
    return np.concatenate([_ask(session, tokens[i : i + _BATCH], pad_id) for i in starts])
