from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from recipes.release.ship import ship
from recipes.release.signature import Signer, Trusted
from tests.recipes.release.folders import make_run
from tests.recipes.test_dsse import make_key


@dataclass(frozen=True)
class Keys:
    signer: Signer
    trusted: Trusted
    others: Signer
    """Of somebody else."""

    other: Trusted


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    (private, public), (theirs, their) = make_key(folder), make_key(folder, "other")
    return Keys(Signer(private), Trusted(public), Signer(theirs), Trusted(their))


@pytest.fixture(scope="session")
def a_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A run folder that passed. Read only."""
    return make_run(tmp_path_factory.mktemp("story"), tiny_base)


@pytest.fixture
def run(a_run: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(a_run, tmp_path / "runs" / "first")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory, a_run: Path, keys: Keys) -> Path:
    """A release of it. Read only."""
    return ship(a_run, tmp_path_factory.mktemp("out") / "release", signer=keys.signer)


@pytest.fixture
def release(shipped: Path, tmp_path: Path) -> Path:
    """A copy of the release, to be changed."""
    return shutil.copytree(shipped, tmp_path / "release")
