from __future__ import annotations

import json
from dataclasses import replace

import pytest

from privacy.canaries import Design, design, open_seal
from privacy.errors import LedgerError, PrivacyError
from privacy.mechanism import SeededRandomness

VOCABULARY = range(100, 356)


def drawn(num: int = 400, num_classes: int = 0) -> Design:
    return design(
        num,
        VOCABULARY,
        statistic="loss",
        num_classes=num_classes,
        randomness=SeededRandomness(3),
    )


def test_canaries_are_all_different_and_half_of_them_are_in() -> None:
    found = drawn()
    everything = [*found.canaries, *found.controls]
    assert (len(found.canaries), len(found.controls)) == (400, 200)
    assert len({canary.tokens for canary in everything}) == 600
    assert {token for canary in everything for token in canary.tokens} == set(VOCABULARY)
    assert 160 <= sum(canary.is_in for canary in found.canaries) <= 240  # four standard errors
    assert not any(canary.is_in for canary in found.controls)
    assert {canary.label for canary in everything} == {None}
    assert {canary.label for canary in drawn(num_classes=3).canaries} == {0, 1, 2}


def test_the_operating_system_draws_unless_a_test_asks_otherwise() -> None:
    found = [design(50, VOCABULARY, statistic="loss") for _ in range(2)]
    assert all(one.is_private for one in found)
    assert not drawn().is_private
    assert found[0].canaries != found[1].canaries
    coins = [[canary.is_in for canary in one.canaries] for one in found]
    assert coins[0] != coins[1]
    assert drawn().canaries == drawn().canaries


def test_the_seal_opens_to_what_was_sealed() -> None:
    for sealed in (drawn(), drawn(num_classes=3)):
        assert open_seal(sealed.to_json(), sealed.commitment) == sealed


def test_nothing_in_the_seal_can_be_changed_afterwards() -> None:
    sealed = drawn(20)
    first = sealed.canaries[0]
    flipped = (replace(first, is_in=not first.is_in), *sealed.canaries[1:])
    for other in (
        replace(sealed, canaries=flipped),
        replace(sealed, statistic="min-k"),
        replace(sealed, rounds=(2,)),
        replace(sealed, controls=sealed.controls[1:]),
        replace(sealed, salt="0" * 64),
    ):
        with pytest.raises(LedgerError, match="not those that were committed to"):
            open_seal(other.to_json(), sealed.commitment)


def test_the_commitment_gives_nothing_away() -> None:
    """Equal canaries and coins have another commitment each time, by the salt."""
    assert drawn(20).canaries == drawn(20).canaries
    assert drawn(20).commitment != drawn(20).commitment


def test_a_sealed_file_that_is_no_design_is_refused() -> None:
    import hashlib

    values = json.loads(drawn(20).to_json())
    for text in (
        "{",
        "[]",
        "{}",
        json.dumps(values | {"schema": 9}),
        json.dumps(values | {"x": 1}),
    ):
        commitment = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        with pytest.raises(LedgerError, match=r"cannot be read|schema"):
            open_seal(text, commitment)


def test_canaries_that_could_be_alike_are_refused() -> None:
    with pytest.raises(PrivacyError, match="could be alike"):
        design(400, range(3), statistic="loss")
    with pytest.raises(PrivacyError, match="at least two"):
        design(1, VOCABULARY, statistic="loss")
