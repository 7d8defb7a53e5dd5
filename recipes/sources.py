"""What `--task` names, and what is left of it so that a comparison can compute its figures again.

Most figures are means of what the samples hold, and need nothing else. The others (a macro F1, a
largest gap, a SQuAD threshold) need the task; its file is read again where it still is, and is
used only if what comes out is, by its hash, what was asked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from eval import benchmarks
from eval.errors import EvaluationError
from eval.task import Report, Task
from recipes import documents
from recipes.errors import InputError
from recipes.files import write_json

SOURCES = "sources.json"

_LM_EVAL = "lm-eval:"


def read_tasks(given: Sequence[str], *, max_items: int | None = None) -> list[Task]:
    """Read `--task` values: ``NAME=PATH``, ``lm-eval:NAME`` or ``lm-eval:NAME=FOLDER``.

    Raises:
        InputError: if one has another form, a set is unknown, or one is named twice.
        eval.errors.EvaluationError: if a file is not of the set's form, naming file and line.
    """
    tasks: list[Task] = []
    for text in given:
        name, sign, path = text.partition("=")
        if name.startswith(_LM_EVAL):
            folder = Path(path) if path else None
            tasks += _of_lm_eval(name.removeprefix(_LM_EVAL), folder, max_items)
        elif not sign or not path:
            raise InputError(f"--task {text}: wanted NAME=PATH, as crows_pairs=crows_pairs.csv")
        elif name not in benchmarks.names():
            known = ", ".join(benchmarks.names())
            raise InputError(f"--task {text}: there is no set {name!r}; there are {known}")
        else:
            tasks += benchmarks.load(name, Path(path), max_items=max_items)
    names = [task.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"--task: {', '.join(twice)} is asked for twice; name each set once")
    return tasks


def _of_lm_eval(name: str, folder: Path | None, max_items: int | None) -> list[Task]:
    try:
        from eval import lm_evaluation_harness
    except ModuleNotFoundError as error:
        raise InputError(
            f"--task lm-eval:{name}: {error.name} is not installed; pip install 'assay[lm-eval]'"
        ) from None
    return lm_evaluation_harness.load(name, folder, max_items=max_items)


def write(folder: Path, given: Sequence[str], max_items: int | None) -> None:
    """Note beside a report what its tasks were read from, with absolute paths.

    Args:
        folder: of the evaluation.
        given: `--task` values.
        max_items: of each task.
    """
    write_json(folder / SOURCES, {"tasks": [_absolute(text) for text in given], "max": max_items})


def read(folder: Path, report: Report, wanted: Collection[str]) -> tuple[list[Task], list[str]]:
    """Read again the tasks of an evaluation that are still what was asked.

    Args:
        folder: of the evaluation.
        report: what it found.
        wanted: names of the tasks whose figures are looked for.

    Returns:
        The tasks, and in a sentence each what could not be used and why.
    """
    path = folder / SOURCES
    if not path.is_file():
        return [], []
    noted = documents.sources(path)
    tasks: list[Task] = []
    problems: list[str] = []
    for text in noted["tasks"]:
        if text.startswith(_LM_EVAL) and not any(name.startswith("lm-eval.") for name in wanted):
            continue  # to read the harness's own names takes many seconds
        try:
            found = read_tasks([text], max_items=noted["max"])
        except (EvaluationError, InputError, OSError) as error:
            problems.append(f"{text} cannot be read again: {error}")
            continue
        for task in found:
            asked = report.tasks.get(task.name)
            if asked is None or task.name not in wanted:
                continue
            if (asked.version, asked.data) == (task.version, task.fingerprint):
                tasks.append(task)
            else:
                problems.append(
                    f"{text} has changed since {folder} was evaluated on it: {task.name} was "
                    f"{asked.data} in version {asked.version}, and is {task.fingerprint} in "
                    f"version {task.version}; evaluate again"
                )
    return tasks, problems


def _absolute(given: str) -> str:
    name, sign, path = given.partition("=")
    return f"{name}={Path(path).absolute()}" if sign else given
