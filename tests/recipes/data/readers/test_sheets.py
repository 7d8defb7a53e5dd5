"""Workbooks give the rows of one sheet with their rows' numbers, and cells as they show."""

from __future__ import annotations

import zipfile
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from recipes.errors import InputError
from tests.recipes.data.readers.binary_workbook import write_xlsb
from tests.recipes.data.readers.reading import A, B, read, read_as, values


def write(path: Path, **sheets: list[list[Any]]) -> Path:
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.worksheets[0])
    for name, lines in sheets.items():
        sheet = book.create_sheet(name)
        for line in lines:
            sheet.append(line)
    book.save(path)
    return path


TABLE: list[list[Any]] = [["text", "label"], ["one", "x"], ["two", "y"]]


def test_a_workbook_gives_the_rows_of_its_first_sheet_with_rows(tmp_path: Path) -> None:
    lines: list[list[Any]] = [
        *([None], ["text", "n", None, "day"], ["one", 3.0, "lost", datetime(2026, 3, 1)]),
        *([None], ["two"], ["long", 1, None, None, "beyond"]),
    ]
    path = write(tmp_path / "a.xlsx", cover=[], Tickets=lines, notes=[["text"]])
    found, bad = read(path)
    assert found == [
        ("a.xlsx:3", {"text": "one", "n": 3, "day": "2026-03-01"}),
        ("a.xlsx:5", {"text": "two", "n": None, "day": None}),
    ]
    assert bad == ["a.xlsx:6: more cells than the header's 4"]
    assert read_as(path).describe() == "sheet 'Tickets' of 3, header in row 2"


def test_a_cover_sheet_of_one_row_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xlsx", cover=[["Export of March"]], Tickets=TABLE)
    assert values(path) == [A, B]
    assert read_as(path).sheet == "Tickets"


