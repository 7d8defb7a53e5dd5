"""Files that a recipe names: paths, globs, folders, embedded samples and Hub data sets."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from recipes.data.catalog import UNKNOWN_FILE
from recipes.data.findings import Findings
from recipes.data.readers import hub
from recipes.data.readers.kinds import KINDS, is_known
from recipes.errors import InputError


def files_of(patterns: Sequence[str], folder: Path, findings: Findings | None = None) -> list[Path]:
    """Return the files that patterns name, each once.

    A pattern is a path, a glob, a folder (all files of known kinds in it and below, sorted),
    ``sample:PATH`` of the embedded samples, or ``hub:ORG/NAME@REVISION`` (see `hub`).

    Args:
        patterns: of `data.train` or `data.test`.
        folder: where relative paths start: the recipe's folder.
        findings: receives the files of a folder that are of no known kind; hidden files are not
            named.

    Raises:
        InputError: if a pattern names no file, or a data set cannot be fetched.
    """
    found: list[Path] = []
    for pattern in patterns:
        files = _matches(pattern, folder, findings)
        for file in files:
            if any("\udc80" <= character <= "\udcff" for character in str(file)):
                raise InputError(f"data: the name of a file in {folder} is not UTF-8; rename it")
        found += files
    return list(dict.fromkeys(found))  # two patterns may name one file


def _matches(pattern: str, folder: Path, findings: Findings | None) -> list[Path]:
    if pattern.startswith(hub.PREFIX):
        return hub.files_of(pattern)
    if pattern.startswith("sample:"):
        root = resources.files("recipes") / "samples"
        matches = [Path(str(root / pattern.removeprefix("sample:")))]
    else:
        named = _expanded(pattern)
        literal = folder / named
        if literal.exists():  # a name with brackets is one
            matches = [literal]
        else:
            path = Path(glob.escape(str(folder))) / named
            matches = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    files = [match for match in matches if match.is_file()]
    folders = [match for match in matches if match.is_dir()]
    if not files and len(folders) == 1 and folders == matches:
        files = _files_below(folders[0], findings)
        if not files:
            raise InputError(
                f"data: in the folder {pattern} there is no file of a known kind; wanted one of "
                + ", ".join(f".{kind}" for kind in KINDS)
            )
    if not files:
        hint = "; divide folders by /, as every system takes it" if "\\" in pattern else ""
        raise InputError(f"data: there is no file {pattern} (looked in {folder}){hint}")
    return files


def _files_below(folder: Path, findings: Findings | None) -> list[Path]:
    below = [
        path
        for path in sorted(folder.rglob("*"), key=lambda one: one.parts)  # alike on Windows
        if path.is_file() and not any(_is_hidden(part) for part in path.relative_to(folder).parts)
    ]
    if findings is not None:
        _note_unknown((path for path in below if not is_known(path)), findings)
    return [path for path in below if is_known(path)]


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "~$", "__MACOSX"))  # the second: files that Excel has open


def _note_unknown(files: Iterable[Path], findings: Findings) -> None:
    for file in files:
        place = str(file).encode(errors="replace").decode()
        findings.add(UNKNOWN_FILE, place, "not read: its kind is not known")


def _expanded(pattern: str) -> Path:
    """Expand the user's own ``~`` only: ``~$plan.xlsx`` is a file that Excel leaves."""
    return Path(pattern).expanduser() if pattern.startswith("~/") else Path(pattern)
