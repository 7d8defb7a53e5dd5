"""Whether documents that name one thing say the same of it: which base, adapter, rows, settings.

Each document of a run and of a release names by hash what it is about, and each is written by
another step. Where two disagree, one of them is of something else, and nothing that rests on both
is true. Here are the things that several documents name; `recipes.run_agreement` and
`recipes.release.agreement` say which documents those are. Nothing here reads a file or needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eval.task import Target
from recipes.public_recipe import held_settings, public_checkpoint

EPSILON_TOLERANCE = 0.01
"""Relative; two versions of an accountant may round differently, and no edit is that small."""


def differing(thing: str, said: Mapping[str, object]) -> Iterator[str]:
    """Yield a sentence for each document that says another thing than the first does.

    Args:
        thing: that all of them name.
        said: what each says, by the document's name; None where it says nothing.
    """
    known = [(name, value) for name, value in said.items() if value is not None]
    for name, value in known[1:]:
        if value != known[0][1]:
            yield f"{thing}: {name} says {_shown(value)}, and {known[0][0]} {_shown(known[0][1])}"


def of_recipe(
    record: Mapping[str, Any], recipe: Mapping[str, Any], record_file: str, recipe_file: str
) -> Iterator[str]:
    """Hold the record of a run against its recipe without paths (`public_recipe`)."""
    base, revision = recipe["base"], recipe["base"].get("revision")
    recorded = public_checkpoint(record["base"]["checkpoint"], revision=revision)
    for thing, in_record, in_recipe in (
        ("name", record["name"], recipe["name"]),
        ("recipe", record["recipe"], recipe["recipe"]),
        ("base.checkpoint", recorded, base["checkpoint"]),
        ("base.quantization", record.get("quantization"), base["quantization"]),
        ("train.seed", record["seed"], recipe["train"]["seed"]),
        ("whether the run is private", record["is_private"], recipe["privacy"] is not None),
    ):
        yield from differing(thing, {record_file: in_record, recipe_file: in_recipe})
    for key, in_record, in_recipe in _settings(record.get("settings") or {}, held_settings(recipe)):
        yield from differing(key, {f"{record_file}, settings": in_record, recipe_file: in_recipe})


def _settings(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield each setting that both hold: one that only a newer version knows is held by neither."""
    for key in before.keys() & now.keys():
        one, other = before[key], now[key]
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _settings(one, other, f"{prefix}{key}.")
        else:
            # None is a value of a setting, and says nothing elsewhere
            yield f"{prefix}{key}", _some(one), _some(other)


def _some(value: object) -> object:
    return "null" if value is None else value


def of_kind(target: Target, kind: str, file: str) -> Iterator[str]:
    """Hold what a report says that it is about against the place where it lies."""
    yield from differing("kind of model", {"its place": kind, file: target.kind})
    wanted = {"base": (False, False), "adapter": (True, False), "merged": (True, True)}.get(kind)
    if wanted and wanted != (target.adapter is not None, target.merged is not None):
        yield f"{file} does not say which {kind} model it is of"


def of_quantization(
    target: Target, quantization: str | None, file: str, record_file: str
) -> Iterator[str]:
    """Hold how a model was loaded for its evaluation against how it was trained."""
    wanted = "none" if target.kind == "merged" else quantization
    yield from differing(
        "base.quantization", {record_file: wanted, file: target.quantization or None}
    )


@dataclass(frozen=True)
class Account:
    """What the ledger of a private run says of it."""

    epsilon: float
    """Spent."""

    delta: float
    canaries: str
    """Commitment to those among its rows; empty if there are none."""


def of_empirical(
    found: Mapping[str, Any],
    record: Mapping[str, Any],
    account: Account | None,
    files: tuple[str, str],
) -> Iterator[str]:
    """Hold what an empirical audit found against the record and the account of its run.

    Args:
        found: the audit.
        record: of the run.
        account: by its ledger; None of a plain run, and where the ledger cannot be believed.
        files: names of the first two.
    """
    file, record_file = files
    for thing, in_record, in_file in (
        ("name", record["name"], found["name"]),
        ("whether the run is private", record["is_private"], found["is_private"]),
    ):
        yield from differing(thing, {record_file: in_record, file: in_file})
    audit = found["canaries"]
    yield from of_canaries(record, account, record_file, {file: audit and audit["commitment"]})
    figures = f"{file}, its figures"
    yield from differing("verdict", {figures: _verdict(found), file: found["verdict"]})
    if account is None:
        return
    yield from differing("delta", {"the ledger": account.delta, file: found["delta"]})
    claimed = math.inf if found["epsilon"] is None else found["epsilon"]
    is_same = abs(claimed - account.epsilon) <= EPSILON_TOLERANCE * account.epsilon
    if not (is_same or claimed == account.epsilon):
        yield f"epsilon: {file} says {claimed:.4g}, and the ledger {account.epsilon:.4g}"


def of_canaries(
    record: Mapping[str, Any],
    account: Account | None,
    record_file: str,
    said: Mapping[str, str | None],
) -> Iterator[str]:
    """Hold the canaries that a run declared against those that its ledger commits to."""
    declared = record.get("canaries")
    documents = {
        record_file: declared and declared["commitment"],
        "the ledger": (account and account.canaries) or None,
        **said,
    }
    yield from differing("commitment to the canaries", documents)


def _verdict(found: Mapping[str, Any]) -> str:
    """Return what follows from the figures of an audit, as `Empirical.verdict` does."""
    audit = found["canaries"]
    if audit is None:
        return "no canaries"
    if audit["void"]:
        return "void"
    if found["epsilon"] is None:
        return "no claim"
    one_run = audit["one_run"]
    p_value = one_run["p_value"]
    is_refuted = p_value is not None and p_value <= 1 - one_run["confidence"]
    return "refuted" if is_refuted else "not refuted"


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
