"""Commented recipe files to begin with: for the embedded samples, or for a file of one's own."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.errors import InputError
from recipes.files import write_text

if TYPE_CHECKING:  # they need not be imported for a recipe of the embedded samples
    from recipes.data.guesses import Guess, Guesses
    from recipes.data.readers import FileRead

RECIPES = ("chat", "classification", "qa")


def write(recipe: str, out: Path) -> str:
    """Write the starting file of a recipe and say what to do next.

    Raises:
        InputError: if there is no such recipe, or the file exists.
    """
    _refuse(recipe, out)
    write_text(out, preset(recipe))
    return f"wrote {out}; next: assay check {out}, then assay run {out}"


@dataclass(frozen=True)
class Written:
    """A recipe that was written for a file, and what it rests on."""

    file: Path
    data: Path
    read: FileRead
    guesses: Guesses

    def describe(self) -> str:
        """Return what was guessed and what to do next, for a person."""
        lines = [f"{self.data}: {self.read.describe()}, {self.guesses.num_rows:,} rows looked at"]
        for one in self.guesses.all():
            lines.append(f"  {one.key}: {_shown(one.value)}  ({_reason(one)})")
        if self.guesses.better:
            lines.append(f"the file fits another recipe better: {self.guesses.better}")
        lines.append(f"wrote {self.file}; correct the guesses in it, then: assay check {self.file}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "file": str(self.file),
            "recipe": self.guesses.recipe,
            "data": str(self.data),
            "read": self.read.to_json(),
            "columns": list(self.guesses.names),
            "num_rows": self.guesses.num_rows,
            "guesses": [asdict(one) for one in self.guesses.all()],
            "better": self.guesses.better,
        }


def write_for(recipe: str, out: Path, data: Path) -> Written:
    """Write the recipe file for a file of rows, with guesses at its columns as comments.

    Args:
        recipe: ``chat``, ``classification`` or ``qa``.
        out: the file to write; relative paths in it start at its folder.
        data: the rows, of any kind that is read.

    Raises:
        InputError: if there is no such recipe, ``out`` exists, ``data`` cannot be read, or no
            column of it can be what the recipe needs.
    """
    from recipes.config import DataConfig
    from recipes.data import guesses
    from recipes.data.findings import Findings
    from recipes.data.readers import read_rows

    _refuse(recipe, out)
    if not data.is_file():
        what = "is a folder; name one file in it" if data.is_dir() else "is not there"
        raise InputError(f"--data: {data} {what}")
    reads: list[FileRead] = []
    rows = read_rows(data, DataConfig(train=(str(data),)), Findings(), reads)
    looked_at = [row.values for row in islice(rows, guesses.MAX_ROWS)]
    if not looked_at:
        raise InputError(f"--data: {data} has no row that can be read")
    try:
        guessed = guesses.guess(recipe, looked_at)
    except InputError as error:
        raise InputError(f"{data}: {error}. It was {reads[0].describe()}") from None
    write_text(out, _text_for(recipe, out, data, reads[0], guessed))
    return Written(out, data, reads[0], guessed)


def _refuse(recipe: str, out: Path) -> None:
    if recipe not in RECIPES:
        raise InputError(f"there is no recipe {recipe!r}; choose one of {', '.join(RECIPES)}")
    if out.exists():
        raise InputError(f"{out} exists already; name another file with -o")


def preset(recipe: str) -> str:
    """Return the starting file of a recipe as text."""
    return (resources.files("recipes") / "presets" / f"{recipe}.yaml").read_text(encoding="utf-8")


def _text_for(recipe: str, out: Path, data: Path, read: FileRead, guessed: Guesses) -> str:
    """Return the preset with the lines about its sample replaced by those about a file."""
    lines = []
    for line in preset(recipe).splitlines():
        if line.startswith("# Run it as it is"):
            number = f"{guessed.num_rows:,} row{'s'[: guessed.num_rows - 1]}"
            lines.append(f"# The settings of `data` are guesses from {number}: look at each,")
            lines.append("# then: assay check THIS_FILE, and assay run THIS_FILE")
            if guessed.better:
                lines.append(f"# The file fits another recipe better: {guessed.better}.")
        elif line.startswith("name: "):
            lines.append(f"name: {_scalar(_run_name(data) or line.removeprefix('name: '))}")
        elif line.startswith("  train: sample:"):
            lines.append(f"  train: {_scalar(_path_from(out, data))}")
            lines += _read_settings(read)
        elif line.startswith("  group: "):
            lines += _group_lines(guessed, line)
            lines += _column_lines(guessed)
        elif not line.startswith("  # columns: "):
            lines.append(line)
    return "\n".join(lines) + "\n"


def _run_name(data: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", data.name.split(".")[0]).strip("-._")
    return name[:80]


def _path_from(out: Path, data: Path) -> str:
    """Return the path of a file from the folder of the recipe; an absolute one from far away."""
    try:
        path = Path(os.path.relpath(data.resolve(), out.resolve().parent)).as_posix()
    except ValueError:  # another drive of Windows
        return data.resolve().as_posix()
    return str(data.resolve()) if path.startswith("../" * 3) else path


def _read_settings(read: FileRead) -> list[str]:
    """Return the settings of how a file is read that are not what is taken without them."""
    found: list[tuple[str, str, str]] = []
    if read.encoding is not None and read.encoding.upper() not in ("UTF-8", "ASCII"):
        found.append(("encoding", _scalar(read.encoding), "detected"))
    usual = "\t" if read.kind == "tsv" else ","
    if read.delimiter is not None and read.delimiter != usual:
        found.append(("delimiter", _scalar(read.delimiter), "detected"))
    if read.sheet is not None and (read.num_sheets or 1) > 1:
        why = f"the first of {read.num_sheets} sheets that has rows"
        found.append(("sheet", _scalar(read.sheet), why))
    if read.header_row is not None and read.header_row > 1:
        found.append(("header_row", str(read.header_row), "the first that is no title"))
    return [_commented(f"  {key}: {value}", why) for key, value, why in found]


def _group_lines(guessed: Guesses, line: str) -> list[str]:
    comment = line.partition("# ")[2]
    if guessed.group is None:
        return [
            "  # No column was found whose values repeat and look like a customer or document.",
            _commented("  # group: COLUMN", comment),
        ]
    what = f"{comment}. Guess: {_reason(guessed.group)}"
    return [_commented(f"  group: {_scalar(guessed.group.value)}", what)]


def _column_lines(guessed: Guesses) -> list[str]:
    lines = [_commented("  columns:", "ours: theirs")]
    for ours, one in guessed.columns.items():
        lines.append(_commented(f"    {ours}: {_scalar(one.value)}", f"guess: {_reason(one)}"))
    if guessed.label_separator is not None:
        one = guessed.label_separator
        text = f"  label_separator: {_scalar(one.value)}"
        lines.append(_commented(text, f"guess: {_reason(one)}"))
    return lines


def _reason(one: Guess) -> str:
    others = ", ".join(map(_shown, one.others))
    return one.why + (f"; or: {others}" if others else "")


def _shown(name: str) -> str:
    from recipes.data.guesses import shown

    return shown(name)


def _scalar(text: str) -> str:
    from recipes.yaml_text import quoted_if_needed

    return quoted_if_needed(text)


def _commented(setting: str, comment: str) -> str:
    return f"{setting:<30} # {comment}" if comment else setting
