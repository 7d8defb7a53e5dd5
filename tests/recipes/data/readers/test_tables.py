"""Tables in text files give rows with their lines, whatever separates their columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.data.readers import UnreadableFile
from recipes.errors import InputError
from tests.recipes.data.readers.reading import CSV, A, B, read, read_as, values
from tests.recipes.rows import write_bytes


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


def test_a_quote_that_is_never_closed_is_named_and_the_lines_after_it_are_read(
    tmp_path: Path,
) -> None:
    text = 'text,label\none,x\n"two,y\n' + "three,z\n" * 30_000  # over csv's own limit of a field
    found, bad = read(
        write_bytes(tmp_path / "a.csv", f'{text}"four, or five",z\n"six,z\n'.encode())
    )
    assert bad == [
        "a.csv:3: a quote is opened here and never closed; the next quote is in line 30004",
        "a.csv:30005: a quote is opened here and never closed",
    ]
    assert len(found) == 30_002
    assert found[0] == ("a.csv:2", A)
    assert found[-1] == ("a.csv:30004", {"text": "four, or five", "label": "z"})
    assert found[-2][0] == "a.csv:30003"


def test_a_quoted_field_of_several_lines_that_ends_wrongly_is_one_bad_row(tmp_path: Path) -> None:
    text = 'text,label\none,x\n"a\n""b"" and c"d,x\ntwo,y\n'
    found, bad = read(write_bytes(tmp_path / "a.csv", text.encode()))
    assert found == [("a.csv:2", A), ("a.csv:5", B)]
    assert bad == ["a.csv:3: not valid CSV (lines 3 to 4): ',' expected after '\"'"]


def test_lines_that_are_read_again_keep_the_faults_of_their_bytes(tmp_path: Path) -> None:
    text = 'text,label\n"one,x\nGr\udcfcn,x\nzwei ü,y\ndrei ü,"y,z"\n'
    path = write_bytes(tmp_path / "a.csv", text.encode(errors="surrogateescape"))
    found, bad = read(path)
    assert [place for place, _ in found] == ["a.csv:4", "a.csv:5"]
    assert bad[0].startswith("a.csv:2: a quote is opened")
    assert bad[1].startswith("a.csv:3: byte 0xFC")


def test_a_header_with_a_quote_that_is_never_closed_is_unreadable(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", b'text,"label\none,x\ntwo,y\n')
    with pytest.raises(UnreadableFile, match=r"a\.csv:1: .* a quote is opened here and never clo"):
        read(path)


def test_an_inch_mark_far_below_does_not_close_a_quote(tmp_path: Path) -> None:
    text = 'text,label\none,x\n"two,y\n' + "three,z\n" * 9 + 'a 5" screen,z\n'
    found, bad = read(write_bytes(tmp_path / "a.csv", text.encode()))
    assert bad == ["a.csv:3: a quote is opened here and never closed; the next quote is in line 13"]
    assert len(found) == 11
    assert found[-1] == ("a.csv:13", {"text": 'a 5" screen', "label": "z"})


def test_a_quote_in_every_line_takes_no_more_than_linear_time(tmp_path: Path) -> None:
    text = "text,label\none,x\n" + '"e ""f,x\n' * 30_000
    found, bad = read(write_bytes(tmp_path / "a.csv", text.encode()))
    assert (len(found), len(bad)) == (1, 30_000)


def test_a_header_in_the_middle_of_joined_files_is_no_row(tmp_path: Path) -> None:
    joined = "text,label\none,x\n\ufefftext,label\n text , label\ntwo,y\n"
    found, bad = read(write_bytes(tmp_path / "a.csv", joined.encode()))
    assert found == [("a.csv:2", A), ("a.csv:5", B)]
    why = "repeats the names of the columns, as where files were joined"
    assert bad == [f"a.csv:3: {why}", f"a.csv:4: {why}"]


def test_of_two_columns_of_one_name_the_first_is_read_and_both_are_named(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.csv", b"text,label,text,,\none,x,two,,\n")
    found, bad = read(path)
    assert found == [("a.csv:2", A)]
    assert bad == ["a.csv:1: columns 1, 3 are named 'text'"]
    assert read_as(path).columns == ("text", "label")


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
