"""The `card` block of a recipe: what only people can say of a model.

A release's documents are filled from the run; a purpose, an owner or a right to use data cannot be
measured. What nobody filled in is marked as such in every document and never guessed. None of it
decides a result, so it may be changed after training.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune.config import Settings

Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=40)]
Text = Annotated[str, Field(min_length=1, max_length=4000)]

MISSING = "TO BE COMPLETED"
"""What stands in a document where nobody has said anything."""


class CardConfig(Settings):
    """What the owner of a model says of it; everything may be left out, and is then marked."""

    version: Version | None = None
    """Of this release, such as `1.2.0`."""

    summary: Text | None = None
    """What the model is, in a sentence or two."""

    owner: Text | None = None
    """Who answers for the model: the company, as the law names it."""

    contact: Text | None = None
    """Where to report an error, an incident or a wish: an address that somebody reads."""

    licence: Text | None = None
    """Under which the model is passed on: an SPDX identifier, as `Apache-2.0`, or a name."""

    base_licence: Text | None = None
    """Of the base model, whose terms go on to hold."""

    language: Text | None = None
    """Of its texts: ISO 639-1, as `en`; several with commas."""

    intended_use: Text | None = None
    """What it is for."""

    out_of_scope: Text | None = None
    """What it must not be used for."""

    users: Text | None = None
    """Who is to use it, and on whom its answers bear."""

    limitations: Text | None = None
    """Where it is known to fail, beyond what was measured."""

    data_origin: Text | None = None
    """Where the training rows come from, how they were collected and labelled."""

    data_rights: Text | None = None
    """Why they may be used for this: contract, consent, legal basis."""

    human_oversight: Text | None = None
    """Who may overrule its answers, and how."""

    monitoring: Text | None = None
    """What is watched in use, and what happens when it goes wrong."""

    retirement: Text | None = None
    """When it is looked at again or taken out of use."""

    base_training_flops: float | None = Field(None, gt=0)
    """Floating-point operations that the base's own training took, as its makers state them; with
    them the documents give the share that this training adds."""
