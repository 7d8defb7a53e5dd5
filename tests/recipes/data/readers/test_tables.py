"""Tables in text files give rows with their lines, whatever separates their columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.errors import InputError
from tests.recipes.data.readers.reading import CSV, A, B, read, read_as, values
from tests.recipes.rows import checked, write_bytes


def test_a_quoted_line_break_in_a_csv_file_moves_the_lines_after_it(tmp_path: Path) -> None:
    text = 'text,label\n"one\nand ""more"", still one",x\nshort\ntwo,y\n'
    found, bad = read(write_bytes(tmp_path / "a.csv", text.encode()))
    assert found == [
        ("a.csv:2", {"text": 'one\nand "more", still one', "label": "x"}),
        ("a.csv:5", B),
    ]
    assert bad == ["a.csv:4: fewer fields than the header's 2"]


def test_a_quote_in_a_tsv_file_is_a_plain_character(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.tsv", b'text\tlabel\n5" screen\tx\n"two\ty\n')
    assert values(path) == [{"text": '5" screen', "label": "x"}, {"text": '"two', "label": "y"}]


def test_a_tsv_field_that_a_program_quoted_is_not_taken_with_its_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\n"he said ""hi"" 0"\n"hi" he said\n"hi"\n')
    found, bad = read(tmp_path / "a.tsv")
    assert bad == ["a.tsv:2: a field is quoted as in CSV, and TSV has no quotes"]
    assert [row["text"] for _, row in found] == ['"hi" he said', '"hi"']


def test_bad_lines_of_a_csv_file_are_named_and_those_after_them_are_read(tmp_path: Path) -> None:
    text = 'text,label\none,x,more\n"a"b,x\ntwo,y\n'
    found, bad = read(write_bytes(tmp_path / "a.csv", text.encode()))
    assert found == [("a.csv:4", B)]
    assert bad[0] == "a.csv:2: more fields than the header's 2"
    assert bad[1].startswith("a.csv:3: not valid CSV")


def test_a_quote_that_is_never_closed_is_refused_and_never_a_short_file(tmp_path: Path) -> None:
    text = 'text,label\none,x\n"two,y\n' + "three,z\n" * 30_000  # over csv's own limit of a field
    with pytest.raises(InputError, match=r"a\.csv:3: a quote is opened .* never closed"):
        read(write_bytes(tmp_path / "a.csv", text.encode()))


def test_a_header_in_the_middle_of_joined_files_is_no_row(tmp_path: Path) -> None:
    joined = "text,label\none,x\n\ufefftext,label\n text , label\ntwo,y\n"
    found, bad = read(write_bytes(tmp_path / "a.csv", joined.encode()))
    assert found == [("a.csv:2", A), ("a.csv:5", B)]
    why = "repeats the names of the columns, as where files were joined"
    assert bad == [f"a.csv:3: {why}", f"a.csv:4: {why}"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv:1: the header names \['text'\] more than once"):
        read(write_bytes(tmp_path / "a.csv", b"text,text,,\none,two,,\n"))


@pytest.mark.parametrize(
    ("name", "content", "delimiter"),
    [
        ("a.csv", "text;label\none, two, three;x\n4,5;y\n", ";"),
        ("a.csv", "price;text;label\n1,5;one, or two;x\n2,5;three;y\n3,5;four;x\n", ";"),
        ("a.csv", "text\tlabel\none, two\tx\nthree; four\ty\n", "\t"),
        ("a.txt", "text|label\none, two|x\nthree; four|y\n", "|"),
        ("a.txt", 'text\tlabel\n"say ""hi"""\tx\nthree\ty\n', "\t"),
        ("a.csv", 'text,label\n"a;b;c",x\n"d;e;f",y\n"g;h;i",x\n', ","),
        ("a.csv", 'text,label\n"a;b\nc;d\ne;f",x\n"g;h\ni;j",y\n', ","),
        ("a.tsv", "text\tlabel\none, two, three\tx\n4, 5, 6\ty\n", "\t"),
        ("a.tsv", "text;label\none;x\ntwo;y\n", ";"),
        ("a.csv", "sep=;\ntext;label\none;x\n", ";"),
        ("a.csv", '"sep=|"\r\ntext|label\r\none;x;y|x\r\n', "|"),
        ("a.csv", "text\none, two\nthree\n", ","),
    ],
)
def test_the_delimiter_is_detected(tmp_path: Path, name: str, content: str, delimiter: str) -> None:
    path = write_bytes(tmp_path / name, content.encode())
    found = read_as(path)
    assert found.delimiter == delimiter
    columns = ("text",) if content.startswith("text\n") else ("text", "label")
    assert found.columns[-2:] == columns


