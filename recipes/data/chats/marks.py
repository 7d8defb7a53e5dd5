"""Marks that say whether a turn is learned, in the conventions in use.

=================================  ================================================================
key and value "not learned"        used by
=================================  ================================================================
``weight: 0``                      OpenAI's fine-tuning API (0 or 1)
``train: false``                   axolotl (``message_field_training``, so named in its
                                   documentation), open-instruct
``training: false``                axolotl (so named in its tests)
``train_detail: [...]``            axolotl: parts of a turn; not supported, so an error
``loss: false``                    ms-swift, AgentTuning, XTuner
``loss_weight: 0``                 XTuner (0 or 1 here)
``loss_mask: 0``                   verl (0 or 1; True and False mean the opposite in other kits)
``step_loss_mask: 0``              slime (0 or 1)
``trainable: false``               tinker-cookbook (``TrainOnWhat.CUSTOMIZED``)
``train_on_turn: false``           home-llm
``masked: true``                   torchtune (``Message.masked``)
=================================  ================================================================

TRL and LLaMA-Factory have no mark for single turns. Keys that look like a mark and are none of
these, such as ``mask``, are an error: half of the kits that have one mean the opposite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from recipes.data import catalog
from recipes.data.chats.faults import Faults

_FLAGS = ("train", "training", "loss", "trainable", "train_on_turn")
_NUMBERS = ("weight", "loss_weight", "loss_mask", "step_loss_mask")
_OPPOSITE = ("masked",)
_UNCLEAR = (
    "ignore",
    "is_trained",
    "learn",
    "learned",
    "loss_scale",
    "mask",
    "no_loss",
    "skip",
    "supervise",
    "supervised",
    "train_detail",
    "training_detail",
)

MARKS = frozenset((*_FLAGS, *_NUMBERS, *_OPPOSITE, *_UNCLEAR))
"""Keys of a turn that say whether it is learned, or look as if they did."""


def is_learned(turn: Mapping[str, Any], role: str, index: int, faults: Faults) -> bool:
    """Return whether a turn is learned by its marks; without any, a turn of the assistant is.

    A value that is not understood and marks that disagree are faults, as is a mark that asks for
    a turn of somebody else to be learned.
    """
    marks = {key: turn[key] for key in turn if key in MARKS and not _is_absent(turn[key])}
    if not marks:
        return role == "assistant"
    meanings = {key: _meaning(key, value) for key, value in marks.items()}
    if role != "assistant":
        for key, meaning in meanings.items():
            if meaning is not False:
                faults.add(catalog.TURN_MARK_UNUSED, f"key {key!r} in a turn of the {role}")
        return False
    unclear = [key for key, meaning in meanings.items() if meaning is None]
    for key in unclear:
        faults.add(
            catalog.TURN_MARK, f"messages[{index}]: {key}: {_shown(marks[key])} is not understood"
        )
    if not unclear and len(set(meanings.values())) > 1:
        named = " and ".join(f"{key}: {_shown(value)}" for key, value in marks.items())
        faults.add(catalog.TURN_MARK, f"messages[{index}]: {named} contradict each other")
    return all(meaning is not False for meaning in meanings.values())


def _is_absent(value: Any) -> bool:
    return (
        value is None or value == [] or (isinstance(value, float) and math.isnan(value))
    )  # tables pad with these


def _meaning(key: str, value: Any) -> bool | None:
    """Return whether a mark says that a turn is learned; None if it is not understood."""
    is_zero_or_one = isinstance(value, int | float) and value in (0, 1)
    if not is_zero_or_one or key in _UNCLEAR:
        return None
    if key == "loss_mask" and isinstance(value, bool):
        return None
    return not value if key in _OPPOSITE else bool(value)


def _shown(value: Any) -> str:
    """Return a flag or a number as it is, and of anything else only its type."""
    return str(value) if isinstance(value, bool | int | float) else f"a {type(value).__name__}"
