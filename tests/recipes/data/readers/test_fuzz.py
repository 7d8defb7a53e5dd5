"""A damaged file of any kind ends in rows, findings or an `InputError`, and in nothing else."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from recipes.data.findings import Findings
from recipes.data.readers import read_rows
from recipes.errors import InputError
from tests.recipes.data.readers.binary_workbook import write_xlsb
from tests.recipes.data.readers.test_sources import compressed
from tests.recipes.rows import settings_of

ROWS: list[dict[str, Any]] = [
    {"id": f"r{i}", "text": f'Grüße "{i}", ok; 5 €', "label": "ab"[i % 2], "n": i} for i in range(6)
]
CHATS = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant"}], "n": {"x": 1}}]


def table(delimiter: str) -> str:
    fields = [[*ROWS[0]], *([str(cell) for cell in row.values()] for row in ROWS)]
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in line] for line in fields]
    return "\r\n".join(delimiter.join(line) for line in quoted)


def arrow(kind: str) -> bytes:
    columns = {
        "text": pyarrow.array([row["text"] for row in ROWS]),
        "n": pyarrow.array([row["n"] for row in ROWS]),
        "day": pyarrow.array([0, None, 2, 3, 4, 5], pyarrow.date32()),
        "meta": pyarrow.array([{"a": [1, 2], "b": None}, None, *[{"b": "x"}] * 4]),
        "label": pyarrow.array([row["label"] for row in ROWS]).dictionary_encode(),
    }
    made = pyarrow.table(columns)
    out = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(made, out, compression="none")
        return out.getvalue()
    make = pyarrow.ipc.new_file if kind == "arrow" else pyarrow.ipc.new_stream
    with make(out, made.schema) as writer:
        writer.write_table(made)
    return out.getvalue()


def workbook(kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "xlsb":
        write_xlsb(out, "s", [[*ROWS[0]], *([*one.values()] for one in ROWS)])
        return out.getvalue()
    if kind == "xls":
        import xlwt

        old = xlwt.Workbook()
        sheet = old.add_sheet("s")
        for row, line in enumerate([[*ROWS[0]], *([*one.values()] for one in ROWS)]):
            for column, cell in enumerate(line):
                sheet.write(row, column, cell)
        old.save(out)
        return out.getvalue()
    if kind == "ods":
        from odf.opendocument import OpenDocumentSpreadsheet
        from odf.table import Table, TableCell, TableRow
        from odf.text import P

        book = OpenDocumentSpreadsheet()
        sheet = Table(name="s")
        for line in ([*ROWS[0]], *([*one.values()] for one in ROWS)):
            row = TableRow()
            for value in line:
                cell = TableCell(valuetype="string")
                cell.addElement(P(text=str(value)))
                row.addElement(cell)
            sheet.addElement(row)
        book.spreadsheet.addElement(sheet)
        book.save(out)
        return out.getvalue()
    from openpyxl import Workbook

    new = Workbook()
    new.worksheets[0].append([*ROWS[0]])
    for one in ROWS:
        new.worksheets[0].append([*one.values()])
    new.worksheets[0].append(["x", "#N/A"])
    new.save(out)
    return out.getvalue()


def squad() -> str:
    question = {"id": "q", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}
    paragraphs = [{"context": "Ann did.", "qas": [question] * 2}]
    return json.dumps({"data": [{"title": "T", "paragraphs": paragraphs}], "version": "1.1"})


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


SPLIT = {"columns": [*ROWS[0]], "index": [0, 1], "data": [[*row.values()] for row in ROWS]}

FILES: dict[str, Callable[[], bytes]] = {
    "jsonl.jsonl": lambda: lines(ROWS + CHATS).encode(),
    "array.json": lambda: json.dumps(ROWS + CHATS, indent=1).encode(),
    "under.json": lambda: json.dumps({"v": 1, "rows": ROWS}).encode(),
    "by-id.json": lambda: json.dumps({row["id"]: row for row in ROWS}).encode(),
    "split.json": lambda: json.dumps(SPLIT).encode(),
    "squad.json": lambda: squad().encode(),
    "utf8.csv": lambda: table(",").encode(),
    "windows.csv": lambda: ("sep=;\r\n" + table(";")).encode("cp1252"),
    "utf16.txt": lambda: table("\t").encode("utf-16"),
    "tabs.tsv": lambda: table("\t").replace('"', "").encode(),
    "gzip.csv.gz": lambda: compressed(table(",").encode(), "gz"),
    "zstd.jsonl.zst": lambda: compressed(lines(ROWS).encode(), "zst"),
    "xz.csv.xz": lambda: compressed(table(",").encode(), "xz"),
    "bzip2.csv.bz2": lambda: compressed(table(",").encode(), "bz2"),
    "parquet.parquet": lambda: arrow("parquet"),
    "arrow.arrow": lambda: arrow("arrow"),
    "stream.ipc": lambda: arrow("stream"),
    "new.xlsx": lambda: workbook("xlsx"),
    "binary.xlsb": lambda: workbook("xlsb"),
    "old.xls": lambda: workbook("xls"),
    "open.ods": lambda: workbook("ods"),
}


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Damage a file by a few flips, cuts, insertions or swaps."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        at, length = rng.randrange(len(found) + 1), rng.choice((1, 1, 2, 8, 64, 400))
        match rng.randrange(6):
            case 0 if found:
                found[at % len(found)] ^= 1 << rng.randrange(8)
            case 1:
                del found[at : at + length]
            case 2:
                found[at:at] = rng.randbytes(length)
            case 3:
                found[at:at] = rng.choice(FRAGMENTS)
            case 4:
                other = rng.randrange(len(found) + 1)
                chunk = found[at : at + length]
                found[at : at + length] = found[other : other + length]
                found[other : other + length] = chunk
            case _ if rng.random() < 0.2:
                del found[at:]
    return bytes(found)


FRAGMENTS = (
    *(
        b'"',
        b"\n",
        b"\r",
        b",",
        b";",
        b"\t",
        b"\0",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\",
        b"\xff",
        b"\xfe",
    ),
    *(b"\xef\xbb\xbf", b"\\ud83d", b"NaN", b"1e999", b"-", b"null", b'{"a":1,"a":2}', b"9" * 5000),
    *(b"[" * 3000, b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"<", b"&#0;", b"&x;", b"_x0000_"),
)


def mutate_inside(content: bytes, rng: random.Random) -> bytes:
    """Damage one part of a zipped workbook, so that its reader gets beyond the archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as target:
        names = source.namelist()
        chosen = rng.choice(names)
        for name in names:
            part = source.read(name)
            target.writestr(name, mutate(part, rng) if name == chosen else part)
    return out.getvalue()


