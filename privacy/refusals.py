"""Settings that no private run may have, each with its reason and with what it does to epsilon.

One table for three readers: a recipe that is refused before anything is computed, a trainer that
is refused before its first step, and the check-list. Settings go by the names that trl, peft,
transformers and our recipe have for them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from privacy import provable
from privacy.errors import PrivacyError
from privacy.provable import Mechanism

__all__ = ["REFUSALS", "Refused", "first", "refused", "why_unknown"]

DATA_DRIVEN_INITS = frozenset({"corda", "eva", "lora_ga", "lora-ga"})
"""Adapters whose first values are computed from rows of the data, which nothing pays for."""

_OFF: tuple[object, ...] = (None, False, 0, 0.0, "", "no", "none", (), [])


def _is_on(value: object) -> bool:
    return value not in _OFF


@dataclass(frozen=True)
class Refusal:
    """A line of the table."""

    settings: tuple[str, ...]
    """The names it goes by."""

    line: str
    """Of the check-list."""

    reason: str
    way_out: str
    effect: Callable[[Mechanism, object], str] = lambda *_: f"then {provable.NOTHING}"
    """From what was accounted and the value found to what is left of the claim."""

    is_wrong: Callable[[object], bool] = _is_on


@dataclass(frozen=True)
class Refused:
    """A setting that was found."""

    setting: str
    value: object
    line: str
    reason: str
    way_out: str
    effect: str

    def __str__(self) -> str:
        value = getattr(self.value, "value", self.value)  # of one of transformers' enumerations
        return f"{self.setting} is {value!r}: {self.reason} ({self.effect}); {self.way_out}"


def _only(epsilon: Callable[[Mechanism], float]) -> Callable[[Mechanism, object], str]:
    return lambda mechanism, _: _told(mechanism, epsilon(mechanism))


def _told(mechanism: Mechanism, epsilon: float) -> str:
    told = f"then {provable.said(epsilon)}"
    if mechanism == provable.REFERENCE:
        return f"{told} where {provable.honest(mechanism):.3f} was claimed, in the reference run"
    return told


def _of_accumulated(mechanism: Mechanism, value: object) -> str:
    count = value if isinstance(value, int) else 2
    return _told(mechanism, provable.of_draws(mechanism, count))


def _of_gaussian_dp(mechanism: Mechanism, _: object) -> str:
    return f"the bound is epsilon {provable.honest(mechanism):.3f}, and this accountant reads less"


REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        ("packing",),
        "U1",
        "rows of several people share a record, and one person's rows stand in several, so that "
        "the clip bounds none of them",
        "turn it off",
    ),
    Refusal(
        ("padding_free",),
        "U2",
        "a batch is one long sequence with one clip for everybody in it",
        "turn it off",
        _only(lambda m: provable.with_sensitivity(m, 2)),
    ),
    Refusal(
        ("loss_average", "loss_reduction"),
        "D1",
        "a loss divided by the tokens or the size of the batch couples each record to all others: "
        "4.76 times the clipping norm was measured",
        "leave the division by each record's own weight to the trainer",
        is_wrong=lambda value: value not in (*_OFF, "per-record", "sum"),
    ),
    Refusal(
        ("label_smoothing_factor", "label_smoothing"),
        "D1",
        "the smoothed loss of transformers is a mean over the tokens of the batch, which couples "
        "its records",
        "set it to 0",
    ),
    Refusal(
        ("gradient_accumulation_steps",),
        "S4",
        "each accumulated batch is a draw of its own under one noise",
        "set it to 1: a step is one logical batch already, cut to fit the memory",
        _of_accumulated,
        lambda value: value not in (None, 1),
    ),
    Refusal(
        ("streaming", "group_by_length"),
        "S1",
        "rows come in an order and not by chance, so sampling hides nobody",
        "turn it off",
        _only(provable.without_amplification),
    ),
    Refusal(
        ("use_dora",),
        "D3",
        "DoRA's magnitudes have no gradient for each record, so nothing clips them",
        "use plain LoRA",
    ),
    Refusal(
        ("peft_type",),
        "D3",
        "this kind of adapter has no gradient for each record, so nothing clips it",
        "use plain LoRA",
        is_wrong=lambda value: str(value).rpartition(".")[2].upper() not in ("LORA", "NONE"),
    ),
    Refusal(
        ("init", "init_lora_weights"),
        "L5",
        "the adapter begins with values computed from private rows, which nobody pays for",
        'use "default"',
        is_wrong=lambda value: str(value).lower() in DATA_DRIVEN_INITS,
    ),
    Refusal(
        ("early_stopping", "early_stopping_patience"),
        "A6",
        "private rows decide when to stop, and each look at them is a release without noise",
        "set it to null; the number of steps is fixed in advance",
    ),
    Refusal(
        ("load_best_model_at_end",),
        "A6",
        "private rows choose the checkpoint, and each look at them is a release without noise",
        "set it to false",
    ),
    Refusal(
        ("save_strategy",),
        "A6",
        "private rows choose the checkpoint, and each look at them is a release without noise",
        "save by steps or not at all",
        is_wrong=lambda value: str(value).rpartition(".")[2].lower() == "best",
    ),
    Refusal(
        ("eval_strategy", "validation_fraction"),
        "L2",
        "figures on held-back private rows are a release without noise",
        "evaluate after training, on rows that are held out",
    ),
    Refusal(
        ("router_aux_loss_coef", "output_router_logits"),
        "D2",
        "the loss that balances experts is taken over the whole batch, so it couples its records",
        "set it to 0",
    ),
    Refusal(
        ("class_weights",),
        "L4",
        "the weights are counts of private labels, released without noise",
        'set it to "none"',
    ),
    Refusal(
        ("fp16", "auto_find_batch_size"),
        "D7",
        "steps are skipped or repeated by looking at private gradients",
        "turn it off; bf16 needs no such look",
    ),
    Refusal(
        ("use_liger_kernel",),
        "D6",
        "its fused loss reads the head's weight past the clipping",
        "turn it off",
    ),
    Refusal(
        ("include_num_input_tokens_seen",),
        "L1",
        "token counts tell the size of a draw",
        'set it to "no"',
    ),
    Refusal(
        ("world_size", "even_batches", "deepspeed", "fsdp"),
        "S7",
        "noise and draws are made for one process; more repeat records or add noise wrongly",
        "use one process",
        _only(lambda m: provable.with_sensitivity(m, 2)),
        lambda value: value not in (*_OFF, 1),
    ),
    Refusal(
        ("noise_seed", "sampler_seed"),
        "N2",
        "whoever knows the seed subtracts the noise: what is left was measured at 2e-6 of it",
        "leave it out; noise and draws come from the operating system",
        is_wrong=lambda value: value is not None,
    ),
    Refusal(
        ("accountant",),
        "A2",
        "Gaussian DP is an approximation from below: 2.162 where the truth is 3.373",
        "leave it out; the figure is PLD's upper bound, with PRV and RDP beside it",
        _of_gaussian_dp,
        lambda value: str(value).lower() in ("gdp", "gaussian-dp", "clt"),
    ),
)
_BY_NAME = {name: refusal for refusal in REFUSALS for name in refusal.settings}


def refused(
    settings: Mapping[str, object], mechanism: Mechanism = provable.REFERENCE
) -> list[Refused]:
    """Return every setting under which a stated epsilon would not hold.

    Args:
        settings: by name; what is not in the table is not looked at.
        mechanism: what is accounted, for the figures; they take seconds where something is wrong.
    """
    found = []
    for name, value in settings.items():
        refusal = _BY_NAME.get(name)
        if refusal is None or not refusal.is_wrong(value):
            continue
        effect = refusal.effect(mechanism, value)
        found.append(Refused(name, value, refusal.line, refusal.reason, refusal.way_out, effect))
    return found


def first(settings: Mapping[str, object], mechanism: Mechanism = provable.REFERENCE) -> None:
    """Refuse the first setting under which a stated epsilon would not hold.

    Raises:
        PrivacyError: naming the setting, the reason, what it does to epsilon, and the way out.
    """
    for one in refused(settings, mechanism):
        raise PrivacyError(f"{one}.")


def why_unknown(name: str) -> str | None:
    """Say why a setting that other tools have is none of ours; None for a name nobody knows.

    Example:
        >>> why_unknown("packing")[:44]
        'in a private run, rows of several people sha'
        >>> why_unknown("learning_rat")
    """
    refusal = _BY_NAME.get(name)
    if refusal is None:
        return None
    value: object = 4 if name == "gradient_accumulation_steps" else True
    effect = refusal.effect(provable.REFERENCE, value)
    return f"in a private run, {refusal.reason} ({effect}); {refusal.way_out}"
