"""Canaries among the training rows: drawn, sealed, declared, and seen to be learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune.checkpoint import Base
from finetune.encoding import Example, encode_text
from privacy import canaries
from privacy.canaries import Canary, Design
from privacy.errors import LedgerError
from privacy.ledger import verify
from recipes import documents
from recipes.domains import Domain
from recipes.errors import InputError
from recipes.files import write_text
from recipes.run import RECORD, Run

SEALED = "canaries.json"
"""File of a run folder: canaries, coins and salt, written before the first step."""


STATISTIC = "loss"
"""The score that is registered: the plain loss.

Chosen after five toy runs, three of them plain. In one later plain run on a 135M model, with 200
canaries and two epochs, its AUC was 0.67, min-k's 0.62 and that of the reference to the base 0.61;
in one private run at epsilon 8 none of the three differed from chance."""


@dataclass(frozen=True)
class Planted:
    """The canaries of a run, as training takes them."""

    design: Design
    examples: tuple[Example, ...]
    """One for each canary: itself if its coin said so, else a blank that teaches nothing. So the
    number of rows, and all that is computed from it, is the same however the coins fell."""

    def declare(self) -> dict[str, Any]:
        """Return what record.json says of them before training; nothing of the coins."""
        return {
            "num": len(self.design.canaries),
            "num_controls": len(self.design.controls),
            "tokens_each": len(self.design.canaries[0].tokens),
            "statistic": self.design.statistic,
            "rounds": list(self.design.rounds),
            "is_private": self.design.is_private,
            "commitment": self.design.commitment,
            "file": SEALED,
        }


def plant(run: Run, domain: Domain, base: Base) -> Planted | None:
    """Draw and seal the canaries of a run, or take those of its interrupted beginning.

    Returns:
        None where the recipe asks for none.

    Raises:
        InputError: if they would not be learned whole.
        LedgerError: if the sealed file is not the one that the run began with.
    """
    if not run.recipe.data.canaries:
        return None
    path = run.folder / SEALED
    if _declared(run) is None:  # so nothing has been trained yet on an earlier draw
        drawn = canaries.design(
            run.recipe.data.canaries,
            ordinary_tokens(base.tokenizer),
            statistic=STATISTIC,
            num_classes=len(domain.labels),
        )
        write_text(path, drawn.to_json())
        path.chmod(0o600)
        design = drawn
    else:
        design = _open(run)
    examples = tuple(
        _example(canary, f"canary {i}", run, domain, base.tokenizer)
        for i, canary in enumerate(design.canaries)
    )
    _refuse_unlearned(design.canaries, examples, run)
    return Planted(design, examples)


def opened(run: Run) -> Design | None:
    """Open the seal of a run that has ended; None for a run without canaries.

    Raises:
        LedgerError: if the file is not what was committed to, in the record or in the ledger.
    """
    if not run.recipe.data.canaries:
        return None
    declared = _declared(run)
    if declared is None:
        raise LedgerError(
            f"{run.folder / RECORD} does not declare the canaries that the recipe asks for, so "
            "nobody knows which ones were trained on. Train anew."
        )
    if run.recipe.privacy is not None and verify(run.ledger).canaries != declared:
        raise LedgerError(
            f"{run.ledger} commits to other canaries than {RECORD}: one of them was edited after "
            "training began. Nothing follows from these canaries."
        )
    return _open(run)


def encode(canary: Canary, name: str, run: Run, domain: Domain, tokenizer: Any) -> Example:
    """Encode a canary as if it had been trained on: every token but the first is learned.

    For a classifier it is a text, with the tokens that its tokenizer finds in it, and a class.
    """
    max_length = run.recipe.train.max_length
    if canary.label is None:
        tokens = canary.tokens[:max_length]
        return Example(name, tokens, supervised=(True,) * len(tokens))
    label: int | tuple[float, ...] = canary.label
    if domain.is_multi_label:
        label = tuple(float(i == canary.label) for i in range(len(domain.labels)))
    text = text_of(canary, tokenizer)
    return encode_text(tokenizer, text, id=name, max_length=max_length, label=label)


def text_of(canary: Canary, tokenizer: Any) -> str:
    """Return a canary as text."""
    return str(tokenizer.decode(list(canary.tokens)))


def ordinary_tokens(tokenizer: Any) -> list[int]:
    """Return the ids that stand for a text that is read back as that id, special ones left out."""
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    ids = [i for i in range(len(tokenizer)) if i not in special]
    texts = tokenizer.batch_decode([[i] for i in ids])
    found = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [i for i, back in zip(ids, found, strict=True) if back == [i]]


def _example(canary: Canary, name: str, run: Run, domain: Domain, tokenizer: Any) -> Example:
    if canary.is_in:
        return encode(canary, name, run, domain, tokenizer)
    stop = (int(tokenizer.eos_token_id),)
    if canary.label is None:
        return Example(name, stop, supervised=(False,))
    label: int | tuple[float, ...] = 0
    if domain.is_multi_label:
        label = (0.0,) * len(domain.labels)
    return Example(name, stop, label=label, weight=0.0)


def _refuse_unlearned(drawn: Sequence[Canary], examples: Sequence[Example], run: Run) -> None:
    """Make sure that each canary receives loss just as its coin said, whole, and once."""
    for canary, example in zip(drawn, examples, strict=True):
        num_learned = example.weight if example.label is not None else example.num_supervised
        wanted = (1 if canary.label is not None else len(canary.tokens) - 1) * canary.is_in
        if num_learned != wanted or example.num_cut:
            raise InputError(
                f"data.canaries: {example.id} would be learned from {num_learned:g} tokens and not "
                f"from {wanted}, because train.max_length is {run.recipe.train.max_length}; raise "
                f"it to {4 * len(canary.tokens)}, or set data.canaries to 0"
            )


def _declared(run: Run) -> str | None:
    """Return the commitment in the record of a run that has begun to train."""
    path = run.folder / RECORD
    declared = documents.record(run.folder).get("canaries") if path.is_file() else None
    return str(declared["commitment"]) if declared else None


def _open(run: Run) -> Design:
    path = run.folder / SEALED
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LedgerError(
            f"{path} is missing, so nobody knows which canaries were trained on; bring it back, or "
            "train anew"
        ) from None
    return canaries.open_seal(text, _declared(run) or "")
