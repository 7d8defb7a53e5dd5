"""What a trainer must not be asked for, because the plan's epsilon would not hold under it.

`privacy.refusals` has the settings that any tool may have; here are those of transformers' and
trl's trainers, and the parts of a model that have no gradient per record. What cannot be seen in
settings is tested on the model itself, before the first step (`privacy.model_test`).
"""

import os
from typing import Any

import torch

from privacy.errors import PrivacyError
from privacy.per_record import covered_parameters
from privacy.provable import Mechanism
from privacy.refusals import REFUSALS, first


def refuse_processes() -> None:
    """Raise PrivacyError where training would take several processes or devices.

    Looks at what this process was started with and sees, so that it can be asked before anything
    is loaded: a trainer that was started as one of several waits for the others.
    """
    started = os.environ.get("WORLD_SIZE", "1")
    if started.strip() != "1":
        first({"world_size": int(started) if started.strip().isdecimal() else started})
    _refuse_devices(torch.cuda.device_count())


def _refuse_devices(num: int) -> None:
    if num > 1:
        raise PrivacyError(
            f"Training runs on {num} devices: noise and draws are made for one process; "
            "use one device (CUDA_VISIBLE_DEVICES=0)."
        )


def refuse_settings(args: Any, mechanism: Mechanism) -> None:
    """Raise PrivacyError for the first setting under which the plan's epsilon would not hold."""
    named = [name for refusal in REFUSALS for name in refusal.settings]
    first({name: getattr(args, name) for name in named if hasattr(args, name)}, mechanism)
    if args.max_grad_norm != 0:
        raise PrivacyError(
            f"max_grad_norm is {args.max_grad_norm}: records are clipped one by one, to the plan's "
            "clipping norm; set it to 0."
        )
    _refuse_devices(args.n_gpu)


def refuse_model(model: Any) -> None:
    """Raise PrivacyError for a model with parts that cannot be clipped record by record."""
    if getattr(getattr(model, "config", None), "output_router_logits", False):
        first({"output_router_logits": True})
    for config in getattr(model, "peft_config", {}).values():
        names = ("init_lora_weights", "peft_type", "use_dora")
        first({name: getattr(config, name) for name in names if hasattr(config, name)})
    covered = {id(p) for p in covered_parameters(model).values()}
    # An output head sees a selection of positions, in which a row is no longer a record.
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is not None and any(id(p) in covered for p in head.parameters()):
        raise PrivacyError(
            "The language-model head is trainable. Its rows are positions and not records, and it "
            "may share its weight with the embeddings. Leave it out of the adapter."
        )
