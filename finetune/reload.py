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
from typing import Any


def answer(folder: str, question: dict[str, Any]) -> dict[str, Any]:
    """Return the first choice at every position of each text, and a hash of all logits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    torch.set_num_threads(question["num_threads"])
    torch.set_flush_denormal(question["flushes_denormals"])
    is_classifier = question["head"] == "sequence-classification"
    kind = AutoModelForSequenceClassification if is_classifier else AutoModelForCausalLM
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
            found = model(input_ids=asked, attention_mask=torch.ones_like(asked)).logits
            found = found.reshape(-1, found.shape[-1]).float().cpu()
            digest.update(found.contiguous().numpy())
            choices.append(found.argmax(-1).tolist())
    return {"choices": choices, "logits": "sha256:" + digest.hexdigest()}


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
