from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from privacy.canaries import NUM_TOKENS
from privacy.errors import LedgerError
from privacy.ledger import Ledger
from recipes import config, domains, planting, training
from recipes.errors import InputError
from recipes.files import write_json
from recipes.run import RECORD, Run
from tests import tiny
from tests.cli import write_recipe
from tests.recipes import whole

BASE: Any = SimpleNamespace(tokenizer=tiny.make_tokenizer())  # all that planting asks of a base


def begun(folder: Path, kind: str = "chat", **sections: Any) -> tuple[Run, domains.Domain]:
    data = {"train": "rows.jsonl", "test_fraction": 0.3, "canaries": 40}
    path = write_recipe(folder, kind, folder / "no-base", **{"data": data, **sections})
    recipe = config.load(path)
    return Run(recipe, folder / "run", folder), domains.read(recipe, folder)


def declare(run: Run, planted: planting.Planted) -> None:
    """Write the record as training does."""
    said = {"source": str(run.source), "canaries": planted.declare()}
    write_json(run.folder / RECORD, whole.RECORD | said)


@pytest.mark.parametrize("kind", ["chat", "qa", "classification"])
def test_a_canary_is_learned_whole_or_not_at_all_as_its_coin_says(
    tmp_path: Path, kind: str
) -> None:
    run, domain = begun(tmp_path, kind)
    planted = planting.plant(run, domain, BASE)
    assert planted is not None
    assert len(planted.examples) == len(planted.design.canaries) == 40
    for canary, example in zip(planted.design.canaries, planted.examples, strict=True):
        assert example.num_cut == 0
        if kind == "classification":
            assert (example.weight == 1.0) == canary.is_in
            assert not canary.is_in or example.label == canary.label
        else:
            assert example.num_supervised == (NUM_TOKENS - 1) * canary.is_in
        if canary.is_in:
            assert example.input_ids == canary.tokens  # the tiny tokenizer has a token a byte
        else:
            assert not set(example.input_ids) & set(canary.tokens)


def test_the_number_of_units_is_the_same_however_the_coins_fall(tmp_path: Path) -> None:
    run, domain = begun(tmp_path, privacy={"epsilon": None, "noise_multiplier": 1.0})
    planted = planting.plant(run, domain, BASE)
    assert planted is not None
    num_rows = len(domain.parts.train)
    units = training.private_units(run.recipe, domain.parts.train)
    assert units == [[row] for row in range(num_rows)]  # canaries are nobody's
    num_units = training.num_private_units(run.recipe, domain.parts.train)
    assert training.private_plan(run.recipe, num_units).num_examples == num_rows + 40


def test_a_resumed_run_takes_the_coins_it_began_with(tmp_path: Path) -> None:
    run, domain = begun(tmp_path)
    first = planting.plant(run, domain, BASE)
    assert first is not None
    declare(run, first)
    assert planting.plant(run, domain, BASE) == first
    assert planting.opened(run) == first.design
    declared = (run.folder / RECORD).read_text()
    assert '"is_in"' not in declared
    assert first.design.salt not in declared


def test_coins_that_are_changed_after_training_began_end_the_run_and_the_audit(
    tmp_path: Path,
) -> None:
    run, domain = begun(tmp_path)
    planted = planting.plant(run, domain, BASE)
    assert planted is not None
    declare(run, planted)
    sealed = run.folder / planting.SEALED
    values = json.loads(sealed.read_text())
    values["canaries"][0]["is_in"] = not values["canaries"][0]["is_in"]
    sealed.write_text(json.dumps(values, sort_keys=True, separators=(",", ":")))
    for use in (lambda: planting.opened(run), lambda: planting.plant(run, domain, BASE)):
        with pytest.raises(LedgerError, match="not those that were committed to"):
            use()
    sealed.unlink()
    with pytest.raises(LedgerError, match="is missing"):
        planting.opened(run)


def test_a_private_run_commits_in_its_ledger_too(tmp_path: Path) -> None:
    run, domain = begun(tmp_path, privacy={"epsilon": None, "noise_multiplier": 1.0})
    planted = planting.plant(run, domain, BASE)
    assert planted is not None
    declare(run, planted)
    units = training.private_units(run.recipe, domain.parts.train)
    plan = training.private_plan(run.recipe, len(units))
    how: dict[str, Any] = {"data": "sha256:0", "is_private": True}
    Ledger.open(run.ledger, plan, canaries=planted.design.commitment, **how)
    assert planting.opened(run) == planted.design
    with pytest.raises(LedgerError, match="another canaries"):  # a resume with other coins
        Ledger.open(run.ledger, plan, canaries="sha256:1", **how)
    # a new design with a record to match, after training: the ledger remembers
    (run.folder / RECORD).unlink()
    other = planting.plant(run, domain, BASE)
    assert other is not None
    declare(run, other)
    with pytest.raises(LedgerError, match="commits to other canaries"):
        planting.opened(run)


def test_canaries_that_would_be_cut_are_refused(tmp_path: Path) -> None:
    run, domain = begun(tmp_path)
    short = run.recipe.train.model_copy(update={"max_length": 12})
    cut = Run(run.recipe.model_copy(update={"train": short}), run.folder, run.source)
    with pytest.raises(InputError, match="learned from 11 tokens and not from 15"):
        planting.plant(cut, domain, BASE)


def test_a_run_without_canaries_has_none(tmp_path: Path) -> None:
    run, domain = begun(tmp_path, data={"train": "rows.jsonl", "test_fraction": 0.3})
    assert planting.plant(run, domain, BASE) is None
    assert planting.opened(run) is None
    assert not run.folder.exists()


def test_ordinary_tokens_are_read_back_as_themselves() -> None:
    tokenizer = tiny.make_tokenizer()
    found = planting.ordinary_tokens(tokenizer)
    assert len(found) > 90  # of 256 bytes, those that are a character by themselves
    assert not set(found) & set(tokenizer.all_special_ids)
    assert tokenizer(tokenizer.decode(found), add_special_tokens=False)["input_ids"] == found
