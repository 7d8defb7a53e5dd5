"""The record names the commit that ran, and no other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from recipes import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit, with our package in it."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "provenance.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "recipes" / "provenance.py"))
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "a")
        monkeypatch.setenv(f"{name}_EMAIL", "a@example.com")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_checkout_is_named_by_its_commit_and_by_whether_it_was_changed(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert provenance.commit() == head
    (checkout / "recipes" / "provenance.py").write_text("x = 2\n")
    assert provenance.commit() == f"{head}-dirty"


def test_a_package_inside_another_repository_is_not_of_its_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = checkout / "site-packages" / "recipes"
    inside.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(inside / "provenance.py"))
    assert provenance.commit() is None


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert provenance.commit() is None
