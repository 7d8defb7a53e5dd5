"""Answers already given, on disk: a killed evaluation resumes at the request where it stopped.

The key of an answer is a hash of everything it depends on: which weights were asked, what was
asked, and how. A cache keyed by less gives one adapter's answers as another's.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from eval.task import Progress

Found = Iterable[list[tuple[int, Any]]]
"""Positions of requests and their answers, batch by batch."""


class Cache:
    """An append-only file of answers, one JSON line each, for one model under test."""

    def __init__(self, path: Path | None, identity: str) -> None:
        """Open a cache and read what it holds.

        Args:
            path: of the file, which need not exist; None keeps the answers in memory only.
            identity: of base, adapter and tokenizer, by content; never a path or a name, behind
                which the weights may change.
        """
        self._path = path
        self._identity = identity
        self._known: dict[str, Any] = {}
        self._unwritten: list[str] = []
        self._has_torn_end = False
        if path is not None and path.exists():
            self._read(path.read_bytes())

    def __len__(self) -> int:
        return len(self._known)

    def key(self, kind: str, request: object, parameters: object) -> str:
        """Return the key of a request: sha256 over identity, kind, request and parameters."""
        text = json.dumps([self._identity, kind, request, parameters], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def get(self, key: str) -> Any:
        """Return the answer.

        Raises:
            KeyError: if there is none.
        """
        return self._known[key]

    def put(self, key: str, value: object) -> None:
        """Keep a JSON value as the answer; it is on disk after the next `flush`."""
        self._known[key] = value
        if self._path is not None:
            self._unwritten.append(json.dumps({"key": key, "value": value}))

    def flush(self) -> None:
        """Append to the file what was put since the last time."""
        if self._path is None or not self._unwritten:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            # a line that a kill has torn must not swallow the first one written after it
            file.write(b"\n" * self._has_torn_end + "\n".join([*self._unwritten, ""]).encode())
        self._has_torn_end = False
        self._unwritten.clear()

    def discard(self) -> None:
        """Forget all answers and remove the file, once a report holds what they were for."""
        self._known.clear()
        self._unwritten.clear()
        self._has_torn_end = False
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _read(self, content: bytes) -> None:
        self._has_torn_end = bool(content) and not content.endswith(b"\n")
        for line in content.splitlines():
            try:
                entry = json.loads(line)
                self._known[entry["key"]] = entry["value"]
            except (ValueError, KeyError, TypeError):
                continue  # torn by a kill: that request is asked again


def remember(
    cache: Cache,
    kind: str,
    requests: Sequence[object],
    parameters: object,
    compute: Callable[[list[int]], Found],
    progress: Progress,
) -> list[Any]:
    """Return the answers to all requests; compute those that are new, each once."""
    keys = [cache.key(kind, request, parameters) for request in requests]
    copies = Counter(keys)
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    missing = [i for i, key in enumerate(keys) if key not in cache and first[key] == i]
    progress(len(keys) - sum(copies[keys[i]] for i in missing))
    for batch in compute(missing):
        for i, value in batch:
            cache.put(keys[i], value)
        cache.flush()
        progress(sum(copies[keys[i]] for i, _ in batch))
    return [cache.get(key) for key in keys]
