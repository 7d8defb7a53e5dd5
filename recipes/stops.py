"""Stop signals: SIGINT, SIGTERM and SIGHUP end a command alike, cleanly; a second one forces."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

import psutil

STOPS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the third not, the last on Windows
    if hasattr(signal, name)
)

ONE_STOP_SECONDS = 1.0
"""Signals within this time are one stop: systemd may send SIGTERM and SIGHUP together."""

_AGAIN = "give the same command again"
_ANSWERS = "answers so far are kept, and the same command goes on with the rest"
WHAT_IS_LEFT = {
    "run": "the same command goes on: training from its last checkpoint, evaluation from the "
    "answers so far",
    "train": "the same command goes on from the last checkpoint, or from the start if none was "
    "written",
    "eval": _ANSWERS,
    "compare": f"no page was written; {_ANSWERS}",
    "merge": f"a merged model is written whole or not at all; {_AGAIN}",
    "predict": f"a file of predictions is written whole or not at all; {_AGAIN}",
    "ship": f"a release is written whole or not at all; {_AGAIN}",
}
"""Of verbs that do more than read, or go on where they were."""


class Interrupted(KeyboardInterrupt):
    """A stop signal that is handled.

    Not a KeyboardInterrupt itself: where that leaves an `eval`, as of an annotation, Python ends
    the process by SIGINT in the end, although it was handled (`run_eval_code_obj`, CPython 3.11).
    """


@dataclass
class Stop:
    """Which signal asks the command to stop, if one does."""

    number: int | None = None
    since: float = 0.0

    @property
    def code(self) -> int:
        """The exit code that shells give to a process that a signal ended."""
        return 128 + (self.number or signal.SIGINT)

    def in_words(self, verb: str) -> str:
        """Say that the command was interrupted, and how it goes on."""
        return f"interrupted ({signal.Signals(self.code - 128).name}); {left_by(verb)}"


def left_by(verb: str) -> str:
    """Return what a verb that was ended early leaves behind, and how it goes on."""
    return WHAT_IS_LEFT.get(verb, f"nothing is half-written; {_AGAIN}")


@contextmanager
def heard() -> Iterator[Stop]:
    """Turn the first stop signal into an `Interrupted`, so that everything cleans up behind it.

    A later one ends the process at once, with its children. A signal that the process was started
    to ignore (nohup) stays ignored.
    """
    stop = Stop()

    def on_signal(number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if stop.number is None:
            stop.number, stop.since = number, now
            raise Interrupted
        if now - stop.since > ONE_STOP_SECONDS:
            _end_at_once(number)

    def on_unraisable(ignored: sys.UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt) or stop.number is None:
            told_before(ignored)
            return
        # Python drops what is raised within __del__ and some callbacks: ask again outside of it
        number, stop.number = stop.number, None
        again.append(threading.Timer(0.05, os.kill, (os.getpid(), number)))
        again[-1].start()

    again: list[threading.Timer] = []
    before = {number: signal.getsignal(number) for number in STOPS}
    told_before, sys.unraisablehook = sys.unraisablehook, on_unraisable
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, on_signal)
        yield stop
    finally:
        for timer in again:  # the command has ended before it was asked again
            timer.cancel()
        sys.unraisablehook = told_before
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once_from_now_on() -> None:
    """Let a stop signal end the process with its exit code and a line, outside of a command.

    That is before one has begun, or after it has cleaned up.
    """

    def on_signal(number: int, _: FrameType | None) -> None:
        line = f"assay: interrupted ({signal.Signals(number).name}); nothing is half-written\n"
        with suppress(OSError):
            os.write(2, line.encode())
        os._exit(128 + number)

    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)


def left_to_parent() -> None:
    """Let a forked child be ended by its parent, who gets the same signals, or by its death."""
    for number in STOPS:
        ends_it = number == getattr(signal, "SIGTERM", None)
        signal.signal(number, signal.SIG_DFL if ends_it else signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end_at_once(number: int) -> None:
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
