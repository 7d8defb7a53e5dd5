"""A private run that was interrupted takes fewer steps than were planned, and says so."""

from __future__ import annotations


def in_words(taken: int | None, planned: int) -> str:
    """Return how many of its planned steps a private run took; nothing if it took all.

    Args:
        taken: steps that the trained weights are made of; None where that is not on record.
        planned: steps of the plan. All of them are charged when the run has ended.

    Example:
        >>> in_words(6, 12)[:75]
        'Only 6 of 12 planned steps were taken: the run was interrupted, and 6 steps'
        >>> in_words(12, 12)
        ''
    """
    if taken is None or taken >= planned:
        return ""
    lost = planned - taken
    steps = "1 step was" if lost == 1 else f"{lost} steps were"
    return (
        f"Only {taken} of {planned} planned steps were taken: the run was interrupted, and {steps} "
        "charged, lost and not taken again. Epsilon is that of all planned steps; the model is "
        "trained less than planned."
    )
