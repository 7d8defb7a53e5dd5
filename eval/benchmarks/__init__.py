"""Published test sets, read from the files that their authors publish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eval.benchmarks.bbq import bbq, bbq_3way
from eval.benchmarks.classification import classification
from eval.benchmarks.counterfactual import counterfactual
from eval.benchmarks.crows_pairs import crows_pairs
from eval.benchmarks.halueval import halueval, halueval_judge
from eval.benchmarks.halueval_general import halueval_general
from eval.benchmarks.pubmedqa import pubmedqa
from eval.benchmarks.squad import squad
from eval.benchmarks.stereoset import stereoset
from eval.benchmarks.truthfulqa import truthfulqa_mc1, truthfulqa_mc2
from eval.benchmarks.winobias import winobias
from eval.errors import EvaluationError
from eval.task import Task

__all__ = ["load", "names"]

_SETS: dict[str, Callable[[Path, int | None], list[Task]]] = {
    "bbq": lambda path, n: [bbq(path, n)],
    "bbq_3way": lambda path, n: [bbq_3way(path, n)],
    "classification": classification,
    "counterfactual": lambda path, n: [counterfactual(path, n)],
    "crows_pairs": lambda path, n: [crows_pairs(path, n)],
    "halueval": lambda path, n: [halueval(path, n)],
    "halueval_general": lambda path, n: [halueval_general(path, n)],
    "halueval_judge": lambda path, n: [halueval_judge(path, n)],
    "pubmedqa": lambda path, n: [pubmedqa(path, n)],
    "squad": lambda path, n: [squad(path, n)],
    "stereoset": stereoset,
    "truthfulqa": lambda path, n: [truthfulqa_mc1(path, n), truthfulqa_mc2(path, n)],
    "truthfulqa_mc1": lambda path, n: [truthfulqa_mc1(path, n)],
    "truthfulqa_mc2": lambda path, n: [truthfulqa_mc2(path, n)],
    "winobias": lambda path, n: [winobias(path, n)],
}


def names() -> tuple[str, ...]:
    """Return the names of the sets that `load` reads."""
    return tuple(_SETS)


def load(name: str, path: Path, *, max_items: int | None = None) -> list[Task]:
    """Return the tasks of a set, read from its published file or folder.

    Mostly one, of the set's name; a set in several forms gives a task each.

    Args:
        name: one of `names`.
        path: the file or folder.
        max_items: so many only: the first ones, as the limit of lm-evaluation-harness; of the
            user's own rows, which may stand in the order of their labels, drawn at random.

    Raises:
        EvaluationError: if there is no such set, or the file is not in its published format; the
            message names the file and the line.
    """
    if name not in _SETS:
        raise EvaluationError(
            f"there is no benchmark called {name!r}; there are {', '.join(names())}"
        )
    return _SETS[name](path, max_items)
