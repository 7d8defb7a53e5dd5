"""Load a model folder in a process of its own, as a stranger would, and say what it answers.

Run as a file (`python reload.py FOLDER`), with the question on standard input as JSON. It imports
nothing of this program, reaches no network, and sees no file but the folder's: what it answers is
what the folder holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any


def answer(folder: str, question: dict[str, Any]) -> dict[str, Any]:
    """Return the first choice at every position of each text, and a hash of all logits."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

    torch.set_num_threads(question["num_threads"])
    torch.set_flush_denormal(question["flushes_denormals"])
    is_classifier = question["head"] == "sequence-classification"
    kind = AutoModelForSequenceClassification if is_classifier else AutoModelForCausalLM
    is_pooled = question["pooling"] in ("mean", "cls")
    if is_pooled:
        kind = AutoModel
    dtype = getattr(torch, question["dtype"])
    options = {"device_map": {"": question["device"]}} if question["device"] != "cpu" else {}
    model = kind.from_pretrained(
        folder,
        dtype=dtype,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        **options,
    ).eval()
    digest, choices = hashlib.sha256(), []
    context: Any = (
        torch.autocast(question["device"].partition(":")[0], torch.bfloat16)
        if dtype == torch.bfloat16
        else nullcontext()
    )
    with torch.no_grad(), context:
        for ids in question["ids"]:
            asked = torch.tensor([ids], device=question["device"])
            answered = model(input_ids=asked, attention_mask=torch.ones_like(asked))
            found = _by_modules(folder, answered) if is_pooled else answered.logits
            found = found.reshape(-1, found.shape[-1]).float().cpu()
            digest.update(found.contiguous().numpy())
            choices.append(found.argmax(-1).tolist())
    return {"choices": choices, "logits": "sha256:" + digest.hexdigest()}


def _by_modules(folder: str, answered: Any) -> Any:
    """Return logits as Sentence-Transformers makes them, from the folder's own modules."""
    import torch
    from safetensors.torch import load_file

    settings = json.loads(Path(folder, "1_Pooling", "config.json").read_text(encoding="utf-8"))
    hidden = answered.last_hidden_state
    if settings["pooling_mode_mean_tokens"]:
        pooled = hidden.sum(1) / hidden.new_tensor(hidden.shape[1])
    else:
        pooled = hidden[:, 0]
    head = load_file(f"{folder}/2_Dense/model.safetensors")
    weight, bias = (head[name].to(hidden) for name in ("linear.weight", "linear.bias"))
    return torch.nn.functional.linear(pooled, weight, bias)


def _no_network(*_: object, **__: object) -> None:
    raise OSError("no network in this process")


def _end_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL


if __name__ == "__main__":
    _end_with_parent()
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    setattr(socket.socket, "connect", _no_network)  # noqa: B010 (mypy: a method is no variable)
    print(json.dumps(answer(sys.argv[1], json.load(sys.stdin))))  # noqa: T201 (its answer)
