"""The group metrics beside fairlearn's, and what they do beyond it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.calibration import adaptive_calibration_error, expected_calibration_error
from eval.metrics.group import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equal_opportunity_difference,
    equalized_odds_difference,
    null_mean,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # fairlearn's and pandas' own


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num_groups", [2, 3])
def test_two_classes_are_as_in_fairlearn(seed: int, num_groups: int) -> None:
    theirs = pytest.importorskip("fairlearn.metrics", reason="needs fairlearn")
    rng = np.random.default_rng(seed)
    truth, groups = rng.integers(2, size=300), rng.integers(num_groups, size=300)
    given = np.where(rng.random(300) < 0.7 + 0.1 * groups, truth, 1 - truth)
    ours = [column.tolist() for column in (given, truth, groups)]
    asked = {"y_true": truth, "y_pred": given, "sensitive_features": groups}
    assert demographic_parity_difference(ours[0], ours[2]) == pytest.approx(
        theirs.demographic_parity_difference(**asked)
    )
    assert demographic_parity_ratio(ours[0], ours[2], positive=1) == pytest.approx(
        theirs.demographic_parity_ratio(**asked)
    )
    assert equalized_odds_difference(*ours) == pytest.approx(
        theirs.equalized_odds_difference(**asked)
    )
    assert equal_opportunity_difference(*ours, classes=[1]) == pytest.approx(
        theirs.equal_opportunity_difference(**asked)
    )


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("xyz"), st.sampled_from("xyz"), st.sampled_from("gh")),
        min_size=6,
        max_size=40,
    )
)
def test_group_figures_stay_in_their_range_and_keep_their_order(
    rows: list[tuple[str, str, str]],
) -> None:
    predictions, references, groups = ([row[i] for row in rows] for i in range(3))
    gap = demographic_parity_difference(predictions, groups, min_n=1)
    ratio = demographic_parity_ratio(predictions, groups, min_n=1)
    odds = equalized_odds_difference(predictions, references, groups, min_n=1)
    opportunity = equal_opportunity_difference(predictions, references, groups, min_n=1)
    assert all(np.isnan(x) or 0 <= x <= 1 for x in (gap, ratio, odds, opportunity))
    assert not (odds < opportunity), "equalised odds asks for more"
    assert np.isnan(gap) or (gap == 0) == (ratio == 1)
    renamed = [{"g": "h", "h": "g"}[group] for group in groups]
    assert demographic_parity_difference(predictions, renamed, min_n=1) == pytest.approx(
        gap, nan_ok=True
    )


def test_the_null_of_a_gap_is_what_chance_alone_gives() -> None:
    rng = np.random.default_rng(0)
    predictions = ["ab"[int(x)] for x in rng.integers(2, size=120)]
    groups = ["g", "h"] * 60

    def gap(drawn: object) -> float:
        return demographic_parity_difference(predictions, drawn)  # type: ignore[arg-type]

    # |difference of two shares of 60| has the mean sqrt(2 / pi) * sqrt(2 * 0.25 / 60)
    expected = (2 / np.pi) ** 0.5 * (2 * 0.25 / 60) ** 0.5
    assert null_mean(gap, groups, num_shuffles=400) == pytest.approx(expected, rel=0.15)
    assert null_mean(gap, groups) == null_mean(gap, groups)


def test_equal_mass_bins_by_hand() -> None:
    confidences = [0.6, 0.7, 0.9, 1.0]
    right = [True, False, True, False]
    # {0.6, 0.7} against 1 of 2, {0.9, 1.0} against 1 of 2
    wanted = (0.3 + 0.9) / 4
    assert adaptive_calibration_error(confidences, right, num_bins=2) == pytest.approx(wanted)
    assert adaptive_calibration_error([0.75] * 4, [True] * 3 + [False]) == 0.0


@settings(max_examples=25, deadline=None)
@given(
    items=st.lists(
        st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=1
    )
)
def test_calibration_errors_do_not_depend_on_the_order(items: list[tuple[float, bool]]) -> None:
    for error in (adaptive_calibration_error, expected_calibration_error):
        forward = error(*map(list, zip(*items, strict=True)), num_bins=4)  # type: ignore[arg-type]
        backward = error(*map(list, zip(*items[::-1], strict=True)), num_bins=4)  # type: ignore[arg-type]
        assert forward == pytest.approx(backward)
        assert 0 <= forward <= 1
