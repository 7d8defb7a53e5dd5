"""The key that reverses a redaction: private, whole, and never where runs are."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from recipes.data.personal_data import key_file
from recipes.data.personal_data.restore import restore
from recipes.errors import InputError

ORIGINALS = {"<EMAIL_1>": ("a@example.com", "A@example.com")}


def test_a_key_reverses_a_redaction(tmp_path: Path) -> None:
    path = tmp_path / "key.json"

    key_file.write(path, ORIGINALS)

    assert key_file.read(path) == ORIGINALS
    assert restore("<EMAIL_1>, <EMAIL_2>", key_file.read(path)) == "a@example.com, <EMAIL_2>"


def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    key_file.write(path, ORIGINALS)
    path.chmod(0o644)

    key_file.write(path, ORIGINALS)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("key.json", "resolved.yaml"),
        ("deep/key.json", "record.json"),
        ("key.json", "run/resolved.yaml"),
    ],
)
def test_a_folder_of_a_run_is_refused(tmp_path: Path, name: str, mark: str) -> None:
    for path in (tmp_path / mark, tmp_path / name):
        path.parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()

    with pytest.raises(InputError, match="where runs are kept"):
        key_file.write(tmp_path / name, ORIGINALS)
    assert not (tmp_path / name).exists()


def test_the_folder_of_the_runs_is_refused_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="where runs are kept"):
        key_file.write(tmp_path / "runs" / "key.json", ORIGINALS)
    with pytest.raises(InputError, match="where runs are kept"):
        key_file.write(tmp_path / "mine" / "key.json", ORIGINALS, runs=tmp_path / "mine")


def test_a_link_into_a_run_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "record.json").touch()
    (tmp_path / "link").symlink_to(run / "key.json")

    with pytest.raises(InputError, match="where runs are kept"):
        key_file.write(tmp_path / "link", ORIGINALS)


@pytest.mark.parametrize(
    "content", ["", "rows", "{}", '{"format": "other"}', "[1]", '{"format": 1}']
)
def test_a_file_that_is_no_key_is_not_overwritten(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)

    with pytest.raises(InputError, match="not a key file"):
        key_file.write(path, ORIGINALS)
    assert path.read_text() == content


def test_the_key_of_other_data_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    key_file.write(path, ORIGINALS)

    with pytest.raises(InputError, match="key of other data"):
        key_file.write(path, {"<EMAIL_1>": ("b@example.com",)})
    assert key_file.read(path) == ORIGINALS


def test_a_key_grows_with_its_data(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    key_file.write(path, ORIGINALS)
    more = ORIGINALS | {"<EMAIL_2>": ("b@example.com",)}

    key_file.write(path, more)

    assert key_file.read(path) == more


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        key_file.write(tmp_path / "none" / "key.json", ORIGINALS)