def test_a_hidden_sheet_is_taken_last(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    hidden = book.worksheets[0]
    hidden.append(["secret"])
    hidden.sheet_state = "hidden"
    for line in TABLE:
        book.create_sheet("shown") if "shown" not in book.sheetnames else None
        book["shown"].append(line)
    book.active = 1
    book.save(tmp_path / "a.xlsx")
    assert values(tmp_path / "a.xlsx") == [A, B]
    assert read(tmp_path / "a.xlsx", sheet="Sheet")[0] == []


def test_the_recipe_may_say_the_sheet_by_name_or_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xlsx", first=[["text"], ["no"]], second=TABLE)
    for sheet in ("second", 2, "2"):
        assert values(path, sheet=sheet) == [A, B]
    with pytest.raises(InputError, match=r"no sheet 'secnd'; did you mean second\?"):
        read(path, sheet="secnd")
    with pytest.raises(InputError, match=r"no sheet 3; it has 'first', 'second'"):
        read(path, sheet=3)


def test_a_title_above_the_header_is_recognised_and_named(tmp_path: Path) -> None:
    title: list[list[Any]] = [["Tickets of March"], [None], ["exported", date(2026, 3, 1)]]
    table: list[list[Any]] = [["id", "words", "queue", "day", "n"], [1, "a", "x", "mon", 1]]
    path = write(tmp_path / "a.xlsx", s=[*title, *table, [2, "b", "y", "tue", 2]])
    found, bad = read(path)
    assert [row["words"] for _, row in found] == ["a", "b"]
    assert bad == [f"a.xlsx:{row}: not read: the columns are named in 4" for row in (1, 3)]
    assert len(values(path, header_row=4)) == 2
    with pytest.raises(InputError, match=r"data\.header_row is 2, a row without cells"):
        read(path, header_row=2)


def test_cells_are_as_the_other_kinds_of_files_have_them(tmp_path: Path) -> None:
    cells = {
        "text": (" a_x000D_\nb _x005F_x0041_ ", " a\r\nb _x0041_ "),
        "whole": (3.0, 3),
        "part": (0.5, 0.5),
        "yes": (True, True),
        "day": (date(2026, 3, 1), "2026-03-01"),
        "moment": (datetime(2026, 3, 1, 12, 30), "2026-03-01T12:30:00"),
        "time": (time(3, 4), "03:04:00"),
        "span": (timedelta(hours=30, minutes=5), "30:05:00"),
        "digits": ("007", "007"),
        "none": (None, None),
        "end": ("x", "x"),
    }
    lines: list[list[Any]] = [list(cells), [given for given, _ in cells.values()]]
    [row] = values(write(tmp_path / "a.xlsx", s=lines))
    assert row == {name: wanted for name, (_, wanted) in cells.items()}


def test_a_number_that_excel_has_rounded_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xlsx", s=[["text", "card"], ["a", 1234567890123456], ["b", 12]])
    found, bad = read(path)
    assert len(found) == 2
    assert bad == ["a.xlsx:2: column 'card'"]


def test_a_cell_with_an_error_is_a_finding(tmp_path: Path) -> None:
    lines: list[list[Any]] = [
        *(["text", None, "label"], ["one", "#N/A", "a"], ["two", None, "#N/A"]),
        *(["#REF!", None, "b"], ["four", None, None]),
    ]
    found, bad = read(write(tmp_path / "a.xlsx", s=lines))
    assert [row for _, row in found] == [
        {"text": "one", "label": "a"},
        {"text": "four", "label": None},
    ]
    assert bad == ["a.xlsx:3: column 'label'", "a.xlsx:4: column 'text'"]


def rewritten(whole: Path, path: Path, part: str, old: bytes, new: bytes) -> Path:
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if part in name:
                assert old in content
                content = content.replace(old, new)
            target.writestr(name, content)
    return path


def test_a_workbook_is_read_to_its_end_whatever_it_says_of_its_size(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.xlsx", s=TABLE)
    old, new = b'<dimension ref="A1:B3"', b'<dimension ref="A1:B2"'
    path = rewritten(whole, tmp_path / "a.xlsx", "sheet1", old, new)
    assert values(path) == [A, B]


def test_a_cell_far_away_is_refused_before_memory_is_taken_for_it(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.xlsx", s=TABLE)
    path = rewritten(whole, tmp_path / "a.xlsx", "sheet1", b'r="B3"', b'r="XFD1048576"')
    rewritten(path, tmp_path / "b.xlsx", "sheet1", b'<row r="3"', b'<row r="1048576"')
    with pytest.raises(InputError, match=r"a cell far away .* row 1,048,576, column 16,384"):
        read(tmp_path / "b.xlsx")


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.xlsx", s=TABLE).read_bytes()
    for name in ("a.xlsx", "a.xls", "a.xlsb", "a.ods"):
        for content in (b"PK not really", b"text,label\none,x\n", whole[: len(whole) // 2]):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(InputError, match=rf"a\.{name[2:]}: not a readable workbook"):
                read(tmp_path / name)


def test_an_old_workbook_is_read(tmp_path: Path) -> None:
    import xlwt

    book = xlwt.Workbook()
    sheet = book.add_sheet("Tickets")
    for row, cells in enumerate([*TABLE, ["Grüße, 5 €", 3]]):
        for column, cell in enumerate(cells):
            sheet.write(row, column, cell)
    book.save(str(tmp_path / "a.xls"))
    assert values(tmp_path / "a.xls") == [A, B, {"text": "Grüße, 5 €", "label": 3}]


def test_an_opendocument_workbook_is_read(tmp_path: Path) -> None:
    from odf.opendocument import OpenDocumentSpreadsheet
    from odf.table import Table, TableCell, TableRow
    from odf.text import P

    book = OpenDocumentSpreadsheet()
    table = Table(name="Tickets")
    cells: list[list[dict[str, Any]]] = [
        [{"valuetype": "string", "text": name} for name in ("text", "n", "day", "share")],
        [
            {"valuetype": "string", "text": "one"},
            {"valuetype": "float", "value": 3.0, "text": "3.00"},
            {"valuetype": "date", "datevalue": "2026-03-01", "text": "1.3.26"},
            {"valuetype": "percentage", "value": 0.125, "text": "12.5%"},
        ],
    ]
    for line in cells:
        row = TableRow()
        for given in line:
            text = given.pop("text")
            cell = TableCell(**given)
            cell.addElement(P(text=text))
            row.addElement(cell)
        table.addElement(row)
    book.spreadsheet.addElement(table)
    book.save(str(tmp_path / "a.ods"))
    assert values(tmp_path / "a.ods") == [
        {"text": "one", "n": 3, "day": "2026-03-01", "share": 0.125}
    ]


def test_a_binary_workbook_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsb"
    write_xlsb(path, "Tickets", [*TABLE, ["Grüße, 5 €", 3.0]])
    assert values(path) == [A, B, {"text": "Grüße, 5 €", "label": 3}]
    assert read_as(path).describe() == "sheet 'Tickets' of 1"
