"""Commands that run while something happens to them: started, killed and waited for."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from tests.cli import ROOT
from tests.faults.matrix.child import Command

PATIENCE = 240.0
"""Seconds after which a command hangs. An honest one takes a few."""


class Server:
    """A process that has imported everything, and forks one for each command."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        env = os.environ | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
            "TRL_EXPERIMENTAL_SILENCE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TQDM_DISABLE": "1",
            "PYTHONWARNINGS": "ignore",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.matrix.child", str(theirs.fileno())],
            cwd=ROOT,
            env=env,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._socket = ours
        self._pending = b""
        self._codes: dict[int, int] = {}
        self.cpu_seconds = 0.0
        """Processor time of all commands that have ended."""

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._process.wait()

    def start(self, command: Command) -> Running:
        """Start a command; return when it has begun."""
        begun = Path(command.begun)
        begun.unlink(missing_ok=True)
        self._socket.sendall(command.to_json().encode() + b"\n")
        pid = -1
        while pid < 0:
            answer = self._answer(PATIENCE)
            if answer is None:
                raise TimeoutError("the server of commands does not answer")
            pid = answer.get("started", -1)
        running = Running(self, pid, command)
        while running.counts() is None and not running.has_ended():
            time.sleep(0.001)
        return running

    def code_of(self, pid: int, seconds: float) -> int | None:
        """Wait so long for a process; return its exit code (negative: a signal), or None."""
        until = time.monotonic() + seconds
        while pid not in self._codes:
            if self._answer(max(0.0, until - time.monotonic())) is None:
                return None
        return self._codes[pid]

    def _answer(self, seconds: float) -> dict[str, int] | None:
        while b"\n" not in self._pending:
            if not select.select([self._socket], [], [], seconds)[0]:
                return None
            received = self._socket.recv(65536)
            if not received:
                raise RuntimeError("the server of commands has died")
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        answer = json.loads(line)
        if "ended" in answer:
            self._codes[answer["ended"]] = answer["code"]
            self.cpu_seconds += answer.pop("cpu")
        return {key: int(value) for key, value in answer.items()}


class Ended:
    """How a command ended."""

    def __init__(self, command: Command, code: int | None, seconds: float, orphans: int) -> None:
        self.code = code
        """None if it hung; negative if a signal ended it."""

        self.seconds = seconds
        self.num_orphans = orphans
        """Processes that it had started and that outlived it."""

        self.out = Path(command.out).read_text(errors="replace")
        self.err = Path(command.err).read_text(errors="replace")

    @property
    def message(self) -> str:
        """What it says of its end: the paragraph on standard error that begins with the program's
        name, else a result printed as JSON (`check` lists what it found), else nothing."""
        if "assay: " in self.err:
            return self.err[self.err.rindex("assay: ") :].strip()
        try:
            json.loads(self.out)
        except ValueError:
            return ""
        return self.out.strip()

    @property
    def has_traceback(self) -> bool:
        """Whether a traceback or a bare "Aborted!" was printed."""
        return any(mark in self.err + self.out for mark in ("Traceback (most", "Aborted!"))


class Running:
    """A command that runs."""

    def __init__(self, server: Server, pid: int, command: Command) -> None:
        self._server = server
        self._command = command
        self._began = time.monotonic()
        self.pid = pid

    def counts(self) -> tuple[int, int] | None:
        """Return how many file operations it has done, those that write and all.

        None before it has begun.
        """
        try:
            text = Path(self._command.begun).read_text()
        except FileNotFoundError:
            return None
        writes, _, everything = text.partition(" ")
        return (int(writes), int(everything)) if text.endswith("\n") else None

    def has_ended(self) -> bool:
        """Return whether it has ended."""
        return self._server.code_of(self.pid, 0) is not None

    def seconds(self) -> float:
        """Return for how long it has run."""
        return time.monotonic() - self._began

    def send(self, number: int) -> None:
        """Send a signal to the process alone, as `kill PID` does."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def is_stopped(self) -> bool:
        """Return whether SIGSTOP holds it."""
        try:
            after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2]
        except OSError:
            return False
        return after_name.split()[0] == "T"

    def wait(self, seconds: float = PATIENCE) -> Ended:
        """Wait for the end; one that hangs is killed and has no code."""
        code = self._server.code_of(self.pid, seconds)
        if code is None:
            self.send(signal.SIGKILL)
            self._server.code_of(self.pid, PATIENCE)
        took = time.monotonic() - self._began
        return Ended(self._command, code, took, self._end_orphans())

    def _end_orphans(self) -> int:
        """Count the processes of its session that live on, some seconds later, and end them."""
        until = time.monotonic() + 5
        while (orphans := _members(self.pid)) and time.monotonic() < until:
            time.sleep(0.01)
        for orphan in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        return len(orphans)


def _members(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                after_name = (path / "stat").read_text().rpartition(")")[2].split()
                if int(after_name[3]) == session and after_name[0] != "Z":
                    found.append(int(path.name))
    return found
