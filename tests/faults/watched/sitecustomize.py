"""Writes down what a Python process, and each that it starts, writes to and connects to.

Python imports it at its start where its folder is in PYTHONPATH; ``WATCH`` names the file.
"""

import json
import os
import sys

_CONNECTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

_log = os.open(os.environ["WATCH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in _CONNECTS:
        where = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
        if not isinstance(where, str) or "gethost" in event or "getaddr" in event:
            _note("asked", repr(where))  # a text is a socket of this machine's own
    elif event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes) and isinstance(flags, int) and flags & _WRITES:
            _note("written", os.path.abspath(os.fsdecode(path)))  # noqa: PTH100


def _note(what: str, where: str) -> None:
    os.write(_log, json.dumps([what, where]).encode() + b"\n")


sys.addaudithook(_watch)
