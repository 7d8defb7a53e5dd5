"""Safetensors files, one tensor at a time: headers read with suspicion, tensors streamed out.

A file is 8 bytes with the length of its header, the header (JSON: name, dtype, shape and place of
each tensor), and the bytes of all tensors, one after the other. So a header can be checked before
anything is allocated, and a file can be written from its header on, with one tensor in memory.
Format: https://huggingface.co/docs/safetensors (the loader accepts a name that stands twice in a
header, and takes the last; transformers follows an index out of its folder; here both are refused).

No torch here: what a stranger's file says is checked before anything heavy is loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from finetune.errors import InputError, IntegrityError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
"""Bytes of one number, by dtype as the header spells it."""

MAX_HEADER_BYTES = 8 << 20
"""About 50,000 tensors in one file. A parsed header takes some ten times its size."""

Block = bytes | bytearray | memoryview
Layout = Mapping[str, tuple[str, tuple[int, ...]]]

MAX_JSON_BYTES = 64 << 20
_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class Entry:
    """One tensor's line in a header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """Byte of the file at which its numbers begin."""

    num_bytes: int


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header has been checked."""

    path: Path
    entries: Mapping[str, Entry]
    """By name, in the order of their bytes."""

    def read(self, name: str) -> bytearray:
        """Return one tensor's bytes."""
        entry = self.entries[name]
        found = bytearray(entry.num_bytes)
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(entry.start)
            view = memoryview(found)
            while view:
                num = stream.readinto(view)
                if not num:
                    raise IntegrityError(f"{self.path} became shorter while it was read")
                view = view[num:]
        return found

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield one tensor's bytes, 16 MB at a time."""
        entry = self.entries[name]
        left = entry.num_bytes
        with self.path.open("rb") as stream:
            stream.seek(entry.start)
            while left:
                block = stream.read(min(left, _BLOCK_BYTES))
                if not block:
                    raise IntegrityError(f"{self.path} became shorter while it was read")
                left -= len(block)
                yield block

    def sha256(self, name: str) -> str:
        """Return the hex SHA-256 of one tensor's bytes."""
        digest = hashlib.sha256()
        for block in self.blocks(name):
            digest.update(block)
        return digest.hexdigest()


def strict_json(text: bytes, source: Path) -> Any:
    """Parse JSON as one that others may have written against us.

    Raises:
        IntegrityError: if it is not valid, a key stands twice, a number is not finite, or it is
            nested beyond reason.
    """

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(found)
        if len(values) != len(found):
            [(twice, _)] = Counter(key for key, _ in found).most_common(1)
            raise IntegrityError(f"{source}: the key {shown(twice)} stands twice")
        return values

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise IntegrityError(f"{source}: {digits[:20]} is no finite number")
        return value

    def whole(digits: str) -> int:
        if digits == "-0":  # which not every reader takes for 0
            raise IntegrityError(f"{source}: -0 is no whole number")
        return int(digits)

    try:
        # bytes would be taken for UTF-16 or UTF-32 where they look like it, as no other reader does
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_float=number,
            parse_constant=number,
            parse_int=whole,
        )
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of 5,000 digits
        raise IntegrityError(f"{source}: not valid JSON ({str(error)[:200]})") from None


def read_strict_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file of at most ``max_bytes``; see `strict_json`."""
    if path.stat().st_size > max_bytes:
        raise IntegrityError(
            f"{path} has {path.stat().st_size} bytes, and a file of its kind at most {max_bytes}"
        )
    return strict_json(path.read_bytes(), path)


def shown(name: str) -> str:
    """Return a name from outside as it may stand in a message: short, and without controls."""
    return ascii(name if len(name) <= 120 else name[:117] + "...")


def open_file(path: Path) -> TensorFile:
    """Read and check a file's header; no tensor is read.

    Raises:
        IntegrityError: if the header is torn or too long, names a tensor twice, or places tensors
            beyond the file, over one another or with gaps between them.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise IntegrityError(
                f"{path} has {size} bytes and announces a header of {length}; wanted at most "
                f"{MAX_HEADER_BYTES}, within the file. It is torn, or no safetensors file"
            )
        text = stream.read(length)
    header = strict_json(text, path)
    if not isinstance(header, dict):
        raise IntegrityError(f"{path}: the header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise IntegrityError(f"{path}: __metadata__ is no mapping of texts to texts")
    entries = {name: _entry(path, name, line, 8 + length) for name, line in header.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].num_bytes)))
    end = 8 + length
    for name, entry in ordered.items():
        if entry.start != end:
            raise IntegrityError(
                f"{path}: the tensor {shown(name)} begins at byte {entry.start}, and the one "
                f"before it ends at {end}; tensors must follow one another"
            )
        end += entry.num_bytes
    if end != size:
        raise IntegrityError(f"{path} has {size} bytes, and its tensors end at byte {end}")
    return TensorFile(path, ordered)


