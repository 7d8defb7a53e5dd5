"""Safetensors headers that were written against us, and files written tensor by tensor."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from finetune.errors import InputError, IntegrityError
from finetune.tensor_files import (
    INDEX,
    MAX_HEADER_BYTES,
    TensorWriter,
    in_order,
    open_file,
    open_weights,
    strict_json,
)


def raw(path: Path, header: object, data: bytes = b"\0" * 16, *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    announced = len(text) if length is None else length
    path.write_bytes(announced.to_bytes(8, "little") + text + data)
    return path


def line(begin: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


GOOD = {"a": line(0, 8), "b": line(8, 16)}


def test_a_header_in_order_is_read_as_safetensors_reads_it(tmp_path: Path) -> None:
    tensors = {"one": torch.arange(6.0).reshape(2, 3), "two": torch.ones(5, dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    file = open_file(tmp_path / "a.safetensors")
    assert {name: entry.shape for name, entry in file.entries.items()} == {
        "one": (2, 3),
        "two": (5,),
    }
    assert bytes(file.read("one")) == tensors["one"].numpy().tobytes()
    assert b"".join(file.blocks("one")) == tensors["one"].numpy().tobytes()
    assert open_file(raw(tmp_path / "good", GOOD)).entries.keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"a":' + json.dumps(line(0, 16)).encode() + b"," + b'"a":' + b"{}}", "'a' stands twice"),
        (b'{"a":{"dtype":"F32","dtype":"F16","shape":[4],"data_offsets":[0,16]}}', "stands twice"),
        ({"a": line(0, 12), "b": line(8, 16)}, "'b' begins at byte .* and the one before it ends"),
        ({"a": line(0, 4), "b": line(8, 16)}, "must follow one another"),
        ({"a": line(0, 32)}, "its tensors end at byte"),
        ({"a": line(0, 8)}, "its tensors end at byte"),
        ({"a": line(0, 16, [5])}, r"takes 16 bytes, and F32 of shape \[5\] takes 20"),
        ({"a": line(0, 16, [10**9, 10**9])}, "takes 16 bytes"),
        ({"a": line(0, 16, [-4])}, "no list of sizes"),
        ({"a": line(0, 16, [4.0])}, "no list of sizes"),
        ({"a": line(0, 16, [True, 4])}, "no list of sizes"),
        ({"a": line(0, 16, [1] * 9)}, "no list of sizes"),
        ({"a": line(16, 0, [4])}, "takes -16 bytes"),
        ({"a": line(0, 16, dtype="F31")}, "unknown type 'F31'"),
        ({"a": line(0, 16, dtype=["F32"])}, "unknown type"),
        ({"a": line(0, 16) | {"more": 1}}, "not described by dtype"),
        ({"a": [0, 16]}, "not described by dtype"),
        ({"a\x1b[31m": line(0, 16)}, r"'a\\x1b\[31m' has a name that is no name"),
        ({"a" * 600: line(0, 16)}, "has a name that is no name"),
        ({"": line(0, 16)}, "has a name that is no name"),
        ([1], "no JSON object"),
        (b"{" * 30, "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a":1e999}', "no finite number"),
        (b'{"a":NaN}', "no finite number"),
        (b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"\xff":1}', "not valid JSON"),
    ],
)
def test_a_header_that_is_not_in_order_is_refused(
    tmp_path: Path, header: object, message: str
) -> None:
    with pytest.raises(IntegrityError, match=message):
        open_file(raw(tmp_path / "a.safetensors", header))


def test_the_loader_itself_takes_a_name_that_stands_twice(tmp_path: Path) -> None:
    """So the guard is ours to keep; the other malformed headers it refuses too."""
    twice = json.dumps({"a": line(0, 16)})[:-1].encode()
    twice += b"," + json.dumps({"a": line(0, 16, [2, 2])})[1:].encode()
    with safe_open(raw(tmp_path / "twice", twice), "pt") as file:
        assert list(file.keys()) == ["a"]
    overlapping = raw(tmp_path / "over", {"a": line(0, 12), "b": line(8, 16)})
    with pytest.raises(SafetensorError), safe_open(overlapping, "pt"):
        pass


@pytest.mark.parametrize("length", [0, 1, 17, MAX_HEADER_BYTES + 1, 2**62, 2**64 - 1])
def test_a_length_beyond_the_file_or_beyond_reason_is_refused_unread(
    tmp_path: Path, length: int
) -> None:
    path = raw(tmp_path / "a", b"{}", b"\0" * 8, length=length)
    tracemalloc.start()
    with pytest.raises(IntegrityError, match="announces a header of"):
        open_file(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.slow
def test_the_largest_header_costs_bounded_time_and_memory(tmp_path: Path) -> None:
    names = (f'"{i:x}":{{}}' for i in range(MAX_HEADER_BYTES // 12))
    text = b"{" + ",".join(names).encode() + b"}"
    assert 0.8 * MAX_HEADER_BYTES < len(text) <= MAX_HEADER_BYTES
    path = raw(tmp_path / "a", text)
    started = time.process_time()
    tracemalloc.start()
    with pytest.raises(IntegrityError, match="not described by dtype"):
        open_file(path)
    assert tracemalloc.get_traced_memory()[1] < 40 * MAX_HEADER_BYTES
    tracemalloc.stop()
    assert time.process_time() - started < 15  # tracing makes it several times slower


def sharded(folder: Path) -> Path:
    for name in "ab":
        save_file({name: torch.zeros(4)}, folder / f"model-{name}.safetensors")
    places = {name: f"model-{name}.safetensors" for name in "ab"}
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    return folder


def test_an_index_in_order_names_the_files(tmp_path: Path) -> None:
    files = open_weights(sharded(tmp_path))
    assert [file.path.name for file in files] == ["model-a.safetensors", "model-b.safetensors"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("../outside.safetensors", "in the same folder"),
        ("/tmp/outside.safetensors", "in the same folder"),  # noqa: S108
        ("sub/model-a.safetensors", "in the same folder"),
        ("..\\outside.safetensors", "in the same folder"),
        (".hidden.safetensors", "in the same folder"),
        ("model-a.bin", "in the same folder"),
        ("model-a.safetensors\n", "in the same folder"),
        (["model-a.safetensors"], "in the same folder"),
        ("model-b.safetensors", "disagree on where 1 tensors are, first 'a'"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(
    tmp_path: Path, place: object, message: str
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    save_file({"a": torch.ones(4)}, tmp_path / "outside.safetensors")
    index = sharded(inside) / INDEX
    index.write_text(json.dumps({"weight_map": {"a": place, "b": "model-b.safetensors"}}))
    with pytest.raises(IntegrityError, match=message):
        open_weights(inside)


@pytest.mark.parametrize("index", ["{}", "[]", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
def test_an_index_that_places_nothing_is_refused(index: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(IntegrityError, match="has no weight_map"):
        open_weights(tmp_path)


def test_a_file_that_is_cut_after_its_header_was_read_ends_the_reading(tmp_path: Path) -> None:
    file = open_file(raw(tmp_path / "a", GOOD))
    with file.path.open("r+b") as stream:
        stream.truncate(file.entries["b"].start + 4)
    with pytest.raises(IntegrityError, match="became shorter"):
        file.read("b")
    with pytest.raises(IntegrityError, match="became shorter"):
        file.sha256("b")
    assert len(file.read("a")) == 8


def test_a_file_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    (sharded(tmp_path) / "model-a.safetensors").unlink()
    with pytest.raises(InputError, match=r"names model-a\.safetensors, which is missing"):
        open_weights(tmp_path)


def test_a_folder_without_weights_of_a_known_name_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(4)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="nobody can say which of its files"):
        open_weights(tmp_path)


# writing

shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
layouts = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.sampled_from(["F32", "BF16", "F16"]), shapes)
)
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@given(layout=layouts)
def test_what_is_written_tensor_by_tensor_is_what_safetensors_reads(
    tmp_path_factory: pytest.TempPathFactory, layout: dict[str, tuple[str, tuple[int, ...]]]
) -> None:
    path = tmp_path_factory.mktemp("out") / "a.safetensors"
    tensors = {name: torch.randn(s).to(DTYPES[d]) for name, (d, s) in layout.items()}
    ordered = in_order(layout)
    with TensorWriter(path, ordered) as writer:
        for name in ordered:
            flat = tensors[name].reshape(-1)
            writer.write(name, [flat.view(torch.uint8).numpy().data] if len(flat) else [])
    found = load_file(path)
    assert all(found[name].equal(tensor) for name, tensor in tensors.items())
    file = open_file(path)
    assert writer.tensors == {name: file.sha256(name) for name in file.entries}
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


def test_a_file_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    layout = {"a": ("F32", (2,)), "b": ("F32", (1,))}
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="lacks b"), TensorWriter(path, layout) as writer:
        writer.write("a", [b"\0" * 8])
    with pytest.raises(ValueError, match="not the next"), TensorWriter(path, layout) as writer:
        writer.write("b", [b"\0" * 4])
    with pytest.raises(ValueError, match="with 7 bytes"), TensorWriter(path, layout) as writer:
        writer.write("a", [b"\0" * 7])
    assert not list(tmp_path.iterdir())


def test_keys_that_stand_twice_are_refused_at_any_depth(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="'b' stands twice"):
        strict_json(b'{"a": [{"b": 1, "b": 2}]}', tmp_path)
