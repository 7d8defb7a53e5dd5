"""The story of `assay predict`: every row of the input has its row in the output, in its order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.batching import quiet
from eval.task import Progress
from recipes import config
from recipes.config import Recipe
from recipes.console import Narrator
from recipes.errors import InputError, Problem, Problems
from recipes.predicting.abstaining import Abstention, read_abstention
from recipes.predicting.output import Column, OutputRow, kind_of, open_output
from recipes.predicting.predictor import Predictor, make_predictor
from recipes.predicting.rows import InputRow, RowReader
from recipes.predicting.target import PredictionTarget, open_target

MOST_NAMED = 20
"""Rows without a prediction that are named outside of the output file."""

SETTINGS = ("encoding", "delimiter", "sheet", "header_row", "rows_key")
MAY_BE_SET = (*(f"data.{name}" for name in SETTINGS), "eval.max_new_tokens")
"""Keys of the recipe that may differ from training: how a file is read, how long a reply may be."""

_TEXT = {"chat": "prompt", "classification": "text", "qa": "question"}
"""What a text on the command line is, by recipe."""


@dataclass(frozen=True)
class Options:
    """What may be asked for beside the target and its input."""

    columns: tuple[str, ...] = ()
    """``OURS=THEIRS`` each, over the recipe's own `data.columns`."""

    settings: tuple[str, ...] = ()
    """``KEY=VALUE`` each, of `MAY_BE_SET`."""

    recipe_file: Path | None = None
    abstain_below: str | None = None
    """A probability, or ``auto``."""

    error_rate: float = 0.05


@dataclass(frozen=True)
class Predictions:
    """The predictions of texts."""

    target: PredictionTarget
    columns: tuple[Column, ...]
    rows: tuple[OutputRow, ...]
    abstention: Abstention | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "model": _model(self.target),
            "abstention": self.abstention and self.abstention.to_json(),
            "predictions": [row.to_json(self.columns) for row in self.rows],
        }

    def lines(self) -> list[str]:
        """Return a line for each text, and what is promised of those that are not answered."""
        found = [_line(row.to_json(self.columns)) for row in self.rows]
        return [*found, *([self.abstention.describe()] if self.abstention else [])]


@dataclass(frozen=True)
class Written:
    """A file of predictions, in numbers."""

    target: PredictionTarget
    out: Path
    num_rows: int
    num_abstained: int
    num_problems: int
    problems: tuple[Problem, ...]
    """The first of them."""

    abstention: Abstention | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "out": str(self.out),
            "model": _model(self.target),
            "rows": self.num_rows,
            "predicted": self.num_rows - self.num_problems - self.num_abstained,
            "abstained": self.num_abstained,
            "num_problems": self.num_problems,
            "problems": [{"place": one.where, "problem": one.what} for one in self.problems],
            "abstention": self.abstention and self.abstention.to_json(),
        }

    def lines(self) -> list[str]:
        """Return it in words."""
        values = self.to_json()
        numbers = f"{self.num_rows:,} rows, {values['predicted']:,} of them predicted"
        if self.abstention is not None:
            numbers += f", {self.num_abstained:,} abstained"
        found = [numbers]
        if self.num_problems:
            found.append(f"{self.num_problems:,} without a prediction (column problem):")
            found += [f"  {problem}" for problem in self.problems]
            if self.num_problems > len(self.problems):
                found.append(f"  ... and {self.num_problems - len(self.problems):,} more")
        found += [self.abstention.describe()] if self.abstention else []
        return [*found, str(self.out)]


def predict_texts(
    folder: Path, texts: Sequence[str], context: str | None, options: Options
) -> Predictions:
    """Predict texts: labels of texts, answers to questions on one passage, replies to a user.

    Raises:
        InputError: if the target cannot be asked, or a text cannot be used.
    """
    target, abstention = _open(folder, options)
    is_qa = target.recipe.recipe == "qa"
    if is_qa and context is None:
        raise InputError("a question is answered from a passage; add --context PASSAGE")
    if not is_qa and context is not None:
        raise InputError(
            f"--context: for question answering alone; this is {target.recipe.recipe}, remove it"
        )
    reader = RowReader(target.recipe)
    beside = {"context": context} if context is not None else {}
    name = _TEXT[target.recipe.recipe]
    rows = [
        reader.of_values(f"text {number}", {name: text, **beside})
        for number, text in enumerate(texts, 1)
    ]
    _refuse_problems([Problem(row.place, row.problem) for row in rows if row.problem], len(rows))
    predictor = make_predictor(target, abstention.below if abstention else None)
    found = _predict(predictor, rows, quiet)
    _refuse_problems([Problem(row.place, row.problem) for row in found if row.problem], len(rows))
    return Predictions(target, predictor.columns, tuple(found), abstention)


