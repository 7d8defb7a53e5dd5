"""Refusals of a recipe or of its data, with where, what was found and what was wanted."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class InputError(ValueError):
    """What the user gave cannot be used. Exit code 2."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Problems(InputError):
    """Several things that are wrong, told at once: the first 20, and how many there are."""

    def __init__(self, heading: str, problems: list[Problem], way_out: str = "") -> None:
        self.problems = problems
        shown = [f"  {problem}" for problem in problems[:20]]
        if len(problems) > 20:
            shown.append(f"  ... and {len(problems) - 20} more ({len(problems)} in all)")
        super().__init__("\n".join([heading, *shown, *([way_out] if way_out else [])]))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean X?" with the known name most like one that is not known, or nothing."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


class GateRefused(Exception):
    """The gate refused the candidate. Exit code 3."""


class DecisionVoid(Exception):
    """A decision, or an approval of it, is not about what lies here any more. Exit code 5."""


class RunDiffers(Exception):
    """Documents of a run, or its base, name different things. Exit code 5."""


class ReleaseDiffers(Exception):
    """A release is not what it should be, or would not be. Exit code 5."""