def read_all(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        for row in read_rows(path, settings_of(), Findings()):
            json.dumps(row.values, default=str)
    except InputError:
        pass


def fuzz(name: str, folder: Path, count: int, seed: int) -> None:
    content = FILES[name]()
    read_all(folder / name, content)
    is_zip = name.endswith((".xlsx", ".xlsb", ".ods"))
    for number in range(count):
        rng = random.Random(f"{seed}/{name}/{number}")
        damage = mutate_inside if is_zip and rng.random() < 0.7 else mutate
        read_all(folder / name, damage(content, rng))


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_never_ends_in_a_traceback(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    is_workbook = name.endswith((".xlsx", ".xlsb", ".xls", ".ods"))  # which start a process each
    fuzz(name, tmp_path, 6 if is_workbook else 50, seed=0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_ten_thousand_damaged_files_never_end_in_a_traceback(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fuzz(name, tmp_path, 10_000, seed=1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_table_that_does_not_end_is_given_up_within_seconds(tmp_path: Path) -> None:
    damaged = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(workbook("ods"))) as whole,
        zipfile.ZipFile(damaged, "w") as out,
    ):
        for name in whole.namelist():
            out.writestr(name, whole.read(name).replace(b"</table:table>", b"</tab|e:table>"))
    (tmp_path / "a.ods").write_bytes(damaged.getvalue())
    with pytest.raises(InputError, match="damaged"):
        list(read_rows(tmp_path / "a.ods", settings_of(), Findings()))
