"""What `assay compare` is pointed at: run folders, and folders of finished evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval import harness
from eval.comparison import Evaluated
from recipes.errors import InputError
from recipes.run import Run, open_run

REPORT = "report.json"


@dataclass(frozen=True)
class Contestant:
    """One evaluated model."""

    folder: Path
    """Of its evaluation."""

    evaluated: Evaluated
    run: Run | None = None
    """The run that it is the adapter of; None for a folder that is an evaluation alone."""


@dataclass(frozen=True)
class Contest:
    """One base, and the models that are held against it and one another."""

    base: Contestant
    candidates: tuple[Contestant, ...]


def gather(folders: Sequence[Path], evaluate: Callable[[Run], object]) -> Contest:
    """Read what is to be compared.

    A run brings its adapter, and its own evaluation of the base. A folder of an evaluation brings
    that one model; a folder of such folders (`assay eval -o DIR`) brings them all. The first base
    among them is what the others are held against.

    Args:
        folders: at least one.
        evaluate: called with each run before its reports are read.

    Raises:
        InputError: if a folder is none of these, there is no base or nothing beside it, or two
            stand on different bases, on one base quantised otherwise, or compute in other types.
    """
    found = [one for folder in folders for one in _read(folder, evaluate)]
    bases = [one for one in found if one.evaluated.report.target.kind == "base"]
    others = [one for one in found if one.evaluated.report.target.kind != "base"]
    if not bases:
        raise InputError(
            f"none of {', '.join(map(str, folders))} is the evaluation of a base, so there is "
            "nothing to hold them against; add the base's (assay eval --base CHECKPOINT -o DIR)"
        )
    if not others:
        raise InputError(
            f"{', '.join(map(str, folders))} hold no adapter and no merged model; name what is to "
            "be compared with the base"
        )
    base = bases[0]
    for one in [*bases[1:], *others]:
        refuse_other_base(one, base)
        _refuse_other_rows(one, base)
    named = Contestant(base.folder, replace(base.evaluated, name="base"), base.run)
    return Contest(named, tuple(_with_own_names(others)))


def refuse_other_base(one: Contestant, base: Contestant) -> None:
    """Refuse a model that stands on another base, or on the same one loaded otherwise.

    Raises:
        InputError: naming both, and what differs.
    """
    mine, its = one.evaluated.report.target, base.evaluated.report.target
    if mine.base != its.base:
        raise InputError(
            f"{one.folder} stands on the base {mine.base}, and {base.folder} is {its.base}; only "
            "models on one base can be compared"
        )
    if mine.kind != "merged":  # which stands on the quantised weights and holds them unpacked
        _refuse_otherwise(one, base, "quantization", mine.quantization, its.quantization)
    _refuse_otherwise(one, base, "dtype", mine.dtype, its.dtype)


def _refuse_otherwise(one: Contestant, base: Contestant, what: str, mine: str, its: str) -> None:
    if mine and its and mine != its:
        raise InputError(
            f"{one.folder} was evaluated with {what} {mine}, and {base.folder} with {its}: that is "
            "another base, and a difference would be the loading's as much as the adapter's; "
            "evaluate both alike"
        )


def _refuse_other_rows(one: Contestant, base: Contestant) -> None:
    """Refuse a second run whose base was asked other items than the first's."""
    if one.run is None or base.run is None or one.evaluated.report.target.kind != "base":
        return
    mine, its = (
        {name: task.data for name, task in each.evaluated.report.tasks.items()}
        for each in (one, base)
    )
    if mine != its:
        raise InputError(
            f"{one.run.folder} was evaluated on other rows or tasks than {base.run.folder}; give "
            "both the same recipe, data, split seed and eval settings"
        )


def _read(folder: Path, evaluate: Callable[[Run], object]) -> Iterator[Contestant]:
    if (folder / "resolved.yaml").is_file():
        run = open_run(folder)
        evaluate(run)
        for kind, name in (("base", "base"), ("adapter", run.recipe.name)):
            yield _contestant(run.folder / "eval" / kind, name, run)
    elif (folder / REPORT).is_file():
        yield _contestant(folder, folder.resolve().name)
    else:
        within = sorted(path.parent for path in folder.glob(f"*/{REPORT}"))
        if not within:
            raise InputError(
                f"{folder} is none of the things that can be compared: a run folder "
                f"(resolved.yaml), a finished evaluation ({REPORT}), a folder of evaluations"
            )
        for path in within:
            yield _contestant(path, path.name)


def _contestant(folder: Path, name: str, run: Run | None = None) -> Contestant:
    report = harness.read_report(folder)
    samples = {task: harness.read_samples(folder, task) for task in report.tasks}
    return Contestant(folder, Evaluated(name, report, samples), run)


def _with_own_names(found: Sequence[Contestant]) -> Iterator[Contestant]:
    """Number the names that occur again, and keep ``base`` for the base."""
    seen = {"base"}
    for one in found:
        name, k = one.evaluated.name, 2
        while name in seen:
            name, k = f"{one.evaluated.name}-{k}", k + 1
        seen.add(name)
        yield replace(one, evaluated=replace(one.evaluated, name=name))
