"""Made-up records that are trained on, or not, by the toss of a coin, and a seal on the coins.

Everything that the audit will depend on is fixed, and committed to, before the first step: the
canaries, their coins, the statistic, the numbers of guesses. The commitment is a salted hash, to be
written where the training writes what cannot be changed later (the ledger's first line). It shows
nothing of the coins, and afterwards nobody can say that they had fallen otherwise.

The seal does not hide: whoever can read the file knows the coins. It binds.
"""

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Any

from privacy.coin_guesses import rounds
from privacy.errors import LedgerError, PrivacyError
from privacy.mechanism import OS_RANDOMNESS, Randomness

NUM_TOKENS = 16
"""Of a canary. Random tokens are hard to guess and, being unlike any text, easily remembered."""

_SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Canary:
    """One made-up record; it belongs to nobody, so it is a unit of privacy by itself."""

    tokens: tuple[int, ...]
    """Ids, each drawn independently from the same vocabulary."""

    label: int | None
    """A random class; None for language models."""

    is_in: bool
    """The coin: whether it is trained on."""


@dataclasses.dataclass(frozen=True)
class Design:
    """All that an audit depends on, fixed before training."""

    canaries: tuple[Canary, ...]
    """Each with a fair coin of its own."""

    controls: tuple[Canary, ...]
    """Drawn alike and trained on in no case: held against the canaries whose coins said no, they
    show whether the audit sees what is not there."""

    statistic: str
    """The one score that the bound is computed from."""

    rounds: tuple[int, ...]
    """Numbers of guesses; the best is paid for by Bonferroni's correction."""

    is_private: bool
    """False if coins and tokens could be repeated from a seed."""

    salt: str
    """Random hex digits, so that the commitment cannot be searched for the coins."""

    @property
    def commitment(self) -> str:
        """Return ``sha256:...`` over all of it."""
        return "sha256:" + hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Write it in the one form that the commitment is taken of."""
        values = {"schema": _SCHEMA} | dataclasses.asdict(self)
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def design(
    num: int,
    vocabulary: Sequence[int],
    *,
    statistic: str,
    num_classes: int = 0,
    num_tokens: int = NUM_TOKENS,
    randomness: Randomness = OS_RANDOMNESS,
) -> Design:
    """Draw canaries and their coins, and half as many controls.

    Args:
        num: canaries; each is trained on with chance 1/2.
        vocabulary: token ids to draw from, without special ones.
        statistic: the score that is going to be used.
        num_classes: of a classifier; 0 for a language model.
        num_tokens: of each.
        randomness: of tokens, labels and coins.

    Raises:
        PrivacyError: if there are fewer than two canaries, or the vocabulary is so small that two
            of them could well be alike.
    """
    num_controls = (num + 1) // 2
    total = num + num_controls
    if num < 2:
        raise PrivacyError(f"An audit needs at least two canaries, got {num}.")
    # a collision of two among all has a chance of at most total^2 / (2 V^L)
    if len(vocabulary) < 2 or total**2 > 1e-9 * 2 * float(len(vocabulary)) ** num_tokens:
        raise PrivacyError(
            f"{total} canaries of {num_tokens} tokens from {len(vocabulary)} different ones could "
            "be alike. Use longer ones, or a tokenizer with more ordinary tokens."
        )
    draws = randomness.uniforms(total * num_tokens).reshape(total, num_tokens)
    rows = [tuple(int(vocabulary[int(u * len(vocabulary))]) for u in row) for row in draws]
    labels: list[int | None] = [None] * total
    if num_classes:
        labels = [int(u * num_classes) for u in randomness.uniforms(total)]
    coins = [bool(u < 0.5) for u in randomness.uniforms(num)] + [False] * num_controls
    drawn = [Canary(*values) for values in zip(rows, labels, coins, strict=True)]
    return Design(
        canaries=tuple(drawn[:num]),
        controls=tuple(drawn[num:]),
        statistic=statistic,
        rounds=rounds(num),
        is_private=randomness.is_private,
        salt=secrets.token_hex(32),
    )


def open_seal(text: str, commitment: str) -> Design:
    """Read a design that was sealed before training.

    Args:
        text: what :meth:`Design.to_json` gave.
        commitment: what was written down before the first step.

    Raises:
        LedgerError: if the text is another one than was committed to, or is no design.
    """
    if "sha256:" + hashlib.sha256(text.encode()).hexdigest() != commitment:
        raise LedgerError(
            "The sealed canaries are not those that were committed to before training: the file "
            "was edited or belongs to another run, so nothing follows from it. Bring back the "
            "file that training wrote, or train anew."
        )
    return _read(text)


def _read(text: str) -> Design:
    try:
        values: dict[str, Any] = json.loads(text)
        if values.pop("schema") != _SCHEMA:
            raise LedgerError(f"The sealed canaries are not of schema {_SCHEMA}.")
        for part in ("canaries", "controls"):
            values[part] = tuple(
                Canary(tuple(one["tokens"]), one["label"], one["is_in"]) for one in values[part]
            )
        return Design(**{**values, "rounds": tuple(values["rounds"])})
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"The sealed canaries cannot be read: {error}") from error
