"""What a checkpoint is, told from hashes alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from finetune.identity import identity, identity_of, sha256_file
from tests.cli import ROOT


def test_hashes_alone_give_the_identity_of_the_folder(tiny_base: Path) -> None:
    hashes = {p.name: sha256_file(p) for p in tiny_base.iterdir()}
    assert identity_of(hashes) == identity(tiny_base)
    beside = {"MODEL_CARD.md": "0", "evidence/config.json": "1", "sub/x.safetensors": "2"}
    assert identity_of(hashes | beside) == identity(tiny_base)
    assert identity_of(hashes | {"model-2.safetensors": "0"}) != identity(tiny_base)


def test_it_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import finetune.identity"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("damage", [b"", b"sha256:12", b"\xff\xfe\x00", b"[]", b"[" * 3000])
def test_a_damaged_file_of_the_cache_says_nothing(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    found = identity(tiny_base)
    [cached] = (tmp_path / "identities").iterdir()
    cached.write_bytes(damage)
    assert identity(tiny_base) == found
    assert cached.read_text() == found


def test_a_cache_that_cannot_be_written_stops_nobody(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = identity(tiny_base)
    (tmp_path / "cache").write_text("a file where a folder is wanted")
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    assert identity(tiny_base) == found
