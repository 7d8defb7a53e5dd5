"""Approval by a second key: a signed statement over exactly one decision.

The gate measures; a person who answers for the release says yes, with a key of their own. The
statement holds every digest that the decision binds, its outcome and its overrides, so it is worth
nothing for another model, policy or result. Who evaluated is not who approves: this can be held
only where a key is known for the evaluator, which is the one that a release is signed with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib.signer import CryptoSigner, SSlibKey

from recipes.dsse import SignatureDiffers, open_signed, parse_public_key, sign
from recipes.errors import GateRefused, InputError

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:assay:approval:v1"

_SIGNED = ("binds", "outcome", "overrides")
"""Of a decision."""


@dataclass(frozen=True)
class Approval:
    """One key's yes to the decision that it stands in."""

    keyid: str
    time: str


def approve(decision: Mapping[str, Any], signer: CryptoSigner, time: str) -> dict[str, Any]:
    """Return the signed statement, as a DSSE envelope, that a decision is approved.

    Args:
        decision: a pass; nothing else can be approved.
        signer: a key that the decision's policy names.
        time: in UTC.

    Raises:
        GateRefused: if the decision is not a pass.
        InputError: if the policy does not name this key.
    """
    if not decision["passed"]:
        raise GateRefused(f"the gate said {decision['outcome']}, and only a pass can be approved")
    known = keys(decision)
    if signer.public_key.keyid not in known:
        named = ", ".join(key[:16] for key in known) or "none"
        raise InputError(
            f"the policy does not name the key {signer.public_key.keyid[:16]} among those who may "
            f"approve ({named}); add its public key to gate.approval.keys in the recipe"
        )
    kind = decision["target"]["kind"]
    digest = decision["binds"]["candidate"].removeprefix("sha256:")
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": kind, "digest": {"sha256": digest}}],
        "predicateType": PREDICATE,
        "predicate": {key: decision[key] for key in _SIGNED} | {"time": time},
    }
    return sign(statement, signer)


def checked(decision: Mapping[str, Any]) -> tuple[list[Approval], list[str]]:
    """Return the approvals of a decision that hold, and what is wrong with each of the others.

    An approval holds if its signature is that of a key which the policy names, and if it is about
    the very digests, outcome and overrides of this decision. A key counts once.
    """
    known, found, wrong = keys(decision), dict[str, Approval](), []
    for envelope in decision.get("approvals", ()):
        keyid = _keyid(envelope)
        if keyid not in known:
            wrong.append(f"an approval by the key {keyid[:16]}, which the policy does not name")
            continue
        try:
            said = open_signed(envelope, known[keyid])
        except SignatureDiffers as error:
            wrong.append(f"an approval is forged: {error}")
            continue
        predicate = said.get("predicate")
        if said.get("predicateType") != PREDICATE or not isinstance(predicate, dict):
            wrong.append(f"what the key {keyid[:16]} signed is no approval")
        elif any(predicate.get(key) != decision[key] for key in _SIGNED):
            wrong.append(
                f"the approval by the key {keyid[:16]} is of another model, policy, result or "
                "outcome; it must be given again"
            )
        else:
            found[keyid] = Approval(keyid, str(predicate.get("time", "")))
    return list(found.values()), wrong


def missing(decision: Mapping[str, Any], signer: SSlibKey | None = None) -> list[str]:
    """Return what a decision lacks of the approvals that its policy asks for.

    Args:
        decision: with its approvals.
        signer: public key of whoever signs the release; its approval does not count.
    """
    asked = decision["policy"].get("approval")
    if asked is None:
        return []
    given = [approval.keyid for approval in checked(decision)[0]]
    others = [keyid for keyid in given if signer is None or keyid != signer.keyid]
    if len(others) >= asked["at_least"]:
        return []
    own = "; the key that signs the release cannot approve it" if len(others) < len(given) else ""
    kind = decision["target"]["kind"]
    return [
        f"it has {len(others)} of the {asked['at_least']} approvals that its policy asks for{own}; "
        f"an approver gives one to the {kind} model with: assay gate RUN --approve --key KEY.pem"
    ]


def in_words(decision: Mapping[str, Any]) -> str:
    """Return who approved and what is missing, in one sentence; empty where nobody is asked."""
    valid, wrong = checked(decision)
    said = [f"approved with the key {one.keyid[:16]} on {one.time}" for one in valid]
    return "; ".join([*said, *wrong, *missing(decision)])


def keys(decision: Mapping[str, Any]) -> dict[str, SSlibKey]:
    """Return the keys that may approve, by their ids."""
    asked = decision["policy"].get("approval", {"keys": ()})
    found = [parse_public_key(pem.encode(), "a key of the policy") for pem in asked["keys"]]
    return {key.keyid: key for key in found}


def _keyid(envelope: Any) -> str:
    try:
        return str(envelope["signatures"][0]["keyid"])
    except (KeyError, IndexError, TypeError):
        return "of nobody"
