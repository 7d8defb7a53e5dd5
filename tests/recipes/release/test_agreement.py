"""Papers of a release that name one thing differently, listed and bound and signed anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.task import fingerprint
from recipes import decisions
from recipes.errors import ReleaseDiffers
from recipes.files import sha256_file, write_json
from recipes.release import layout
from recipes.release.ship import ship
from recipes.release.signature import sign_folder
from recipes.release.verify import verify
from tests.cli import assay_here
from tests.recipes.finished import make_finished
from tests.recipes.release.conftest import Keys
from tests.recipes.release.folders import edit, list_again, write_decision
from tests.recipes.release.test_ship import write_empirical

OTHER = "sha256:" + "1" * 64
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, keys: Keys) -> Path:
    """A release of a private run with canaries. Read only."""
    folder = tmp_path_factory.mktemp("released")
    gate = {"accuracy": {"metric": "f1", "at_least": 0.0, "min_items": 1}}
    run = make_finished(folder / "story", tiny_base, is_private=True, gate=gate)
    write_empirical(run)
    write_decision(run)
    return ship(run, folder / "release", signer=keys.signer)


@pytest.fixture
def release(released: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(released, tmp_path / "release")


def at(name: str, *keys: str | int, value: object = OTHER) -> Change:
    """Return a change of one value in a paper."""

    def change(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return lambda release: edit(release / name, change)


def in_bill(name: str, value: str = OTHER) -> Change:
    """Return a change of a property of the model in the bill of materials."""

    def change(bill: Any) -> None:
        for one in bill["metadata"]["component"]["properties"]:
            if one["name"] == name:
                one["value"] = value

    return lambda release: edit(release / layout.BILL_OF_MATERIALS, change)


def bind_again(release: Path) -> None:
    """Let the decision bind the papers as they are now, as whoever made them wrongly would."""
    record, merge, decision = (
        json.loads((release / name).read_text())
        for name in (layout.RECORD, layout.MERGE, layout.DECISION)
    )
    binds = decision["binds"]
    binds["record"], binds["merge"] = decisions.record_digest(record), fingerprint(merge)
    for bound, name in (
        ("merged/report.json", layout.REPORT),
        ("base/report.json", layout.BASE_REPORT),
    ):
        binds["results"][bound] = f"sha256:{sha256_file(release / name)}"
    binds["empirical"] = fingerprint(json.loads((release / layout.EMPIRICAL).read_text()))
    write_json(release / layout.DECISION, decision)


BILL = layout.BILL_OF_MATERIALS
COMPONENT = ("metadata", "component")
PAIRS: dict[str, tuple[Change, str]] = {
    "base's report / base": (at(layout.BASE_REPORT, "target", "base"), "base: evidence/base"),
    "report / base": (at(layout.REPORT, "target", "base"), "base"),
    "record / base": (at(layout.RECORD, "base", "identity"), "base"),
    "merge / base": (at(layout.MERGE, "base"), "base"),
    "bill / base": (in_bill("assay:base"), f"base: {BILL}"),
    "base's report / its place": (
        at(layout.BASE_REPORT, "target", "kind", value="adapter"),
        "kind of model: evidence/base",
    ),
    "base's report / quantization": (
        at(layout.BASE_REPORT, "target", "quantization", value="none"),
        "base.quantization: evidence/base",
    ),
    "record / quantization": (
        at(layout.RECORD, "quantization", value="none"),
        "base.quantization: evidence/recipe.json",
    ),
    "recipe / quantization": (
        at(layout.RECIPE, "base", "quantization", value="none"),
        "base.quantization: evidence/recipe.json",
    ),
    "record / adapter": (at(layout.RECORD, "training", "adapter"), "adapter: merge.json"),
    "merge / adapter": (at(layout.MERGE, "adapter"), "adapter: merge.json"),
    "report / adapter": (at(layout.REPORT, "target", "adapter"), "adapter"),
    "bill / adapter": (in_bill("assay:adapter"), f"adapter: {BILL}"),
    "bill / model": (in_bill("assay:identity"), f"model: {BILL}"),
    "merge / model": (at(layout.MERGE, "identity"), "about the model"),
    "report / model": (at(layout.REPORT, "target", "merged"), "about the model"),
    "about / model": (at(layout.ABOUT, "model"), "about the model"),
    "decision / model": (at(layout.DECISION, "target", "merged"), "about the model"),
    "decision / base": (at(layout.DECISION, "target", "base"), "the decision is about the base"),
    "decision / adapter": (at(layout.DECISION, "target", "adapter"), "is about the adapter"),
    "about / outcome": (at(layout.ABOUT, "outcome", value="PASS BY OVERRIDE"), "the decision PASS"),
    "about / name": (at(layout.ABOUT, "name", value="another"), "name: release.json"),
    "about / version": (at(layout.ABOUT, "version", value="9.0"), "version"),
    "bill / name": (at(BILL, *COMPONENT, "name", value="another"), f"name: {BILL}"),
    "bill / version": (at(BILL, *COMPONENT, "version", value="9.0"), "version"),
    "record / name": (at(layout.RECORD, "name", value="another"), "name"),
    "recipe / name": (at(layout.RECIPE, "name", value="another"), "name: evidence/recipe.json"),
    "recipe / seed": (at(layout.RECIPE, "train", "seed", value=7), "train.seed"),
    "recipe / settings": (at(layout.RECIPE, "train", "epochs", value=9), "train.epochs"),
    "recipe / base's name": (
        at(layout.RECIPE, "base", "checkpoint", value="another"),
        "base.checkpoint",
    ),
    "recipe / policy": (
        at(layout.RECIPE, "gate", "accuracy", "at_least", value=0.1),
        "another policy",
    ),
    "record / private": (at(layout.RECORD, "is_private", value=False), "private"),
    "record / rows": (at(layout.RECORD, "data", "fingerprint"), "other rows"),
    "bill / rows": (at(BILL, "components", 0, "hashes", 0, "content", value="1" * 64), "rows"),
    "bill / files": (
        at(BILL, *COMPONENT, "components", 0, "hashes", 0, "content", value="1" * 64),
        BILL,
    ),
    "merge / files": (
        at(layout.MERGE, "files", "model.safetensors", "sha256", value="1" * 64),
        "model.safetensors: merge.json",
    ),
    "ledger / record": (at(layout.RECORD, "training", "ledger_head"), "last line"),
    "privacy / ledger": (
        at(layout.PRIVACY, "epsilon", "pld", "value", value=0.1),
        "states epsilon",
    ),
    "empirical / name": (at(layout.EMPIRICAL, "name", value="another"), "name: evidence/empirical"),
    "empirical / epsilon": (at(layout.EMPIRICAL, "epsilon", value=99.0), "epsilon: evidence/emp"),
    "empirical / delta": (at(layout.EMPIRICAL, "delta", value=0.1), "delta: evidence/empirical"),
    "empirical / verdict": (
        at(layout.EMPIRICAL, "verdict", value="not refuted"),
        "verdict: evidence/empirical",
    ),
    "empirical / private": (at(layout.EMPIRICAL, "is_private", value=False), "private"),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_papers_that_disagree_are_named_whether_signed_or_not(
    release: Path, keys: Keys, tmp_path: Path, pair: str
) -> None:
    change, words = PAIRS[pair]
    change(release)
    bind_again(release)
    list_again(release)
    done = assay_here("verify", release, folder=tmp_path)
    assert (done.code, words in done.said) == (5, True), done.err
    (release / layout.SIGNATURE).unlink()
    sign_folder(release, keys.signer)
    with pytest.raises(ReleaseDiffers) as refusal:
        verify(release, keys.trusted)
    said = str(refusal.value)
    assert words in said
    assert "signature:" not in said, "only the papers differ"


def test_a_release_that_is_bound_listed_and_signed_anew_and_says_one_thing_verifies(
    release: Path, keys: Keys
) -> None:
    bind_again(release)
    list_again(release)
    assert verify(release).outcome
    (release / layout.SIGNATURE).unlink()
    sign_folder(release, keys.signer)
    assert verify(release, keys.trusted).signed_by
