"""How a JSON file arranges its rows: found by a first pass that keeps none of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from recipes.config import DataConfig
from recipes.data.readers.faults import UnreadableFile
from recipes.data.readers.headers import wanted_columns
from recipes.data.readers.json_text import JsonFault, JsonText
from recipes.data.readers.text import Lines, Text
from recipes.errors import nearest

Kind = Literal["lines", "values", "array", "under", "by-id", "columns", "split", "squad", "one"]

_ROW_KEYS = frozenset({"messages", "conversations", "conversation", "turns"})
"""Keys of one chat, whose lists of objects are its turns and no rows."""

_MOST_KEYS = 1000
"""Keys of an object that are looked at; one with more holds its rows by id."""


@dataclass(frozen=True)
class Layout:
    """Where the rows of a JSON file are."""

    kind: Kind
    key: str = ""
    """Of the list of rows, where it is under one."""

    columns: tuple[str, ...] = ()
    """Of pandas' `split`, which names them apart from the rows."""

    def describe(self) -> str:
        """Return it in words."""
        return {
            "lines": "one object per line",
            "values": "one object after another",
            "array": "a JSON array",
            "under": f"rows under {self.key!r}",
            "by-id": "objects by id",
            "columns": "columns by name (pandas orient='columns')",
            "split": "columns and data (pandas orient='split')",
            "squad": "the SQuAD format",
            "one": "one object",
        }[self.kind]


def find_layout(path: Path, codec: str, config: DataConfig) -> Layout:
    """Return how a file arranges its rows.

    Raises:
        UnreadableFile: if it is not JSON, or has no rows or several candidates for them.
    """
    is_lines = ".json" not in [suffix.lower() for suffix in path.suffixes[-2:]]
    try:
        with Text(path, codec) as text:
            json_text = JsonText(text.stream)
            start = json_text.peek()
            if not start:
                return Layout("lines")
            if start == "[":
                return _array_layout(path, json_text)
            if start != "{":
                raise JsonFault(json_text.line, "wanted an object or an array of objects")
            found = _survey(json_text)
    except JsonFault as fault:
        if _has_object_lines(path, codec) or (is_lines and fault.line == 1):
            return Layout("lines")
        raise UnreadableFile(f"{path}:{fault.line}", f"not valid JSON: {fault}") from None
    if found.is_followed:
        return Layout("lines" if found.is_a_line else "values")
    if is_lines and found.is_a_line and config.rows_key is None:
        return Layout("lines")
    return _document_layout(path, found, config)


def _array_layout(path: Path, json_text: JsonText) -> Layout:
    for _ in json_text.items():
        if json_text.peek() == "[":
            raise UnreadableFile(
                path,
                "its rows are lists without column names (pandas orient='values'); write "
                "it with orient='records'",
            )
        break
    return Layout("array")


def _has_object_lines(path: Path, codec: str) -> bool:
    """Return whether one of the first lines is an object by itself."""
    with Text(path, codec) as text:
        for line in islice(Lines(text), 20):
            try:
                if isinstance(json.loads(line), dict):
                    return True
            except (ValueError, RecursionError):
                continue
    return False


@dataclass
class _Survey:
    shapes: dict[str, str] = field(default_factory=dict)
    """Shape of the value under each of the first keys."""

    inner: set[str] = field(default_factory=set)
    """Keys of the first object among the values."""

    columns: tuple[str, ...] = ()
    are_all_objects: bool = True
    is_squad: bool = False
    is_a_line: bool = False
    """Whether the object is one line, and nothing else is on it."""

    is_followed: bool = False
    """Whether more values follow."""


def _survey(json_text: JsonText) -> _Survey:
    found = _Survey()
    first = json_text.line
    for key in json_text.members():
        start = json_text.peek()
        shape = "value"
        if start == "[":
            shape = _shape_of_list(json_text, key, found)
        else:
            value = json_text.value(skip=True)
            if isinstance(value, dict):
                shape = "object"
                found.inner = found.inner or set(islice(value, _MOST_KEYS))
        found.are_all_objects &= shape == "object"
        if len(found.shapes) < _MOST_KEYS:
            found.shapes[key] = shape
    found.is_a_line = json_text.line == first and json_text.rest_of_line_is_blank()
    found.is_followed = bool(json_text.peek())
    return found


def _shape_of_list(json_text: JsonText, key: str, found: _Survey) -> str:
    """Return what the first item of a list is, and pass over all of them."""
    shape = "empty"
    names: list[str] = []
    for index in json_text.items():
        start = json_text.peek()
        if index == 0:
            shape = {"{": "objects", "[": "lists"}.get(start, "values")
        value = json_text.value(skip=True)
        if index == 0 and key == "data" and isinstance(value, dict):
            found.is_squad = "paragraphs" in value
        if key == "columns" and len(names) < _MOST_KEYS:
            names.append(str(value))
    if key == "columns":
        found.columns = tuple(names)
    return shape


def _document_layout(path: Path, found: _Survey, config: DataConfig) -> Layout:
    shapes = found.shapes
    if config.rows_key is not None:
        shape = shapes.get(config.rows_key)
        if shape in ("objects", "empty"):
            return Layout("under", config.rows_key)
        why = "is no list of objects" if shape is not None else "is not in it"
        raise UnreadableFile(
            path,
            f"data.rows_key: {config.rows_key!r} {why}; "
            + (nearest(config.rows_key, _lists(shapes)) or f"its keys are {_listed(shapes)}"),
        )
    if found.is_squad:
        return Layout("squad", "data")
    if shapes.get("data") in ("lists", "empty") and shapes.get("columns") in ("values", "empty"):
        return Layout("split", "data", found.columns)
    if _ROW_KEYS & shapes.keys():
        return Layout("one")
    if lists := _lists(shapes):
        if len(lists) > 1:
            raise UnreadableFile(
                path, f"rows may be under {_listed(lists)}; choose with data.rows_key: NAME"
            )
        return Layout("under", lists[0])
    if shapes and found.are_all_objects:
        wanted = wanted_columns(config)
        return Layout("columns" if _are_columns(shapes, found.inner, wanted) else "by-id")
    if empty := [key for key, shape in shapes.items() if shape == "empty"]:
        return Layout("under", empty[0])
    raise UnreadableFile(
        path,
        f"wanted a JSON array of objects, an object per line, rows under one key, objects "
        f"by id, or the SQuAD format; found an object with the keys {_listed(shapes) or 'none'}",
    )


def _lists(shapes: Mapping[str, str]) -> list[str]:
    return [key for key, shape in shapes.items() if shape == "objects"]


def _are_columns(outer: Collection[str], inner: Collection[str], wanted: Collection[str]) -> bool:
    """Return whether the outer keys are columns and the inner ones rows: pandas' default.

    Both of `to_json(orient="columns")` and `orient="index"` are objects of objects. Row names that
    are numbers decide, else names that are columns of the recipe.
    """
    if all(key.isdigit() for key in inner) != all(key.isdigit() for key in outer):
        return all(key.isdigit() for key in inner)
    return len(set(outer) & set(wanted)) > len(set(inner) & set(wanted))


def _listed(names: Collection[str]) -> str:
    shown = [repr(name[:30]) for name in islice(names, 8)]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
