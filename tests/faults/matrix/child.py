"""Processes that run one `assay` command under a fault: ``python -m`` this, by `processes`.

The server imports everything once and forks a child for each command, so that a command costs
what it does and not the seconds of its imports. A child ends as the console script does: the
interpreter prints the traceback, flushes the streams and sets the exit code.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Stream = Literal["file", "closed", "no reader"]

READ_EVENTS = ("open", "os.listdir", "os.scandir")
WRITE_EVENTS = (
    "os.chmod",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
)
LATE = (
    "transformers.models.llama.modeling_llama",
    "transformers.integrations.bitsandbytes",
    "transformers.quantizers.auto",
    "peft.tuners.lora",
    "bitsandbytes.backends.cpu.ops",
    "accelerate.utils.other",
    "cyclonedx.validation.json",
    "matplotlib.backends.backend_svg",
    "sklearn.metrics",
    "scipy.stats",
)
"""What our modules import only when a command needs it."""


@dataclass(frozen=True)
class Command:
    """One `assay` command, where it runs, and what goes wrong meanwhile."""

    arguments: tuple[str, ...]
    folder: str
    """Current folder. File operations are counted below it."""

    env: dict[str, str] = field(default_factory=dict)
    out: str = "/dev/null"
    err: str = "/dev/null"
    begun: str = "/dev/null"
    """A file that is made when the command starts, and that its file operations are counted in:
    those that write, and all."""

    stdout: Stream = "file"
    stderr: Stream = "file"
    extra_memory: int | None = None
    """Bytes of address space beyond those in use at the start; None for no limit."""

    is_powerless: bool = False
    """Whether permissions hold for it even if it is root's."""

    at_operation: int | None = None
    """Number of the file operation, from 1, before which ``action`` happens; a signal comes before
    one that writes."""

    action: Literal["none", "signal", "flip"] = "none"
    target: str = ""
    """File of which a bit is flipped."""

    signal: int = signal.SIGKILL

    is_fresh: bool = False
    """Whether it is an interpreter of its own instead of a fork of one that has imported all."""

    def to_json(self) -> str:
        """Return one line."""
        return json.dumps(asdict(self))


def preload() -> None:
    """Import what commands import, as far as that is installed."""
    for name in ("finetune", "eval", "privacy", "recipes"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(module.name)
    for name in LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def serve(connection: socket.socket) -> Command | None:
    """Fork a child for each line; return its command in the child, and None at the end.

    Answers each command with its process id, and, when it has ended, with that, its exit code and
    the seconds of processor time that it used.
    """
    living: dict[int, int] = {}
    lines = connection.makefile("r", encoding="utf-8")
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not connection:
                    ended = key.data
                    _, status, used = os.wait4(ended, 0)
                    selector.unregister(key.fileobj)
                    os.close(living.pop(ended))
                    code = os.waitstatus_to_exitcode(status)
                    answer = {"ended": ended, "code": code, "cpu": used.ru_utime + used.ru_stime}
                    connection.sendall(json.dumps(answer).encode() + b"\n")
                    continue
                line = lines.readline()
                if not line:
                    for pid in living:
                        os.kill(pid, signal.SIGKILL)  # it is a child, so it is there
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(pid, signal.SIGKILL)
                    return None
                pid = os.fork()
                if pid == 0:
                    os.setsid()
                    lines.detach()
                    connection.close()
                    return Command(**json.loads(line))
                living[pid] = os.pidfd_open(pid)
                selector.register(living[pid], selectors.EVENT_READ, pid)
                connection.sendall(f'{{"started": {pid}}}\n'.encode())


def begin(command: Command) -> None:
    """Make this process the one of a command: streams, folder, environment, limits, hook."""
    if command.is_fresh and "--fresh" not in sys.argv:
        line = [sys.executable, "-m", "tests.faults.matrix.child", "--fresh", command.to_json()]
        os.execve(sys.executable, line, os.environ | command.env)
    for number, path, stream in (
        (1, command.out, command.stdout),
        (2, command.err, command.stderr),
    ):
        _connect(number, path, stream)
    # a job in the background ignores SIGINT, and what it starts would too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(command.env)
    os.chdir(command.folder)
    sys.argv = ["assay", *command.arguments]
    begun = os.open(command.begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    _count_operations(command, begun)
    if command.is_powerless:
        _drop_capabilities()
    if command.extra_memory is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + command.extra_memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.pwrite(begun, b"0 0\n", 0)


def _connect(number: int, path: str, stream: Stream) -> None:
    """Let a standard stream go to a file, to a pipe that has no reader, or nowhere."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    if stream == "no reader":
        os.close(file)
        reader, file = os.pipe()
        os.close(reader)
    os.dup2(file, number)
    os.close(file)
    if stream == "closed":
        os.close(number)
        # what an interpreter makes of a stream that was closed before it started
        setattr(sys, {1: "stdout", 2: "stderr"}[number], None)


def _count_operations(command: Command, begun: int) -> None:
    """Count operations on files below the command's folder, and act before the chosen one."""
    below = command.folder + os.sep
    writes = everything = 0
    is_acting = False

    def hook(event: str, arguments: Any) -> None:
        nonlocal writes, everything, is_acting
        if is_acting or event not in _EVENTS or not arguments or not _is_path(arguments[0]):
            return
        path = os.fsdecode(arguments[0])
        if path.startswith(os.sep) and not path.startswith(below):
            return
        is_write = event in WRITE_EVENTS or (event == "open" and bool(arguments[2] & _WRITING))
        writes += is_write
        everything += 1
        os.pwrite(begun, f"{writes} {everything}\n".encode(), 0)
        is_counted = is_write or command.action != "signal"
        number = writes if command.action == "signal" else everything
        if is_counted and number == command.at_operation:
            is_acting = True
            _act(command)
            is_acting = False

    sys.addaudithook(hook)


_EVENTS = frozenset((*READ_EVENTS, *WRITE_EVENTS))
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _is_path(value: Any) -> bool:
    return isinstance(value, str | bytes | os.PathLike)


def _act(command: Command) -> None:
    if command.action == "signal":
        os.kill(os.getpid(), command.signal)
    elif command.action == "flip":
        flip_a_bit(Path(command.folder) / command.target)


def flip_a_bit(path: Path, at: float = 0.5) -> None:
    """Change one bit of the byte at a share, 0 to 1, of a file that is not empty."""
    content = bytearray(path.read_bytes())
    content[min(int(at * len(content)), len(content) - 1)] ^= 1
    path.write_bytes(content)


def _drop_capabilities() -> None:
    """Give up root's right to write where permissions forbid it (Linux `capset`, version 3)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _main() -> Callable[[], object] | None:
    if "--fresh" in sys.argv:
        values = json.loads(sys.argv[-1])
        begin(Command(**values))
        from recipes.entry import main as fresh

        return fresh
    else:
        preload()
        gc.collect()
        gc.freeze()
        command = serve(socket.socket(fileno=int(sys.argv[1])))
        if command is None:
            return None
        begin(command)
    from recipes.cli import main

    return main


if __name__ == "__main__":
    run = _main()
    if run is not None:
        run()
