"""The record names the commit that ran, and no other; and the machine, as far as it is known."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
import pytest
import torch

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


def test_a_machine_says_with_how_many_threads_it_computes() -> None:
    torch.set_num_threads(1)
    found = provenance.machine()
    assert found["threads"] == 1
    assert found["cores"] >= 1


def test_a_machine_that_hides_its_memory_has_none_in_its_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hidden(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    known = provenance.machine()["memory_gb"]
    assert known is None or known > 0  # the C library may know it
    monkeypatch.setattr(os, "sysconf", hidden)
    assert provenance.machine()["memory_gb"] is None
    assert provenance.memory_text(provenance.machine()) == "unknown memory"
    assert provenance.memory_text({"memory_gb": 8.2}) == "8.2 GB"
