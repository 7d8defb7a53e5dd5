"""A smoke test of a model folder: served as a stranger would, does it answer as it should?

A language model is served by ``transformers serve`` and asked over HTTP; a model with a
classification head, which that server cannot serve, is asked by a pipeline in a process of its own.
The answers are held against greedy generation, and class probabilities, of our engine on the same
folder. Both sides compute in float32, where the first choice is well defined; that 16-bit storage
costs nothing is what the proof of the merge is for.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from eval.model import LanguageModel, output_of
from finetune import checkpoint as checkpoints
from finetune import sentence_folder
from finetune.adapter_files import template_of
from finetune.errors import IntegrityError
from recipes.errors import InputError
from recipes.handover import onnx_record, server
from recipes.handover.reference import Reference, load_classifier

QUESTIONS = (
    "Name three colours.",
    "What is 12 plus 30?",
    "Write one sentence about the sea.",
)
"""Of our own: what a server logs is then nobody's text."""

MAX_NEW_TOKENS = 24
SAME_PROBABILITY = 1e-4  # float32 on both sides; only the order of sums differs

_PIPELINE = """
import json, sys
from transformers import pipeline
folder, texts = json.loads(sys.argv[1])
ask = pipeline("text-classification", model=folder, dtype="float32", device="cpu")
print(json.dumps([{s["label"]: s["score"] for s in ask(t, top_k=None)} for t in texts]))
"""


_SENTENCES = """
import json, sys
from sentence_transformers import SentenceTransformer
folder, texts = json.loads(sys.argv[1])
model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": "float32"})
print(json.dumps(model.encode(texts, show_progress_bar=False).tolist()))
"""


@dataclass(frozen=True)
class Smoke:
    """What was asked of whom; every answer was the right one."""

    engine: str
    asked: str
    """How: chat completions over HTTP, or a pipeline in a process of its own."""

    num_requests: int
    num_tokens: int
    """Greedy tokens that agreed; 0 for classes."""

    max_difference: float
    """Largest difference of a class probability; 0 for text, which is equal or not."""

    num_seconds: float
    """Until the first answer was there, loading included."""


