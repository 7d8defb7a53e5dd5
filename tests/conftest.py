"""What all tests share: no hub, a cache of their own, one thread, and a tiny checkpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# read by the libraries when they are imported, so set before any of them is
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tests import tiny

# `make test` decides whether a change may land, so it draws the same examples each time; the
# search for new ones is `make test-all` (--hypothesis-profile=search).
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Take back what a run before set for the whole process."""
    torch = sys.modules.get("torch")  # a test that needs no torch must not pay for it
    if torch is not None:
        torch.set_num_threads(1)
        torch.set_flush_denormal(False)  # Hypothesis generates such numbers


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a two-layer model (`tests.tiny.make_base`). Read only."""
    return tiny.make_base(tmp_path_factory.mktemp("checkpoints") / "tiny")
