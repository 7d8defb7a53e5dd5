from __future__ import annotations

from dataclasses import replace

import pytest

from eval.report import Candidate, Page
from eval.report.bars import Scale, bound_bar, interval_bar
from eval.report.checks import verdict
from eval.report.comparison import compare
from eval.report.examples import MAX_EXAMPLES, examples
from eval.report.figures import reliability, risk_coverage
from eval.stats import Difference
from eval.task import Sample


def judged(page: Page, *differences: Difference) -> list[str]:
    """The judgements of one candidate with these differences, on metrics of one task."""
    names = [f"m{i}" for i in range(len(differences))]
    result = next(iter(page.base.tasks.values()))
    one = next(iter(result.metrics.values()))
    report = replace(page.base, tasks={"t": replace(result, metrics=dict.fromkeys(names, one))})
    found = {"t": dict(zip(names, differences, strict=True))}
    candidate = Candidate("c", report, {}, found)
    comparison = compare(replace(page, base=report, candidates=(candidate,)))
    return [row.cells[0].judgement for row in comparison.wins]


CLEAR = Difference(0.2, 0.15, 0.25, 200)
BARE = Difference(0.1, 0.005, 0.195, 200)
NOTHING = Difference(0.01, -0.05, 0.07, 200)


def test_noise_is_not_shown_as_progress(run_page: Page) -> None:
    assert judged(run_page, NOTHING) == ["undecided"]
    assert judged(run_page, BARE, *[NOTHING] * 9) == ["perhaps better"] + ["undecided"] * 9


def test_a_clear_difference_survives_the_correction(run_page: Page) -> None:
    assert judged(run_page, CLEAR, *[NOTHING] * 30)[0] == "better"


def test_a_single_comparison_is_not_corrected(run_page: Page) -> None:
    assert judged(run_page, BARE) == ["better"]


def test_lower_can_be_better(run_page: Page) -> None:
    worse = replace(CLEAR, higher_is_better=False)
    assert judged(run_page, worse, CLEAR) == ["worse", "better"]


def test_a_difference_without_width_is_not_a_crash(run_page: Page) -> None:
    assert judged(run_page, Difference(0.0, 0.0, 0.0, 9), Difference(1.0, 1.0, 1.0, 9)) == [
        "undecided",
        "better",
    ]


def test_the_tally_counts_every_compared_figure(compare_page: Page) -> None:
    for tally in compare(compare_page).tallies:
        assert tally.better + tally.worse + tally.perhaps + tally.undecided == tally.total == 6


def sample(name: str, answer: str, correct: bool | None, **scores: float) -> Sample:
    return Sample(name, answer, "wanted", scores, correct)


def test_examples_are_paired_by_id_and_broken_ones_come_first() -> None:
    base = [sample("a", "x", False), sample("b", "y", True), sample("c", "z", None)]
    after = [
        sample("c", "Z", None),
        sample("b", "n", False),
        sample("a", "x2", True),
        sample("d", "alone", True),
    ]
    found = examples("c", 0, base, after)
    assert [(e.kind, e.id) for e in found.shown] == [
        ("broken", "b"),
        ("fixed", "a"),
        ("changed", "c"),
    ]
    assert (found.num_items, found.num_differ) == (3, 3)


@pytest.mark.parametrize(
    ("num_broken", "num_fixed", "shown"),
    [(20, 20, (4, 4)), (20, 2, (6, 2)), (2, 20, (2, 6)), (0, 20, (0, 8)), (20, 0, (8, 0))],
)
def test_broken_and_fixed_share_the_room(
    num_broken: int, num_fixed: int, shown: tuple[int, int]
) -> None:
    total = num_broken + num_fixed
    base = [sample(str(i), "a", i < num_broken) for i in range(total)]
    after = [sample(str(i), "b", i >= num_broken) for i in range(total)]
    kinds = [e.kind for e in examples("c", 0, base, after).shown]
    assert len(kinds) == MAX_EXAMPLES
    assert (kinds.count("broken"), kinds.count("fixed")) == shown


def test_equal_answers_are_no_example() -> None:
    same = [sample("a", "x", True), sample("b", "y", None)]
    assert examples("c", 0, same, same).num_differ == 0


def test_the_bar_of_a_margin_check_lies_on_the_right_side(run_page: Page) -> None:
    rows = verdict(run_page.candidates[0], 0).rows
    by_rule = {row.rule: row.bar for row in rows}
    floor = by_rule["policy-qa/f1 not worse than the base by more than 0.02"]
    ceiling = by_rule["flip_rate not worse than the base by more than 0.1"]
    assert floor is not None
    assert floor.bound is not None
    assert floor.allowed is not None
    assert floor.zero is not None
    assert floor.bound < floor.zero < floor.low
    assert floor.allowed[0] == floor.bound
    assert ceiling is not None
    assert ceiling.bound is not None
    assert ceiling.allowed is not None
    assert ceiling.zero is not None
    assert max(ceiling.zero, ceiling.high) < ceiling.bound
    assert ceiling.allowed == (0.0, ceiling.bound)


def test_a_bar_of_what_is_undefined_is_not_drawn() -> None:
    nan = float("nan")
    assert interval_bar(nan, nan, nan, Scale(0, 1)) is None
    assert bound_bar(0.5, 0.4, 0.6, nan, is_floor=True, zero=False) is None


def test_curves_need_a_confidence_and_a_right_answer() -> None:
    unsure = [sample(str(i), "a", True) for i in range(20)]
    unmarked = [sample(str(i), "a", None, confidence=0.9) for i in range(20)]
    for samples in (unsure, unmarked, []):
        assert reliability([(None, samples)], "k") is None
        assert risk_coverage([(None, samples)], "k") is None


def test_the_risk_curve_does_not_depend_on_the_order_of_ties() -> None:
    tied = [sample(str(i), "a", i % 3 == 0, confidence=0.5) for i in range(30)]
    one, other = (risk_coverage([(0, found)], "k") for found in (tied, tied[::-1]))
    assert one == other
