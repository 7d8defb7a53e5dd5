"""What a trainer must not be asked for, because the plan's epsilon would not hold under it.

Each refusal names the setting, its value and the way out. What cannot be seen in settings is
tested on the model itself, before the first step (`privacy.model_test`).
"""

from typing import Any

from privacy.errors import PrivacyError
from privacy.per_record import covered_parameters

# Adapters whose first values are computed from rows of the data, which nothing pays for.
_DATA_DRIVEN_INITS = frozenset({"corda", "eva", "lora_ga"})


def refuse_settings(args: Any) -> None:
    """Raise PrivacyError for the first setting under which the plan's epsilon would not hold."""
    strategy = {n: str(getattr(args, n).value) for n in ("eval_strategy", "save_strategy")}
    found: list[tuple[bool, str, str]] = [
        (
            args.gradient_accumulation_steps != 1,
            f"gradient_accumulation_steps is {args.gradient_accumulation_steps}",
            "a step is one logical batch already, cut into micro-batches of any size; set it to 1",
        ),
        (
            args.max_grad_norm != 0,
            f"max_grad_norm is {args.max_grad_norm}",
            "records are clipped one by one to the plan's clipping norm; set it to 0",
        ),
        (
            bool(args.load_best_model_at_end) or strategy["save_strategy"] == "best",
            "the best checkpoint is chosen by data",
            "choosing by private data is not paid for; set load_best_model_at_end to false",
        ),
        (
            strategy["eval_strategy"] != "no",
            f"eval_strategy is {strategy['eval_strategy']}",
            "figures on private rows are a release of their own; evaluate after training",
        ),
        (
            args.label_smoothing_factor != 0,
            f"label_smoothing_factor is {args.label_smoothing_factor}",
            "the trainer's smoothed loss is a mean over the batch; set it to 0",
        ),
        (
            args.world_size > 1 or args.n_gpu > 1,
            f"training runs on {max(args.world_size, args.n_gpu)} devices",
            "noise and sampling are made for one process; use one device",
        ),
        (
            bool(args.fp16),
            "fp16 is on",
            "its loss scaler skips steps by looking at private gradients; use bf16",
        ),
        (
            bool(args.auto_find_batch_size),
            "auto_find_batch_size is on",
            "it repeats work by looking at the size of private batches; turn it off",
        ),
        (
            bool(args.use_liger_kernel),
            "use_liger_kernel is on",
            "its fused loss reads the head's weight past the clipping; turn it off",
        ),
        (
            args.include_num_input_tokens_seen not in ("no", False),
            f"include_num_input_tokens_seen is {args.include_num_input_tokens_seen}",
            "tokens tell the size of a draw; set it to 'no'",
        ),
        *(
            (
                bool(getattr(args, name, False)),
                f"{name} is on",
                "turn it off: one record, one row, one process",
            )
            for name in ("packing", "padding_free", "deepspeed", "fsdp")
        ),
    ]
    for is_wrong, what, way_out in found:
        if is_wrong:
            raise PrivacyError(f"{what}; {way_out}.")


def refuse_model(model: Any) -> None:
    """Raise PrivacyError for a model with parts that cannot be clipped record by record."""
    for config in getattr(model, "peft_config", {}).values():
        init = getattr(config, "init_lora_weights", True)
        if isinstance(init, str) and init.lower() in _DATA_DRIVEN_INITS:
            raise PrivacyError(
                f"init_lora_weights is {init!r}: the adapter begins with what was computed from "
                "private rows, outside the mechanism. Use the default initialisation or 'pissa'."
            )
        if str(getattr(config, "peft_type", "LORA")).rpartition(".")[2] != "LORA":
            raise PrivacyError(f"The adapter is {config.peft_type}; only plain LoRA is supported.")
        if getattr(config, "use_dora", False):
            raise PrivacyError(
                "use_dora is on: DoRA's magnitudes have no gradient per record. Use plain LoRA."
            )
    covered = {id(p) for p in covered_parameters(model).values()}
    # An output head sees a selection of positions, in which a row is no longer a record.
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is not None and any(id(p) in covered for p in head.parameters()):
        raise PrivacyError(
            "The language-model head is trainable. Its rows are positions and not records, and it "
            "may share its weight with the embeddings. Leave it out of the adapter."
        )
