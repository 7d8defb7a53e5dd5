from __future__ import annotations

from dataclasses import replace

import pytest

from eval.report import Page
from eval.report.disagreements import MAX_ITEMS, disagreements
from eval.report.judgements import detectable, judge, p_value
from eval.report.machine import to_json
from eval.report.standings import standings
from eval.report.tradeoff import letter, representative, tradeoffs
from eval.stats import Difference
from eval.task import Sample


def test_a_resampled_p_value_at_its_floor_gives_way_to_the_interval() -> None:
    clear = Difference(0.2, 0.16, 0.24, 500, True, p_value=1 / 1001)
    assert p_value(clear) < 1e-9
    exact = replace(clear, p_value=0.03)
    assert p_value(exact) == 0.03


def test_the_detectable_difference_shrinks_with_the_interval() -> None:
    wide, narrow = Difference(0.0, -0.2, 0.2, 100), Difference(0.0, -0.1, 0.1, 100)
    assert detectable(wide) == pytest.approx(2 * detectable(narrow))
    assert detectable(narrow) == pytest.approx(0.1 * (1.96 + 0.8416) / 1.96, rel=1e-3)


def test_the_correction_is_within_a_family(compare_page: Page) -> None:
    alone = replace(
        compare_page,
        candidates=tuple(
            replace(c, differences={"unsupported": c.differences["unsupported"]})
            for c in compare_page.candidates
        ),
        pairs=tuple(
            replace(p, differences={"unsupported": p.differences["unsupported"]})
            for p in compare_page.pairs
        ),
    )
    whole, part = judge(compare_page), judge(alone)
    assert part
    assert all(whole[key] == one for key, one in part.items())


def test_a_pair_is_judged_from_both_sides_alike(compare_page: Page) -> None:
    found = standings(compare_page, judge(compare_page))
    by_index = {one.index: one for one in found}
    for one in found:
        for other, score in one.others.items():
            back = by_index[other].others[one.index]
            assert (score.better, score.worse) == (back.worse, back.better)
            assert score.beats == (one.index in by_index[other].beaten_by)


def test_json_holds_every_pair_once(compare_page: Page) -> None:
    pairs = to_json(compare_page)["pairs"]
    keys = {(p["first"], p["second"], p["task"], p["metric"]) for p in pairs}
    assert len(keys) == len(pairs) == 15 * 7  # 6 models, 7 figures


def test_the_tradeoff_shows_what_the_gate_asks_about(compare_page: Page) -> None:
    found = representative(compare_page, "accuracy")
    assert found is not None
    assert (found.task, found.metric) == ("policy-qa", "f1")
    titles = [drawing.title for drawing in tradeoffs(compare_page)]
    assert titles == [f"Accuracy against {y}" for y in ("bias", "hallucination", "epsilon")]


def test_letters_do_not_repeat() -> None:
    assert len({letter(index) for index in [None, *range(100)]}) == 101


def test_equal_answers_are_no_disagreement_and_few_items_serve_all_pairs() -> None:
    def answers(right: set[int]) -> list[Sample]:
        return [
            Sample(str(i), "a" if i in right else "b", "a", {}, correct=i in right)
            for i in range(300)
        ]

    same = {None: answers({1}), 0: answers({1})}
    found = disagreements(same)
    assert found is not None
    assert found.num_differ == 0
    many = {i: answers({*range(i * 20, i * 20 + 30)}) for i in range(8)}
    found = disagreements(many)
    assert found is not None
    assert 0 < len(found.shown) <= MAX_ITEMS
    assert found.shown[0].answers[0].correct is True
    assert disagreements({None: answers({1})}) is None
