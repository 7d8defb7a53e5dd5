from __future__ import annotations

import struct
from pathlib import Path

import pytest

from recipes.errors import InputError
from recipes.release.facts import num_parameters


def with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def test_parameters_are_counted_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(
        with_header(b'{"__metadata__": {}, "a": {"shape": [2, 3]}, "b": {"shape": []}}')
    )
    assert num_parameters(path) == 7


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        with_header(b"{}")[:9],
        b"\xff" * 20,
        with_header(b"[]"),
        with_header(b'{"a": 1}'),
    ],
)
def test_a_damaged_weights_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged: its header"):
        num_parameters(path)
