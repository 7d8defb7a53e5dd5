"""Parquet, Arrow and Feather files, read batch by batch.

Arrow has one set of keys for all structs of a column, and pads the keys that a row lacks with
null. In a struct, at any depth, a key without a value is therefore left out. A null that was
written on purpose inside a struct cannot be distinguished from padding, and is left out too. A
column without a value in a row is kept, as None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from recipes.config import DataConfig
from recipes.data.catalog import UNUSABLE_ROW
from recipes.data.findings import Findings
from recipes.data.readers.faults import UnreadableFile
from recipes.data.readers.file_read import FileRead, OpenedFile
from recipes.data.readers.headers import column_names, table_row
from recipes.data.readers.kinds import kind_of
from recipes.data.rows import Row
from recipes.errors import InputError

Convert = Callable[[Any], Any]

_BATCH_ROWS = 1000
_MAGIC = {b"PAR1": "parquet", b"ARRO": "file", b"FEA1": "feather 1"}


def open_arrow(path: Path, config: DataConfig, findings: Findings) -> OpenedFile:
    """Open a Parquet file, or an Arrow file in its file or its stream format.

    Raises:
        UnreadableFile: if it is neither, or damaged.
    """
    del config
    with path.open("rb") as stream:
        magic = _MAGIC.get(stream.read(4), "stream")
    if magic == "feather 1":
        raise UnreadableFile(
            path, "Feather version 1 is not read; write it as version 2 or Parquet"
        )
    with _Damage(path):
        schema, batches = _open(path, magic)
        names = column_names(schema.names, str(path), findings)
        converters = [_converter(kind) for kind in schema.types]
    read = FileRead(
        str(path), "parquet" if magic == "parquet" else "arrow", columns=tuple(filter(None, names))
    )
    names += [""] * (len(schema.names) - len(names))  # those without a name, after the last
    return OpenedFile(read, _rows(path, names, converters, batches, findings))


class _Damage:
    """Turns what pyarrow raises on damaged files into an `InputError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import pyarrow

        kinds = (pyarrow.ArrowException, OSError, ValueError, OverflowError, LookupError)
        if isinstance(error, kinds) and not isinstance(error, InputError):
            what = kind_of(self._path)
            why = type(error).__name__  # its message may quote what the file holds
            raise UnreadableFile(self._path, f"not a readable .{what} file ({why})") from None


def _open(path: Path, magic: str) -> tuple[Any, Iterator[Any]]:
    import pyarrow
    from pyarrow import parquet

    if magic == "parquet":
        file = parquet.ParquetFile(path)
        return file.schema_arrow, file.iter_batches(batch_size=_BATCH_ROWS)
    if magic == "file":
        reader = pyarrow.ipc.open_file(pyarrow.OSFile(str(path)))
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        return reader.schema, batches
    stream = pyarrow.ipc.open_stream(pyarrow.OSFile(str(path)))
    return stream.schema, iter(stream)


def _rows(
    path: Path,
    names: list[str],
    converters: list[Convert | None],
    batches: Iterator[Any],
    findings: Findings,
) -> Iterator[Row]:
    index = 0
    while True:
        with _Damage(path):
            batch = next(batches, None)
            if batch is None:
                return
            batch.validate(full=True)  # else a damaged file ends the process
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            part = batch.slice(start, _BATCH_ROWS)
            columns = [_values(*pair) for pair in zip(part.columns, converters, strict=True)]
            for cells in zip(*columns, strict=True):
                place = f"{path}[{index}]"
                index += 1
                if any(cell is _UNREADABLE for cell in cells):
                    [column, *_] = [
                        n for n, c in zip(names, cells, strict=True) if c is _UNREADABLE
                    ]
                    why = f"column {column!r}: a value that Python cannot hold, such as a far date"
                    findings.add(UNUSABLE_ROW, place, why)
                else:
                    yield Row(place, table_row(names, cells))


_UNREADABLE = object()


def _values(column: Any, convert: Convert | None) -> list[Any]:
    """Return the values of a column; one that cannot be had is `_UNREADABLE`."""
    try:
        values = column.to_pylist()
        return values if convert is None else [None if v is None else convert(v) for v in values]
    except (ValueError, OverflowError, LookupError, TypeError):  # odd dates and zones
        return [_value(scalar, convert) for scalar in column]


def _value(scalar: Any, convert: Convert | None) -> Any:
    try:
        value = scalar.as_py()
        return value if convert is None or value is None else convert(value)
    except (ValueError, OverflowError, LookupError, TypeError):
        return _UNREADABLE


def _converter(kind: Any) -> Convert | None:
    """Return what makes values of an Arrow type plain; None where they are already.

    Decimals become integers, or texts where they have a fraction; dates and times ISO texts;
    bytes text where they are UTF-8; maps objects.
    """
    from pyarrow import types

    if isinstance(kind, _extension_type()):
        kind = kind.storage_type
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _converter(kind.value_type)
    if types.is_map(kind):
        value = _converter(kind.item_type)
        return lambda pairs: {str(k): _apply(value, v) for k, v in pairs if v is not None}
    if types.is_struct(kind):
        inner = {f.name: _converter(f.type) for f in kind}
        return lambda found: {
            key: _apply(inner[key], value) for key, value in found.items() if value is not None
        }
    if any(
        (
            *(types.is_list(kind), types.is_large_list(kind), types.is_fixed_size_list(kind)),
            *(types.is_list_view(kind), types.is_large_list_view(kind)),
        )
    ):
        item = _converter(kind.value_type)
        return None if item is None else lambda found: [_apply(item, value) for value in found]
    if types.is_primitive(kind) and not types.is_temporal(kind):
        return None
    if types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind):
        return None
    return _plain


def _apply(convert: Convert | None, value: Any) -> Any:
    return value if convert is None or value is None else convert(value)


def _extension_type() -> Any:
    import pyarrow

    return pyarrow.BaseExtensionType


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else str(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, str | int | float | list | dict):
        return value
    return str(value)
