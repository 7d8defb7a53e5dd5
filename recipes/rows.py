"""Files in, rows out, each with its place in its file.

A file of any of `KINDS` gives the same rows: a mapping from column to value. A row that cannot be
read is named by file and line, and the rows after it are read all the same.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import unicodedata
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import IO, Any, Literal

from eval.items import passage_name
from recipes.errors import InputError, Problem


@dataclass(frozen=True)
class Row:
    """One row of a file, with its place in it."""

    place: str
    """``file:line`` (or ``file[index]`` where lines mean nothing)."""

    values: Mapping[str, Any]


def read_rows(path: Path, bad: list[Problem]) -> Iterator[Row]:
    """Yield the rows of one file; a row that cannot be read is added to ``bad``.

    Raises:
        InputError: if the file as a whole cannot be read, or its kind is not known.
    """
    kind = _kind(path)
    try:
        if kind == "parquet":
            yield from _parquet_rows(path)
            return
        if kind == "xlsx":
            yield from _excel_rows(path, bad)
            return
        with _open(path) as stream:
            if kind == "jsonl":
                yield from _jsonl_rows(path, stream, bad)
            elif kind == "json":
                yield from _json_rows(path, stream, bad)
            else:
                yield from _table_rows(path, stream, bad, "\t" if kind == "tsv" else ",")
    except UnicodeDecodeError:
        raise InputError(f"{path}{_where_not_utf8(path)}; save the file as UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:  # the last two: a cut or damaged .gz
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({why})") from None


KINDS = ("jsonl", "json", "csv", "tsv", "parquet", "xlsx")


def has_header(path: Path) -> bool:
    """Return whether all rows of a file have the same columns."""
    return _kind(path) not in ("jsonl", "json")


def _kind(path: Path) -> str:
    suffixes = [s.lstrip(".").lower() for s in path.suffixes]
    plain = [s for s in suffixes if s != "gz"]
    if not plain or plain[-1] not in KINDS:
        raise InputError(
            f"data: {path.name} is of no known kind; wanted one of "
            f"{', '.join('.' + k for k in KINDS)} (and .gz of the text kinds)"
        )
    return plain[-1]


def _open(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _where_not_utf8(path: Path) -> str:
    """Say at which line and byte; the decoder of a stream counts from its last block."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        whole = stream.read()
    try:
        whole.decode()
    except UnicodeDecodeError as error:
        line = whole.count(b"\n", 0, error.start) + 1
        return f":{line}: not UTF-8 at byte {error.start:,} of the file"
    return ": not UTF-8"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that gives a key twice, of which a parser keeps one in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise RowError(f"the key {key[:30]!r} stands twice in one object")
    return found


