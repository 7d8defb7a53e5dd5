"""Progress that is told as a share moves a bar of 100."""

from __future__ import annotations

from recipes.console import Bar, shares_on


def test_shares_move_a_bar_to_its_end_and_not_beyond() -> None:
    moved: list[int] = []
    report = shares_on(Bar(moved.append, lambda _: None))
    for share in (0.001, 0.25, 0.257, 0.9, 1.0):
        report(share)
    assert (sum(moved), min(moved)) == (100, 0)
