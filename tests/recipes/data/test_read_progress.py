"""The bar of reading: it never goes back, ends at the size of the files, and notes the rows."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from recipes.console import Bar
from recipes.data.dataset import prepare
from recipes.data.read_progress import EVERY, UNIT, ReadProgress
from tests.recipes.rows import parse, settings_of, write_jsonl


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2500), st.integers(0, 90))))
def test_the_bar_stays_within_each_file_and_ends_with_it(
    files: list[tuple[int, int, int]],
) -> None:
    moved: list[int] = []
    progress = ReadProgress(Bar(moved.append, lambda _: None))
    total = 0
    for steps, num_rows, size in files:
        progress.begin(steps * UNIT)
        for _ in range(num_rows):
            progress.add_row(size)
        assert sum(moved) <= total + steps
        progress.end()
        total += steps
        assert sum(moved) == total
    assert all(step >= 0 for step in moved)


def test_reading_moves_a_bar_of_the_size_of_all_files(tmp_path: Path) -> None:
    rows = [{"text": f"row {i} " + "word " * 9, "label": "ab"[i % 2]} for i in range(2 * EVERY)]
    size = write_jsonl(tmp_path / "a.jsonl", rows).stat().st_size // UNIT
    opened: list[int] = []
    moved: list[int] = []
    notes: list[str] = []

    def open_bar(_: str, total: int) -> Bar:
        opened.append(total)
        return Bar(moved.append, notes.append)

    config = settings_of(train=("a.jsonl",))
    prepare(config, tmp_path, parse, seed=0, validation_fraction=0.0, open_bar=open_bar)
    assert opened == [size]
    assert sum(moved) == size
    assert 0.4 < moved[0] / size < 0.6
    assert notes == ["1,000 rows", "2,000 rows", "2,000 rows"]