def smoke(folder: Path, *, timeout_seconds: float = 600) -> Smoke:
    """Ask a served folder, and hold its answers against our engine.

    Args:
        folder: config, safetensors, tokenizer.
        timeout_seconds: for the server to come up, and for each answer.

    Raises:
        InputError: if the folder cannot be asked so: no chat template, a package missing.
        IntegrityError: if it is not up in time, or answers otherwise. Nothing is left running.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no model: it has no config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    if (config.get("architectures") or [""])[0].endswith("ForSequenceClassification"):
        return _smoke_classes(folder, timeout_seconds)
    if (folder / sentence_folder.MODULES).is_file():
        return _smoke_classes(folder, timeout_seconds, is_pooled=True)
    return _smoke_chat(folder, timeout_seconds)


def _smoke_chat(folder: Path, timeout_seconds: float) -> Smoke:
    if not template_of(folder):
        raise InputError(f"{folder} has no chat template, so no server can put a chat to it")
    start = time.monotonic()
    try:
        with server.served(folder, dtype="float32", timeout_seconds=timeout_seconds) as port:
            answers, seconds = [], 0.0
            for question in QUESTIONS:
                answers.append(_ask(folder, port, question, timeout_seconds))
                seconds = seconds or time.monotonic() - start
    except server.ServerFailed as error:
        raise IntegrityError(f"{folder} does not pass its smoke test: {error}") from None
    base = checkpoints.load(folder, quantization="none", dtype=torch.float32)
    engine = LanguageModel(base.model, base.tokenizer)
    prompts = [engine.prompt([{"role": "user", "content": question}]) for question in QUESTIONS]
    wanted = [output_of(r[0]) for r in engine.generate(prompts, max_new_tokens=MAX_NEW_TOKENS)]
    for number, (answer, want) in enumerate(zip(answers, wanted, strict=True), start=1):
        if answer.strip() != want:
            raise IntegrityError(
                f"{folder} served by transformers answers question {number} of {len(QUESTIONS)} "
                f"with {answer.strip()!r}, and evaluated it answers {want!r}; compare the chat "
                "template, the stop tokens and generation_config.json of the two"
            )
    num_tokens = sum(len(base.tokenizer(answer)["input_ids"]) for answer in answers)
    return Smoke(
        f"transformers serve {importlib.metadata.version('transformers')}",
        "chat completions over HTTP",
        len(QUESTIONS),
        num_tokens,
        max_difference=0.0,
        num_seconds=seconds,
    )


def _ask(folder: Path, port: int, question: str, timeout_seconds: float) -> str:
    body = {
        "model": str(folder.resolve()),
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,  # greedy
        "frequency_penalty": 0,  # the server's way to say: no repetition penalty of the folder's
        "max_tokens": MAX_NEW_TOKENS,
    }
    answer = server.post(port, "/v1/chat/completions", body, timeout_seconds=timeout_seconds)
    try:
        return str(answer["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError):
        raise server.ServerFailed("the server answered with no chat completion") from None


def _smoke_classes(folder: Path, timeout_seconds: float, *, is_pooled: bool = False) -> Smoke:
    package = "sentence_transformers" if is_pooled else "transformers"
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"{folder} is a folder of Sentence-Transformers, which is not installed: "
            'pip install "assay[sentence-transformers]"'
        )
    how = "SentenceTransformer.encode" if is_pooled else "text-classification pipeline"
    script = _SENTENCES if is_pooled else _PIPELINE
    questions = json.dumps([str(folder.resolve()), QUESTIONS])
    lines, seconds = _run(folder, package, how, script, [questions], timeout_seconds)
    answers = json.loads(lines[-1])
    reference = load_classifier(folder)
    if is_pooled:  # it gives logits, in the order of the labels
        logits = torch.tensor(answers, dtype=torch.float64)
        rows = (logits.sigmoid() if reference.is_multi_label else logits.softmax(1)).tolist()
        answers = [dict(zip(reference.labels, row, strict=True)) for row in rows]
    return _held(folder, package, how, answers, reference, seconds)


def smoke_onnx(folder: Path, *, timeout_seconds: float = 600) -> Smoke:
    """Run what SERVING.md shows for onnxruntime, and hold its answers against our engine.

    Args:
        folder: a classifier with ``onnx/model.onnx``.
        timeout_seconds: until the answers are there.

    Raises:
        IntegrityError: if it has no answer in time, or answers otherwise.
    """
    how = "the script of SERVING.md"
    lines, seconds = _run(
        folder, "onnxruntime", how, onnx_record.SCRIPT, QUESTIONS, timeout_seconds
    )
    answers = [json.loads(line) for line in lines]
    return _held(folder, "onnxruntime", how, answers, load_classifier(folder), seconds)


def _run(
    folder: Path,
    package: str,
    how: str,
    script: str,
    arguments: Sequence[str],
    timeout_seconds: float,
) -> tuple[list[str], float]:
    """Run a script in a process of its own, in the folder; return its lines and the seconds."""
    start = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter)
            [sys.executable, "-c", script, *arguments],
            cwd=folder,
            env=os.environ | server.OFFLINE,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            encoding="utf-8",
        )
    except subprocess.TimeoutExpired:
        raise IntegrityError(f"{folder}: {how} had no answer in time") from None
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise IntegrityError(f"{folder} cannot be loaded by {package} ({how}):\n{last}")
    return done.stdout.splitlines(), time.monotonic() - start


def _held(
    folder: Path,
    package: str,
    how: str,
    answers: Sequence[dict[str, float]],
    reference: Reference,
    seconds: float,
) -> Smoke:
    """Hold probabilities by label against those of our engine."""
    wanted = reference.engine.probabilities(QUESTIONS)
    difference = max(
        abs(answer.get(label, float("inf")) - float(p))
        for answer, row in zip(answers, wanted, strict=True)
        for label, p in zip(reference.labels, row, strict=True)
    )
    if not difference <= SAME_PROBABILITY:
        raise IntegrityError(
            f"{folder} by {how} gives class probabilities that differ by up to "
            f"{difference:.2g} from the evaluated ones, limit {SAME_PROBABILITY:g}"
        )
    return Smoke(
        f"{package} {importlib.metadata.version(package)}",
        f"{how} in a process of its own",
        len(QUESTIONS),
        num_tokens=0,
        max_difference=difference,
        num_seconds=seconds,
    )
