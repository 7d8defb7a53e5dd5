"""Hashes of words and of sequences of words, the same on every machine and in every order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UInts = NDArray[np.uint64]
Ints = NDArray[np.int64]

MOST_WORDS = 1 << 20
"""Distinct words whose hashes are kept at a time."""


class WordHashes(dict[str, int]):
    """A 64-bit hash for each word, computed once."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = value = int.from_bytes(digest, "little")
        return value

    def of(self, text: str) -> list[int]:
        """Return the hashes of the words of a text, in lower case."""
        return [*map(self.__getitem__, text.casefold().split())]

    def forget(self) -> None:
        """Bound the memory: names and numbers make ever new words."""
        if len(self) > MOST_WORDS:
            self.clear()


@dataclass(frozen=True)
class Sequences:
    """Hashes of all runs of so many words that lie within one text."""

    size: int
    hashes: UInts
    """One text after the other."""

    counts: Ints
    """How many each text has."""


def sequences(words: UInts, lengths: Ints, sizes: range) -> Iterator[Sequences]:
    """Hash every run of words, for each of some sizes.

    Args:
        words: hashes of the words of several texts, one text after the other.
        lengths: number of words of each text.
        sizes: words to a run, ascending by one.
    """
    found = words
    for size in range(1, sizes.stop):
        if size > 1:
            found = mixed(found[:-1]) + words[size - 1 :] if len(found) else found
        if size < sizes.start:
            continue
        counts = np.maximum(lengths - size + 1, 0)
        ends = np.cumsum(counts)
        # a run that begins in the last words of a text would reach into the next
        before = np.cumsum(lengths) - lengths - (ends - counts)
        places = np.arange(counts.sum()) + np.repeat(before, counts)
        yield Sequences(size, mixed(found[places]), counts)


def mixed(values: UInts) -> UInts:
    """Scramble 64-bit numbers: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