def _entry(path: Path, name: str, line: Any, data_start: int) -> Entry:
    where = f"{path}: the tensor {shown(name)}"
    if not (0 < len(name) <= 512 and name.isprintable()):
        raise IntegrityError(f"{where} has a name that is no name")
    if not isinstance(line, dict) or set(line) != {"dtype", "shape", "data_offsets"}:
        raise IntegrityError(f"{where} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = line["dtype"], line["shape"], line["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise IntegrityError(f"{where} is of the unknown type {shown(str(dtype))}")
    if not (_are_sizes(shape) and len(shape) <= 8 and _are_sizes(offsets) and len(offsets) == 2):
        raise IntegrityError(f"{where} has a shape or place that is no list of sizes")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise IntegrityError(
            f"{where} takes {end - begin} bytes, and {dtype} of shape {shape} takes "
            f"{math.prod(shape) * ITEM_BYTES[dtype]}"
        )
    return Entry(dtype, tuple(shape), data_start + begin, end - begin)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 1 << 62 for value in values
    )


def open_weights(folder: Path) -> list[TensorFile]:
    """Return the files of a checkpoint folder that are its weights, as transformers takes them.

    Raises:
        InputError: if there are none, or one that the index names is missing.
        IntegrityError: if the index names a file outside the folder, or another file for a tensor
            than the one that holds it; or if a header is not in order.
    """
    if (folder / WEIGHTS).is_file():
        return [open_file(folder / WEIGHTS)]
    index = folder / INDEX
    if not index.is_file():
        raise InputError(
            f"{folder} holds neither {WEIGHTS} nor {INDEX}, so nobody can say which of its files "
            "are the weights"
        )
    found = read_strict_json(index)
    places = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict) or not places:
        raise IntegrityError(f"{index} has no weight_map")
    for name, file in places.items():
        if not isinstance(file, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", file):
            raise IntegrityError(
                f"{index} places the tensor {shown(name)} in {shown(str(file))}; wanted the name "
                "of a .safetensors file in the same folder"
            )
    files = []
    for file in sorted(set(places.values())):
        if not (folder / file).is_file():
            raise InputError(f"{index} names {file}, which is missing")
        files.append(open_file(folder / file))
    held = {name: file.path.name for file in files for name in file.entries}
    odd = {name for name in held.keys() | places.keys() if held.get(name) != places.get(name)}
    if odd or len(held) != sum(len(file.entries) for file in files):
        raise IntegrityError(
            f"{index} and the files it names disagree on where {len(odd) or 'some'} tensors are"
            + (f", first {shown(min(odd))}" if odd else "")
        )
    return files


@dataclass
class TensorWriter:
    """Writes a safetensors file from its header on, one tensor after the other.

    Use it as a context manager: the file appears, synced to disk, when all tensors are written,
    and not at all after an error.
    """

    path: Path
    layout: Layout
    """Dtype and shape of each tensor, in the order in which they will be written."""

    sha256: str = ""
    """Of the whole file, when it is complete."""

    tensors: dict[str, str] = field(default_factory=dict)
    """Hex SHA-256 of each tensor that was written."""

    def __enter__(self) -> Self:
        self._part = self.path.with_name(self.path.name + ".part")
        self._stream: BinaryIO = self._part.open("wb")
        self._digest = hashlib.sha256()
        self._left = list(self.layout)
        header = _header(self.layout)
        self._put(len(header).to_bytes(8, "little"))
        self._put(header)
        return self

    def write(self, name: str, blocks: Iterable[Block]) -> None:
        """Write the next tensor of the layout.

        Raises:
            ValueError: if it is not the next one, or has another number of bytes.
        """
        if not self._left or name != self._left[0]:
            raise ValueError(f"{name} is not the next tensor of {self.path.name}")
        digest, num_bytes = hashlib.sha256(), 0
        for block in blocks:
            digest.update(block)
            num_bytes += memoryview(block).nbytes
            self._put(block)
        if num_bytes != num_bytes_of(*self.layout[name]):
            raise ValueError(f"{name} came with {num_bytes} bytes, not those of its shape")
        del self._left[0]
        self.tensors[name] = digest.hexdigest()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and not self._left:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        self._stream.close()
        if error is not None or self._left:
            self._part.unlink()
            if error is None:
                raise ValueError(f"{self.path.name} lacks {self._left[0]}")
            return
        self.sha256 = self._digest.hexdigest()
        self._part.replace(self.path)

    def _put(self, block: Block) -> None:
        self._digest.update(block)
        self._stream.write(block)


def in_order(layout: Layout) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return a layout in the order that keeps every tensor aligned: widest numbers first."""
    return dict(sorted(layout.items(), key=lambda item: -ITEM_BYTES[item[1][0]]))


def num_bytes_of(dtype: str, shape: Sequence[int]) -> int:
    """Return the bytes that a tensor takes."""
    return math.prod(shape) * ITEM_BYTES[dtype]


def _header(layout: Layout) -> bytes:
    lines: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in layout.items():
        begin, end = end, end + num_bytes_of(dtype, shape)
        lines[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(lines, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)
