from __future__ import annotations

from pathlib import Path

import pytest
from pytest_socket import socket_allow_hosts

from tests.recipes.handover import folders


@pytest.fixture(scope="package")
def mergeable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that can be written as GGUF (`folders.make_folder`). Read only."""
    return folders.make_folder(tmp_path_factory.mktemp("mergeable") / "model")


@pytest.fixture
def loopback(socket_enabled: None) -> None:
    """Sockets, but to nowhere else."""
    del socket_enabled
    socket_allow_hosts(["127.0.0.1"])
