from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from privacy.canaries import Design, design
from privacy.mechanism import SeededRandomness
from privacy.membership import attack, auc
from recipes import empirical
from recipes.empirical_result import CanaryAudit, Empirical, RowAttacks, words
from recipes.errors import InputError
from recipes.record_scores import Scores

DESIGN = design(200, range(256), statistic="loss", randomness=SeededRandomness(1))
COINS = np.array([canary.is_in for canary in DESIGN.canaries])


def scored(
    *, lift: float = 0.0, never: float = 0.0, sign: float = 1.0, drawn: Design = DESIGN
) -> Scores:
    """Noise, ``lift`` more where a canary was trained on, ``never`` more where its coin said no."""
    values = np.random.default_rng(0).normal(size=len(drawn.canaries) + len(drawn.controls))
    values[: len(COINS)] += lift * COINS + never * ~COINS
    rows = {"loss": np.zeros(10)}
    return Scores(rows, rows, {"loss": sign * values}, np.zeros(10), np.zeros(10))


def found(audit: CanaryAudit | None, epsilon: float | None, **fields: object) -> Empirical:
    coin = auc([0.0] * 10, [0.0] * 10)
    rows = RowAttacks((attack("loss", [0.0] * 10, [0.0] * 10),), coin)
    made = Empirical("runs/x", "x", epsilon is not None, epsilon, 1e-5, rows, audit)
    return replace(made, **fields)  # type: ignore[arg-type]


def test_canaries_that_a_claim_cannot_explain_refute_it() -> None:
    audit = empirical.canary_audit(DESIGN, scored(lift=9.0), 1.0, 1e-5)
    assert audit.void == ()
    assert audit.one_run.epsilon_lower > 1.0
    result = found(audit, 1.0)
    assert result.verdict == "refuted"
    assert any(line.startswith("THE CLAIM IS REFUTED") for line in words(result))


def test_canaries_that_are_not_remembered_confirm_nothing() -> None:
    audit = empirical.canary_audit(DESIGN, scored(), 1.0, 1e-5)
    assert audit.one_run.epsilon_lower == 0.0
    result = found(audit, 1.0)
    assert result.verdict == "not refuted"
    text = " ".join(words(result))
    assert "Power: with 200 canaries no audit can show more than epsilon 3.7" in text
    assert "No positive control" in text
    assert not [word for word in ("confirmed", "compliant", "safe.", "proves") if word in text]
    weak = found(empirical.canary_audit(DESIGN, scored(), 8.0, 1e-5), 8.0)
    assert "could not have refuted epsilon 8.00, whatever the run spends" in " ".join(words(weak))


def test_a_failed_negative_control_voids_the_audit_in_words() -> None:
    """As when all canaries are trained on, whatever their coins said."""
    audit = empirical.canary_audit(DESIGN, scored(lift=9.0, never=9.0), 1.0, 1e-5)
    assert not audit.never_against_never.holds_half
    result = found(audit, 1.0)
    assert result.verdict == "void"
    assert any("THE AUDIT IS VOID: the negative control failed" in line for line in words(result))
    assert not [line for line in words(result) if "epsilon is at least" in line]


def test_a_score_that_is_upside_down_voids_the_audit_in_words() -> None:
    audit = empirical.canary_audit(DESIGN, scored(lift=2.0, sign=-1.0), 1.0, 1e-5)
    assert audit.one_run.epsilon_lower == 0.0
    result = found(audit, 1.0)
    assert result.verdict == "void"
    assert "the score is upside down" in " ".join(words(result))


def test_sound_audits_are_seldom_voided() -> None:
    """By a control at 99 %, and by one side of another."""
    voided = 0
    for seed in range(60):
        values = np.random.default_rng(seed).normal(size=300)
        rows = {"loss": np.zeros(2)}
        drawn = Scores(rows, rows, {"loss": values}, np.zeros(2), np.zeros(2))
        voided += bool(empirical.canary_audit(DESIGN, drawn, None, 1e-5).void)
    assert voided <= 4  # expected 0.9; more than 4 has a chance of 0.2 %


def test_a_run_without_canaries_or_claim_is_described_and_not_bounded() -> None:
    plain = found(None, None)
    assert plain.verdict == "no canaries"
    assert "no lower bound on epsilon" in " ".join(words(plain))
    assert found(empirical.canary_audit(DESIGN, scored(), None, 1e-5), None).verdict == "no claim"


def test_rows_that_the_base_tells_apart_are_said_to_differ() -> None:
    shifted = auc([1.0] * 200, [0.0] * 200, confidence=0.99)
    result = found(None, None)
    rows = replace(result.rows, base_alone=shifted)
    assert "they differ in more than training" in " ".join(words(replace(result, rows=rows)))
    assert "they differ in more than training" not in " ".join(words(result))


def test_a_delta_that_gives_coins_away_is_refused() -> None:
    with pytest.raises(InputError, match="too large for 200 canaries"):
        empirical.canary_audit(DESIGN, scored(), 1.0, 0.003)