def predict_file(
    folder: Path,
    data: Path,
    out: Path,
    options: Options,
    narrator: Narrator,
    *,
    is_strict: bool = False,
) -> Written:
    """Predict every row of a file into another, streamed: neither is ever in memory as a whole.

    The file is read twice: a quote that is never closed, or a missing column, is found before the
    model is asked anything, and the number of rows gives the remaining time.

    Args:
        folder: the target.
        data: of any kind that recipes read.
        out: csv, jsonl or parquet, by its name. It appears whole or not at all.
        options: see there.
        narrator: says what is being done.
        is_strict: whether a row that cannot be predicted ends it all, instead of being written
            with its problem.

    Raises:
        InputError: if the target, the file, all its rows or, when strict, one cannot be used.
    """
    kind_of(out)
    _refuse_places(data, out)
    target, abstention = _open(folder, options)
    reader = RowReader(target.recipe)
    narrator.say(f"reading {data.name}")
    count = _Count()
    for row in reader.read(data):
        count.add(row.place, row.problem)
    for note in reader.notes:
        narrator.say(note)
    if is_strict or count.num_problems == count.num_rows:  # then it is no matter of single rows
        _refuse_problems(count.problems, count.num_rows, count.num_problems)
    predictor = make_predictor(target, abstention.below if abstention else None)
    done = _Count()
    with narrator.bars() as open_bar, open_output(out, predictor.columns) as write:
        bar = open_bar("predicting", count.num_rows)
        for rows in _chunks(reader.read(data), predictor.num_at_once):
            found = _predict(predictor, rows, bar)
            for one in found:
                done.add(one.place, one.problem, is_abstained=_is_abstained(one, predictor))
            if is_strict:
                _refuse_problems(done.problems, count.num_rows, done.num_problems)
            write(found)
        if done.num_rows != count.num_rows:
            raise InputError(
                f"{data} has changed while it was read: {count.num_rows} rows, then "
                f"{done.num_rows}; nothing was written. Predict again when it is at rest"
            )
    return Written(
        target=target,
        out=out,
        num_rows=done.num_rows,
        num_abstained=done.num_abstained,
        num_problems=done.num_problems,
        problems=tuple(done.problems),
        abstention=abstention,
    )


@dataclass
class _Count:
    """Rows so far, and the first that cannot be predicted."""

    num_rows: int = 0
    num_problems: int = 0
    num_abstained: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, place: str, problem: str | None, *, is_abstained: bool = False) -> None:
        self.num_rows += 1
        self.num_abstained += is_abstained
        if problem is not None:
            self.num_problems += 1
            if len(self.problems) < MOST_NAMED:
                self.problems.append(Problem(place, problem))


def _open(folder: Path, options: Options) -> tuple[PredictionTarget, Abstention | None]:
    target = open_target(folder, options.recipe_file)
    target = replace(target, recipe=_recipe(target.recipe, options))
    return target, read_abstention(options.abstain_below, options.error_rate, target)


def _recipe(recipe: Recipe, options: Options) -> Recipe:
    """Return the recipe with other columns and reading settings; all else stays as evaluated."""
    for setting in options.settings:
        key = setting.partition("=")[0]
        if key not in MAY_BE_SET:
            raise InputError(
                f"--set {key}: a model is asked as it was evaluated; what may be set is "
                f"{', '.join(MAY_BE_SET)}"
            )
    changed = config.override(recipe, options.settings) if options.settings else recipe
    named = dict(changed.data.columns)
    for column in options.columns:
        ours, equals, theirs = column.partition("=")
        if not equals or not ours or not theirs:
            raise InputError(f"--column {column}: wanted OURS=THEIRS, as in --column text=Message")
        named[ours] = theirs
    data = changed.data.model_copy(update={"columns": named})
    return changed.model_copy(update={"data": data})


def _refuse_places(data: Path, out: Path) -> None:
    if not data.is_file():
        raise InputError(f"--data: there is no file {data}")
    if data.stat().st_size == 0:
        raise InputError(f"--data: the file {data} is empty")
    if out.is_dir():
        raise InputError(f"--out: {out} is a folder; name a file")
    if out.exists() and out.samefile(data):
        raise InputError(f"--out: {out} is the input; name another file")


def _refuse_problems(
    problems: Sequence[Problem], num_rows: int, num_problems: int | None = None
) -> None:
    if problems:
        total = len(problems) if num_problems is None else num_problems
        raise Problems(f"{total} of {num_rows} rows cannot be predicted:", list(problems))


def _predict(
    predictor: Predictor[Any], rows: Sequence[InputRow], progress: Progress
) -> list[OutputRow]:
    """Return the prediction of each row, or its problem."""
    found = [
        OutputRow(row.id, row.place, None, row.problem or predictor.problem(row.item))
        for row in rows
    ]
    asked = [place for place, row in enumerate(found) if row.problem is None]
    progress(len(rows) - len(asked))
    outcomes = predictor.predict([rows[place].item for place in asked], progress) if asked else []
    for place, outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, str):
            found[place] = replace(found[place], problem=outcome)
        else:
            found[place] = replace(found[place], cells=outcome)
    return found


def _chunks(rows: Iterable[InputRow], size: int) -> Iterator[list[InputRow]]:
    rest = iter(rows)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


def _is_abstained(row: OutputRow, predictor: Predictor[Any]) -> bool:
    return row.to_json(predictor.columns).get("abstained") is True


def _model(target: PredictionTarget) -> dict[str, str]:
    return {"kind": target.kind, "identity": target.identity, "recipe": target.recipe.name}


def _line(values: dict[str, Any]) -> str:
    """Return a prediction for a person."""
    if "answer" in values:
        return values["answer"] if values["answered"] else "(the passage does not say)"
    if "reply" in values:
        return str(values["reply"])
    label = values["label"] if "label" in values else " | ".join(values["labels"] or ()) or "(none)"
    likeliest = sorted(values["probabilities"].items(), key=lambda one: -one[1])[:3]
    shown = ", ".join(f"{name} {p:.3f}" for name, p in likeliest)
    return f"{'(abstains)' if values['abstained'] else label}  ({shown})"
