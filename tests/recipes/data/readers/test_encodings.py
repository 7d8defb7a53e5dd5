"""Text is read in the encoding it was written in, and lines that are not in it are named."""

# ruff: noqa: RUF001 (texts of many languages)

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from recipes.data.findings import Findings
from recipes.data.readers import read_rows
from recipes.errors import InputError
from tests.recipes.data.readers.reading import CSV, JSONL, A, B, read, read_as, values
from tests.recipes.rows import prepared, settings_of, write_bytes

GERMAN = "Ihr Paket ist beschädigt, können Sie es zurücknehmen? Grüße"
FRENCH = "J’ai reçu un colis endommagé, où est le remboursement de 20 € ?"
POLISH = "Moja paczka jest uszkodzona, proszę o zwrot pieniędzy. Źle, dziękuję, cześć"


@pytest.mark.parametrize(
    ("text", "codec", "name"),
    [
        (GERMAN, "cp1252", "Windows-1252"),
        ("Frau Müller wartet", "cp1252", "Windows-1252"),
        ("I don’t know where it is – “please” help, it cost £20", "cp1252", "Windows-1252"),
        (FRENCH, "cp1252", "Windows-1252"),
        ("¿Dónde está mi pedido? Mañana lo necesito", "cp1252", "Windows-1252"),
        ("Var är min beställning? Jag har väntat länge på åtgärd", "cp1252", "Windows-1252"),
        (GERMAN, "mac-roman", "Mac Roman"),
        (GERMAN, "cp850", "CP850"),
        (POLISH, "cp1250", "Windows-1250"),
        (POLISH, "iso8859-2", "ISO-8859-2"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy", "cp1250", "Windows-1250"),
        ("Где мой заказ? Я жду уже неделю", "cp1251", "Windows-1251"),
        ("Πού είναι η παραγγελία μου", "cp1253", "Windows-1253"),
        ("Siparişim nerede? Lütfen yardım edin, çok üzgünüm", "cp1254", "Windows-1254"),
        ("注文した商品が届きません。確認してください", "cp932", "Shift-JIS"),
        ("我的包裹在哪里?请帮我查一下", "gb18030", "GB18030"),
        (GERMAN, "utf-8", "UTF-8"),
        (GERMAN, "utf-8-sig", "UTF-8"),
        (GERMAN, "utf-16", "UTF-16"),
        (GERMAN, "utf-16-le", "UTF-16"),
        (GERMAN, "utf-16-be", "UTF-16"),
        (GERMAN, "utf-32", "UTF-32"),
        (GERMAN, "utf-32-be", "UTF-32"),
    ],
)
@pytest.mark.parametrize("file", ["a.csv", "a.jsonl", "a.json"])
def test_short_files_are_read_in_the_encoding_they_were_written_in(
    tmp_path: Path, file: str, text: str, codec: str, name: str
) -> None:
    lines = {
        "a.csv": f"text;label\r\nhello;x\r\n{text};x\r\nbye;y\r\n",
        "a.jsonl": f'{{"text": "hello", "label": "x"}}\n{{"text": "{text}", "label": "x"}}\n',
        "a.json": f'[{{"text": "hello", "label": "x"}}, {{"text": "{text}", "label": "x"}}]',
    }
    path = write_bytes(tmp_path / file, lines[file].encode(codec))
    assert values(path)[1] == {"text": text, "label": "x"}
    assert read_as(path).encoding == name


@pytest.mark.parametrize(("name", "content"), [("a.csv", CSV), ("a.jsonl", JSONL)])
@pytest.mark.parametrize("given", [None, "utf-8", "utf-8-sig", "windows-1252"])
def test_a_byte_order_mark_is_not_part_of_the_first_column(
    tmp_path: Path, name: str, content: str, given: str | None
) -> None:
    path = write_bytes(tmp_path / name, codecs.BOM_UTF8 + content.encode())
    assert values(path, encoding=given) == [A, B]


def test_the_recipe_may_say_the_encoding(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", "text\nM\u00fcller\n".encode("cp850"))
    assert values(path, encoding="CP850") == [{"text": "Müller"}]
    marked = write_bytes(tmp_path / "b.csv", "\ufefftext\nMüller\n".encode("utf-16-le"))
    for codec in ("utf-16", "utf-16-le"):
        assert values(marked, encoding=codec) == [{"text": "Müller"}]
    plain = write_bytes(tmp_path / "c.csv", "text\nMüller\n".encode("utf-16-be"))
    for given in ("utf-16", "utf-16-be", None):
        assert values(plain, encoding=given) == [{"text": "Müller"}]


@pytest.mark.parametrize("given", ["windows-1225", "rot13", "base64", "undefined", "a\0b", "idna"])
def test_a_name_that_is_no_encoding_of_text_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(InputError, match="there is no encoding"):
        read(write_bytes(tmp_path / "a.csv", CSV.encode()), encoding=given)


def test_a_misspelt_encoding_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean windows-1252\?"):
        read(write_bytes(tmp_path / "a.csv", CSV.encode()), encoding="windows-1225")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.json"])
def test_every_line_that_is_not_utf8_is_named_and_the_others_are_read(
    tmp_path: Path, name: str
) -> None:
    texts = ["Grüße", "fine", "M\udcfcller", "Käse", "R\udce9sum\udce9", "last"]
    content = {
        "a.csv": "text\n" + "\n".join(texts) + "\n",
        "a.jsonl": "".join(f'{{"text": "{text}"}}\n' for text in texts),
        "a.json": "[" + ",\n".join(f'{{"text": "{text}"}}' for text in texts) + "]",
    }[name.removesuffix(".gz")]
    path = write_bytes(tmp_path / name, content.encode(errors="surrogateescape"))
    found, bad = read(path)
    assert [row["text"] for _, row in found] == ["Grüße", "fine", "Käse", "last"]
    places = {"a.csv": (":4", ":6"), "a.jsonl": (":3", ":5"), "a.json": ("[2]", "[4]")}
    where = places[name.removesuffix(".gz")]
    assert [line.partition(": byte")[0] for line in bad] == [f"{name}{place}" for place in where]
    assert "byte 0xFC at character" in bad[0]
    assert bad[0].endswith("is not UTF-8")
    assert read_as(path).encoding == "UTF-8"


def test_drop_bad_rows_leaves_out_just_the_lines_that_are_not_utf8(tmp_path: Path) -> None:
    lines = [f"Grüße {number},a" for number in range(10)]
    lines[4] = "M\udcfcller,a"
    content = "text,label\n" + "\n".join(lines)
    write_bytes(tmp_path / "a.csv", content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"wrong-encoding \(1\)"):
        prepared(tmp_path, train="a.csv")
    parts = prepared(tmp_path, train="a.csv", drop_bad_rows=True)
    assert len(parts.train) + len(parts.test) == 9
    assert [problem.where.rpartition("/")[2] for problem in parts.dropped] == ["a.csv:6"]


def test_one_umlaut_in_a_large_plain_file_is_read_and_its_bytes_are_not_kept_in_memory(
    tmp_path: Path,
) -> None:
    import tracemalloc

    line = b"hello " * 200 + b",a\n"
    path = write_bytes(tmp_path / "a.csv", b"text,label\n" + line * 10_000 + b"M\xfcller,b\n")
    tracemalloc.start()
    last = None
    for row in read_rows(path, settings_of(), Findings()):
        last = row
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last is not None
    assert last.values["text"] == "Müller"
    assert peak < 5_000_000 < 10_000_000 < path.stat().st_size


def test_damaged_utf16_is_named_by_its_line(tmp_path: Path) -> None:
    content = "text,label\none,x\ntwo,y\n".encode("utf-16")
    path = write_bytes(tmp_path / "a.csv", content[:-3])
    found, bad = read(path)
    assert [row["text"] for _, row in found] == ["one"]
    assert bad == ["a.csv:3: character 5 is not UTF-16"]


def test_a_long_line_of_utf8_is_utf8_wherever_it_is_cut(tmp_path: Path) -> None:
    for shift in range(4):
        text = "x" * shift + "Grüße 😀" * 200_000
        path = write_bytes(tmp_path / "a.csv", f"text\n{text}\n".encode())
        assert values(path) == [{"text": text}]


def test_a_line_of_utf8_in_a_windows_file_is_named(tmp_path: Path) -> None:
    lines = [f"Grüße {number};a".encode("cp1252") for number in range(40)]
    lines[7] = "Müller;a".encode()
    path = write_bytes(tmp_path / "a.csv", b"\n".join([b"text;label", *lines]))
    found, bad = read(path)
    assert len(found) == 39
    assert bad == ["a.csv:9: it is UTF-8, and the file is read as Windows-1252"]


def test_one_bad_byte_in_a_document_of_one_line_does_not_change_how_the_rest_is_read(
    tmp_path: Path,
) -> None:
    texts = ", ".join(f'{{"text": "Grüße {number}"}}' for number in range(9))
    content = f'[{texts}, {{"text": "M\udcfcller"}}]'.encode(errors="surrogateescape")
    found, [bad] = read(write_bytes(tmp_path / "a.json", content))
    assert [row["text"] for _, row in found] == [f"Grüße {number}" for number in range(9)]
    assert bad.startswith("a.json[9]: byte 0xFC")


def test_of_encodings_that_give_the_same_text_the_usual_one_is_named(tmp_path: Path) -> None:
    lines = [f"my parcel {i} f\u00fcr K\u00e4the, 5 \u20ac;refund" for i in range(60)]
    path = tmp_path / "a.csv"
    path.write_bytes("\r\n".join(["text;label", *lines]).encode("windows-1257"))
    assert read_as(path).encoding == "Windows-1252"
