"""Per-item results without a word of the items: what a release may carry to be compared with.

A later candidate is held against an earlier release on the same items, so the release keeps each
item's scores. What the items say stays where it was: prompt, prediction and target are dropped, and
an item's id, which may name a customer or a document, is replaced by a hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from eval.task import Sample


def without_text(samples: Sequence[Sample], data: str) -> list[Sample]:
    """Return samples that keep scores, log-likelihoods and clusters, and no text.

    Args:
        samples: of one task, in the items' order.
        data: fingerprint of the task's items (`TaskResult.data`). Ids of the same items are equal
            between two models; ids of other data are not.

    Example:
        >>> one = Sample("customer-7", "yes", "no", {"correct": 0.0}, correct=False, prompt="Hi")
        >>> [kept] = without_text([one], "sha256:0")
        >>> kept.prediction, kept.prompt, kept.scores, kept.id == one.id
        ('', '', {'correct': 0.0}, False)
    """
    return [
        replace(
            sample,
            id=_hash(data, sample.id),
            cluster=None if sample.cluster is None else _hash(data, sample.cluster),
            prediction="",
            target="",
            prompt="",
        )
        for sample in samples
    ]


def _hash(data: str, text: str) -> str:
    return hashlib.sha256(f"{data}\n{text}".encode()).hexdigest()[:32]
