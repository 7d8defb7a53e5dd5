"""Compressed files, decompressed while they are read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO

COMPRESSIONS = {"gz": "gzip", "zst": "zstd", "bz2": "bzip2", "xz": "xz"}
"""End of a file's name: name of its compression."""

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a cut or damaged file raises."""


def compression_of(path: Path) -> str | None:
    """Return the compression of a file by its name."""
    return COMPRESSIONS.get(path.suffix.lower().lstrip("."))


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, decompressed.

    Raises:
        OSError: if it cannot be opened; reading raises one of `DAMAGED`.
    """
    compression = compression_of(path)
    if compression == "gzip":
        return io.BufferedReader(gzip.open(path))
    if compression == "bzip2":
        return bz2.open(path)
    if compression == "xz":
        return lzma.open(path)
    if compression == "zstd":
        import pyarrow

        compressed = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
        return io.BufferedReader(compressed)
    return path.open("rb")