def _jsonl_rows(path: Path, stream: IO[str], bad: list[Problem]) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            values = json.loads(line, object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            bad.append(Problem(place, f"not valid JSON at column {error.colno}: {error.msg}"))
            continue
        except RowError as error:
            bad.append(Problem(place, str(error)))
            continue
        except (ValueError, RecursionError):  # a number of thousands of digits, a tower of brackets
            bad.append(Problem(place, "JSON beyond reason: a number too long, or nested too deep"))
            continue
        if not isinstance(values, dict):
            bad.append(Problem(place, f"wanted a JSON object, found a {type(values).__name__}"))
        elif not _is_text(values):
            bad.append(Problem(place, NO_TEXT))
        else:
            yield Row(place, values)


def _json_rows(path: Path, stream: IO[str], bad: list[Problem]) -> Iterator[Row]:
    try:
        document = json.load(stream, object_pairs_hook=_once)
    except RowError as error:
        raise InputError(f"{path}: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: JSON nested too deep to be data") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:  # an object a line, under this name
            stream.seek(0)
            yield from _jsonl_rows(path, stream, bad)
            return
        raise InputError(
            f"{path}:{error.lineno}: not valid JSON at column {error.colno}: {error.msg}"
        ) from None
    except ValueError:
        raise InputError(f"{path}: a number in it has thousands of digits") from None
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        yield from _squad_rows(path, document["data"], bad)
        return
    if isinstance(document, dict) and all(isinstance(v, dict) for v in document.values()):
        document = [{"id": key} | values for key, values in document.items()]
    if not isinstance(document, list):
        raise InputError(
            f"{path}: wanted a JSON array of objects, objects by id, or the SQuAD format"
        )
    for index, values in enumerate(document):
        if not isinstance(values, dict):
            bad.append(Problem(f"{path}[{index}]", "wanted a JSON object"))
        elif not _is_text(values):
            bad.append(Problem(f"{path}[{index}]", NO_TEXT))
        else:
            yield Row(f"{path}[{index}]", values)


NO_TEXT = "a text holds half of a character (a lone surrogate, as of a cut emoji)"


def _is_text(values: Any) -> bool:
    """Return whether all texts of a JSON value are text; its escapes can write what is none."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _squad_rows(path: Path, articles: list[Any], bad: list[Problem]) -> Iterator[Row]:
    """Yield one row a question of SQuAD 1.1 or 2.0 (Rajpurkar et al. 2016, 2018).

    Its ``document`` is the passage, which is what questions of one kind depend on; ``article`` is
    there to be a `data.group`.
    """
    for a, article in enumerate(articles):
        try:
            title = article.get("title", f"article {a}")
            for p, paragraph in enumerate(article["paragraphs"]):
                for q, question in enumerate(paragraph["qas"]):
                    place = f"{path}[{a}].paragraphs[{p}].qas[{q}]"
                    is_impossible = question.get("is_impossible", False)
                    if not isinstance(is_impossible, bool):
                        bad.append(Problem(place, "is_impossible: wanted true or false"))
                        continue
                    answers = [] if is_impossible else question["answers"]
                    values = {
                        "id": question["id"],
                        "document": passage_name(title, p),
                        "article": title,
                        "context": paragraph["context"],
                        "question": question["question"],
                        "answers": list(dict.fromkeys(x["text"] for x in answers)),
                    }
                    if _is_text(values):
                        yield Row(place, values)
                    else:
                        bad.append(Problem(place, NO_TEXT))
        except KeyError as error:
            bad.append(Problem(f"{path}[{a}]", f"not in the SQuAD format: {error} is missing"))
        except (TypeError, AttributeError):
            bad.append(Problem(f"{path}[{a}]", "not in the SQuAD format: wanted other types"))


def _table_rows(path: Path, stream: IO[str], bad: list[Problem], separator: str) -> Iterator[Row]:
    is_tsv = separator == "\t"  # whose quotes are plain characters, often unbalanced
    quoting: Literal[0, 3] = csv.QUOTE_NONE if is_tsv else csv.QUOTE_MINIMAL
    csv.field_size_limit(2**30)  # the default, 128 KB, is less than a long document
    reader = csv.reader(stream, delimiter=separator, quoting=quoting, strict=True)
    header: list[str] = []
    while True:
        place = f"{path}:{reader.line_num + 1}"  # a row begins where the one before it ended
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):
                raise InputError(
                    f"{place}: a quote is opened here or in this row and never closed, so what "
                    "follows cannot be told apart; close it"
                ) from None
            bad.append(Problem(place, f"not valid CSV: {error}"))
            continue
        if not fields:
            continue
        if not header:
            header = fields
            _refuse_twice(place, header)
        elif len(fields) > len(header):
            bad.append(Problem(place, f"more fields than the header's {len(header)}"))
        elif len(fields) < len(header):
            bad.append(Problem(place, f"fewer fields than the header's {len(header)}"))
        elif is_tsv and any(map(_is_quoted, fields)):
            bad.append(Problem(place, "a field is quoted as in CSV, and TSV has no quotes"))
        else:
            yield Row(place, dict(zip(header, fields, strict=True)))


def _is_quoted(field: str) -> bool:
    """Return whether a program wrote this field with quotes around it and its own doubled."""
    inner = field[1:-1]
    is_within = len(field) > 3 and field[0] == field[-1] == '"'
    return is_within and '""' in inner and '"' not in inner.replace('""', "")


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OverflowError, LookupError) as error:  # odd dates and zones
        raise InputError(f"{path}: not a readable Parquet file: {error}") from None
    for index, values in enumerate(rows):
        yield Row(f"{path}[{index}]", values)


def _excel_rows(path: Path, bad: list[Problem]) -> Iterator[Row]:
    """Yield the rows of the first sheet; a formula's value is the one that was saved with it."""
    from xml.etree.ElementTree import ParseError
    from zipfile import BadZipFile

    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with warnings.catch_warnings(action="ignore"):  # of styles that openpyxl does not keep
            book = load_workbook(path, read_only=True, data_only=True)
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what the file says of its size may be long out of date
            lines = [[_value(cell) for cell in line] for line in sheet.iter_rows()]
            book.close()
    except (
        *(BadZipFile, InvalidFileException, ParseError),
        *(KeyError, IndexError, TypeError, ValueError),
    ) as error:
        raise InputError(f"{path}: not a readable Excel workbook: {error}") from None
    header: list[str] = []
    for number, cells in enumerate(lines, 1):
        if all(cell is None for cell in cells):
            continue
        if not header:
            names = ["" if cell is None else str(cell).strip() for cell in cells]
            header = names[: max(i for i, name in enumerate(names, 1) if name)]
            _refuse_twice(f"{path}:{number}", header)
        elif any(cell is not None for cell in cells[len(header) :]):
            bad.append(Problem(f"{path}:{number}", f"more cells than the header's {len(header)}"))
        elif any(cell is _ERROR for cell in cells):
            bad.append(Problem(f"{path}:{number}", "a cell holds an error, such as #N/A"))
        else:
            cells += [None] * (len(header) - len(cells))
            named = zip(header, map(_cell, cells), strict=False)
            yield Row(f"{path}:{number}", {name: value for name, value in named if name})


_ERROR = object()


def _value(cell: Any) -> Any:
    return _ERROR if getattr(cell, "data_type", None) == "e" else cell.value


def _cell(value: Any) -> Any:
    """Return a cell as the other kinds of files have it: dates as text, 3.0 as 3."""
    return value.isoformat() if isinstance(value, date | time) else _plain(value)


def _refuse_twice(place: str, header: list[str]) -> None:
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise InputError(f"{place}: the header names {twice} more than once")


class RowError(ValueError):
    """A row is not what the domain wants; the message says why, without the row's text."""


class MissingColumn(RowError):
    """A row lacks a column, as all rows of a table with that header do."""


def name_of(value: Any) -> str | None:
    """Return one name for one thing, however a kind of file writes it; None for nothing.

    A customer is ``3`` in CSV, ``3.0`` in a Parquet column that also holds nothing, and ``"3 "``
    where somebody typed it; told apart, one person would be several.

    Example:
        >>> name_of(" 3 "), name_of(3.0), name_of(float("nan")), name_of("two  words")
        ('3', '3', None, 'two words')
    """
    value = _plain(value)
    if value is None:
        return None
    return " ".join(unicodedata.normalize("NFC", str(value)).split()) or None


def _plain(value: Any) -> Any:
    """Return a number as text files have it, 3.0 as 3, and None for one that is none."""
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else value


def take(
    row: Row, name: str, columns: Mapping[str, str], *, kind: type = str, required: bool = True
) -> Any:
    """Return our column ``name`` of a row, under the name that the files have for it.

    Raises:
        RowError: if it is missing, of another type, or an empty text.
    """
    theirs = columns.get(name, name)
    value: Any = _plain(row.values.get(theirs))
    if value is None:
        if not required:
            return None
        if theirs in row.values:
            raise RowError(f"column {theirs!r} has no value")
        raise MissingColumn(
            f"no column {theirs!r}; the row has {_listed(row.values)} (map it: data.columns: "
            f"{{{name}: THEIRS}})"
        )
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, kind):
        raise RowError(f"column {theirs!r}: wanted {kind.__name__}, found {type(value).__name__}")
    if isinstance(value, str) and not value.strip():
        if not required:
            return None
        raise RowError(f"column {theirs!r} is empty")
    return value


def _listed(values: Mapping[str, Any]) -> str:
    """Name the first columns; where a table lacks its header, these are words of a row."""
    names = sorted(str(key) for key in values)
    shown = [name if len(name) <= 30 else f"{name[:30]}..." for name in names[:8]]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(shown) or "nothing") + more
