"""Files are old, absent or whole; a run folder has one owner at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recipes.errors import InputError
from recipes.files import read_json, write_json, write_text
from recipes.locks import locked


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folders_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "a.json"
    write_json(path, {"a": [1, None, "ä"]})
    assert read_json(path) == {"a": [1, None, "ä"]}
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert path.stat().st_mode & 0o777 == 0o644
    assert names_in(path.parent) == ["a.json"]


def test_a_write_that_fails_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_json(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_text(path, "new")
    with pytest.raises(TypeError):
        write_json(path, {1, 2})
    assert read_json(path) == "old"
    assert names_in(tmp_path) == ["a.json"]


def test_what_is_no_number_is_written_as_null(tmp_path: Path) -> None:
    nan, infinite = float("nan"), float("inf")
    write_json(tmp_path / "a.json", {"a": nan, "b": [1.5, infinite], "c": (-infinite,)})
    assert read_json(tmp_path / "a.json") == {"a": None, "b": [1.5, None], "c": [None]}


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe"])
def test_a_torn_or_missing_file_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.json is missing"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json cannot be read"):
        read_json(tmp_path / "a.json")


def test_a_folder_is_held_by_one_at_a_time_and_then_free(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    with locked(folder):
        (folder / "kept").touch()
        with pytest.raises(InputError, match="another process is at work"), locked(folder):
            pass
    with locked(folder):
        assert (folder / "kept").is_file()


def test_a_folder_made_for_the_lock_alone_is_removed_and_others_are_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "new"):
        raise RuntimeError
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with locked(tmp_path / "old"):
        pass
    assert (tmp_path / "old").is_dir()
    with locked(tmp_path / "written"):
        (tmp_path / "written" / "resolved.yaml").touch()
    assert (tmp_path / "written" / "resolved.yaml").is_file()
