"""Answers already given, on disk: a killed evaluation resumes at the request where it stopped.

The key of an answer is a hash of everything it depends on: which weights were asked, what was
asked, and how. A cache keyed by less gives one adapter's answers as another's.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
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

    def _read(self, content: bytes) -> None:
        self._has_torn_end = bool(content) and not content.endswith(b"\n")
        for line in content.splitlines():
            try:
                entry = json.loads(line)
                self._known[entry["key"]] = entry["value"]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # torn by a kill: that request is asked again


def remember(
    cache: Cache,
    kind: str,
    requests: Sequence[object],
    parameters: object,
    compute: Callable[[Sequence[int], Collection[int]], Found],
    progress: Progress,
) -> list[Any]:
    """Return the answers to all requests; compute those that are new, each once.

    Args:
        cache: what is known.
        kind: of question, as "score".
        requests: JSON values.
        parameters: whatever else an answer depends on.
        compute: given the positions of all distinct requests, and of those whose answers are
            missing, yields answers batch by batch. Batches must not depend on what is missing:
            rounding depends on what is read together, and an evaluation that was killed is to
            end with the same figures as one that was not.
        progress: called with the number of requests done.
    """
    keys = [cache.key(kind, request, parameters) for request in requests]
    copies = Counter(keys)
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    distinct = [i for i, key in enumerate(keys) if first[key] == i]
    missing = {i for i in distinct if keys[i] not in cache}
    progress(len(keys) - sum(copies[keys[i]] for i in missing))
    if missing:
        for batch in compute(distinct, missing):
            new = [(i, value) for i, value in batch if i in missing]
            for i, value in new:
                cache.put(keys[i], value)
            cache.flush()
            progress(sum(copies[keys[i]] for i, _ in new))
    return [cache.get(key) for key in keys]