def test_names_that_the_recipe_gives_decide_between_delimiters(tmp_path: Path) -> None:
    content = "a,b;c,d\n1,2;3,4\n"
    path = write_bytes(tmp_path / "a.csv", content.encode())
    assert values(path, columns={"text": "a"}) == [{"a": "1", "b;c": "2;3", "d": "4"}]
    assert values(path, columns={"text": "c,d"}) == [{"a,b": "1,2", "c,d": "3,4"}]


def test_the_recipe_may_say_the_delimiter(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", b"a,b~c\n1,2~3\n")
    assert values(path, delimiter="~") == [{"a,b": "1,2", "c": "3"}]
    with pytest.raises(InputError, match="cannot separate columns"):
        read(path, delimiter='"')


@pytest.mark.parametrize("title", ["Tickets of March\n", "Tickets,,,\n\nExported,2026-03-01,,\n"])
def test_a_title_above_the_header_is_recognised_and_named(tmp_path: Path, title: str) -> None:
    content = f"{title}id,text,label,day\n1,one,x,mon\n2,two,y,tue\n3,three,x,wed\n"
    path = write_bytes(tmp_path / "a.csv", content.encode())
    found, bad = read(path)
    header = title.count("\n") + 1
    assert [row["text"] for _, row in found] == ["one", "two", "three"]
    assert bad[0] == f"a.csv:1: not read: the columns are named in {header}"
    assert read_as(path).describe() == f"read as UTF-8, commas, header in line {header}"
    assert len(values(path, header_row=header)) == 3


def test_the_recipe_may_say_the_line_of_the_header(tmp_path: Path) -> None:
    content = 'x,y\n"an open quote\n\ntext,label\none,x\n'
    path = write_bytes(tmp_path / "a.csv", content.encode())
    assert read(path, header_row=4) == ([("a.csv:5", A)], [])
    for row in (3, 9):
        with pytest.raises(InputError, match=f"data.header_row is {row}, a line without names"):
            read(path, header_row=row)


def test_blank_rows_and_columns_without_a_name_are_not_read(tmp_path: Path) -> None:
    content = "text,,label,,\none,lost,x,,\n,,,,\n\ntwo,,y,,\nthree,,z,,,far\n"
    found, bad = read(write_bytes(tmp_path / "a.csv", content.encode()))
    assert found == [("a.csv:2", A), ("a.csv:5", B)]
    assert bad == ["a.csv:6: more fields than the header's 3"]


def test_a_table_without_its_header_is_one_error_that_says_how_it_was_read(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", b"hello there;x\n" * 30)
    with pytest.raises(InputError, match="no column 'text'") as caught:
        checked(path)
    text = str(caught.value)
    assert "no column 'text'; the row has hello there, x" in text
    assert "read as UTF-8, semicolons; 2 columns are named (row 1)" in text
    assert "data.delimiter, data.header_row, data.encoding" in text


def test_old_line_breaks_end_lines(tmp_path: Path) -> None:
    for end in ("\n", "\r\n", "\r"):
        path = write_bytes(tmp_path / "a.csv", CSV.replace("\n", end).encode())
        assert read(path)[0] == [("a.csv:2", A), ("a.csv:3", B)]


def test_a_header_that_cannot_be_read_is_refused_and_no_row_is_taken_for_it(
    tmp_path: Path,
) -> None:
    rows = "\n".join(f"Grüße {i},a" for i in range(5))
    content = f"text,Gr\udcf6\udcdfe\n{rows}".encode(errors="surrogateescape")
    with pytest.raises(InputError, match=r"a\.csv:1: the line that names the columns .*0xF6"):
        read(write_bytes(tmp_path / "a.csv", content))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"PK\x03\x04 and more", r"rename it to \.xlsx"),
        ("a.jsonl", bytes.fromhex("d0cf11e0a1b11ae1"), r"rename it to \.xlsx"),
        ("a.xls", b"<html><table>", "a web page or XML; open it in Excel"),
        ("a.xls", b"text;label\n", r"rename it to \.csv"),
        ("a.xlsx", b"\0\1\2", "damaged, or of another kind"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused_with_the_way_out(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read(write_bytes(tmp_path / name, content))
