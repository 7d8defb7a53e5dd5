"""At any width, every word of a result is printed whole."""

from __future__ import annotations

import pytest
from rich.table import Table
from rich.text import Text

from recipes.console import Narrator
from recipes.printing import Printer

PATH = "/archive/customers/2026/exports/tickets-of-the-first-quarter.jsonl"
EVIDENCE = "the sampler draws every example by itself, with chance batch_size / num_examples"


def words_printed(
    thing: Table | Text | str, width: int, monkeypatch: pytest.MonkeyPatch, **environment: str
) -> set[str]:
    for name, value in (environment | {"COLUMNS": str(width)}).items():
        monkeypatch.setenv(name, value)
    printer = Printer()
    with printer.capture() as captured:
        printer.print(thing)
    return set(captured.get().split())


def words_of(*texts: str) -> set[str]:
    return {word for text in texts for word in text.split()}


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("has_header", [True, False])
def test_no_word_of_a_table_is_broken_or_left_out(
    width: int, has_header: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(
        "task", "metric", "a-candidate-with-a-long-name", "", show_header=has_header, title="RULES"
    )
    rows = [
        ("question_answering", "f1", "0.118 [0.070, 0.182] n=144", PATH),
        ("out_of_scope", "fpr_at_95_tpr", EVIDENCE, "数据 检查"),
    ]
    for row in rows:
        table.add_row(*row[:3], Text(row[3]))
    wanted = words_of(*(cell for row in rows for cell in row))
    if has_header:
        wanted |= {"a-candidate-with-a-long-name"}
    found = {word.rstrip(":") for word in words_printed(table, width, monkeypatch)}
    assert wanted <= found


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_word_of_a_text_is_broken(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = words_printed(Text(f"{EVIDENCE} {PATH}"), width, monkeypatch)
    assert found == words_of(EVIDENCE, PATH)
    found = words_printed(f"{EVIDENCE} {PATH}", width, monkeypatch)
    assert found == words_of(EVIDENCE, PATH)


def test_a_table_that_fits_stays_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table("task", "metric")
    table.add_row("qa", "f1")
    assert "┃" in words_printed(table, 40, monkeypatch)


def test_a_paragraph_keeps_its_lines_and_its_indent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    Printer().paragraph(Text("one two three four five six seven\nand [not] markup"), 4)
    out = capsys.readouterr().out
    assert out == "    one two three four five\n    six seven\n    and [not] markup\n"


@pytest.mark.parametrize(
    "environment", [{"TERM": "dumb"}, {"TERM": "xterm", "COLUMNS": "40"}], ids=["dumb", "narrow"]
)
def test_a_terminal_that_cannot_draw_bars_gets_lines(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as rich is told that this is a terminal
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("recipes.console.LINE_SECONDS", 0.0)
    narrator = Narrator()
    with narrator.bars() as open_bar:
        open_bar("training", 10).advance(1)
    assert "training: 1/10" in capsys.readouterr().err
