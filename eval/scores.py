"""Per-item results without a word of the items: what a release may carry to be compared with.

A later candidate is held against an earlier release on the same items, so the release keeps each
item's scores. What the items say stays where it was: prompt, prediction and target are dropped, and
an item's id and its cluster, which may name a customer or a document, are replaced by numbers. A
hash would not do: whoever guesses the name can try it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eval.task import Sample


def without_text(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples that keep scores, log-likelihoods and clusters, and no text.

    Items are numbered in their order, and clusters as they first appear, so that two models that
    were asked the same items (`TaskResult.data`) have the same numbers.

    Args:
        samples: of one task, all of them, in the items' order.

    Example:
        >>> one = Sample("customer-7", "yes", "no", {"correct": 0.0}, correct=False, prompt="Hi")
        >>> [kept] = without_text([one])
        >>> kept.id, kept.prediction, kept.prompt, kept.scores
        ('0', '', '', {'correct': 0.0})
    """
    clusters: dict[str, str] = {}
    return [
        replace(
            sample,
            id=str(number),
            cluster=None
            if sample.cluster is None
            else clusters.setdefault(sample.cluster, str(len(clusters))),
            prediction="",
            target="",
            prompt="",
        )
        for number, sample in enumerate(samples)
    ]
