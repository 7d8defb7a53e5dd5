"""``transformers serve`` on a model folder: started, asked, and surely stopped."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.outside import NO_TELEMETRY
from recipes.errors import InputError

HOST = "127.0.0.1"
NEEDS = ("fastapi", "uvicorn", "openai")
"""What ``transformers serve`` imports beside transformers (its extra ``serving``)."""

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    **NO_TELEMETRY,
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

# The child asks the kernel to end it with its parent (Linux), however that ends, before it loads
# anything; a parent that is gone already does not count as one.
_CHILD = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != int(sys.argv.pop(1)):
        raise SystemExit("the process that started this one is gone")
else:
    sys.argv.pop(1)
from transformers.cli.transformers import main
sys.argv[0] = "transformers"
main()
"""


class ServerFailed(Exception):
    """The server did not come up, or did not answer."""


@contextlib.contextmanager
def served(folder: Path, *, dtype: str, timeout_seconds: float) -> Iterator[int]:
    """Serve a folder on a free port of the loopback, and yield the port once it answers.

    The server sees no network but the loopback it listens on, and ends with this block, with this
    process, and at the time-out.

    Raises:
        InputError: if a package that the server needs is not installed.
        ServerFailed: if it is not up in time; with the last lines it wrote.
    """
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"transformers serve needs {', '.join(missing)}: pip install 'transformers[serving]'"
        )
    port = _free_port()
    command = [
        *(sys.executable, "-c", _CHILD, str(os.getpid())),
        *("serve", str(folder.resolve()), "--host", HOST, "--port", str(port)),
        *("--dtype", dtype, "--no-trust-remote-code"),
    ]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(  # noqa: S603 (our own interpreter)
            command,
            env=os.environ | OFFLINE,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_up(server, port, time.monotonic() + timeout_seconds)
            yield port
        except (ServerFailed, OSError, http.client.HTTPException) as error:
            raise ServerFailed(f"{error}; it last wrote:\n{_tail(log)}") from None
        finally:
            _stop(server)


def post(port: int, path: str, body: dict[str, Any], *, timeout_seconds: float) -> Any:
    """Send JSON to the server, past any proxy, and return what it answers.

    Raises:
        ServerFailed: if the answer is no success or no JSON.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_seconds)
    with contextlib.closing(connection):
        connection.request(
            "POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        content = answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise ServerFailed(f"{path} answered with status {answer.status}")
    try:
        return json.loads(content)
    except ValueError:
        raise ServerFailed(f"{path} answered with no JSON") from None


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])


def _wait_until_up(server: subprocess.Popen[bytes], port: int, deadline: float) -> None:
    """Wait until the server answers; it loads the model before it listens."""
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerFailed(f"transformers serve ended with code {server.returncode}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(HOST, port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/health")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return
        time.sleep(0.2)
    raise ServerFailed("transformers serve was not up in time")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started; its group is its own."""
    if server.poll() is None:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)
    if sys.platform == "win32":
        server.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal.SIGKILL)  # the group's number is the first process's
    server.wait()


def _tail(log: Any, num_lines: int = 5) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return "\n".join(f"  {line}" for line in lines[-num_lines:])
